"""Time and peak memory of the log-probabilities of labels, forward and backward.

    python benchmarks/linear_logprobs.py [--repeats 5] [--case N V D] [--skip METHOD ...]

Compares, in turn within each repeat (so that a slow minute affects all of them):

    blocks            crosstok.ops.linear_logprobs, labels only
    blocks+boundary   the same with a boundary set of half the vocabulary
    dense             F.linear, log_softmax, gather: the [N, V] logits in full
    dense+boundary    the same and a logsumexp over the set
    torch             F.linear_cross_entropy(reduction="none"), reference path (options=None)
    torch chunked     the same with LinearCrossEntropyOptions(), and with as many rows as ours

Peak memory is the rise of the process's highest resident size above its inputs, each method in a
process of its own (Linux). CPU, fp32. A method that takes more than ten times as long as
the dense one is not repeated. Prints a Markdown table.
"""

import argparse
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from crosstok.ops import OutputHead, linear_logprobs
from crosstok.ops.linear_logprobs import default_tokens_per_block

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def blocks(hidden: Tensor, weight: Tensor, labels: Tensor, _mask: Tensor) -> Tensor:
    return linear_logprobs(hidden, OutputHead(weight), labels)[0].sum()


def blocks_boundary(hidden: Tensor, weight: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    logprobs, log_mass = linear_logprobs(hidden, OutputHead(weight), labels, mask)
    return logprobs.sum() + log_mass.sum()


def dense(hidden: Tensor, weight: Tensor, labels: Tensor, _mask: Tensor) -> Tensor:
    return functional.linear(hidden, weight).log_softmax(-1).gather(1, labels[:, None]).sum()


def dense_boundary(hidden: Tensor, weight: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    logprobs = functional.linear(hidden, weight).log_softmax(-1)
    return logprobs.gather(1, labels[:, None]).sum() + logprobs[:, mask].logsumexp(-1).sum()


def torch_reference(hidden: Tensor, weight: Tensor, labels: Tensor, _mask: Tensor) -> Tensor:
    return functional.linear_cross_entropy(hidden, weight, labels, reduction="none").sum()


def torch_chunked(hidden: Tensor, weight: Tensor, labels: Tensor, _mask: Tensor) -> Tensor:
    options = torch.nn.LinearCrossEntropyOptions()
    return functional.linear_cross_entropy(
        hidden, weight, labels, reduction="none", options=options
    ).sum()


def torch_chunked_like_ours(
    hidden: Tensor, weight: Tensor, labels: Tensor, _mask: Tensor
) -> Tensor:
    rows = default_tokens_per_block(hidden.device, weight.shape[0], hidden.shape[0])
    options = torch.nn.LinearCrossEntropyOptions(
        batch_chunk_size=min(rows, len(hidden)), chunking_method=None
    )
    return functional.linear_cross_entropy(
        hidden, weight, labels, reduction="none", options=options
    ).sum()


METHODS: dict[str, Loss] = {
    "blocks": blocks,
    "blocks+boundary": blocks_boundary,
    "dense": dense,
    "dense+boundary": dense_boundary,
    "torch": torch_reference,
    "torch chunked": torch_chunked,
    "torch chunked, our rows": torch_chunked_like_ours,
}


def make_inputs(num_tokens: int, vocab_size: int, width: int) -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    hidden = torch.randn(num_tokens, width, requires_grad=True)
    weight = torch.randn(vocab_size, width).mul_(width**-0.5).requires_grad_()
    labels = torch.randint(0, vocab_size, (num_tokens,))
    return hidden, weight, labels, torch.rand(vocab_size) < 0.5


def seconds(method: Loss, inputs: tuple[Tensor, ...]) -> float:
    for tensor in inputs:
        tensor.grad = None
    start = time.perf_counter()
    method(*inputs).backward()
    return time.perf_counter() - start


def peak_mebibytes(name: str, case: tuple[int, int, int]) -> float:
    """Run one method once in a fresh process and return the rise of its resident size."""
    command = [sys.executable, __file__, "--peak-of", name, "--case", *map(str, case)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(output.split()[-1])


def report_peak(name: str, case: tuple[int, int, int]) -> None:
    inputs = make_inputs(*case)
    small = make_inputs(8, 64, 16)
    METHODS[name](*small).backward()
    before = resident_kibibytes("VmRSS")
    METHODS[name](*inputs).backward()
    print((resident_kibibytes("VmHWM") - before) / 1024)


def resident_kibibytes(field: str) -> int:
    """Resident size of this process: VmRSS now, VmHWM at its highest (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def compare(case: tuple[int, int, int], repeats: int, names: list[str]) -> None:
    inputs = make_inputs(*case)
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(repeats + 1):
        for name in names:
            if times[name] and times[name][0] > 10 * times["dense"][0]:
                continue
            times[name].append(seconds(METHODS[name], inputs))
    medians = {name: statistics.median(values[1:] or values) for name, values in times.items()}
    del inputs
    for name, median in medians.items():
        peak = peak_mebibytes(name, case)
        ratio = median / medians["dense"]
        print(
            f"| {case[0]} | {case[1]} | {case[2]} | {name} | {median:.3f} | {ratio:.2f} "
            f"| {peak:.0f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--case", type=int, nargs=3, action="append", metavar=("N", "V", "D"))
    parser.add_argument("--skip", choices=METHODS, nargs="*", default=[])
    parser.add_argument("--peak-of", choices=METHODS)
    arguments = parser.parse_args()
    cases = [tuple(case) for case in arguments.case or []] or [
        (512, 50257, 256),
        (2048, 50257, 256),
        (512, 151936, 256),
        (1024, 50257, 1024),
    ]
    if arguments.peak_of:
        report_peak(arguments.peak_of, cases[0])
        return
    print(
        f"torch {torch.__version__}, Python {platform.python_version()}, "
        f"{torch.get_num_threads()} threads, {platform.processor() or platform.machine()}\n"
    )
    print("| N | V | D | method | seconds | / dense | peak MiB above inputs |")
    print("|---|---|---|---|---|---|---|")
    for case in cases:
        compare(case, arguments.repeats, [name for name in METHODS if name not in arguments.skip])


if __name__ == "__main__":
    main()
