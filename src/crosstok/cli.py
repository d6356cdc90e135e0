"""The command line: one command a job. Progress to standard error, results to standard output.

Exit status: 0 done, 1 it could not be done, 2 it was asked for in a way that cannot be. Libraries
that take seconds to load are imported where they are used.
"""

import inspect
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from rich.console import Console
from rich.markup import escape

from crosstok import __version__
from crosstok.plugins import import_typed
from crosstok.recipes import (
    DistilRecipe,
    EvaluateRecipe,
    GenerateRecipe,
    InspectRecipe,
    RecipeError,
    TrainingRecipe,
    TransferRecipe,
    TransplantRecipe,
    load_recipe,
    pairs,
    recipe_yaml,
)

app = typer.Typer(
    help="Move language models, and what they know, across tokenizers.",
    epilog="CROSSTOK_TRACEBACK=1 shows where an error comes from.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Run a command; what a user can cause ends in one message and exit status 1 or 2."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("crosstok").setLevel(logging.INFO)
    _quiet_libraries()
    try:
        app()
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get("CROSSTOK_TRACEBACK") or not _is_for_users(error):
            raise
        Console(stderr=True).print(
            f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False
        )
        raise SystemExit(2 if isinstance(error, RecipeError) else 1) from error


def _quiet_libraries() -> None:
    """Keep standard error for our own progress: set what the libraries read when loaded."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def _is_for_users(error: BaseException) -> bool:
    """Wrong values and files; of the other errors, those that crosstok raises itself."""
    return not isinstance(error, RuntimeError) or type(error).__module__.startswith("crosstok")


def _show_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"crosstok {__version__}")
        raise typer.Exit


@app.callback()
def crosstok(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
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
    from crosstok.evaluation import EvaluationError, evaluate, render_table

    failure: EvaluationError | None = None
    try:
        result = evaluate(
            recipe.model,
            recipe.data or (),
            recipe.exam or (),
            tasks=recipe.task or (),
            teacher=recipe.teacher,
            options=recipe.options(),
        )
    except EvaluationError as error:
        failure, result = error, error.result
    _console().print(render_table(result))
    _write_json(recipe.json, result)
    if failure is not None:
        raise failure


def _run_inspect(recipe: InspectRecipe) -> None:
    if recipe.is_of_models():
        _inspect_models(recipe)
    else:
        _inspect_tokenizers(recipe)


def _inspect_models(recipe: InspectRecipe) -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from crosstok.jobs.inspect_models import examine_pair
    from crosstok.reports import examination_page, print_examination, write_page

    examination = examine_pair(recipe)
    print_examination(_console(), examination.as_json())
    _write_json(recipe.json, examination.as_json())
    if recipe.html is not None:
        write_page(recipe.html, examination_page(examination.as_json()))
    examination.check()


def _inspect_tokenizers(recipe: InspectRecipe) -> None:
    from crosstok.jobs.inspect_tokenizers import look_at_pair
    from crosstok.reports import pair_page, pair_table, print_chunks, write_page

    look = look_at_pair(recipe)
    first, numbers = look.texts[0], look.report.as_json()
    console = _console()
    vocabs = (encoder.byte_vocab for encoder in look.encoders)
    print_chunks(console, first.source, first.target, first.alignment, *vocabs)
    console.print(pair_table(numbers, *look.names))
    _write_json(recipe.json, numbers)
    if recipe.html is not None:
        write_page(recipe.html, pair_page(numbers, *look.names, look.views()))


def _run_generate(recipe: GenerateRecipe) -> None:
    recipe.check()  # a mistake is told before libraries load
    from crosstok.jobs.generate import generate

    generate(recipe)


@app.command()
def demo(
    output: Annotated[str, typer.Option(help="Folder for the models it makes.")] = "out/demo",
    overwrite: Annotated[bool, typer.Option(help="Replace what the folder holds.")] = False,
) -> None:
    """Move the small model that comes along to another tokenizer, and compare four ways."""
    from crosstok.demo.run import run_demo

    run_demo(Path(output), overwrite=overwrite, console=_console())


def _console() -> Console:
    """Standard output; where it is no terminal, wide enough for a table to keep its columns."""
    return Console() if sys.stdout.isatty() else Console(width=max(Console().width, 120))


def _write_json(file: str | None, values: Any) -> None:
    if file is None:
        return
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _add_command(
    name: str,
    recipe_type: type[Any],
    run: Callable[[Any], None],
    *,
    show_recipe: bool,
    other_spelling: str | None = None,
) -> None:
    """Register a command whose flags are the fields of a recipe, in their order."""

    def command(**flags: Any) -> None:
        file = flags.pop("recipe")
        given = {
            key: pairs(value, key) if key in mappings else value
            for key, value in flags.items()
            if value not in (None, [])
        }
        _import_typed(given)
        recipe = load_recipe(recipe_type, file, given)
        if isinstance(recipe, TrainingRecipe):
            recipe.objectives()  # what cannot be is said before a screen full of options
            recipe.combination()
        if isinstance(recipe, TransplantRecipe):
            recipe.transplant_method()
        if show_recipe:
            typer.echo(recipe_yaml(recipe), err=True)
        run(recipe)

    recipe_flag = typer.Option(help="YAML file with these options as keys; flags win.")
    parameters = [_parameter("recipe", Annotated[Path | None, recipe_flag])]
    hints = get_type_hints(recipe_type)
    mappings = {name for name, hint in hints.items() if "dict" in str(hint)} - {
        "__pydantic_config__"
    }
    for field in fields(recipe_type):
        hint = list[str] if field.name in mappings else hints[field.name]
        note = " Give KEY=VALUE; may be repeated." if field.name in mappings else ""
        flag = typer.Option(help=_help(field.metadata["help"] + note, field.default))
        parameters.append(_parameter(field.name, Annotated[hint | None, flag]))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    app.command(name, help=recipe_type.__doc__)(command)
    if other_spelling is not None:
        app.command(other_spelling, help=recipe_type.__doc__, hidden=True)(command)


# Options that may name a class of one's own, as package.module:Class.
_CLASSES = {"objective": "objective", "method": "transplant method", "teacher": "teacher"}
_CLASS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def _import_typed(flags: Mapping[str, Any]) -> None:
    """Import the classes that were typed: their files may lie in the current folder."""
    for option, what in _CLASSES.items():
        typed = flags.get(option) or ()
        names = typed if isinstance(typed, list) else str(typed).split("+") if typed else ()
        for name in names:
            found = _CLASS.match(name)
            if found is None or Path(name).expanduser().exists():
                continue
            try:
                import_typed(found[0], what)
            except ValueError as error:
                raise RecipeError(str(error)) from error


def _help(text: str, default: Any) -> str:
    """A flag's help with its default, which is the recipe's: the flag itself has none."""
    if default is None:
        return text
    note = "required" if default is MISSING else f"default: {str(default).lower()}"
    return f"{text} [{note}]"


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=None, annotation=annotation)


_add_command("transfer", TransferRecipe, _run_transfer, show_recipe=True)
_add_command("distil", DistilRecipe, _run_distil, show_recipe=True, other_spelling="distill")
_add_command("transplant", TransplantRecipe, _run_transplant, show_recipe=True)
_add_command("evaluate", EvaluateRecipe, _run_evaluate, show_recipe=True)
_add_command("inspect", InspectRecipe, _run_inspect, show_recipe=False)
_add_command("generate", GenerateRecipe, _run_generate, show_recipe=False)


if __name__ == "__main__":
    main()
