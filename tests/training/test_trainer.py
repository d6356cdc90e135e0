"""Steps: the same gradient however a batch is cut, and no [tokens, vocabulary] tensor."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import TrainingArguments

from crosstok.chats import ExampleEncoder
from crosstok.objectives import (
    ALM,
    DSKD,
    GOLD,
    ULD,
    CrossEntropy,
    FixedWeights,
    GradientMagnitude,
    Strict,
)
from crosstok.recipes import OBJECTIVES
from crosstok.recipes.objectives import make_objective
from crosstok.teachers import LocalTeacher
from crosstok.tokenizers import TextEncoder
from crosstok.training import AlignedCollator, DistillationTrainer, Student, batch_of
from crosstok.training.gradient_norms import GradientNorms
from crosstok.transplants import transplant
from tests.tiny import SENTENCES, tiny_tokenizer
from tests.tiny_models import tiny_model

SOURCE = TextEncoder(tiny_tokenizer("bytelevel_bpe"))
TARGET = TextEncoder(tiny_tokenizer("spm_bpe"))
ROWS = [{"text": text, "row": i, "is_end": True} for i, text in enumerate(SENTENCES[:8])]

ALONE = {name: ([make_objective(name, {})], FixedWeights()) for name in OBJECTIVES}
FORMS = {
    "gold, not hybrid": ([GOLD(hybrid=False)], FixedWeights()),
    "uld by bytes": ([ULD(alignment="bytes")], FixedWeights()),
    "strict on all": ([Strict(top_k=None)], FixedWeights()),
    "dskd v2": ([DSKD(variant="v2")], FixedWeights()),
}
BOTH = ([ALM(), CrossEntropy()], GradientMagnitude())
EVERY = ALONE | FORMS | {"both": BOTH}


def build(folder, objectives, weighting, **arguments) -> DistillationTrainer:
    size = len(SOURCE.byte_vocab.token_bytes)
    torch.manual_seed(0)
    teacher_model = tiny_model("llama", size).double()
    model = tiny_model("llama", size).double()
    model.load_state_dict(teacher_model.state_dict())
    transplant(model, SOURCE, TARGET)
    defaults = {
        "max_steps": 2,
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-2,
        "remove_unused_columns": False,
        "label_names": [],
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "max_grad_norm": 0.0,
        "use_cpu": True,
    }
    return DistillationTrainer(
        Student(model, TARGET),
        [LocalTeacher(teacher_model, SOURCE.byte_vocab)],
        objectives,
        weighting,
        TrainingArguments(output_dir=str(folder), **{**defaults, **arguments}),
        train_dataset=ROWS,
        data_collator=AlignedCollator(ExampleEncoder(TARGET), (ExampleEncoder(SOURCE),), 40),
    )


@pytest.mark.parametrize("name", EVERY)
def test_accumulating_eight_times_one_gives_the_weights_of_one_times_eight(tmp_path, name):
    objectives, weighting = EVERY[name]
    states = []
    for size, steps in ((8, 1), (1, 8)):
        trainer = build(
            tmp_path,
            objectives,
            weighting,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
        )
        trainer.train()
        states.append(trainer.model.state_dict())
    for key in states[0]:
        torch.testing.assert_close(states[0][key], states[1][key], rtol=1e-9, atol=1e-11)


def test_gradient_magnitude_weights_balance_the_objectives(tmp_path):
    trainer = build(tmp_path, *BOTH, max_steps=1)
    trainer.train()
    weights, norms = trainer._weights, trainer.norms.values
    assert sum(weights.values()) == pytest.approx(1.0)
    assert weights["alm"] * norms["alm"] == pytest.approx(
        weights["cross_entropy"] * norms["cross_entropy"], rel=1e-3
    )


def test_a_batch_with_nothing_to_compare_leaves_an_objective_its_norm(tmp_path):
    model = tiny_model("llama", 300)
    *_, parameter = model.model.layers[-1].parameters()
    norms = GradientNorms(("alm", "cross_entropy"), GradientMagnitude())
    for losses in ((2.0, 3.0), (0.0, 4.0)):
        terms = zip(("alm", "cross_entropy"), losses, strict=True)
        norms.add({name: value * parameter[0] for name, value in terms}, model)
        norms.update(lambda value: value, 1)
    assert norms.values == {"alm": 2.0, "cross_entropy": 4.0}


def test_a_student_that_is_its_teacher_does_not_move(tmp_path):
    size = len(SOURCE.byte_vocab.token_bytes)
    torch.manual_seed(0)
    model, teacher = (tiny_model("llama", size).double() for _ in range(2))
    model.load_state_dict(teacher.state_dict())
    trainer = build(tmp_path, [ALM()], FixedWeights())
    trainer = DistillationTrainer(
        Student(model, SOURCE),
        [LocalTeacher(teacher, SOURCE.byte_vocab)],
        [ALM()],
        FixedWeights(),
        trainer.args,
        train_dataset=ROWS,
        data_collator=AlignedCollator(ExampleEncoder(SOURCE), (ExampleEncoder(SOURCE),), 40),
    )
    inputs = trainer.data_collator(ROWS)
    (scored,), _ = trainer.get_batch_samples(iter([inputs]), 1, torch.device("cpu"))
    loss = trainer.compute_loss(model, scored)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-12)
    assert max(float(p.grad.abs().max()) for p in model.parameters()) < 1e-10


class Largest(TorchDispatchMode):
    """Remembers the most elements that any tensor had, embedding matrices' shapes aside."""

    def __init__(self, *allowed: torch.Size) -> None:
        super().__init__()
        self.num_elements, self.shape, self._allowed = 0, None, allowed

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if not isinstance(tensor, torch.Tensor) or tensor.shape in self._allowed:
                continue
            if tensor.numel() > self.num_elements:
                self.num_elements, self.shape = tensor.numel(), tensor.shape
        return out


