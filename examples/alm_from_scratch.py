"""Approximate Likelihood Matching (arXiv 2503.20083) on one page: no trainer, no batches.

    python examples/alm_from_scratch.py

The teacher is the small model that comes with crosstok. The student is the same model with another
tokenizer, trained here on the training text: its embeddings are composed from the old ones, then it
is trained to assign every chunk of bytes the likelihood that the teacher assigns. Tokenizers, byte
spans and first embeddings come from the library; the method itself is written out below. A test
checks that it gives the same numbers as the library.
"""

import heapq
import inspect
import math
import shlex
import textwrap
from importlib.resources import files

import torch
from torch import Tensor
from transformers import PreTrainedModel

from crosstok.demo.target_tokenizer import build_target_tokenizer
from crosstok.models import load_model
from crosstok.tokenizers import ByteVocab, Spans, TextEncoder, load_tokenizer
from crosstok.transplants import transplant

TEMPERATURE = 100.0  # tau: chunk likelihoods are compared as p^(1/tau)
MIN_BOUNDARY_MASS = 0.1  # gamma: a chunk with less is merged with the next one


def chunk_ids(teacher: Spans, student: Spans) -> tuple[Tensor, Tensor]:
    """Chunk of every token, on both sides: a chunk ends where a token ends on both sides."""
    teacher_ends, student_ends = torch.tensor(teacher.ends), torch.tensor(student.ends)
    cuts = torch.tensor(sorted(set(teacher_ends.tolist()) & set(student_ends.tolist())))
    return torch.searchsorted(cuts, teacher_ends), torch.searchsorted(cuts, student_ends)


def scores(model: torch.nn.Module, vocab: ByteVocab, ids: Tensor) -> tuple[Tensor, Tensor]:
    """For tokens 1, 2, ...: log p(token) and log p(a word boundary follows), in nats."""
    logprobs = model(ids[None]).logits[0].float().log_softmax(-1)
    boundary = torch.from_numpy(vocab.boundary_mask())
    token_logprobs = logprobs[:-1].gather(1, ids[1:, None])[:, 0]
    return token_logprobs, logprobs[1:, boundary].logsumexp(-1)


def merge(boundary_mass: list[float]) -> list[list[int]]:
    """Runs of chunks, each ending with enough boundary mass; an open tail is left out."""
    merged, run = [], []
    for chunk, mass in enumerate(boundary_mass):
        run.append(chunk)
        if mass > MIN_BOUNDARY_MASS:
            merged.append(run)
            run = []
    return merged


def merged_logprobs(
    token_logprobs: Tensor, boundary: Tensor, chunks: Tensor, merged: list[list[int]]
) -> Tensor:
    """For every run of chunks: log p(its bytes) + log p(a boundary follows), in nats."""
    of_chunk = torch.zeros(int(chunks.max()) + 1).index_add(0, chunks, token_logprobs)
    last_token = [int((chunks == run[-1]).nonzero().max()) for run in merged]
    sums = [
        of_chunk[run].sum() + boundary[last] for run, last in zip(merged, last_token, strict=True)
    ]
    return torch.stack(sums)


def binary_kl(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student) of "this chunk" against "anything else", times tau."""
    p, q = teacher / TEMPERATURE, student / TEMPERATURE
    rest = torch.log(-torch.expm1(p)) - torch.log(-torch.expm1(q))
    return TEMPERATURE * (p.exp() * (p - q) - torch.expm1(p) * rest)


def alm(teacher: tuple, student: tuple) -> tuple[Tensor, int]:
    """Sum of the loss over the merged chunks of one text, and their number.

    Both arguments are (model, vocabulary, spans that begin with a start token).
    """
    teacher_chunks, student_chunks = chunk_ids(teacher[2], student[2])
    # The start token, index 0, ends at byte 0 and is chunk 0 on both sides. It is not predicted.
    teacher_chunks, student_chunks = teacher_chunks[1:] - 1, student_chunks[1:] - 1
    with torch.no_grad():
        model, vocab, spans = teacher
        token_logprobs, boundary = scores(model, vocab, torch.tensor(spans.ids))
        last = [int((teacher_chunks == c).nonzero().max()) for c in teacher_chunks.unique()]
        merged = merge(boundary[last].exp().tolist())
        if not merged:
            return torch.zeros(()), 0
        wanted = merged_logprobs(token_logprobs, boundary, teacher_chunks, merged)
    model, vocab, spans = student
    found = merged_logprobs(*scores(model, vocab, torch.tensor(spans.ids)), student_chunks, merged)
    return binary_kl(wanted, found).sum(), len(merged)


@torch.no_grad()
def bits_per_byte(model: torch.nn.Module, encoder: TextEncoder, texts: list[str]) -> float:
    """Bits per byte of the texts under the model, which can be compared across tokenizers."""
    ids = [torch.tensor(spans.ids) for spans in encoder(texts, add_end=False)]
    nats = -sum(float(scores(model, encoder.byte_vocab, row)[0].sum()) for row in ids)
    return nats / math.log(2) / sum(len(text.encode()) for text in texts)


def load_texts() -> list[str]:
    """Three modules of the standard library, in pieces of 300 characters."""
    source = "\n".join(inspect.getsource(module) for module in (heapq, textwrap, shlex))
    return [source[i : i + 300] for i in range(0, len(source), 300)]


def build() -> tuple[PreTrainedModel, PreTrainedModel, TextEncoder, TextEncoder, list[str]]:
    """Teacher, untrained student, their encoders, and texts."""
    texts = load_texts()
    folder = str(files("crosstok.demo") / "model")
    teacher, student = (load_model(folder, dtype=torch.float32) for _ in range(2))
    source, target = TextEncoder(load_tokenizer(folder)), TextEncoder(build_target_tokenizer(texts))
    transplant(student, source, target)
    return teacher, student, source, target, texts


def main(steps: int = 30, texts_per_step: int = 4) -> tuple[float, float, float]:
    """Train; returns bits per byte of the teacher, and of the student before and after."""
    torch.manual_seed(0)
    teacher, student, source, target, texts = build()
    train, held_out = texts[:-10], texts[-10:]
    before = bits_per_byte(student, target, held_out)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3, weight_decay=0.0)
    for step in range(steps):
        batch = [train[int(i)] for i in torch.randint(len(train), (texts_per_step,))]
        spans = zip(source(batch, add_end=False), target(batch, add_end=False), strict=True)
        parts = [
            alm((teacher, source.byte_vocab, one), (student, target.byte_vocab, other))
            for one, other in spans
        ]
        loss = sum(total for total, _ in parts) / max(1, sum(count for _, count in parts))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 5 == 0 or step == steps - 1:
            print(f"step {step:3d}: {loss.item():.3f} a chunk")
    ends = bits_per_byte(teacher, source, held_out), bits_per_byte(student, target, held_out)
    print(f"bits per byte: teacher {ends[0]:.2f}, student before {before:.2f}, after {ends[1]:.2f}")
    return ends[0], before, ends[1]


if __name__ == "__main__":
    main()
