"""Several models on the same data and exams, side by side."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from crosstok.corpora import TextUnit, load_corpus, plain_name, read_rows
from crosstok.evaluation.bits_per_byte import bits_per_byte
from crosstok.evaluation.exams import Item, read_exam, take_exam
from crosstok.evaluation.fidelity import fidelity
from crosstok.inference.scoring import Scorer
from crosstok.models import check_model_exists, load_model
from crosstok.tokenizers import load_tokenizer

Model = str | tuple[str, Any, Any]
"""A name or folder, or (name, model, tokenizer) for a model that is loaded."""

Data = str | tuple[str, Sequence[str]]
"""A file, folder or data set name, or (name, texts)."""

_Result = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """How texts are read and scored."""

    max_length: int | None = None
    """Tokens in a window; by default each model's positions, at most 2,048."""

    overlap: int = 0
    """Tokens of a window that repeat the end of the one before (bits per byte)."""

    start_every_window: bool = True
    """Put the start token in front of every window, not of every text only (bits per byte)."""

    max_texts: int | None = None
    """Texts of each data set that are used, from its beginning; None for all."""

    max_items: int | None = None
    """Items of each exam that are used, evenly spaced; None for all."""

    text_field: str = "text"
    """Field of a data set's rows that holds the text."""

    text_unit: TextUnit = "line"
    """What one text of a `.txt` file is."""

    split: str = "train"
    """Split of a data set's name or folder; a file has none."""

    tokens_per_batch: int | None = None
    """Tokens in one forward pass, padding included; the default goes by the device."""

    dtype: torch.dtype | str | None = None
    """Of models loaded by name; None for float32 on CPU, and the saved one on an accelerator."""

    device: str | None = None
    """Of models loaded by name; None for the accelerator if there is one."""

    trust_remote_code: bool = False
    """Whether Python code in a model's folder may be executed."""

    def __post_init__(self) -> None:
        for name in ("max_texts", "max_items", "tokens_per_batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1.")


class EvaluationError(ValueError):
    """Some of an evaluation failed.

    Attributes:
        result: all that did not fail, in the form of `evaluate`.
    """

    def __init__(self, failures: Sequence[str], result: _Result) -> None:
        super().__init__("Parts of the evaluation failed: " + " | ".join(failures))
        self.result = result


def evaluate(
    models: Sequence[Model],
    data: Sequence[Data] = (),
    exams: Sequence[str] = (),
    *,
    teacher: Model | None = None,
    options: EvaluationOptions | None = None,
    show_progress: bool = True,
) -> _Result:
    """Bits per byte on data, accuracy on exams, fidelity to a teacher on data, for every model.

    All tokenizers, data and exams are read before the first model is loaded, so what can be wrong
    with them, or a folder without a model, is found at once. Models are then loaded one after
    another.

    Args:
        models: what to evaluate.
        data: texts for bits per byte and, with a teacher, for fidelity.
        exams: files of exam rows (`crosstok.evaluation.exams`).
        teacher: the model to compare likelihoods with; itself it is not compared with.
        options: how texts are read and scored.
        show_progress: bars on standard error.

    Returns:
        `{"models": [{"model": name, "data": {NAME: {"bits_per_byte", "bytes", "tokens", ...}},
        "exams": {NAME: {"accuracy", "stderr", "items", ...}}, "fidelity": {NAME: {...}}}]}`, where
        NAME is the file name without suffixes, and `fidelity` is there with a teacher only.

    Raises:
        ValueError: nothing to evaluate, or an input that cannot be used.
        EvaluationError: something failed later; it carries the result of all the rest.
    """
    options = options or EvaluationOptions()
    if not models or not (data or exams):
        raise ValueError("evaluate needs a model and something to evaluate it on: data or exams.")
    _check_models([*models, *([teacher] if teacher is not None else [])], options)
    texts = _read_data(data, options)
    questions = _read_exams(exams, options)
    result: _Result = {"models": []}
    failures: list[str] = []
    with _progress(show_progress) as progress:
        judge = None if teacher is None or not texts else _scorer(teacher, options)
        for model in models:
            entry: dict[str, Any] = {"model": _model_name(model), "data": {}, "exams": {}}
            result["models"].append(entry)
            run = _Run(entry, failures, progress)
            scorer = run.attempt("loading", partial(_scorer, model, options))
            if scorer is None:
                continue
            _measure(run, scorer, texts, questions, options)
            if judge is not None and _model_name(model) != judge.name:
                _compare_with_teacher(run, scorer, judge, texts)
            del scorer
    if failures:
        raise EvaluationError(failures, result)
    return result


def render_table(result: _Result) -> Table:
    """The figures of `evaluate`, a column for each model; the best of each row is bold."""
    models = result["models"]
    table = Table(title=None)
    table.add_column("")
    for entry in models:
        table.add_column(escape(_short_name(entry["model"])), justify="right")
    for section, key, label, scale, best in _ROWS:
        for name in _names(models, section):
            figures = [entry.get(section, {}).get(name) for entry in models]
            values = [None if figure is None else figure[key] * scale for figure in figures]
            known = [value for value in values if value is not None]
            cells = ["–" if value is None else f"{value:.{_DIGITS[key]}f}" for value in values]
            for i, figure in enumerate(figures):
                if figure is not None and "stderr" in figure:
                    cells[i] += f" ± {figure['stderr'] * scale:.1f}"
                if len(known) > 1 and values[i] == best(known):
                    cells[i] = f"[bold]{cells[i]}[/bold]"
            table.add_row(f"{escape(name)}: {label}", *cells)
    return table


