"""The command line: one command a job. Progress to standard error, results to standard output."""

import inspect as python_inspect
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from rich.console import Console

app = typer.Typer(
    help="Move language models, and what they know, across tokenizers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Json = Annotated[Path | None, typer.Option("--json", help="Also write the numbers to this file.")]
TextField = Annotated[str, typer.Option(help="Field of the data that holds the text.")]
TextUnitFlag = Annotated[str, typer.Option(help="line, paragraph or document (.txt files).")]
Trust = Annotated[bool, typer.Option(help="Run Python code that comes with a model.")]


def main() -> None:
    """Run a command; what a user can cause ends in one message and exit status 1."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("crosstok").setLevel(logging.INFO)
    _quiet_libraries()
    try:
        app()
    except (ValueError, OSError, RuntimeError) as error:
        if not _is_ours(error):
            raise
        Console(stderr=True).print(f"[bold red]error:[/] {_escape(str(error))}", soft_wrap=True)
        raise SystemExit(1) from error


def _quiet_libraries() -> None:
    """Keep standard error for our own progress: set what the libraries read when they are loaded."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def _is_ours(error: BaseException) -> bool:
    """ValueErrors are for users; of the others, those that crosstok raises itself."""
    return isinstance(error, ValueError) or type(error).__module__.startswith("crosstok")


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _command(name: str, recipe_name: str, run: Callable[[Any], None], help_text: str) -> None:
    """Register a command whose flags are the fields of a recipe."""
    from crosstok import recipes

    recipe_type = getattr(recipes, recipe_name)

    def command(**flags: Any) -> None:
        file = flags.pop("recipe")
        given = {key: value for key, value in flags.items() if value is not None}
        recipe = recipes.load_recipe(recipe_type, file, given)
        typer.echo(recipes.recipe_yaml(recipe), err=True)
        run(recipe)

    recipe_flag = typer.Option(help="YAML file with these options as keys; flags win.")
    parameters = [_parameter("recipe", Annotated[Path | None, recipe_flag])]
    hints = get_type_hints(recipe_type)
    for field in fields(recipe_type):
        if hints[field.name] == dict[str, float] | None:
            continue
        default = "required" if field.default is MISSING else str(field.default)
        flag = typer.Option(help=field.metadata["help"], show_default=default)
        parameters.append(_parameter(field.name, Annotated[hints[field.name] | None, flag]))
    command.__signature__ = python_inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    app.command(name, help=help_text)(command)


def _parameter(name: str, annotation: Any) -> python_inspect.Parameter:
    kind = python_inspect.Parameter.KEYWORD_ONLY
    return python_inspect.Parameter(name, kind, default=None, annotation=annotation)


def _run_transfer(recipe: Any) -> None:
    from crosstok.reports import outcome_table
    from crosstok.transfer import transfer

    result = transfer(recipe)
    console = Console()
    console.print(outcome_table(result.report.as_dict(), result.metrics))
    console.print(f"saved to {result.folder}", highlight=False, soft_wrap=True)


def _run_transplant(recipe: Any) -> None:
    from crosstok.reports import outcome_table
    from crosstok.transfer import transplant_only

    result = transplant_only(recipe)
    console = Console()
    console.print(outcome_table(result.report.as_dict(), {}))
    console.print(f"saved to {result.folder}", highlight=False, soft_wrap=True)


_command(
    "transfer",
    "TransferRecipe",
    _run_transfer,
    "Give a model another tokenizer, and train it to be what it was.",
)
_command(
    "transplant",
    "TransplantRecipe",
    _run_transplant,
    "Give a model the embeddings of another tokenizer, without training.",
)


@app.command()
def evaluate(
    model: Annotated[list[str], typer.Option(help="Model to evaluate; may be given again.")],
    data: Annotated[list[str] | None, typer.Option(help="Texts for bits per byte.")] = None,
    exam: Annotated[list[str] | None, typer.Option(help="File of exam items.")] = None,
    teacher: Annotated[str | None, typer.Option(help="Compare likelihoods with it.")] = None,
    json_file: Json = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens of a window.")] = None,
    max_texts: Annotated[int | None, typer.Option(help="Texts of each data set.")] = None,
    limit: Annotated[int | None, typer.Option(help="Items of each exam, evenly spaced.")] = None,
    text_field: TextField = "text",
    text_unit: TextUnitFlag = "line",
    split: Annotated[str, typer.Option(help="Split of a data set or folder.")] = "train",
    trust_remote_code: Trust = False,
) -> None:
    """Compare models by bits per byte, exams and likeness to a teacher."""
    from crosstok.evaluation import EvaluationError, EvaluationOptions, render_table
    from crosstok.evaluation import evaluate as evaluate_models

    options = EvaluationOptions(
        max_length=max_length,
        max_texts=max_texts,
        max_items=limit,
        text_field=text_field,
        text_unit=text_unit,  # type: ignore[arg-type]
        split=split,
        trust_remote_code=trust_remote_code,
    )
    failure: EvaluationError | None = None
    try:
        result = evaluate_models(model, data or (), exam or (), teacher=teacher, options=options)
    except EvaluationError as error:
        failure, result = error, error.result
    Console().print(render_table(result))
    if json_file is not None:
        _write_json(json_file, result)
    if failure is not None:
        raise failure


@app.command()
def inspect(
    source: Annotated[str, typer.Option(help="Tokenizer or model, name or folder.")],
    target: Annotated[str, typer.Option(help="Tokenizer or model to compare it with.")],
    data: Annotated[str | None, typer.Option(help="Texts to count on.")] = None,
    text: Annotated[str | None, typer.Option(help="A text to show cut by both.")] = None,
    json_file: Json = None,
    max_texts: Annotated[int | None, typer.Option(help="Texts of each file.")] = None,
    text_field: TextField = "text",
    text_unit: TextUnitFlag = "line",
    split: Annotated[str, typer.Option(help="Split of a data set or folder.")] = "train",
    trust_remote_code: Trust = False,
) -> None:
    """Show how two tokenizers cut the same text, and count what they share."""
    from crosstok.alignment import align
    from crosstok.corpora import load_corpora
    from crosstok.reports import compare_tokenizers, pair_table, print_chunks
    from crosstok.tokenizers import TextEncoder, load_tokenizer

    if (data is None) == (text is None):
        raise ValueError("inspect needs one of --data and --text.")
    one = TextEncoder(load_tokenizer(source, trust_remote_code=trust_remote_code))
    other = TextEncoder(load_tokenizer(target, trust_remote_code=trust_remote_code))
    if data is None:
        files = {"text": [text or ""]}
    else:
        corpora = load_corpora(data, text_field=text_field, text_unit=text_unit, split=split)  # type: ignore[arg-type]
        files = {corpus.name: list(corpus.texts(max_texts)) for corpus in corpora}
    shown = text or next(iter(files.values()))[0][:600]
    spans = [encoder([shown], add_start=False, add_end=False)[0] for encoder in (one, other)]
    vocabs = one.byte_vocab, other.byte_vocab
    console = Console()
    print_chunks(console, *spans, align(*spans, *vocabs), *vocabs)
    numbers = compare_tokenizers(one, other, files).as_json()
    console.print(pair_table(numbers, source, target))
    if json_file is not None:
        _write_json(json_file, numbers)


@app.command()
def generate(
    model: Annotated[str, typer.Option(help="Model, name or folder.")],
    prompt: Annotated[str, typer.Option(help="Text to continue.")],
    max_new_tokens: Annotated[int, typer.Option(help="At most so many.")] = 128,
    temperature: Annotated[float, typer.Option(help="0: the likeliest token each time.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the sampling.")] = 0,
    trust_remote_code: Trust = False,
) -> None:
    """Continue a text; tokens are printed as they come."""
    from transformers import TextStreamer

    from crosstok import inference
    from crosstok.models import load_model
    from crosstok.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(model, trust_remote_code=trust_remote_code)
    language_model = load_model(model, trust_remote_code=trust_remote_code)
    typer.echo(prompt, nl=False)
    inference.generate(
        language_model,
        tokenizer,
        prompt,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        streamer=TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True),
    )


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for the models it makes.")] = Path(
        "out/demo"
    ),
    overwrite: Annotated[bool, typer.Option(help="Replace what the folder holds.")] = False,
) -> None:
    """Move the small model that comes along to another tokenizer, and compare four ways."""
    from crosstok.demo.run import run_demo

    run_demo(output, overwrite=overwrite, console=Console())


def _write_json(file: Path, values: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
