"""Compare several models on the same data, exams and tasks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from crosstok.corpora import distinct_names, load_corpus, plain_name, read_rows
from crosstok.evaluation.bits_per_byte import bits_per_byte, bits_per_byte_of_windows
from crosstok.evaluation.byte_windows import WINDOW_BYTES, cut_text
from crosstok.evaluation.contenders import Contender, Model, contender, contenders, drop_folders
from crosstok.evaluation.exams import Item, read_exam, take_exam
from crosstok.evaluation.fidelity import fidelity
from crosstok.evaluation.options import EvaluationOptions
from crosstok.evaluation.samples import SampleFiles
from crosstok.evaluation.tasks import Tasks
from crosstok.inference.language_model import LanguageModel
from crosstok.inference.loading import place_and_dtype
from crosstok.inference.scoring import Scorer
from crosstok.inference.token_model import TokenModel

Data = str | tuple[str, Sequence[str]]
"""A file, folder or data set name, or (name, texts)."""

_Result = dict[str, list[dict[str, Any]]]


class EvaluationError(ValueError):
    """Parts of an evaluation failed.

    Attributes:
        failures: what failed, each with its reason.
        result: the figures of the other parts, in the form that `evaluate` returns.
    """

    def __init__(self, failures: Sequence[str], result: _Result) -> None:
        super().__init__("Parts of the evaluation failed: " + " | ".join(failures))
        self.failures = tuple(failures)
        self.result = result


def evaluate(
    models: Sequence[Model],
    data: Sequence[Data] = (),
    exams: Sequence[str] = (),
    *,
    tasks: Sequence[str] = (),
    teacher: Model | None = None,
    options: EvaluationOptions | None = None,
    show_progress: bool = True,
) -> _Result:
    """Measure bits per byte, exams, tasks of lm-eval and fidelity to a teacher for every model.

    All tokenizers, data, exams and tasks are read before the first model is loaded, so that errors
    in them, and folders without a model, are found at once. Models are then loaded one after
    another.

    Args:
        models: what to evaluate: names, `Ensemble`s or loaded models; or the names of models that
            answer as one (`options.combine`).
        data: texts for bits per byte and, with a teacher, for fidelity.
        exams: files of exam rows (`crosstok.evaluation.exams`).
        tasks: names of tasks of lm-eval (`crosstok.evaluation.tasks`).
        teacher: the model to compare likelihoods with. The teacher itself, byte views and
            ensembles are not compared with it.
        options: how texts are read and scored.
        show_progress: whether to show progress bars on standard error.

    Returns:
        `{"models": [{"model": name, "data": {NAME: {"bits_per_byte", "bytes", "tokens", ...}},
        "exams": {NAME: {"accuracy", "stderr", "items", ...}}, "tasks": {NAME: {"metrics": ...}},
        "fidelity": {NAME: {...}}}]}`, where NAME is the file name without suffixes, or the name of
        the task; `tasks` and `fidelity` are present only with tasks and with a teacher.

    Raises:
        ValueError: there is nothing to evaluate, or an input cannot be used.
        EvaluationError: parts of the evaluation failed; it carries the figures of the others.
    """
    options = options or EvaluationOptions()
    if not models or not (data or exams or tasks):
        raise ValueError(
            "evaluate needs a model and something to evaluate it on: data, exams or tasks."
        )
    columns = contenders(models, options)
    judge = None if teacher is None else contender(teacher, EvaluationOptions())
    _check(columns, judge, options)
    options = _with_windows(columns, options)
    texts, questions = _read_data(data, options), _read_exams(exams, options)
    work = _Work(texts, questions, Tasks(tasks, options) if tasks else None, options)
    result: _Result = {"models": []}
    failures: list[str] = []
    with _progress(show_progress) as progress:
        judging = _judging_scorer(judge, options) if judge is not None and texts else None
        for column in columns:
            entry: dict[str, Any] = {"model": column.name, "data": {}, "exams": {}}
            result["models"].append(entry)
            rival = None if column.is_same(judge) else judging
            _evaluate_one(column, work, rival, _Run(entry, failures, progress))
    if failures:
        raise EvaluationError(failures, result)
    return result


@dataclass(frozen=True)
class _Work:
    """What every model is evaluated on."""

    texts: dict[str, list[str]]
    questions: dict[str, list[Item]]
    tasks: Tasks | None
    options: EvaluationOptions


class _Run:
    """The evaluation of one model: stores figures, collects failures, moves the progress bars."""

    def __init__(self, entry: dict[str, Any], failures: list[str], progress: Progress) -> None:
        self.entry = entry
        self._failures = failures
        self._progress = progress

    def attempt(self, what: str, work: Callable[[], Any]) -> Any:
        """Do the work and return its value; after a failure, note it and return None."""
        try:
            return work()
        except (ValueError, RuntimeError, OSError) as error:
            self._failures.append(f"{self.entry['model']}, {what}: {error}")
            return None

    @property
    def shows_progress(self) -> bool:
        """Whether bars are shown at all."""
        return not self._progress.disable

    def without_bars(self, work: Callable[[], Any]) -> Any:
        """As `attempt`, with the progress bars hidden: lm-eval shows its own."""
        self._progress.stop()
        try:
            return self.attempt("tasks", work)
        finally:
            self._progress.start()

    def figures(self, section: str, name: str, total: int, work: Callable[..., Any]) -> None:
        """Store the figures of `work(on_progress=...)` in the entry."""
        what = escape(f"{drop_folders(self.entry['model'])}: {name}")
        task = self._progress.add_task(what, total=total)

        def advance(count: int) -> None:
            self._progress.advance(task, count)

        found = self.attempt(f"{section} {name}", partial(work, on_progress=advance))
        self._progress.remove_task(task)
        if found is not None:
            self.entry[section][name] = found.as_json()


def _evaluate_one(column: Contender, work: _Work, judge: Scorer | None, run: _Run) -> None:
    model: LanguageModel | None = run.attempt("loading", partial(column.load, work.options))
    if model is None:
        return
    folder = work.options.log_samples
    _measure(run, model, work, None if folder is None else SampleFiles(folder, column.name))
    if isinstance(model, TokenModel) and judge is not None:
        _compare_with_teacher(run, model.scorer, judge, work.texts)


def _judging_scorer(judge: Contender, options: EvaluationOptions) -> Scorer:
    model = judge.load(options)
    assert isinstance(model, TokenModel)  # a plain model: see `_check`
    return model.scorer


def _measure(run: _Run, model: LanguageModel, work: _Work, samples: SampleFiles | None) -> None:
    for name, texts in work.texts.items():
        run.figures("data", name, len(texts), _text_work(model, texts, work.options))
    for name, items in work.questions.items():
        keep = None if samples is None else partial(_keep, samples, name)
        asked = partial(take_exam, model, items, on_sample=keep)
        run.figures("exams", name, len(items), asked)
    if work.tasks is not None:
        found = run.without_bars(
            partial(
                work.tasks.run,
                model,
                show_progress=run.shows_progress,
                on_samples=None if samples is None else samples.write,
            )
        )
        run.entry["tasks"] = found or {}


def _keep(samples: SampleFiles, name: str, sample: Mapping[str, Any]) -> None:
    samples.write(name, [sample])


def _text_work(
    model: LanguageModel, texts: list[str], options: EvaluationOptions
) -> Callable[..., Any]:
    if not isinstance(model, TokenModel):
        return partial(bits_per_byte_of_windows, model, texts)
    return partial(
        bits_per_byte,
        model.scorer,
        texts,
        overlap=options.overlap,
        start_every_window=options.start_every_window,
    )


def _compare_with_teacher(
    run: _Run, student: Scorer, teacher: Scorer, texts: dict[str, list[str]]
) -> None:
    run.entry["fidelity"] = {}
    for name, group in texts.items():
        run.figures("fidelity", name, len(group), partial(fidelity, student, teacher, group))


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
    if options.window_bytes is not None:
        size = options.window_bytes
        texts = [
            (n, [part for text in group for part in cut_text(text, size)]) for n, group in texts
        ]
    return _by_unique_name(data, texts)


def _read_exams(exams: Sequence[str], options: EvaluationOptions) -> dict[str, list[Item]]:
    questions = [
        (plain_name(Path(path)), read_exam(read_rows(path), path, options.limit)) for path in exams
    ]
    return _by_unique_name(exams, questions)


def _by_unique_name(sources: Sequence[Any], named: list[tuple[str, Any]]) -> dict[str, Any]:
    """Values by name; equal names get the folder's name in front, and then a number."""
    names = [name for name, _ in named]
    longer = []
    for source, name in zip(sources, names, strict=True):
        folder = Path(source).resolve().parent.name if isinstance(source, str) else ""
        longer.append(f"{folder}/{name}" if names.count(name) > 1 and folder else name)
    values = (value for _, value in named)
    return dict(zip(distinct_names(longer), values, strict=True))


