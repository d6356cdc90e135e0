"""The main job: give a model another tokenizer."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import PartialState
from torch.utils.tensorboard import SummaryWriter
from transformers import PreTrainedModel, TrainingArguments, set_seed
from transformers.integrations.integration_utils import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback

from crosstok.corpora import load_corpus
from crosstok.models import check_model_exists, load_model
from crosstok.recipes import TransferRecipe, TransplantRecipe, recipe_yaml, save_recipe
from crosstok.teachers import LocalTeacher, Teacher
from crosstok.tokenizers import TextEncoder, load_tokenizer
from crosstok.training import (
    AlignedCollator,
    DistillationTrainer,
    Lora,
    OriginalEmbeddings,
    Student,
    add_lora,
    compute_dtype,
    text_windows,
    window_length,
)
from crosstok.training.checkpoints import last_checkpoint
from crosstok.training.outputs import (
    CHECKPOINTS,
    RECIPE,
    check_output_folder,
    clear_output_folder,
    model_card,
    save_outputs,
    to_json,
)
from crosstok.training.progress import ProgressBar
from crosstok.transplant import TransplantReport, transplant

log = logging.getLogger("crosstok")


@dataclass(frozen=True)
class TransferResult:
    """What a transfer left behind."""

    folder: Path
    report: TransplantReport
    metrics: dict[str, float]


def transfer(recipe: TransferRecipe) -> TransferResult:
    """Transplant the model's embeddings, train it against its old self, and save it.

    Raises:
        ValueError: something in the recipe cannot be used; nothing was written.
        NonFiniteLossError: the loss became NaN; the last checkpoint stands.
        SaveError: the disk is full; the last checkpoint stands.
    """
    check_request(recipe)
    set_seed(recipe.seed)
    source, target = load_encoders(recipe)
    rows = load_rows(recipe, source, target)
    student, teacher, saved_dtype = build_models(recipe, source, target)
    on_first_rank(lambda: start_output(recipe))
    trainer = build_trainer(recipe, student, teacher, source, rows)
    metrics = trainer.train_to_end(resume_point(recipe))
    assert student.report is not None
    result = TransferResult(Path(recipe.output), student.report, metrics)
    on_first_rank(lambda: save_transfer(recipe, student, result, saved_dtype))
    return result


def check_request(recipe: TransferRecipe) -> None:
    """Refuse what cannot be done before anything is loaded.

    Raises:
        ValueError: names the option, its value and what to do.
    """
    output = Path(recipe.output)
    check_output_folder(output, resume=recipe.resume, overwrite=recipe.overwrite)
    check_same_recipe(recipe, output)
    recipe.objectives()
    recipe.combination()
    check_model_exists(recipe.model)
    if recipe.precision == "fp16" and not torch.cuda.is_available():
        raise ValueError(
            "--precision fp16 needs a GPU, and there is none; use bf16, or fp32 (the default)."
        )


def load_encoders(recipe: TransplantRecipe) -> tuple[TextEncoder, TextEncoder]:
    """Encoders of the model's own tokenizer and of the one it is to have."""
    trust = recipe.trust_remote_code
    source, target = (
        TextEncoder(load_tokenizer(name, trust_remote_code=trust))
        for name in (recipe.model, recipe.tokenizer)
    )
    return source, target


def on_first_rank(action: Callable[[], None]) -> None:
    """Do something once, when every process has come here, and let none go on before it is done."""
    ranks = PartialState()
    ranks.wait_for_everyone()
    if ranks.is_main_process:
        action()
    ranks.wait_for_everyone()


def start_output(recipe: TransferRecipe) -> None:
    """Make the folder ready for a run, and say in it which run."""
    output = Path(recipe.output)
    if recipe.overwrite:
        clear_output_folder(output)
    output.mkdir(parents=True, exist_ok=True)
    save_recipe(recipe, output / RECIPE)


