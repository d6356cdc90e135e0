"""Time and peak memory of the ALM loss from hidden states, forward and backward.

    python benchmarks/alm_loss.py [--repeats 5] [--case N V D] [--skip METHOD ...]

Compares, in turn within each repeat, on random hidden states of N student and N teacher tokens, in
8 texts with about 1.4 tokens per chunk on either side:

    cross entropy     the student's next-token loss from its full [N, V] logits
    alm               crosstok: both models' log-probabilities in blocks, sums over chunk ids
    alm dense         both models' full logits in fp32, log_softmax, probabilities, boolean
                      [texts, tokens, chunks] alignment matrices; chunks are not merged

Times do not include the models and the alignment. The student's hidden states and matrix get
gradients, the teacher's do not. Peak memory is the rise of the process's highest resident size
above its inputs, each method in a process of its own (Linux). CPU, fp32. Prints a Markdown table.
"""

import argparse
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from linear_logprobs import resident_kibibytes
from torch import Tensor
from torch.nn import functional

from crosstok.models.forward import Scores, scores_from_hidden
from crosstok.objectives.alm import ALM
from crosstok.objectives.base import AlignedBatch
from crosstok.ops import OutputHead
from crosstok.ops.divergences import binary_kl

NUM_TEXTS = 8


@dataclass(frozen=True)
class Side:
    """One model: hidden states [B T D], output matrix [V D], boundary set [V]."""

    hidden: Tensor
    weight: Tensor
    boundary_mask: Tensor
    ids: Tensor
    chunk_ids: Tensor


@dataclass(frozen=True)
class Inputs:
    """Both models' sides of one batch."""

    student: Side
    teacher: Side
    num_chunks: int


def make_side(length: int, vocab_size: int, width: int, *, trained: bool) -> Side:
    hidden = torch.randn(NUM_TEXTS, length, width).requires_grad_(trained)
    weight = torch.randn(vocab_size, width).mul_(width**-0.5).requires_grad_(trained)
    ids = torch.randint(0, vocab_size, (NUM_TEXTS, length))
    starts_chunk = torch.rand(NUM_TEXTS, length) < 0.7
    starts_chunk[:, :2] = torch.tensor([False, True])
    chunk_ids = starts_chunk.long().cumsum(1) - 1  # the first token is not predicted: -1
    return Side(hidden, weight, torch.rand(vocab_size) < 0.5, ids, chunk_ids)


def make_inputs(num_tokens: int, vocab_size: int, width: int) -> Inputs:
    torch.manual_seed(0)
    length = num_tokens // NUM_TEXTS
    student = make_side(length, vocab_size, width, trained=True)
    teacher = make_side(length, vocab_size, width, trained=False)
    num_chunks = int(torch.minimum(student.chunk_ids[:, -1], teacher.chunk_ids[:, -1]).min()) + 1
    for side in (student, teacher):
        side.chunk_ids[side.chunk_ids >= num_chunks] = -1
    return Inputs(student, teacher, num_chunks)


def cross_entropy(inputs: Inputs) -> Tensor:
    logits = functional.linear(inputs.student.hidden, inputs.student.weight)
    return functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), inputs.student.ids[:, 1:].flatten(), reduction="sum"
    )


def side_scores(side: Side) -> Scores:
    everywhere = torch.ones_like(side.ids)
    head = OutputHead(side.weight)
    return scores_from_hidden(side.hidden, head, side.ids, everywhere, side.boundary_mask)


def alm(inputs: Inputs) -> Tensor:
    student, teacher = inputs.student, inputs.teacher
    everywhere = torch.ones_like(student.ids)
    chunk_mask = torch.ones(NUM_TEXTS, inputs.num_chunks, dtype=torch.bool)
    batch = AlignedBatch(
        student_ids=student.ids,
        student_attention_mask=everywhere,
        student_loss_mask=everywhere.bool(),
        student_chunk_ids=student.chunk_ids,
        teacher_ids=teacher.ids,
        teacher_attention_mask=everywhere,
        teacher_loss_mask=everywhere.bool(),
        teacher_chunk_ids=teacher.chunk_ids,
        chunk_mask=chunk_mask,
        chunk_is_special=~chunk_mask,
        num_bytes=everywhere.sum(1),
        covered_bytes=everywhere.sum(1),
        rows=torch.arange(NUM_TEXTS),
    )
    with torch.no_grad():
        teacher_scores = side_scores(teacher)
    return ALM()(batch, side_scores(student), teacher_scores).total