@pytest.mark.parametrize("name", EVERY)
def test_a_step_makes_no_tensor_of_tokens_times_vocabulary(tmp_path, name):
    """Teacher and student side, forward and backward."""
    trainer = build(tmp_path, *EVERY[name])
    inputs = trainer.data_collator(ROWS)
    vocabularies = [len(e.byte_vocab.token_bytes) for e in (SOURCE, TARGET)]
    widths = [(v, 32) for v in vocabularies]
    tokens = min(
        int(getattr(batch_of(inputs), f"{side}_attention_mask").sum()) - len(ROWS)
        for side in ("student", "teacher")
    )
    with Largest(*map(torch.Size, widths)) as largest:
        (scored,), count = trainer.get_batch_samples(iter([inputs]), 1, torch.device("cpu"))
        trainer.training_step(trainer.model, scored, count)
    assert tokens * min(vocabularies) > 100_000
    assert largest.num_elements < tokens * min(vocabularies) / 2, largest.shape


def test_metrics_are_logged_under_their_names(tmp_path):
    trainer = build(tmp_path, *BOTH, logging_steps=1)
    trainer.train()
    entry = trainer.state.log_history[0]
    for name in (
        "loss_alm", "loss_cross_entropy", "chunk_gap_nats", "coverage", "bits_per_byte",
        "student_tokens_per_chunk", "teacher_tokens_per_chunk", "tokens_per_second",
        "bytes_per_second", "cut_share", "weight_alm",
    ):  # fmt: skip
        assert name in entry
    assert entry["coverage"] == 1.0


def test_an_objective_that_needs_a_teacher_is_refused_without_one(tmp_path):
    with pytest.raises(ValueError, match="'alm' needs a teacher"):
        DistillationTrainer(
            Student(tiny_model("llama", 600), TARGET),
            [],
            [ALM()],
            FixedWeights(),
            TrainingArguments(output_dir=str(tmp_path), report_to=[]),
        )
