"""crosstok's losses against TRL's GOLDTrainer: time of a step, peak memory, values.

    pip install trl==1.16.0        # next to crosstok, in a separate environment
    python benchmarks/gold_vs_trl.py --tokenizers GPT2 QWEN2.5 --data wikipedia.jsonl \
        [--case 50257 151936 512 ...] [--methods NAME ...] [--repeats 3]

Text, tokens and alignment are real, the models are not. One text is cut to N student tokens and
encoded by both tokenizers; hidden states (width D) are random, but biased towards the next token.
Output matrices have as many rows as the case says; rows past a tokenizer's last id are logits like
the others. D is small, so that the product with the output matrix, which all methods need, does not
hide the rest.

All methods start from the last hidden states and output matrices of both models and end with the
gradients of the student's (forward and backward, fp32, CPU):

    trl ...      logits of all tokens, as GOLDTrainer has them from its models, then
                 trl.experimental.gold's ULDLoss with the defaults of GOLDConfig: extended, i.e.
                 grouped by bytes, not hybrid, merge strategy "observed"; or "bayesian" instead;
                 or "bayesian" and hybrid
    the others   crosstok's own, with their scores; "gold extended", not hybrid, should
                 give the value and the gradient of "trl bayesian" ("observed" reads wrong rows)

Times include neither tokenization nor crosstok's alignment, which the data loader does; TRL's
alignment is part of its loss (some milliseconds). Times are medians of interleaved repeats. Peak
memory is the rise of the process's highest resident size above its inputs, each method in a process
of its own (Linux); TRL's includes the logits, whose size is printed. Prints Markdown.
"""

import argparse
import ctypes
import functools
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from linear_logprobs import resident_kibibytes
from torch import Tensor, nn
from torch.nn import functional

from crosstok.alignment import align, tokens_that_fit
from crosstok.corpora import load_corpus
from crosstok.models.forward import Scores, scores_from_hidden
from crosstok.objectives import ALM, GOLD, ULD, AlignedBatch, ModelView, Objective, Strict
from crosstok.ops import OutputHead
from crosstok.tokenizers import ByteVocab, Spans, TextEncoder, load_tokenizer

OURS: dict[str, Objective] = {
    "alm": ALM(),
    "gold extended": GOLD(hybrid=False),
    "gold hybrid": GOLD(),
    "strict": Strict(),
    "uld": ULD(),
}
TRL: dict[str, dict[str, Any]] = {
    "trl observed": {},
    "trl bayesian": {"uld_token_merge_strategy": "bayesian"},
    "trl hybrid": {"uld_token_merge_strategy": "bayesian", "uld_use_hybrid_loss": True},
}
METHODS = (*OURS, *TRL)
SAME = {"gold extended": "trl bayesian"}
"""Ours, and the method of TRL that should give the same value and gradient for a single text."""

CASES = [
    (student, teacher, length)
    for student, teacher in ((32000, 50257), (50257, 151936), (128256, 151936))
    for length in (256, 512)
]
Case = tuple[int | None, int | None, int]  # rows of both output matrices, tokens of the student
WARM_UP: Case = (None, None, 32)  # vocabularies as large as the tokenizers'


@dataclass(frozen=True, kw_only=True)
class Side:
    """The text under one tokenizer, between two ends of text, with the outputs of its model.

    The first of the two stands for a prompt, the second is never compared (as TRL's defaults say).
    """

    folder: str
    byte_vocab: ByteVocab
    ids: Tensor  # [1 T]
    chunk_ids: Tensor  # [1 T], -1 for the ends of text
    byte_offsets: Tensor  # [1 T 2]
    hidden: Tensor  # [1 T D]
    weight: Tensor  # [V D]
    boundary_mask: Tensor  # [V]

    @property
    def labels(self) -> Tensor:
        """Labels as in TRL: -100 for the prompt."""
        return self.ids.index_fill(1, torch.tensor([0]), -100)

    @property
    def logits(self) -> Tensor:
        """[1 T V]."""
        return functional.linear(self.hidden, self.weight)

    def scores(self, objective: Objective) -> Scores:
        """What the trainer would pass to this objective."""
        needs = objective.needs
        boundary_mask = self.boundary_mask if needs.boundary_mass else None
        head, everywhere = OutputHead(self.weight), torch.ones_like(self.ids)
        scores = scores_from_hidden(self.hidden, head, self.ids, everywhere, boundary_mask)
        keep_hidden = needs.distributions or needs.hidden_states
        return replace(scores, hidden=self.hidden) if keep_hidden else scores

    def view(self) -> ModelView:
        """The model as objectives receive it; none of these uses the input embeddings."""
        return ModelView(
            byte_vocab=self.byte_vocab,
            head=OutputHead(self.weight),
            valid_ids=None,
            input_embeddings=nn.Embedding(1, self.weight.shape[1]),
        )


