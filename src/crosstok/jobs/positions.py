"""Whether models have positions for the lengths that a job reads, by their configurations."""

from pathlib import Path

from crosstok.loaded import Loaded
from crosstok.models import load_config
from crosstok.models.context_length import check_positions
from crosstok.recipes import DistilRecipe, TransferRecipe
from crosstok.teachers import LocalTeacher, TeacherName


def check_lengths_of_transfer(recipe: TransferRecipe) -> list[str]:
    """Refuse lengths that the model has too few positions for.

    Of a byte student, `crosstok.jobs.byte_lengths.fit_lengths` chooses and checks the lengths.

    Returns:
        Warnings, where rotary positions would be exceeded.

    Raises:
        ValueError: names the option, the model and its positions.
    """
    if recipe.to_bytes:
        return []
    lengths = {"max_length": recipe.student_max_length}
    if recipe.teacher_max_length is not None:
        lengths["teacher_max_length"] = recipe.teacher_max_length
    trust = recipe.trust_remote_code
    return [
        warning
        for option, length in lengths.items()
        for warning in _check(recipe.model, option, length, trust_remote_code=trust)
    ]


def check_lengths_of_distillation(recipe: DistilRecipe) -> list[str]:
    """Refuse lengths that the student or a teacher has too few positions for.

    A teacher that is not a model of this process is passed over, and so is a stored one whose
    model is not in a folder.

    Returns:
        Warnings, where rotary positions would be exceeded.

    Raises:
        ValueError: names the option, the model and its positions.
    """
    trust, given = recipe.trust_remote_code, recipe.teacher_max_length
    option = "max_length" if given is None else "teacher_max_length"
    warnings = _check(
        recipe.student, "max_length", recipe.student_max_length, trust_remote_code=trust
    )
    for named in map(TeacherName.parse, recipe.teacher):
        is_stored = recipe.teacher_cache is not None and not Path(named.name).is_dir()
        if issubclass(named.kind, LocalTeacher) and not is_stored:
            length = given or recipe.student_max_length
            warnings += _check(named.name, option, length, trust_remote_code=trust)
    return warnings


def has_config(name: str) -> bool:
    """Whether a folder holds more than a tokenizer; of a hub name that is assumed."""
    if isinstance(name, Loaded):
        return name.model is not None
    path = Path(name).expanduser()
    return not path.exists() or (path.is_dir() and (path / "config.json").is_file())


def _check(name: str, option: str, length: int, *, trust_remote_code: bool) -> list[str]:
    if not has_config(name):
        return []
    config = load_config(name, trust_remote_code=trust_remote_code)
    warning = check_positions(config, option, length, str(name))
    return [] if warning is None else [warning]
