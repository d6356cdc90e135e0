"""What the jobs that train share: checks before anything is loaded, data, trainer, output."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import PartialState
from torch.utils.tensorboard import SummaryWriter
from transformers import PreTrainedModel, TrainingArguments
from transformers.integrations.integration_utils import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback

from crosstok.alignment import ENDS_OF_CHATS, ENDS_OF_TEXTS
from crosstok.chats import (
    Conversation,
    ExampleEncoder,
    describe_template,
    parse_example,
    resolve_chat_template,
)
from crosstok.corpora import Examples, load_examples
from crosstok.jobs.teachers import check_teacher_cache
from crosstok.models import check_model_exists, default_device, extra_inputs
from crosstok.objectives import Objective
from crosstok.recipes import TrainingRecipe, recipe_yaml, save_recipe, saved_values
from crosstok.teachers import Teacher
from crosstok.tokenizers import ByteVocab, TextEncoder, load_target_tokenizer, load_tokenizer
from crosstok.training import (
    AlignedCollator,
    DistillationTrainer,
    Student,
    chat_rows,
    text_windows,
    window_length,
)
from crosstok.training.checkpoints import last_checkpoint
from crosstok.training.log_file import LOG, LogFile
from crosstok.training.outputs import CHECKPOINTS, RECIPE, check_output_folder, clear_output_folder
from crosstok.training.progress import ProgressBar

log = logging.getLogger("crosstok")

_ROWS_LOOKED_AT = 64  # before training, for something to learn


def check_request(
    recipe: TrainingRecipe, models: Sequence[str], objectives: Sequence[Objective]
) -> None:
    """Refuse what cannot be done before anything is loaded.

    Raises:
        ValueError: names the option, its value and what to do.
    """
    output = Path(recipe.output)
    check_output_folder(output, resume=recipe.resume, overwrite=recipe.overwrite)
    check_same_recipe(recipe, output)
    recipe.check(objectives)
    check_teacher_cache(recipe, output, objectives)
    for model in models:
        check_model_exists(model)
    if recipe.precision == "fp16" and not torch.cuda.is_available():
        raise ValueError(
            "--precision fp16 needs a GPU, and there is none; use bf16, or fp32 (the default)."
        )


def check_same_recipe(recipe: TrainingRecipe, output: Path) -> None:
    """Refuse to resume a run with another recipe than it was started with.

    Raises:
        ValueError: names the keys that differ.
    """
    started = output / RECIPE
    if not recipe.resume or not started.is_file():
        return
    free = {f.name for f in fields(recipe) if f.metadata["on_resume"] == "may change"}
    if recipe.streaming:  # the order of a stream depends on the number of its readers
        free.discard("num_workers")
    old, new = saved_values(type(recipe), started), yaml.safe_load(recipe_yaml(recipe))
    changed = sorted(
        k for k in old.keys() | new.keys() if old.get(k) != new.get(k) and k not in free
    )
    if changed:
        differences = ", ".join(f"{k} was {old.get(k)}, is {new.get(k)}" for k in changed)
        raise ValueError(
            f"cannot resume: {differences}. "
            f"Resume with `--recipe {started} --resume`, or start anew in another --output."
        )


def on_first_rank(action: Callable[[], None]) -> None:
    """Do something once, when every process has come here, and let none go on before it is done."""
    ranks = PartialState()
    ranks.wait_for_everyone()
    if ranks.is_main_process:
        action()
    ranks.wait_for_everyone()


def start_output(recipe: TrainingRecipe, trainer: DistillationTrainer) -> None:
    """Make the folder ready for a run, say in it which run, and let metrics go there."""
    on_first_rank(lambda: _start_folder(recipe))
    trainer.add_callback(LogFile(Path(recipe.output) / LOG))
    if "tensorboard" in _reports(recipe) and PartialState().is_main_process:
        trainer.add_callback(TensorBoardCallback(SummaryWriter(f"{recipe.output}/runs")))


def _start_folder(recipe: TrainingRecipe) -> None:
    output = Path(recipe.output)
    if recipe.overwrite:
        clear_output_folder(output)
    output.mkdir(parents=True, exist_ok=True)
    save_recipe(recipe, output / RECIPE)


def resume_point(recipe: TrainingRecipe) -> str | None:
    """The checkpoint to go on from, or None to start at step 0."""
    if not recipe.resume:
        return None
    checkpoint = last_checkpoint(Path(recipe.output) / CHECKPOINTS)
    if checkpoint is None:
        log.warning("nothing to resume in %s: starting at step 0", recipe.output)
        return None
    return str(checkpoint)


def load_side(
    name: str,
    chat_template: str | None,
    *,
    bytes_of: str | None = None,
    trust_remote_code: bool = False,
) -> ExampleEncoder:
    """A model's tokenizer as an encoder of texts and chats.

    Args:
        name: tokenizer or model, name or folder.
        chat_template: taken instead of the tokenizer's own: a file, or a built-in name.
        bytes_of: the model whose specials the name ``bytes`` takes; None: it is a name like others.
        trust_remote_code: whether its Python code may be executed.

    Raises:
        ValueError: there is no such tokenizer or template.
    """
    if bytes_of is None:
        tokenizer = load_tokenizer(name, trust_remote_code=trust_remote_code)
    else:
        tokenizer = load_target_tokenizer(name, bytes_of, trust_remote_code=trust_remote_code)
    if chat_template is not None:
        if tokenizer.chat_template:
            log.warning(
                "%s: its own chat template is replaced by %r, as asked", name, chat_template
            )
        tokenizer.chat_template = resolve_chat_template(chat_template)
    return ExampleEncoder(TextEncoder(tokenizer))


def examples_of(recipe: TrainingRecipe) -> Examples:
    """The data of a recipe.

    Raises:
        ValueError: it cannot be read.
    """
    return load_examples(
        recipe.data,
        text_field=recipe.text_field,
        text_unit=recipe.text_unit,
        split=recipe.split,
        streaming=recipe.streaming,
    )


def rows_of(
    examples: Examples,
    recipe: TrainingRecipe,
    student: ExampleEncoder,
    teachers: Sequence[ExampleEncoder],
) -> Any:
    """The data as rows for the collator: chats, or windows of text that fill ``max_length`` tokens.

    Raises:
        ValueError: the data cannot be read, or a chat that a template cannot render (names it).
    """
    if examples.kind == "text":
        teacher_length = recipe.teacher_max_length or recipe.student_max_length
        sides = [(student.encoder, recipe.student_max_length - 2)]  # less bos and eos
        sides += [(side.encoder, teacher_length - 2) for side in teachers]
        rows = text_windows(examples, window_length(examples, sides))
    else:
        rows = chat_rows(examples, (student, *teachers))
        if is_chat(rows):
            tell_what_templates_change((student, *teachers))
    return rows.shuffle(seed=recipe.seed, buffer_size=10_000) if recipe.streaming else rows


def is_chat(rows: Any) -> bool:
    """Whether these rows are conversations: their answers end in the end of a turn."""
    if "example" not in (rows.column_names or ()):
        return False
    first = next(iter(rows))
    return isinstance(parse_example(first["example"], first["where"]), Conversation)


def tell_what_templates_change(sides: Sequence[ExampleEncoder]) -> None:
    """Say where a model will not read a chat as it is written in the data."""
    for side in sides:
        name = side.encoder.tokenizer.name_or_path
        template = describe_template(side)
        if template.system == "folded":
            log.info(
                "%s: its template takes no system message; where a chat has one, it is put at the "
                "head of the first user message",
                name,
            )
        if template.before_first:
            log.info(
                "%s: its template begins every chat without a system message with %r",
                name,
                template.before_first,
            )


def stop_at_end_of_turn(model: PreTrainedModel, vocab: ByteVocab, rows: Any) -> None:
    """Let ``generate`` stop where a turn ends, after training on chats."""
    end_of_turn = [i for i in vocab.roles.get("end_of_turn", ()) if i in vocab.special_ids]
    if not end_of_turn or not is_chat(rows):
        return
    config = model.generation_config
    stops = config.eos_token_id
    stops = [] if stops is None else [stops] if isinstance(stops, int) else list(stops)
    ends = (vocab.document_end, end_of_turn[-1], *vocab.roles.get("end_of_chat", ()))
    stops += [id_ for id_ in ends if id_ is not None]
    config.eos_token_id = sorted(set(stops))


def training_device(recipe: TrainingRecipe) -> torch.device:
    """Where transformers' trainer would put the model."""
    arguments = TrainingArguments(
        output_dir=recipe.output, report_to=[], use_cpu=default_device().type == "cpu"
    )
    return arguments.device


