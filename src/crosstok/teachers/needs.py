"""Check that the teachers support what the objectives need."""

from collections.abc import Sequence
from dataclasses import fields

from crosstok.objectives import Needs, Objective
from crosstok.teachers.base import Teacher


def check_needs(objectives: Sequence[Objective], teachers: Sequence[Teacher]) -> None:
    """Compare what the objectives need with what each teacher supports, before the first step.

    Raises:
        ValueError: a teacher is missing, or does not support what an objective needs.
    """
    for objective in objectives:
        if objective.needs.teacher and not teachers:
            raise ValueError(
                f"objective {objective.name!r} needs a teacher, and there is none. "
                "Name one, or train by cross_entropy alone."
            )
        for teacher in teachers if objective.needs.teacher else ():
            missing = [
                f.name.replace("_", " ")
                for f in fields(Needs)
                if getattr(objective.needs, f.name) and not getattr(teacher.supports, f.name)
            ]
            if missing:
                raise ValueError(
                    f"objective {objective.name!r} needs {' and '.join(missing)}, which teacher "
                    f"{teacher.name!r} does not support. {teacher.advice}"
                )
