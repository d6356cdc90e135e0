"""Models that say how likely a text is."""

from crosstok.teachers.local import (
    LocalTeacher,
    SharedTeacher,
    Teacher,
    check_needs,
    vocabulary_masks,
)

__all__ = ["LocalTeacher", "SharedTeacher", "Teacher", "check_needs", "vocabulary_masks"]