@dataclass(frozen=True)
class Inputs:
    """Both models' sides of one text."""

    student: Side
    teacher: Side

    @property
    def num_chunks(self) -> int:
        """All of them are in both sides' ``chunk_ids``."""
        return int(self.student.chunk_ids.max()) + 1


@functools.cache
def encoder(folder: str) -> TextEncoder:
    return TextEncoder(load_tokenizer(folder))


def make_inputs(options: argparse.Namespace, case: Case, width: int) -> Inputs:
    """Take the first text that is long enough, cut at a chunk end."""
    torch.manual_seed(0)
    student, teacher = (encoder(folder) for folder in options.tokenizers)
    for text in load_corpus(options.data).texts():
        ours, theirs = (e([text], add_start=False, add_end=False)[0] for e in (student, teacher))
        if len(ours) >= case[2] - 2:
            both = align(theirs, ours, teacher.byte_vocab, student.byte_vocab)
            num_theirs, num_ours = tokens_that_fit(both, theirs, ours, len(theirs), case[2] - 2)
            chunks = both.target_chunk_ids[:num_ours], both.source_chunk_ids[:num_theirs]
            inputs = Inputs(
                make_side(options.tokenizers[0], ours, chunks[0], case[0], width),
                make_side(options.tokenizers[1], theirs, chunks[1], case[1], width),
            )
            inputs.student.hidden.requires_grad_()
            inputs.student.weight.requires_grad_()
            return inputs
    raise ValueError(f"no text in {options.data} has {case[2] - 2} tokens; give longer texts.")


def make_side(
    folder: str, spans: Spans, chunk_ids: np.ndarray, vocab_size: int | None, width: int
) -> Side:
    """Draw outputs under which the next token has anything from no to nearly all mass."""
    vocab = encoder(folder).byte_vocab
    num_tokens, vocab_size = len(chunk_ids), vocab_size or len(vocab)
    end, last_byte = vocab.document_end, spans.ends[num_tokens - 1]
    offsets = np.stack([spans.starts, spans.ends], axis=1)[:num_tokens]
    ids = torch.tensor([[end, *spans.ids[:num_tokens], end]])
    weight = torch.randn(vocab_size, width).mul_(width**-0.5)
    following = weight[ids.roll(-1, dims=1)]
    lean = torch.rand(1, num_tokens + 2, 1) * 1.5 * np.log(vocab_size)
    hidden = lean * following / following.square().sum(-1, keepdim=True)
    return Side(
        folder=folder,
        byte_vocab=vocab,
        ids=ids,
        chunk_ids=torch.tensor([[-1, *chunk_ids, -1]]),
        byte_offsets=torch.tensor([[[0, 0], *offsets.tolist(), [last_byte, last_byte]]]),
        hidden=hidden + torch.randn_like(hidden),
        weight=weight,
        boundary_mask=torch.from_numpy(vocab.boundary_mask(vocab_size)),
    )


# The methods: each is set up once for its inputs, then called for a loss


