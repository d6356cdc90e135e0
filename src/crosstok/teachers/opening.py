"""Open teachers by the names that recipes use.

some/model               a model that runs in this process (the kind ``model``)
KIND:NAME                a teacher of another kind, from the table below or an installed package
package.module:Class     a class of your own; with a name: package.module:Class:NAME
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from crosstok.choices import TEACHERS
from crosstok.loaded import Loaded
from crosstok.plugins import names, resolve
from crosstok.teachers.base import Teacher, TeacherRequest
from crosstok.teachers.cached import cached_teacher

GROUP = "crosstok.teachers"
"""Entry points by which installed packages add kinds: ``name = "package.module:Class"``."""

_OWN_CLASS = re.compile(r"([A-Za-z_][\w.]*:[A-Za-z_]\w*)(?::(.*))?")


@dataclass(frozen=True)
class TeacherName:
    """The name of a teacher in a recipe, parsed.

    Attributes:
        kind: class of the teacher.
        name: the rest, for the class to read; for a local model, hub name or folder.
    """

    kind: type[Teacher]
    name: str

    @classmethod
    def parse(cls, text: str) -> "TeacherName":
        """Parse the name of a teacher in a recipe.

        Raises:
            ValueError: the class in it cannot be imported, or is not a teacher.
        """
        if isinstance(text, Loaded):
            return cls(_class_of("model"), text)
        prefix, colon, rest = text.partition(":")
        if colon and prefix in names(TEACHERS, GROUP):
            return cls(_class_of(prefix), rest)
        own = _OWN_CLASS.fullmatch(text)
        if own is not None and not Path(text).expanduser().exists():
            return cls(_class_of(own[1]), own[2] or "")
        return cls(_class_of("model"), text)

    @property
    def tokenizer(self) -> str:
        """Hub name or folder of its tokenizer."""
        return self.kind.tokenizer_of(self.name)

    def check(self) -> None:
        """Check that the teacher exists, without loading it.

        Raises:
            ValueError: it does not exist.
        """
        self.kind.check(self.name)


def open_teacher(
    teacher: str,
    request: TeacherRequest,
    *,
    cache: Path | None = None,
    running: Teacher | None = None,
) -> Teacher:
    """Open a teacher by its name in a recipe.

    Args:
        teacher: its name in the recipe.
        request: arguments for opening it; the name in it is replaced.
        cache: folder for its scores: stored rows are read, others are added.
        running: a running teacher to use instead, such as the student's own weights.

    Raises:
        ValueError: it cannot be opened, or the folder holds scores of another teacher.
    """
    named = TeacherName.parse(teacher)
    request = replace(request, name=named.name)

    def load() -> Teacher:
        return named.kind.open(request) if running is None else running

    if cache is None:
        return load()
    supports = getattr(named.kind, "supports", None)
    if supports is not None and not supports.boundary_mass:
        raise ValueError(
            f"teacher {teacher!r} gives no boundary mass, which teacher_cache stores for every "
            "token; leave teacher_cache out."
        )
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