def build_trainer(
    recipe: TrainingRecipe,
    student: Student,
    teachers: Sequence[Teacher],
    sides: tuple[ExampleEncoder, Sequence[ExampleEncoder]],
    rows: Any,
    objectives: Sequence[Objective] | None = None,
) -> DistillationTrainer:
    """The trainer of a recipe, with its progress bar; nothing is written yet.

    The ends of student and teacher are matched by what ends the data: turns, or documents.

    Args:
        recipe: of a job that trains.
        student: what is trained.
        teachers: none where no objective needs one.
        sides: encoders of the student and of its teachers.
        rows: as `rows_of` gives them.
        objectives: what is trained; what the recipe names if not given.

    Raises:
        ValueError: the objectives cannot be used for these models, or weights fit none of them.
    """
    own, others = sides
    objectives = recipe.objectives() if objectives is None else objectives
    collator = AlignedCollator(
        own,
        tuple(others) if teachers else (),
        recipe.student_max_length,
        recipe.teacher_max_length,
        recipe.loss_on,
        extra_inputs(student.model),
    )
    check_something_is_left(recipe, collator, rows)
    student.ends = ENDS_OF_CHATS if is_chat(rows) else ENDS_OF_TEXTS
    trainer = DistillationTrainer(
        student,
        teachers,
        objectives,
        recipe.combination([objective.name for objective in objectives]),
        training_arguments(recipe, student.model),
        data_collator=collator,
        processing_class=student.encoder.tokenizer,
        train_dataset=rows,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(ProgressBar())
    return trainer


def check_something_is_left(recipe: TrainingRecipe, collator: AlignedCollator, rows: Any) -> None:
    """Refuse to train where the first rows hold nothing to learn within ``max_length``.

    Raises:
        ValueError: names the lengths and what to do.
    """
    for row in islice(rows, _ROWS_LOOKED_AT):
        if int(collator([row])["num_bytes"].sum()):
            return
    teacher = recipe.teacher_max_length
    both = f" (teacher: {teacher})" if teacher is not None else ""
    raise ValueError(
        f"--max-length {recipe.student_max_length}{both} leaves nothing to learn: in the first "
        f"{_ROWS_LOOKED_AT} rows or fewer, all bytes that --loss-on {recipe.loss_on} trains on lie "
        "behind it. Give a larger one; `crosstok inspect` counts how many bytes a length cuts off."
    )


def training_arguments(recipe: TrainingRecipe, model: PreTrainedModel) -> TrainingArguments:
    """Transformers' arguments for a recipe; what is not in it stays at transformers' default."""
    learning_rate = recipe.learning_rate
    if learning_rate is None:
        learning_rate = default_learning_rate(model.num_parameters())
        log.info(
            "learning rate %.2g, chosen for %.1fM parameters; --learning-rate sets another",
            learning_rate,
            model.num_parameters() / 1e6,
        )
    steps = recipe.max_steps
    warmup: float | None = recipe.warmup_steps
    if warmup is None:  # of epochs, as a share: how many steps they are is known later
        warmup = 0.1 if steps is None else steps // 10
    checkpointing: dict[str, Any] = (
        {"gradient_checkpointing": True} if recipe.gradient_checkpointing else {}
    )
    output = Path(recipe.output)
    ours: dict[str, Any] = dict(
        output_dir=str(output / CHECKPOINTS),
        **({"num_train_epochs": recipe.epochs} if steps is None else {"max_steps": steps}),
        per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        learning_rate=learning_rate,
        warmup_steps=warmup,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        bf16=recipe.precision == "bf16",
        fp16=recipe.precision == "fp16",
        seed=recipe.seed,
        data_seed=recipe.seed,
        dataloader_num_workers=recipe.num_workers,
        remove_unused_columns=False,
        label_names=[],
        save_steps=recipe.save_every,
        save_total_limit=2,
        logging_steps=recipe.log_every,
        disable_tqdm=True,
        use_cpu=default_device().type == "cpu",
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to=[name for name in _reports(recipe) if name != "tensorboard"],
        ddp_find_unused_parameters=False,
        **checkpointing,
    )
    return TrainingArguments(**{**ours, **recipe.trainer_arguments()})


def _reports(recipe: TrainingRecipe) -> list[str]:
    """Where metrics go."""
    return [name.strip() for name in recipe.report_to.split(",") if name.strip() != "none"]


def default_learning_rate(num_parameters: int) -> float:
    """The paper's 1e-5 for 2.6 billion parameters; more for smaller models, at most 1e-3."""
    return float(min(1e-3, max(1e-5, 1e-5 * (2.6e9 / num_parameters) ** 0.75)))