def crosstok_loss(name: str, inputs: Inputs) -> Callable[[], Tensor]:
    student, teacher = inputs.student, inputs.teacher
    objective = OURS[name].bind(student.view(), teacher.view())
    chunk_mask = torch.ones(1, inputs.num_chunks, dtype=torch.bool)
    num_bytes = student.byte_offsets[:, -1, 1]
    batch = AlignedBatch(
        student_ids=student.ids,
        student_attention_mask=torch.ones_like(student.ids),
        student_loss_mask=student.chunk_ids >= 0,
        student_chunk_ids=student.chunk_ids,
        teacher_ids=teacher.ids,
        teacher_attention_mask=torch.ones_like(teacher.ids),
        teacher_loss_mask=teacher.chunk_ids >= 0,
        teacher_chunk_ids=teacher.chunk_ids,
        chunk_mask=chunk_mask,
        chunk_is_special=~chunk_mask,
        num_bytes=num_bytes,
        covered_bytes=num_bytes,
        rows=torch.zeros(1, dtype=torch.long),
    )

    def loss() -> Tensor:
        with torch.no_grad():
            teacher_scores = teacher.scores(objective)
        result = objective(batch, student.scores(objective), teacher_scores)
        return result.total / result.count

    return loss


def trl_loss(name: str, inputs: Inputs) -> Callable[[], Tensor]:
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    from trl.experimental.gold import GOLDConfig  # not a dependency
    from trl.experimental.gold.gold_trainer import ULDLoss

    student, teacher = inputs.student, inputs.teacher
    folder = tempfile.gettempdir()  # nothing is written
    config = GOLDConfig(output_dir=folder, use_cpu=True, bf16=False, use_uld_loss=True, **TRL[name])
    tokenizers = {}
    if config.uld_use_hybrid_loss:
        tokenizers = {
            "student_tokenizer": load_tokenizer(student.folder),
            "teacher_tokenizer": load_tokenizer(teacher.folder),
        }
    uld_loss = ULDLoss(config, **tokenizers)

    def loss() -> Tensor:
        student_logits = student.logits
        with torch.no_grad():
            teacher_logits = teacher.logits
        result: Tensor = uld_loss(
            student_logits=student_logits,
            teacher_logits=teacher_logits,
            student_labels=student.labels,
            teacher_labels=teacher.labels,
            student_input_ids=student.ids,
            teacher_input_ids=teacher.ids,
            student_byte_offsets=student.byte_offsets,
            teacher_byte_offsets=teacher.byte_offsets,
        )
        return result

    return loss


def set_up(name: str, inputs: Inputs) -> Callable[[], Tensor]:
    return (crosstok_loss if name in OURS else trl_loss)(name, inputs)


def plain_value(inputs: Inputs) -> float:
    """The extended, not hybrid, bayesian form by its definition: chunk after chunk, in fp64."""

    def merged(side: Side, weight: Tensor, chunk: int) -> Tensor:
        (positions,) = (side.chunk_ids[0] == chunk).nonzero(as_tuple=True)
        logits = side.hidden.detach()[0, positions - 1].double() @ weight.T
        probs = logits.softmax(-1)
        earlier = probs[:-1].gather(1, side.ids[0, positions[:-1], None])
        return (probs[-1] * earlier.prod()).sort(descending=True).values

    sides = [(side, side.weight.detach().double()) for side in (inputs.student, inputs.teacher)]
    total = 0.0
    for chunk in range(inputs.num_chunks):
        shorter, longer = sorted((merged(*side, chunk) for side in sides), key=len)
        padded = functional.pad(shorter, (0, len(longer) - len(shorter)))
        total += float((padded - longer).abs().sum())
    return total / inputs.num_chunks


# Measuring


@dataclass(frozen=True)
class Step:
    """One forward and backward pass."""

    seconds: float
    value: float
    gradient: Tensor  # of the student's hidden states


def step(loss: Callable[[], Tensor], inputs: Inputs) -> Step:
    inputs.student.hidden.grad = inputs.student.weight.grad = None
    start = time.perf_counter()
    value = loss()
    value.backward()
    elapsed = time.perf_counter() - start
    gradient = inputs.student.hidden.grad
    assert gradient is not None
    return Step(elapsed, float(value.detach()), gradient)


def warmed_up(options: argparse.Namespace, case: Case) -> Inputs:
    """A case's inputs, after every method has run once on a short text."""
    small = make_inputs(options, WARM_UP, 8)
    for name in options.methods:
        step(set_up(name, small), small)
    return make_inputs(options, case, options.width)