_ROWS: tuple[tuple[str, str, str, float, Callable[[Iterable[float]], float]], ...] = (
    ("data", "bits_per_byte", "bits per byte", 1.0, min),
    ("exams", "accuracy", "accuracy, %", 100.0, max),
    ("fidelity", "chunk_divergence", "chunk divergence, nats", 1.0, min),
    ("fidelity", "agreement", "agreement with teacher, %", 100.0, max),
)
_DIGITS = {"bits_per_byte": 3, "accuracy": 1, "chunk_divergence": 4, "agreement": 1}


def _names(models: list[dict[str, Any]], section: str) -> list[str]:
    """The data sets or exams that any model has figures of, in order."""
    return list(dict.fromkeys(name for entry in models for name in entry.get(section, {})))


def _short_name(name: str) -> str:
    return Path(name).name or name


class _Run:
    """One model's part: keeps what succeeds, notes what fails, moves the bars."""

    def __init__(self, entry: dict[str, Any], failures: list[str], progress: Progress) -> None:
        self.entry = entry
        self._failures = failures
        self._progress = progress

    def attempt(self, what: str, work: Callable[[], Any]) -> Any:
        """The work's value, or None with a note of why there is none."""
        try:
            return work()
        except (ValueError, RuntimeError, OSError) as error:
            self._failures.append(f"{self.entry['model']}, {what}: {error}")
            return None

    def figures(self, section: str, name: str, total: int, work: Callable[..., Any]) -> None:
        """Put the figures of `work(on_progress=...)` into the entry."""
        what = escape(f"{_short_name(self.entry['model'])}: {name}")
        task = self._progress.add_task(what, total=total)

        def advance(count: int) -> None:
            self._progress.advance(task, count)

        found = self.attempt(f"{section} {name}", partial(work, on_progress=advance))
        self._progress.remove_task(task)
        if found is not None:
            self.entry[section][name] = found.as_json()


def _measure(
    run: _Run,
    scorer: Scorer,
    texts: dict[str, list[str]],
    questions: dict[str, list[Item]],
    options: EvaluationOptions,
) -> None:
    for name, group in texts.items():
        work = partial(
            bits_per_byte,
            scorer,
            group,
            overlap=options.overlap,
            start_every_window=options.start_every_window,
        )
        run.figures("data", name, len(group), work)
    for name, items in questions.items():
        run.figures("exams", name, len(items), partial(take_exam, scorer, items))


def _compare_with_teacher(
    run: _Run, scorer: Scorer, teacher: Scorer, texts: dict[str, list[str]]
) -> None:
    run.entry["fidelity"] = {}
    for name, group in texts.items():
        run.figures("fidelity", name, len(group), partial(fidelity, scorer, teacher, group))


def _read_data(data: Sequence[Data], options: EvaluationOptions) -> dict[str, list[str]]:
    texts = []
    for source in data:
        if isinstance(source, tuple):
            name, given = source
            texts.append((name, list(given[: options.max_texts])))
            continue
        corpus = load_corpus(
            source,
            text_field=options.text_field,
            text_unit=options.text_unit,
            split=options.split,
        )
        texts.append((corpus.name, list(corpus.texts(options.max_texts))))
    return _by_unique_name(data, texts)


def _read_exams(exams: Sequence[str], options: EvaluationOptions) -> dict[str, list[Item]]:
    questions = [
        (plain_name(Path(path)), read_exam(read_rows(path), path, options.max_items))
        for path in exams
    ]
    return _by_unique_name(exams, questions)


def _by_unique_name(sources: Sequence[Any], named: list[tuple[str, Any]]) -> dict[str, Any]:
    """By name; where two are called the same, by the folder's name and theirs, then by number."""
    names = [name for name, _ in named]
    unique: dict[str, Any] = {}
    for source, (name, value) in zip(sources, named, strict=True):
        folder = Path(source).resolve().parent.name if isinstance(source, str) else ""
        base = f"{folder}/{name}" if names.count(name) > 1 and folder else name
        final, number = base, 2
        while final in unique:
            final, number = f"{base} ({number})", number + 1
        unique[final] = value
    return unique


def _model_name(model: Model) -> str:
    return model if isinstance(model, str) else model[0]


def _check_models(models: Sequence[Model], options: EvaluationOptions) -> None:
    for model in models:
        if isinstance(model, str):
            check_model_exists(model)
            load_tokenizer(model, trust_remote_code=options.trust_remote_code)


def _scorer(model: Model, options: EvaluationOptions) -> Scorer:
    if isinstance(model, str):
        device = options.device or _accelerator()
        dtype = options.dtype or ("float32" if device == "cpu" else "auto")
        name = model
        loaded: Any = load_model(
            model, dtype=dtype, device=device, trust_remote_code=options.trust_remote_code
        )
        tokenizer: Any = load_tokenizer(model, trust_remote_code=options.trust_remote_code)
    else:
        name, loaded, tokenizer = model
    return Scorer(
        loaded,
        tokenizer,
        name=name,
        max_length=options.max_length,
        tokens_per_batch=options.tokens_per_batch,
    )


def _accelerator() -> str:
    found = torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if found is None else str(found)


@contextmanager
def _progress(show: bool) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not show) as progress:
        yield progress
