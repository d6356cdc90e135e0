"""Teachers: models that score texts."""

from crosstok.teachers.base import Teacher, TeacherRequest
from crosstok.teachers.cached import CachedTeacher, cached_teacher
from crosstok.teachers.local import LocalTeacher, SharedTeacher, short_name
from crosstok.teachers.needs import check_needs
from crosstok.teachers.opening import TeacherName, open_teacher
from crosstok.teachers.shared_mass import SharedMass, shared_mass

__all__ = [
    "CachedTeacher",
    "LocalTeacher",
    "SharedMass",
    "SharedTeacher",
    "Teacher",
    "TeacherName",
    "TeacherRequest",
    "cached_teacher",
    "check_needs",
    "open_teacher",
    "shared_mass",
    "short_name",
]