def report_peak(options: argparse.Namespace, case: Case) -> None:
    """Print the rise of this process's resident size in one step of one method."""
    inputs = warmed_up(options, case)
    loss = set_up(options.methods[0], inputs)
    ctypes.CDLL(None).malloc_trim(0)  # freed memory must not be reused without being counted
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
    before = resident_kibibytes("VmRSS")
    step(loss, inputs)
    print((resident_kibibytes("VmHWM") - before) / 1024)


def peak_mebibytes(name: str, options: argparse.Namespace, case: Case) -> float:
    """`report_peak` in a fresh process."""
    command = [sys.executable, __file__, "--peak-only", "--methods", name, "--data", options.data]
    command += ["--tokenizers", *options.tokenizers, "--width", str(options.width)]
    command += ["--case", *map(str, case)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(output.split()[-1])


def compare(options: argparse.Namespace, case: Case) -> list[str]:
    """Measure one case and print it; returns the lines about values."""
    inputs = warmed_up(options, case)
    losses = {name: set_up(name, inputs) for name in options.methods}
    steps: dict[str, list[Step]] = {name: [] for name in losses}
    for _ in range(options.repeats):
        for name, loss in losses.items():
            steps[name].append(step(loss, inputs))
    peaks = {name: peak_mebibytes(name, options, case) for name in losses}
    medians = {name: statistics.median(s.seconds for s in of) for name, of in steps.items()}
    lengths = [side.ids.shape[1] for side in (inputs.student, inputs.teacher)]
    logits = (lengths[0] * case[0] + lengths[1] * case[1]) * 4 / 2**20
    first = options.methods[0]
    for name in losses:
        cells = [f"{case[0]} / {case[1]}", "{} / {}".format(*lengths), inputs.num_chunks, name]
        cells += [f"{medians[name]:.3f}", f"{medians[name] / medians[first]:.2f}"]
        cells += [f"{peaks[name]:.0f}", f"{peaks[name] / peaks[first]:.2f}", f"{logits:.0f}"]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    return compare_values(f"{case[0]} / {case[1]}, {lengths[0]}", inputs, steps)


def compare_values(case: str, inputs: Inputs, steps: dict[str, list[Step]]) -> list[str]:
    rows = [(name, of[0].value) for name, of in steps.items()]
    rows.append(("bayesian by definition, fp64", plain_value(inputs)))
    lines = [f"| {case} | {name} | {value:.8f} | |" for name, value in rows]
    for ours, theirs in SAME.items():
        if ours in steps and theirs in steps:
            a, b = steps[ours][0], steps[theirs][0]
            gradient = float((a.gradient - b.gradient).norm() / b.gradient.norm())
            difference = f"{abs(a.value - b.value):.1e} | {gradient:.1e}"
            lines.append(f"| {case} | {ours} less {theirs} | {difference} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tokenizers", nargs=2, required=True, metavar=("STUDENT", "TEACHER"))
    parser.add_argument("--data", required=True, help="file of texts, such as .jsonl")
    parser.add_argument(
        "--case", type=int, nargs=3, action="append", metavar=("STUDENT_V", "TEACHER_V", "N")
    )
    parser.add_argument("--width", type=int, default=64, help="of the hidden states")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--peak-only", action="store_true", help="of one method and case")
    options = parser.parse_args()
    cases = [tuple(case) for case in options.case or CASES]
    if options.peak_only:
        report_peak(options, cases[0])
        return
    names = " / ".join(Path(folder).name for folder in options.tokenizers)
    print(
        f"{date.today()}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{torch.get_num_threads()} thread(s); {names}, width {options.width}, medians of "
        f"{options.repeats}\n"
    )
    first = options.methods[0]
    print(f"| V | tokens | chunks | method | seconds | / {first} | MiB | / {first} | logits MiB |")
    print(f"|{'---|' * 9}")
    values = [line for case in cases for line in compare(options, case)]
    print("\n| V, tokens | value of | value, or difference | of the gradients, relative |")
    print("|---|---|---|---|", *values, sep="\n")


if __name__ == "__main__":
    main()