def build_trainer(
    recipe: TransferRecipe,
    student: Student,
    teacher: Teacher | None,
    source: TextEncoder,
    rows: Any,
) -> DistillationTrainer:
    """The trainer of a recipe, with its progress bar and where its metrics go."""
    trainer = DistillationTrainer(
        student,
        teacher,
        recipe.objectives(),
        recipe.combination(),
        training_arguments(recipe, student.model),
        data_collator=AlignedCollator(
            student.encoder,
            source if teacher is not None else None,
            recipe.max_length,
            recipe.teacher_max_length,
        ),
        processing_class=student.encoder.tokenizer,
        train_dataset=rows,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(ProgressBar())
    if "tensorboard" in _reports(recipe) and PartialState().is_main_process:
        trainer.add_callback(TensorBoardCallback(SummaryWriter(f"{recipe.output}/runs")))
    return trainer


def transplant_only(recipe: TransplantRecipe) -> TransferResult:
    """Transplant the model's embeddings and save it: initialisation without training.

    Raises:
        ValueError: something in the recipe cannot be used; nothing was written.
        SaveError: the disk is full.
    """
    output = Path(recipe.output)
    check_output_folder(output, overwrite=recipe.overwrite)
    check_model_exists(recipe.model)
    source, target = load_encoders(recipe)
    model = load_model(recipe.model, trust_remote_code=recipe.trust_remote_code)
    report = transplant(model, source, target, method=recipe.method)
    if recipe.overwrite:
        clear_output_folder(output)
    lines = [
        f"`{recipe.model}` with the tokenizer of `{recipe.tokenizer}`, not trained after that.",
        *describe(report),
    ]
    card = model_card(output.name, lines, {}, recipe_yaml(recipe))
    files = {"README.md": card, RECIPE: recipe_yaml(recipe)}
    files["transplant.json"] = to_json(report.as_dict())
    save_outputs(output, model, target.tokenizer, files, dtype=model.dtype)
    return TransferResult(output, report, {})


def build_models(
    recipe: TransferRecipe, source: TextEncoder, target: TextEncoder
) -> tuple[Student, Teacher | None, torch.dtype]:
    """The student with its new embeddings, its teacher, and the dtype of the model's own files."""
    needs_teacher = any(objective.needs.teacher for objective in recipe.objectives())
    model = load_model(recipe.model, trust_remote_code=recipe.trust_remote_code)
    saved_dtype = model.dtype
    device = TrainingArguments(
        output_dir=recipe.output, report_to=[], use_cpu=not torch.accelerator.is_available()
    ).device
    frozen = compute_dtype(recipe.precision, device)
    model = model.float()
    original = OriginalEmbeddings.of(model) if recipe.lora and needs_teacher else None
    report = transplant(model, source, target, method=recipe.method)
    student = Student(model, target, report)
    if recipe.lora:
        student = add_lora(student, Lora(rank=recipe.lora_rank, alpha=recipe.lora_alpha))
    teacher: Teacher | None = None
    if original is not None:
        teacher = original.teacher(student, source)
    elif needs_teacher:
        teacher_model = load_model(
            recipe.model, dtype=frozen, device=device, trust_remote_code=recipe.trust_remote_code
        )
        teacher = LocalTeacher(teacher_model, source.byte_vocab)
    return student, teacher, saved_dtype


def load_rows(recipe: TransferRecipe, source: TextEncoder, target: TextEncoder) -> Any:
    """The data as windows of text that fill ``max_length`` tokens."""
    corpus = load_corpus(
        recipe.data,
        text_field=recipe.text_field,
        text_unit=recipe.text_unit,
        split=recipe.split,
        streaming=recipe.streaming,
    )
    teacher_length = recipe.teacher_max_length or recipe.max_length
    sides = [(source, teacher_length - 2), (target, recipe.max_length - 2)]  # less bos and eos
    rows = text_windows(corpus, window_length(corpus, sides))
    return rows.shuffle(seed=recipe.seed, buffer_size=10_000) if recipe.streaming else rows


def training_arguments(recipe: TransferRecipe, model: PreTrainedModel) -> TrainingArguments:
    """Transformers' arguments for a recipe; what is not in it stays at transformers' default."""
    learning_rate = recipe.learning_rate
    if learning_rate is None:
        learning_rate = default_learning_rate(model.num_parameters())
        log.info(
            "learning rate %.2g, chosen for %.1fM parameters; --learning-rate sets another",
            learning_rate,
            model.num_parameters() / 1e6,
        )
    warmup = recipe.warmup_steps
    checkpointing: dict[str, Any] = (
        {"gradient_checkpointing": True} if recipe.gradient_checkpointing else {}
    )
    output = Path(recipe.output)
    return TrainingArguments(
        output_dir=str(output / CHECKPOINTS),
        max_steps=recipe.max_steps,
        per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        learning_rate=learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=recipe.max_steps // 10 if warmup is None else warmup,
        weight_decay=recipe.weight_decay,
        adam_beta2=0.95,
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
        use_cpu=not torch.accelerator.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to=[name for name in _reports(recipe) if name != "tensorboard"],
        ddp_find_unused_parameters=False,
        **checkpointing,
    )


def _reports(recipe: TransferRecipe) -> list[str]:
    """Where metrics go."""
    return [name.strip() for name in recipe.report_to.split(",") if name.strip() != "none"]


def default_learning_rate(num_parameters: int) -> float:
    """The paper's 1e-5 for 2.6 billion parameters; more for smaller models, at most 1e-3."""
    return float(min(1e-3, max(1e-5, 1e-5 * (2.6e9 / num_parameters) ** 0.75)))


def check_same_recipe(recipe: TransferRecipe, output: Path) -> None:
    """Refuse to resume a run with another recipe than it was started with.

    Raises:
        ValueError: names the keys that differ.
    """
    started = output / RECIPE
    if not recipe.resume or not started.is_file():
        return
    free = {"resume", "overwrite", "output", "num_workers", "report_to", "log_every", "save_every"}
    old, new = _lines(started.read_text()), _lines(recipe_yaml(recipe))
    changed = sorted(
        k for k in old.keys() | new.keys() if old.get(k) != new.get(k) and k not in free
    )
    if changed:
        differences = ", ".join(f"{k} was {old.get(k)}, is {new.get(k)}" for k in changed)
        raise ValueError(
            f"cannot resume: {differences}. "
            f"Resume with `--recipe {started} --resume`, or start anew in another --output."
        )


def _lines(text: str) -> dict[str, Any]:
    return dict(yaml.safe_load(text))


def save_transfer(
    recipe: TransferRecipe, student: Student, result: TransferResult, dtype: torch.dtype
) -> None:
    """Write model, tokenizer, recipe, card and figures."""
    lines = [
        f"`{recipe.model}` moved to the tokenizer of `{recipe.tokenizer}` by {recipe.objective} on "
        f"`{recipe.data}`, {recipe.max_steps} steps.",
        *describe(result.report),
    ]
    files = {
        "README.md": model_card(result.folder.name, lines, result.metrics, recipe_yaml(recipe)),
        RECIPE: recipe_yaml(recipe),
        "transplant.json": to_json(result.report.as_dict()),
        "training.json": to_json(result.metrics),
    }
    save_outputs(result.folder, student.export(), student.encoder.tokenizer, files, dtype=dtype)


def describe(report: TransplantReport) -> list[str]:
    """The transplant's counts, in words."""
    return [
        f"Of {report.target_rows:,} embedding rows {report.copied:,} were copied, "
        f"{report.mapped:,} mapped by role, {report.composed:,} composed from pieces, "
        f"{report.fallback:,} set to the mean.",
    ]


def resume_point(recipe: TransferRecipe) -> str | None:
    """The checkpoint to go on from, or None to start at step 0."""
    if not recipe.resume:
        return None
    checkpoint = last_checkpoint(Path(recipe.output) / CHECKPOINTS)
    if checkpoint is None:
        log.warning("nothing to resume in %s: starting at step 0", recipe.output)
        return None
    return str(checkpoint)
