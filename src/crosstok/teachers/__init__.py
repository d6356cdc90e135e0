"""Models that say how likely a text is."""

from crosstok.teachers.local import (
    LocalTeacher,
    SharedTeacher,
    Teacher,
    check_needs,
    vocabulary_masks,
)
from crosstok.teachers.shared_mass import SharedMass, shared_mass

__all__ = [
    "LocalTeacher",
    "SharedMass",
    "SharedTeacher",
    "Teacher",
    "check_needs",
    "shared_mass",
    "vocabulary_masks",
]