def _check(
    columns: Sequence[Contender], judge: Contender | None, options: EvaluationOptions
) -> None:
    place_and_dtype(options.device, options.precision)
    if options.log_samples is not None and Path(options.log_samples).is_file():
        raise ValueError(f"log_samples is {options.log_samples}, a file; give a folder.")
    for column in (*columns, *([judge] if judge is not None else [])):
        column.check(options)
    if judge is None:
        return
    if not judge.is_plain:
        raise ValueError(f"teacher is {judge.name}; it must be a plain model.")
    if not any(column.is_plain for column in columns):
        raise ValueError(
            "fidelity to a teacher is measured for plain models, and there are only byte views and "
            "ensembles; leave teacher out."
        )


def _with_windows(columns: Sequence[Contender], options: EvaluationOptions) -> EvaluationOptions:
    """The options, with windows in bytes if byte views or ensembles are among the models."""
    if all(column.is_plain for column in columns) and options.window_bytes is None:
        return options
    if options.max_length is not None:
        raise ValueError(
            f"max_length is {options.max_length} tokens, and the models are compared in windows of "
            "bytes, as byte views and ensembles need; give window_bytes instead."
        )
    return replace(options, window_bytes=options.window_bytes or _window_bytes(columns, options))


def _window_bytes(columns: Sequence[Contender], options: EvaluationOptions) -> int:
    """Bytes that fit every model whatever its tokens, after a start token and a space."""
    positions = [number for column in columns for number in column.positions(options)]
    return max(4, min([WINDOW_BYTES, *(number - 2 for number in positions)]))


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
