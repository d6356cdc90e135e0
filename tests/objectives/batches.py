"""Batches and scores made up for tests of objectives; pairs of models: crosstok.objectives."""

from dataclasses import dataclass

import torch

from crosstok.models import Scores
from crosstok.objectives import AlignedBatch, ModelView
from crosstok.objectives.example_pairs import Pair, aligned_batch, as_leaf
from crosstok.ops import OutputHead
from crosstok.tokenizers import ByteVocab


def batch_of(
    student_chunk_ids: list[list[int]],
    teacher_chunk_ids: list[list[int]],
    num_chunks: int,
    special: tuple[int, ...] = (),
) -> AlignedBatch:
    """A batch in which every chunk that is named exists; token 0 of each row is unpredicted."""
    student, teacher = torch.tensor(student_chunk_ids), torch.tensor(teacher_chunk_ids)
    mask = torch.stack([(student == c).any(1) for c in range(num_chunks)], 1)
    is_special = torch.zeros(len(student), num_chunks, dtype=torch.bool)
    is_special[:, list(special)] = True
    zeros = torch.zeros(len(student), dtype=torch.long)
    return AlignedBatch(
        student_ids=torch.zeros_like(student),
        student_attention_mask=torch.ones_like(student),
        student_loss_mask=_all_but_first(student),
        student_chunk_ids=student,
        teacher_ids=torch.zeros_like(teacher),
        teacher_attention_mask=torch.ones_like(teacher),
        teacher_loss_mask=_all_but_first(teacher),
        teacher_chunk_ids=teacher,
        chunk_mask=mask,
        chunk_is_special=is_special,
        num_bytes=zeros,
        covered_bytes=zeros,
        rows=zeros,
    )


def _all_but_first(like: torch.Tensor) -> torch.Tensor:
    mask = torch.ones_like(like, dtype=torch.bool)
    mask[:, 0] = False
    return mask


def random_batch(seed: int, rows: int = 3, length: int = 12) -> AlignedBatch:
    """Random chunkings: ids rise along each row, some tokens are in no chunk."""
    generator = torch.Generator().manual_seed(seed)
    num_chunks = length - 4

    def side() -> list[list[int]]:
        out = []
        for _ in range(rows):
            ids = torch.arange(num_chunks).tolist()
            extra = torch.randint(0, num_chunks, (length - 1 - num_chunks,), generator=generator)
            out.append([-1, *sorted(ids + extra.tolist())])
        return out

    return batch_of(side(), side(), num_chunks, special=(num_chunks - 1,))


def random_scores(seed: int, like: torch.Tensor, *, grad: bool = False) -> Scores:
    """Log-probabilities drawn anew for each seed."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda: -torch.rand(like.shape, generator=generator, dtype=torch.float64) * 3  # noqa: E731
    tokens, boundary = draw(), draw()
    return Scores(tokens.requires_grad_(grad), boundary.requires_grad_(grad))


def spelled_pair(student: "Spelled", teacher: "Spelled") -> Pair:
    """A pair whose next-token probabilities are given: its output matrices are the identity."""
    batch = aligned_batch([student.ids], [teacher.ids], student.vocab, teacher.vocab)
    return Pair(student.view(), teacher.view(), batch, as_leaf(student.logits()), teacher.logits())


@dataclass(frozen=True)
class Spelled:
    """One text under one model; row k of ``probs`` predicts token k + 1, missing rows are even."""

    vocab: ByteVocab
    ids: list[int]
    probs: list[list[float]]

    def logits(self) -> torch.Tensor:
        """[1 T V]."""
        even = [1.0] * len(self.vocab)
        rows = [*self.probs, *[even] * (len(self.ids) - len(self.probs))]
        return torch.tensor([rows], dtype=torch.float64).clamp(min=1e-30).log()

    def view(self) -> ModelView:
        """The model whose hidden states are its logits."""
        eye = torch.eye(len(self.vocab), dtype=torch.float64)
        return ModelView(
            byte_vocab=self.vocab,
            head=OutputHead(eye.clone().requires_grad_()),
            valid_ids=None,
            input_embeddings=torch.nn.Embedding.from_pretrained(eye),
        )
