"""The summands of the loss: every objective, bound to the student and to each teacher it needs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from crosstok.corpora import distinct_names
from crosstok.objectives import BoundObjective, ModelView, Objective
from crosstok.teachers import Teacher

MODULES = "objective_modules"
"""Attribute of the student's model: modules that objectives train with it (projectors)."""

NO_TEACHER: Any = None
"""What an objective is given for the teacher that its ``needs`` do not ask for."""


@dataclass(frozen=True)
class Term:
    """One summand of the loss.

    Attributes:
        name: the objective's, with ``@teacher`` where there are several teachers.
        objective: bound to the pair of models.
        teacher: index of the teacher it looks at; None for an objective without one.
    """

    name: str
    objective: BoundObjective
    teacher: int | None


def bind(
    objectives: Sequence[Objective], student: ModelView, teachers: Sequence[Teacher]
) -> dict[str, Term]:
    """Terms by name, in the order of objectives, then of teachers.

    Raises:
        ValueError: an objective cannot be used for a pair of models.
    """
    names = distinct_names([teacher.name for teacher in teachers])
    terms = {}
    for objective in objectives:
        if not objective.needs.teacher:
            terms[objective.name] = Term(objective.name, objective.bind(student, NO_TEACHER), None)
            continue
        for i, (teacher, teacher_name) in enumerate(zip(teachers, names, strict=True)):
            name = objective.name if len(teachers) == 1 else f"{objective.name}@{teacher_name}"
            view = NO_TEACHER if teacher.view is None else teacher.view  # likelihoods are stored
            terms[name] = Term(name, objective.bind(student, view), i)
    return terms


def attach_modules(model: nn.Module, terms: dict[str, Term]) -> None:
    """Hang the terms' trainable modules into the model: optimizer, checkpoints, ranks see them."""
    modules = {
        name.replace(".", "_"): term.objective
        for name, term in terms.items()
        if isinstance(term.objective, nn.Module)
    }
    if modules:
        model.add_module(MODULES, nn.ModuleDict(modules))


def detach_modules(model: nn.Module) -> None:
    """Take them out again."""
    if hasattr(model, MODULES):
        delattr(model, MODULES)


def own_rates(terms: dict[str, Term]) -> Iterator[tuple[list[nn.Parameter], float]]:
    """Parameters of each module with the learning rate that its objective names."""
    for term in terms.values():
        if isinstance(term.objective, nn.Module):
            rate = getattr(term.objective, "learning_rate", None)
            parameters = [p for p in term.objective.parameters() if p.requires_grad]
            if rate is not None and parameters:
                yield parameters, float(rate)
