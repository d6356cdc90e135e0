"""Whether the teachers have what the objectives ask for."""

from collections.abc import Sequence
from dataclasses import fields

from crosstok.objectives import Needs, Objective
from crosstok.teachers.base import Teacher


def check_needs(objectives: Sequence[Objective], teachers: Sequence[Teacher]) -> None:
    """Compare what the objectives ask for with what each teacher has, before the first step.

    Raises:
        ValueError: names the objective, the teacher, what is needed and what to do.
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
                    f"{teacher.name!r} does not give. {teacher.advice}"
                )
