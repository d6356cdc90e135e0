"""The one place that opens what a recipe calls a teacher.

some/model               a model that runs in this process (the kind ``model``)
KIND:NAME                a teacher of another kind, from the table below or an installed package
package.module:Class     a class of your own, or with a name for it package.module:Class:NAME
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from crosstok.plugins import names, resolve
from crosstok.teachers.base import Teacher, TeacherRequest
from crosstok.teachers.cached import cached_teacher

TEACHERS = {"model": "crosstok.teachers.local:LocalTeacher"}
"""Kinds of teachers: name -> ``module:Class``, a subclass of `Teacher`."""

GROUP = "crosstok.teachers"
"""The entry points by which installed packages add kinds."""

_OWN_CLASS = re.compile(r"([A-Za-z_][\w.]*:[A-Za-z_]\w*)(?::(.*))?")


@dataclass(frozen=True)
class TeacherName:
    """What a recipe calls a teacher, taken apart.

    Attributes:
        kind: its class.
        name: what the class makes of the rest: of a local model, its name or folder.
    """

    kind: type[Teacher]
    name: str

    @classmethod
    def parse(cls, text: str) -> "TeacherName":
        """Take a recipe's text apart.

        Raises:
            ValueError: the class that it names cannot be imported, or is no teacher.
        """
        prefix, colon, rest = text.partition(":")
        if colon and prefix in names(TEACHERS, GROUP):
            return cls(_class_of(prefix), rest)
        own = _OWN_CLASS.fullmatch(text)
        if own is not None and not Path(text).expanduser().exists():
            return cls(_class_of(own[1]), own[2] or "")
        return cls(_class_of("model"), text)

    @property
    def tokenizer(self) -> str:
        """The name or folder of its tokenizer."""
        return self.kind.tokenizer_of(self.name)

    def check(self) -> None:
        """Find out whether there is such a teacher, without loading it.

        Raises:
            ValueError: there is none.
        """
        self.kind.check(self.name)


def open_teacher(
    teacher: str,
    request: TeacherRequest,
    *,
    cache: Path | None = None,
    running: Teacher | None = None,
) -> Teacher:
    """Open a teacher that a recipe names.

    Args:
        teacher: as the recipe calls it.
        request: what it is opened with; its name is filled in.
        cache: folder for this teacher's scores: what it holds is read, the rest is added.
        running: a teacher that is at hand and stands for it, such as the student's own weights.

    Raises:
        ValueError: it cannot be opened, or the folder holds scores of another teacher.
    """
    named = TeacherName.parse(teacher)
    request = replace(request, name=named.name)

    def load() -> Teacher:
        return named.kind.open(request) if running is None else running

    if cache is None:
        return load()
    return cached_teacher(
        cache,
        named.name,
        request.byte_vocab,
        lambda notes: named.kind.identify(request, notes),
        load,
    )


def _class_of(name: str) -> type[Teacher]:
    found = resolve(name, TEACHERS, GROUP, "teacher")
    if not issubclass(found, Teacher):
        raise ValueError(
            f"teacher {name!r}: {found.__name__} is not a subclass of crosstok.teachers.Teacher; "
            "derive it from that class and define `scores`, `open` and `tokenizer_of`."
        )
    return found
