"""The command line: one command per job. Progress on standard error, results on standard output.

Exit status: 0 done, 1 failed, 2 the options are wrong, 130 Ctrl-C, 143 SIGTERM. Libraries that take
seconds to load are imported where they are used.
"""

import inspect
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from rich.console import Console
from rich.markup import escape

from crosstok import __version__
from crosstok.choices import TEACHERS
from crosstok.cli.parsing import HELP, Commands, JobCommand
from crosstok.cli.stopping import heed_sigterm, stopped_in_one_line
from crosstok.local_files import why_not_there
from crosstok.plugins import import_typed, names
from crosstok.recipes import (
    CheckedRecipe,
    DistilRecipe,
    EvaluateRecipe,
    GenerateRecipe,
    InspectModelsRecipe,
    InspectTokenizersRecipe,
    RecipeError,
    TrainingRecipe,
    TransferRecipe,
    TransplantRecipe,
    grouped_fields,
    load_inspect_recipe,
    load_recipe,
    pairs,
    recipe_yaml,
)

app = typer.Typer(
    help="Move language models, and what they know, across tokenizers.",
    epilog="CROSSTOK_TRACEBACK=1 shows where an error comes from.",
    no_args_is_help=True,
    cls=Commands,
    context_settings=HELP,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Run a command; errors that a user can cause end in one message and exit status 1 or 2."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("crosstok").setLevel(logging.INFO)
    _quiet_libraries()
    heed_sigterm()
    try:
        app(prog_name="crosstok")
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get("CROSSTOK_TRACEBACK") or not _is_for_users(error):
            raise
        Console(stderr=True).print(
            f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False
        )
        raise SystemExit(2 if isinstance(error, RecipeError) else 1) from error


def _quiet_libraries() -> None:
    """Keep standard error for crosstok's progress; libraries read these settings when loaded."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def _is_for_users(error: BaseException) -> bool:
    """Whether an error is about values or files, or is a RuntimeError that crosstok raises."""
    return not isinstance(error, RuntimeError) or type(error).__module__.startswith("crosstok")


def _show_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"crosstok {__version__}")
        raise typer.Exit


@app.callback()
def crosstok(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Move language models, and what they know, across tokenizers."""


def _run_transfer(recipe: TransferRecipe) -> None:
    # Worker processes are forked: threads of tokenizers would hang in them.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from crosstok.jobs.transfer import transfer

    result = transfer(recipe)
    _show_outcome(result.folder, result.report.as_dict(), result.metrics, _labels_of(recipe))


def _run_distil(recipe: DistilRecipe) -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from crosstok.jobs.distil import distil

    result = distil(recipe)
    _show_outcome(result.folder, {}, result.metrics, _labels_of(recipe))


def _run_transplant(recipe: TransplantRecipe) -> None:
    from crosstok.jobs.transplant import transplant

    result = transplant(recipe)
    _show_outcome(result.folder, result.report.as_dict(), {}, {})


def _labels_of(recipe: TrainingRecipe) -> dict[str, tuple[str, str]]:
    from crosstok.objectives import label_metrics

    return label_metrics(recipe.objectives())


def _show_outcome(
    folder: Path,
    report: dict[str, Any],
    metrics: Mapping[str, float],
    labels: dict[str, tuple[str, str]],
) -> None:
    from crosstok.reports import outcome_table

    console = _console()
    console.print(outcome_table(report, metrics, labels))
    console.print(f"saved to {escape(str(folder))}", highlight=False, soft_wrap=True)


def _run_evaluate(recipe: EvaluateRecipe) -> None:
    from crosstok.evaluation import EvaluationError, render_table
    from crosstok.jobs.evaluate import evaluate

    try:
        result = {"models": evaluate(recipe).models}
    except EvaluationError as error:
        _console().print(render_table(error.result))
        raise
    _console().print(render_table(result))


def _run_inspect(recipe: InspectTokenizersRecipe | InspectModelsRecipe) -> None:
    if isinstance(recipe, InspectModelsRecipe):
        _run_inspect_models(recipe)
    else:
        _run_inspect_tokenizers(recipe)


def _run_inspect_models(recipe: InspectModelsRecipe) -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from crosstok.jobs.inspect_models import inspect_models
    from crosstok.reports import print_examination

    result = inspect_models(recipe)
    print_examination(_console(), result.as_json())
    result.check()


def _run_inspect_tokenizers(recipe: InspectTokenizersRecipe) -> None:
    from crosstok.jobs.inspect_tokenizers import inspect_tokenizers
    from crosstok.reports import pair_table, print_chunks

    result = inspect_tokenizers(recipe)
    first, console = result.texts[0], _console()
    vocabs = (encoder.byte_vocab for encoder in result.encoders)
    print_chunks(console, first.source, first.target, first.alignment, *vocabs)
    console.print(pair_table(result.report.as_json(), *result.names))


def _run_generate(recipe: GenerateRecipe) -> None:
    recipe.check()  # mistakes are reported before libraries load
    from crosstok.jobs.generate import generate, write_to_standard_output

    generate(recipe, write=write_to_standard_output)


@app.command(cls=JobCommand, context_settings=HELP)
@stopped_in_one_line()
def demo(
    output: Annotated[str, typer.Option(help="Folder for the new models.")] = "out/demo",
    overwrite: Annotated[bool, typer.Option(help="Replace what the folder holds.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Train for few steps: a minute on two cores.")
    ] = False,
) -> None:
    """Move a small model (included) to another tokenizer in four ways, and compare them."""
    from crosstok.demo.run import QUICK, DemoSettings, run_demo

    settings = QUICK if quick else DemoSettings()
    run_demo(Path(output), overwrite=overwrite, console=_console(), settings=settings)


@app.command(cls=JobCommand, context_settings=HELP)
def env(
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, not a block.")] = False,
) -> None:
    """Show versions and devices, to paste into a bug report; no paths, names or secrets."""
    from crosstok.cli.environment import as_block, describe_environment

    found = describe_environment()
    typer.echo(json.dumps(found, indent=2) if as_json else as_block(found))


def _console() -> Console:
    """A console on standard output; wide enough for tables where that is not a terminal."""
    return Console() if sys.stdout.isatty() else Console(width=max(Console().width, 120))


_REPEATED = "Options with ... may be repeated."


def _add_command(
    name: str,
    recipe_types: Sequence[type[Any]],
    run: Callable[[Any], None],
    *,
    show_recipe: bool,
    load: Callable[[Path | None, dict[str, Any]], Any] | None = None,
    help_text: str | None = None,
    other_spelling: str | None = None,
) -> None:
    """Register a command whose flags are a recipe's fields; `load` picks one of two recipes."""
    load = load or partial(load_recipe, recipe_types[0])
    known = {f.name: f for f in grouped_fields(*recipe_types)}
    hints = {n: hint for kind in reversed(recipe_types) for n, hint in get_type_hints(kind).items()}
    mappings = {n for n in known if "dict" in str(hints[n])}

    @stopped_in_one_line()
    def command(**flags: Any) -> None:
        file = flags.pop("recipe")
        given = {
            key: pairs(value, key, known[key].metadata["example"]) if key in mappings else value
            for key, value in flags.items()
            if value not in (None, [])
        }
        if issubclass(recipe_types[0], TransplantRecipe | TrainingRecipe):
            _import_typed(given)
        recipe = load(file, given)
        _check_paths(recipe)
        if isinstance(recipe, TrainingRecipe):
            recipe.check()  # mistakes are reported before the recipe is printed
        if isinstance(recipe, TransplantRecipe):
            recipe.transplant_method()
        if show_recipe:
            typer.echo(recipe_yaml(recipe), err=True)
        run(recipe)

    recipe_flag = typer.Option(
        help="YAML file with options as keys; the command line takes precedence.", metavar="<path>"
    )
    parameters = [_parameter("recipe", Annotated[Path | None, recipe_flag])]
    for field in known.values():
        parameters.append(_flag(field, hints[field.name], is_mapping=field.name in mappings))
    for kind in recipe_types:
        parameters += _former_flags(kind)
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    register = partial(
        app.command,
        cls=JobCommand,
        help=help_text or recipe_types[0].__doc__,
        epilog=_REPEATED,
        context_settings=HELP,
    )
    register(name)(command)
    if other_spelling is not None:
        register(other_spelling, hidden=True)(command)


# Options that name a model or a tokenizer.
_PLACES = ("model", "tokenizer", "teacher", "student", "source", "target")


def _check_paths(recipe: Any) -> None:
    """Refuse paths at which there is nothing, before libraries load.

    Raises:
        ValueError: a model or tokenizer can only be a folder, and there is none.
    """
    for option in _PLACES:
        given = getattr(recipe, option, None) or ()
        for name in [given] if isinstance(given, str) else given:
            has_prefix = ":" in name  # bytes:NAME, or a kind of teacher
            is_ensemble = name.endswith((".yaml", ".yml"))
            if not has_prefix and not is_ensemble and (why := why_not_there(name)):
                raise ValueError(f"{option} {name!r}: {why}")


def _flag(field: Field[Any], hint: Any, *, is_mapping: bool) -> inspect.Parameter:
    """The flag of a field."""
    is_list = is_mapping or "list[" in str(hint)
    is_switch = "bool" in str(hint)
    flag = typer.Option(
        help=_help(field.metadata["help"], field.default),
        metavar=None if is_switch else "KEY=VALUE ..." if is_mapping else _metavar(hint),
        rich_help_panel=field.metadata.get("group") or None,
    )
    # The recipe reads and checks every value, as it does those of a file.
    kind = bool if is_switch else list[str] if is_list else str
    return _parameter(field.name, Annotated[kind | None, flag])


def _metavar(hint: Any) -> str:
    """``<int>``, ``<fp32|bf16|fp16>``, ``<str> ...``: what to write after a flag."""
    kinds = [kind for kind in get_args(hint) or [hint] if kind is not type(None)]
    for kind in kinds:
        if get_origin(kind) is Literal:
            return f"<{'|'.join(get_args(kind))}>"
    if get_origin(hint) is Literal:
        return f"<{'|'.join(get_args(hint))}>"
    name = next((name for name in ("int", "float") if re.search(rf"\b{name}\b", str(kinds))), "str")
    return f"<{name}> ..." if "list[" in str(hint) else f"<{name}>"


def _former_flags(recipe_type: type[Any]) -> list[inspect.Parameter]:
    """Hidden flags of earlier versions; using one is an error that gives the new spelling."""
    former = recipe_type.former_keys if issubclass(recipe_type, CheckedRecipe) else {}
    hints = {name: bool if isinstance(key.default, bool) else str for name, key in former.items()}
    hidden = typer.Option(hidden=True)
    return [_parameter(name, Annotated[hint | None, hidden]) for name, hint in hints.items()]


# Options that may name a class from outside, as package.module:Class, and what each class is.
_CLASSES = {"objective": "objective", "method": "transplant method", "teacher": "teacher"}
_CLASS = re.compile(r"([A-Za-z_][\w.]*):[A-Za-z_]\w*")


def _import_typed(flags: Mapping[str, Any]) -> None:
    """Import the classes that options name; their files may be in the current folder."""
    kinds = names(TEACHERS, "crosstok.teachers")  # KIND:NAME is not a class
    for option, what in _CLASSES.items():
        typed = flags.get(option) or ()
        for name in typed if isinstance(typed, list) else str(typed).split("+") if typed else ():
            found = _CLASS.match(name.strip())
            if found is None or found[1] in kinds or Path(name).expanduser().exists():
                continue
            try:
                import_typed(found[0], what)
            except ValueError as error:
                raise RecipeError(str(error)) from error


def _help(text: str, default: Any) -> str:
    """A flag's help with the recipe's default; the flag itself has none."""
    if default is None:
        return text
    if isinstance(default, bool):
        default = "yes" if default else "no"
    return f"{text} [{'required' if default is MISSING else f'default: {default}'}]"


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=None, annotation=annotation)


_add_command("transfer", [TransferRecipe], _run_transfer, show_recipe=True)
_add_command("distil", [DistilRecipe], _run_distil, show_recipe=True, other_spelling="distill")
_add_command("transplant", [TransplantRecipe], _run_transplant, show_recipe=True)
_add_command("evaluate", [EvaluateRecipe], _run_evaluate, show_recipe=True)
_add_command(
    "inspect",
    [InspectTokenizersRecipe, InspectModelsRecipe],
    _run_inspect,
    show_recipe=False,
    load=load_inspect_recipe,
    help_text="Inspect two tokenizers, or a teacher and a student before a distillation.",
)
_add_command("generate", [GenerateRecipe], _run_generate, show_recipe=False)