def dense_chunk_logprobs(side: Side, num_chunks: int) -> Tensor:
    logprobs = functional.linear(side.hidden, side.weight).float().log_softmax(-1)
    labels = logprobs[:, :-1].gather(2, side.ids[:, 1:, None]).squeeze(2)
    boundary = (logprobs.exp() @ side.boundary_mask.float()).log()
    members = functional.one_hot(side.chunk_ids + 1, num_chunks + 1)[..., 1:].float()
    following = functional.pad(members[:, 1:], (0, 0, 0, 1))
    ends = members * (1 - following)
    return torch.einsum("bt,btc->bc", labels, members[:, 1:]) + torch.einsum(
        "bt,btc->bc", boundary, ends
    )


def alm_dense(inputs: Inputs) -> Tensor:
    with torch.no_grad():
        teacher = dense_chunk_logprobs(inputs.teacher, inputs.num_chunks)
    student = dense_chunk_logprobs(inputs.student, inputs.num_chunks)
    return binary_kl(teacher, student, 5.0, 10.0).sum()


METHODS: dict[str, Callable[[Inputs], Tensor]] = {
    "cross entropy": cross_entropy,
    "alm": alm,
    "alm dense": alm_dense,
}


def seconds(method: Callable[[Inputs], Tensor], inputs: Inputs) -> float:
    inputs.student.hidden.grad = inputs.student.weight.grad = None
    start = time.perf_counter()
    method(inputs).backward()
    return time.perf_counter() - start


def peak_mebibytes(name: str, case: tuple[int, int, int]) -> float:
    """Run one method once in a fresh process and return the rise of its resident size."""
    command = [sys.executable, __file__, "--peak-of", name, "--case", *map(str, case)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(output.split()[-1])


def report_peak(name: str, case: tuple[int, int, int]) -> None:
    inputs = make_inputs(*case)
    METHODS[name](make_inputs(64, 64, 16)).backward()
    before = resident_kibibytes("VmRSS")
    METHODS[name](inputs).backward()
    print((resident_kibibytes("VmHWM") - before) / 1024)


def compare(case: tuple[int, int, int], repeats: int, names: list[str]) -> None:
    inputs = make_inputs(*case)
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(repeats + 1):
        for name in names:
            times[name].append(seconds(METHODS[name], inputs))
    del inputs
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    for name, median in medians.items():
        ratio = median / medians[names[0]]
        peak = peak_mebibytes(name, case)
        cells = [*case, name, f"{median:.3f}", f"{ratio:.2f}", f"{peak:.0f}"]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--case", type=int, nargs=3, action="append", metavar=("N", "V", "D"))
    parser.add_argument("--skip", choices=METHODS, nargs="*", default=[])
    parser.add_argument("--peak-of", choices=METHODS)
    arguments = parser.parse_args()
    cases = [tuple(case) for case in arguments.case or []] or [
        (tokens, vocab_size, 256) for vocab_size in (32000, 151936) for tokens in (2048, 8192)
    ]
    if arguments.peak_of:
        report_peak(arguments.peak_of, cases[0])
        return
    names = [name for name in METHODS if name not in arguments.skip]
    print(
        f"torch {torch.__version__}, Python {platform.python_version()}, "
        f"{torch.get_num_threads()} threads, {platform.processor() or platform.machine()}\n"
    )
    print(f"| N | V | D | method | seconds | / {names[0]} | peak MiB above inputs |")
    print("|---|---|---|---|---|---|---|")
    for case in cases:
        compare(case, arguments.repeats, names)


if __name__ == "__main__":
    main()
