"""Models that say how likely a text is."""

from crosstok.teachers.local import LocalTeacher, SharedTeacher, Teacher, check_needs

__all__ = ["LocalTeacher", "SharedTeacher", "Teacher", "check_needs"]
