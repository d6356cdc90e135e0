"""Models that say how likely a text is."""

from crosstok.teachers.cached import CachedTeacher, cached_teacher
from crosstok.teachers.local import (
    LocalTeacher,
    SharedTeacher,
    Teacher,
    short_name,
    vocabulary_masks,
)
from crosstok.teachers.needs import check_needs
from crosstok.teachers.shared_mass import SharedMass, shared_mass

__all__ = [
    "CachedTeacher",
    "LocalTeacher",
    "SharedMass",
    "SharedTeacher",
    "Teacher",
    "cached_teacher",
    "check_needs",
    "shared_mass",
    "short_name",
    "vocabulary_masks",
]
