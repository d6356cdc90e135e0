"""Sums kept between two log lines: metrics, and what went through the model."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from crosstok.models import Scores
from crosstok.objectives import AlignedBatch, LossSum

_NATS_PER_BIT = 0.6931471805599453


class Meters:
    """Adds (sum, count) pairs on the device; divides, over all ranks, only when asked to log."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._since = time.perf_counter()

    def add(self, name: str, total: Tensor, count: Tensor) -> None:
        """Add to the metric ``name``, which is logged as total / count."""
        pair = torch.stack([total.detach().double(), count.detach().double()])
        self._sums[name] = self._sums[name] + pair if name in self._sums else pair

    def add_loss(self, name: str, loss: LossSum) -> None:
        """Add a term's loss and its metrics; of several teachers (``alm@teacher``) each its own."""
        _, at, teacher = name.partition("@")
        self.add(f"loss_{name}", loss.total, loss.count)
        for metric, (total, count) in loss.metrics.items():
            self.add(f"{metric}{at}{teacher}", total, count)

    def add_batch(self, batch: AlignedBatch, cut_bytes: Tensor) -> None:
        """Count the student's side of a batch, before any model sees it."""
        tokens = batch.student_attention_mask.sum()
        self.add("tokens", tokens, torch.ones_like(tokens))
        self.add("bytes", batch.num_bytes.sum(), torch.ones_like(tokens))
        self.add("cut_share", cut_bytes.sum(), (batch.num_bytes + cut_bytes).sum())

    def add_alignment(self, batch: AlignedBatch, suffix: str = "") -> None:
        """Count what student and one teacher can be compared on; ``suffix`` names the teacher."""
        chunks = batch.chunk_mask.sum()
        student, teacher = (
            (batch.student_chunk_ids >= 0).sum(),
            (batch.teacher_chunk_ids >= 0).sum(),
        )
        self.add(f"coverage{suffix}", batch.covered_bytes.sum(), batch.num_bytes.sum())
        self.add(f"student_tokens_per_chunk{suffix}", student, chunks)
        self.add(f"teacher_tokens_per_chunk{suffix}", teacher, chunks)

    def add_student(self, batch: AlignedBatch, scores: Scores) -> None:
        """Count the student's bits per byte on the batch."""
        nats = -scores.token_logprobs.detach().masked_fill(~batch.student_loss_mask, 0.0).sum()
        self.add("bits_per_byte", nats.double() / _NATS_PER_BIT, batch.num_bytes.sum())

    def sums(self, *names: str) -> Tensor | None:
        """The totals of these metrics since the last call of `drain`; None before any."""
        if not self._sums:
            return None
        return torch.stack([self._sums[name][0] for name in names])

    def losses(self, over_ranks: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Mean losses and bits per byte since the last call of `drain`; they go on being added."""
        names = sorted(n for n in self._sums if n.startswith("loss_") or n == "bits_per_byte")
        sums = over_ranks(torch.stack([self._sums[name] for name in names])).tolist()
        return {n: total / max(1, count) for n, (total, count) in zip(names, sums, strict=True)}

    def skip(self, seconds: float) -> None:
        """Leave time out of the rates."""
        self._since += seconds

    def drain(self, over_ranks: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Everything since the last call, divided; tokens and bytes as sums and rates a second."""
        seconds = max(1e-9, time.perf_counter() - self._since)
        names = sorted(self._sums)
        logs: dict[str, float] = {}
        if names:
            sums = over_ranks(torch.stack([self._sums[name] for name in names])).tolist()
            for name, (total, count) in zip(names, sums, strict=True):
                if name in ("tokens", "bytes"):
                    logs[name] = total
                    logs[f"{name}_per_second"] = total / seconds
                else:
                    logs[name] = total / count if count else 0.0
        if torch.cuda.is_available():
            logs["peak_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        self._sums = {}
        self._since = time.perf_counter()
        return logs
