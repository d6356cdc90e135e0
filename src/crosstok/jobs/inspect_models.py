"""A teacher and a student, examined before money is spent on a distillation."""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedModel

from crosstok.alignment import ENDS_OF_CHATS, ENDS_OF_TEXTS, align_batch
from crosstok.chats import (
    Conversation,
    ExampleEncoder,
    PieceMatch,
    compare_templates,
    parse_example,
)
from crosstok.jobs.arguments import training_device
from crosstok.jobs.data import load_data, load_encoder, make_rows
from crosstok.jobs.json_file import check_writable, write_json
from crosstok.jobs.positions import check_lengths_of_distillation, has_config
from crosstok.jobs.result import JobResult
from crosstok.jobs.run import build_trainer
from crosstok.loaded import Loaded
from crosstok.models import load_model, max_positions, new_model, output_head
from crosstok.recipes import DistilRecipe, InspectModelsRecipe, takes
from crosstok.reports import (
    Advice,
    ChunkView,
    ExampleCounts,
    ExampleNumbers,
    Flag,
    ModelNumbers,
    VocabularyNumbers,
    compare_vocabularies,
    examination_page,
    has_errors,
    recommend,
    red_flags,
    shared_teacher_ids,
    write_page,
)
from crosstok.teachers import LocalTeacher, SharedMass, shared_mass
from crosstok.training import (
    AlignedCollator,
    Sides,
    StepCost,
    Student,
    batch_of,
    chunk_gaps,
    chunk_views,
    compute_dtype,
    step_cost,
    telling_rows,
)
from crosstok.training.chunk_gaps import Gaps
from crosstok.training.rows import encode_rows
from crosstok.training.training_rows import are_chats

log = logging.getLogger("crosstok")

_SAMPLE = 256
_BATCH = 64  # rows encoded at once
_WEIGHTS = ("*.safetensors", "*.bin")


class PairError(ValueError):
    """A teacher and a student that cannot be trained as they are."""


@dataclass(frozen=True, kw_only=True, repr=False)
class InspectModelsResult(JobResult):
    """What was found; parts that need a model that was not there are None or empty.

    Attributes:
        teacher: as it was named.
        student: as it was named.
        data: as it was named.
        kind: conversations (or prompts with completions), or windows of text.
        num_rows: examples of the data, of which ``examples.examples`` were looked at.
        vocabulary: sizes and overlap.
        examples: what the sample says.
        template: how the pieces of two chat templates are matched, teacher left; only for chats.
        models: ``{"teacher": ..., "student": ...}``.
        mass: the teacher's probability on the shared vocabulary.
        steps: cost of a step, the recommended objective first.
        advice: an objective with the reason.
        flags: what should stop a person, errors first.
        texts: a few examples in chunks, with likelihood gaps (teacher less student) where both
            models were there.
        folder: none: nothing is written but the files that the recipe names.
        metrics: the main numbers.
    """

    teacher: str
    student: str
    data: str
    kind: Literal["chat", "text"]
    num_rows: int
    vocabulary: VocabularyNumbers
    examples: ExampleNumbers
    template: tuple[PieceMatch, ...]
    models: dict[str, ModelNumbers | None]
    mass: SharedMass | None
    steps: tuple[StepCost, ...]
    advice: Advice
    flags: tuple[Flag, ...]
    texts: tuple[ChunkView, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values by these names."""
        values = asdict(self)
        del values["folder"], values["metrics"]  # of results alike
        for step, cost in zip(values["steps"], self.steps, strict=True):
            step["seconds"] = cost.seconds
        values["examples"]["cut_share"] = self.examples.cut_share
        return values

    def check(self) -> None:
        """Refuse a pair that cannot be trained.

        Raises:
            PairError: says why, and what to do.
        """
        if has_errors(self.flags):
            errors = [flag.message for flag in self.flags if flag.level == "error"]
            raise PairError(f"this pair cannot be trained: {' '.join(errors)}")


@takes(InspectModelsRecipe)
def inspect_models(recipe: InspectModelsRecipe) -> InspectModelsResult:
    """Look at a teacher, a student and their data, and write the files that the recipe names.

    Nothing is kept of the models.

    Raises:
        ValueError: a tokenizer, model, template or the data cannot be read.
    """
    check_writable(json=recipe.json, html=recipe.html)
    with tempfile.TemporaryDirectory() as scratch:
        result = _Examiner(recipe, recipe.distillation(scratch)).examine()
    write_json(recipe.json, result.as_json())
    if recipe.html is not None:
        write_page(recipe.html, examination_page(result.as_json()))
    return result


class _Examiner:
    """The sample, the tokenizers and the models of one examination."""

    def __init__(self, recipe: InspectModelsRecipe, run: DistilRecipe) -> None:
        self.run, self.looks_at_models = run, recipe.models
        trust = run.trust_remote_code
        if recipe.models:
            check_lengths_of_distillation(run)  # what it warns of is among the flags
        self.teacher = load_encoder(
            run.teacher[0], run.template_of_teacher(0), trust_remote_code=trust
        )
        self.student = load_encoder(run.student, run.chat_template, trust_remote_code=trust)
        rows = make_rows(load_data(run), run, Sides(self.student, (self.teacher,)))
        self.num_rows = len(rows)
        self.rows = _evenly(rows, recipe.max_texts or _SAMPLE)
        self.kind: Literal["chat", "text"] = "chat" if are_chats(rows) else "text"
        self.ends = ENDS_OF_CHATS if self.kind == "chat" else ENDS_OF_TEXTS
        self.device = training_device(run)

    def examine(self) -> InspectModelsResult:
        run = self.run
        theirs, ours = self.teacher.encoder.byte_vocab, self.student.encoder.byte_vocab
        vocabulary, examples = compare_vocabularies(theirs, ours, self.ends), self._count()
        teacher_model = self._load(run.teacher[0], compute_dtype(run.precision, self.device))
        student_model = self._load(run.student, torch.float32, is_student=True)
        teacher = _model_numbers(run.teacher[0], teacher_model, self.teacher)
        student = _model_numbers(run.student, student_model, self.student)
        lengths = (run.teacher_max_length or run.student_max_length, run.student_max_length)
        flags = red_flags(vocabulary, examples, teacher, student, lengths)
        mass, local = None, None
        steps: tuple[StepCost, ...] = ()
        if teacher_model is not None and not has_errors(flags):
            local = LocalTeacher(teacher_model, theirs)
            mass = self._mass(local)
        advice = recommend(
            vocabulary,
            examples,
            mass=mass.one_to_one if mass else None,
            student_parameters=student.parameters if student else None,
        )
        gaps: dict[str, Gaps] = {}
        shown = telling_rows(self.rows)
        if local is not None and student_model is not None:
            pupil = Student(student_model, self.student.encoder)
            gaps["gap"] = chunk_gaps(pupil, local, self._collator(), shown)
            steps, more = self._steps(advice, pupil, local)
            flags += more
        texts = chunk_views(shown, (self.teacher, self.student), run.loss_on, gaps)
        return InspectModelsResult(
            folder=None,
            metrics=_metrics(vocabulary, examples, mass, steps),
            teacher=run.teacher[0],
            student=run.student,
            data=", ".join(run.data),
            kind=self.kind,
            num_rows=self.num_rows,
            vocabulary=vocabulary,
            examples=examples,
            template=self._template(),
            models={"teacher": teacher, "student": student},
            mass=mass,
            steps=steps,
            advice=advice,
            flags=tuple(flags),
            texts=texts,
        )

    def _count(self) -> ExampleNumbers:
        run = self.run
        vocabs = self.teacher.encoder.byte_vocab, self.student.encoder.byte_vocab
        counts = ExampleCounts(*vocabs, run.student_max_length, run.teacher_max_length, self.ends)
        for batch in _batches(self.rows, _BATCH):
            teachers, students = encode_rows(batch, (self.teacher, self.student), run.loss_on)
            alignments = align_batch(teachers, students, *vocabs)
            for example in zip(teachers, students, alignments, strict=True):
                counts.add(*example)
        return counts.numbers

    def _template(self) -> tuple[PieceMatch, ...]:
        """The pieces of the templates, if one of the examples is a conversation."""
        if self.kind == "text":
            return ()
        parsed = (parse_example(row["example"], row["where"]) for row in self.rows)
        if not any(isinstance(example, Conversation) for example in parsed):
            return ()
        return tuple(compare_templates(self.teacher, self.student))

    def _load(
        self, name: str, dtype: torch.dtype, *, is_student: bool = False
    ) -> PreTrainedModel | None:
        """The model, if there is one; a student without weights starts from random ones."""
        trust = self.run.trust_remote_code
        if not self.looks_at_models or not has_config(name):
            return None
        if _has_weights(name):
            return load_model(name, dtype=dtype, device=self.device, trust_remote_code=trust)
        if not is_student:
            return None
        log.warning("%s holds no weights: its step is taken with random ones", name)
        return new_model(name, trust_remote_code=trust)

    def _collator(self) -> AlignedCollator:
        run = self.run
        sides = self.student, (self.teacher,)
        return AlignedCollator(*sides, run.student_max_length, run.teacher_max_length, run.loss_on)

    def _mass(self, teacher: LocalTeacher) -> SharedMass:
        theirs, ours = teacher.view.byte_vocab, self.student.encoder.byte_vocab
        collate = self._collator()
        return shared_mass(
            teacher,
            torch.from_numpy(shared_teacher_ids(theirs, ours, self.ends)),
            (batch_of(collate(rows)) for rows in _batches(self.rows, self.run.batch_size)),
        )

    def _steps(
        self, advice: Advice, student: Student, teacher: LocalTeacher
    ) -> tuple[tuple[StepCost, ...], list[Flag]]:
        """A few steps by every recommended objective, on the largest examples of the sample."""
        batch = self._collator()(self._largest())
        sides = Sides(self.student, (self.teacher,))
        costs: list[StepCost] = []
        for name in (advice.objective, *advice.also):
            options = {
                key.partition(".")[2]: value
                for key, value in advice.options.items()
                if key.startswith(f"{name}.")
            }
            run = replace(self.run, objective=name, options={name: options})
            try:
                trainer = build_trainer(run, student, [teacher], sides, self.rows)
                costs.append(step_cost(trainer, batch))
            except torch.OutOfMemoryError as error:
                return tuple(costs), [_out_of_memory(name, self.run.batch_size, error)]
        return tuple(costs), []

    def _largest(self) -> list[dict[str, Any]]:
        """A micro-batch of the longest examples, which decide whether it fits."""
        column = "text" if self.kind == "text" else "example"
        order = sorted(range(len(self.rows)), key=lambda i: -len(self.rows[i][column]))
        return [self.rows[i] for i in order[: self.run.batch_size]]


def _metrics(
    vocabulary: VocabularyNumbers,
    examples: ExampleNumbers,
    mass: SharedMass | None,
    steps: Sequence[StepCost],
) -> dict[str, float]:
    """The main numbers; those that need a model only where it was there."""
    numbers = {
        "coverage": examples.coverage,
        "cut_share": examples.cut_share,
        "one_to_one_student_tokens": examples.one_to_one_student_tokens,
        "one_to_one_teacher_tokens": examples.one_to_one_teacher_tokens,
        "jaccard": vocabulary.jaccard,
    }
    if mass is not None:
        numbers["shared_mass"] = mass.everywhere
        if mass.one_to_one is not None:
            numbers["shared_mass_one_to_one"] = mass.one_to_one
    return {**numbers, **{f"step_seconds_{step.objective}": step.seconds for step in steps}}


def _model_numbers(
    name: str, model: PreTrainedModel | None, side: ExampleEncoder
) -> ModelNumbers | None:
    if model is None:
        return None
    inputs: Any = model.get_input_embeddings()
    return ModelNumbers(
        name=name,
        parameters=model.num_parameters(),
        embedding_rows=inputs.weight.shape[0],
        output_rows=output_head(model).weight.shape[0],
        highest_id=len(side.encoder.byte_vocab) - 1,
        max_positions=max_positions(model.config),
    )


def _has_weights(name: str) -> bool:
    path = Path(name).expanduser()
    return (
        isinstance(name, Loaded)
        or not path.is_dir()
        or any(next(path.glob(form), None) for form in _WEIGHTS)
    )


def _out_of_memory(name: str, batch_size: int, error: BaseException) -> Flag:
    return Flag(
        "warning",
        "out_of_memory",
        f"a step by {name} with batch_size {batch_size} does not fit: {error} Lower it, and use "
        "gradient_accumulation_steps in distil, gradient_checkpointing or lora.",
    )


def _evenly(rows: Any, number: int) -> Any:
    """At most ``number`` of the rows, evenly spaced."""
    number = min(number, len(rows))
    return rows.select([i * len(rows) // number for i in range(number)])


def _batches(rows: Any, size: int) -> Iterator[Sequence[dict[str, Any]]]:
    for start in range(0, len(rows), size):
        yield [rows[i] for i in range(start, min(start + size, len(rows)))]
