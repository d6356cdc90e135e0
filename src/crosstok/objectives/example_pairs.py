"""Small artificial pairs of models with batches of texts, for checking laws and for tests.

Texts of three letters in two vocabularies that overlap in part, under random embeddings and random
hidden states, in double precision: no tokenizer, no transformer, no file.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from crosstok.models import Scores
from crosstok.models.forward import scores_from_hidden
from crosstok.objectives.base import AlignedBatch, BoundObjective, LossSum, ModelView, Objective
from crosstok.ops import OutputHead
from crosstok.tokenizers import ByteVocab


def vocab_of(*tokens: bytes) -> ByteVocab:
    """Make a vocabulary of bos, eos and these tokens, in this order."""
    return ByteVocab(
        token_bytes=(None, None, *tokens),
        special_ids=frozenset({0, 1}),
        roles={"bos": (0,), "eos": (1,)},
        special_tokens={0: "<s>", 1: "</s>"},
    )


STUDENT_VOCAB = vocab_of(b"a", b"b", b" ", b"ab", b" a", b"b ", b" ab")
TEACHER_VOCAB = vocab_of(b" ", b"b", b"ba", b"a", b" a", b"aa", b"b b", b"ab", b"bb", b" b")
NUM_PADDING_ROWS = 2  # rows of the teacher's output matrix that are not tokens


def view_of(vocab: ByteVocab, width: int, seed: int, padding_rows: int = 0) -> ModelView:
    """Make a model with random embeddings in double precision, all of which take gradients."""
    generator = torch.Generator().manual_seed(seed)
    size = len(vocab) + padding_rows

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return ModelView(
        byte_vocab=vocab,
        head=OutputHead(draw(size, width).requires_grad_()),
        valid_ids=torch.arange(size) < len(vocab) if padding_rows else None,
        input_embeddings=torch.nn.Embedding(size, width, _weight=draw(size, width)),
    )


@dataclass(frozen=True)
class Pair:
    """Student and teacher, a batch of texts, and the hidden states of both on it."""

    student: ModelView
    teacher: ModelView
    batch: AlignedBatch
    student_hidden: Float[Tensor, "B Ts D"]  # takes a gradient
    teacher_hidden: Float[Tensor, "B Tt E"]

    def bind(self, objective: Objective) -> BoundObjective:
        """Bind an objective to these models; what it draws at random is the same every time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return objective.bind(self.student, self.teacher)

    def student_scores(self) -> Scores:
        """Scores of the batch by the student; gradients reach its hidden states and head."""
        return _scores(
            self.student,
            self.student_hidden,
            self.batch.student_ids,
            self.batch.student_attention_mask,
        )

    def teacher_scores(self) -> Scores:
        """Scores of the batch by the teacher."""
        with torch.no_grad():
            return _scores(
                self.teacher,
                self.teacher_hidden,
                self.batch.teacher_ids,
                self.batch.teacher_attention_mask,
            )

    def loss(self, bound: BoundObjective) -> LossSum:
        """Value of a bound objective."""
        return bound(self.batch, self.student_scores(), self.teacher_scores())

    def gradients(self, bound: BoundObjective) -> list[Tensor]:
        """Gradients of the total in the student's hidden states and output matrix (zeros: none)."""
        inputs = [self.student_hidden, self.student.head.weight]
        total = self.loss(bound).total
        if not total.requires_grad:
            return [torch.zeros_like(tensor) for tensor in inputs]
        found = torch.autograd.grad(total, inputs, allow_unused=True)
        return [
            torch.zeros_like(tensor) if grad is None else grad
            for tensor, grad in zip(inputs, found, strict=True)
        ]

    def of_rows(self, rows: slice | list[int]) -> "Pair":
        """The same pair with some texts of the batch."""
        return replace(
            self,
            batch=rows_of(self.batch, rows),
            student_hidden=as_leaf(self.student_hidden[rows]),
            teacher_hidden=self.teacher_hidden[rows],
        )

    def padded(self, by: int) -> "Pair":
        """The same pair with columns of padding, where the hidden states are arbitrary."""
        batch = {}
        for name, value in vars(self.batch).items():
            fill = -1 if name.endswith("chunk_ids") else 0
            batch[name] = pad(value, (0, by), value=fill) if value.ndim == 2 else value
        return replace(
            self,
            batch=AlignedBatch(**batch),
            student_hidden=as_leaf(pad(self.student_hidden, (0, 0, 0, by), value=7.0)),
            teacher_hidden=pad(self.teacher_hidden, (0, 0, 0, by), value=-7.0),
        )

    def scaled(self, student: float, teacher: float) -> "Pair":
        """The same pair with scaled hidden states, and so scaled logits."""
        return replace(
            self,
            student_hidden=as_leaf(self.student_hidden * student),
            teacher_hidden=self.teacher_hidden * teacher,
        )

    def in_single_precision(self) -> "Pair":
        """The same pair with every floating-point tensor in fp32."""
        return replace(
            self,
            student=_in_single_precision(self.student),
            teacher=_in_single_precision(self.teacher),
            student_hidden=as_leaf(self.student_hidden.float()),
            teacher_hidden=self.teacher_hidden.float(),
        )


def random_pair(seed: int, rows: int = 3, num_bytes: int = 20) -> Pair:
    """Make random texts in two partly overlapping vocabularies, under two random models."""
    generator = torch.Generator().manual_seed(seed)
    texts = _random_texts(generator, rows, num_bytes)
    student, teacher = (
        view_of(STUDENT_VOCAB, 6, seed + 1),
        view_of(TEACHER_VOCAB, 8, seed + 2, NUM_PADDING_ROWS),
    )
    sides = [
        [tokenize(text, vocab, generator) for text in texts]
        for vocab in (STUDENT_VOCAB, TEACHER_VOCAB)
    ]
    batch = aligned_batch(sides[0], sides[1], STUDENT_VOCAB, TEACHER_VOCAB)
    student_hidden, teacher_hidden = (
        torch.randn(*ids.shape, width, generator=generator).double()
        for ids, width in ((batch.student_ids, 6), (batch.teacher_ids, 8))
    )
    return Pair(student, teacher, batch, as_leaf(student_hidden), teacher_hidden)


def same_pair(seed: int, rows: int = 3, num_bytes: int = 20) -> Pair:
    """Make a student that is its own teacher: same tokens, output matrix and hidden states."""
    pair = random_pair(seed, rows, num_bytes)
    generator = torch.Generator().manual_seed(seed)
    sides = [
        tokenize(text, STUDENT_VOCAB, generator)
        for text in _random_texts(generator, rows, num_bytes)
    ]
    batch = aligned_batch(sides, sides, STUDENT_VOCAB, STUDENT_VOCAB)
    hidden = torch.randn(*batch.student_ids.shape, 6, generator=generator).double()
    twin = replace(pair.student, head=OutputHead(pair.student.head.weight.detach().clone()))
    return Pair(pair.student, twin, batch, as_leaf(hidden), hidden.clone())


def rows_of(batch: AlignedBatch, rows: slice | list[int]) -> AlignedBatch:
    """Select some rows of a batch."""
    return AlignedBatch(**{f.name: getattr(batch, f.name)[rows] for f in fields(AlignedBatch)})


def tokenize(text: bytes, vocab: ByteVocab, generator: torch.Generator) -> list[int]:
    """Tokenize as bos, tokens drawn at random among those that fit, and eos."""
    ids, place = [0], 0
    while place < len(text):
        fitting = [
            index
            for index, token in enumerate(vocab.token_bytes)
            if token is not None and text.startswith(token, place)
        ]
        ids.append(fitting[int(torch.randint(len(fitting), (1,), generator=generator))])
        place += len(vocab.token_bytes[ids[-1]] or b"")
    return [*ids, 1]


def aligned_batch(
    student: Sequence[list[int]],
    teacher: Sequence[list[int]],
    student_vocab: ByteVocab,
    teacher_vocab: ByteVocab,
) -> AlignedBatch:
    """Pad and align tokenized texts; chunks end where tokens of both sides do."""
    ends = [
        [_byte_ends(ids, vocab) for ids in side]
        for side, vocab in ((student, student_vocab), (teacher, teacher_vocab))
    ]
    common = [sorted({*one[1:]} & {*other[1:]}) for one, other in zip(*ends, strict=True)]
    chunk_ids = [
        [
            [-1, *(sum(cut < end for cut in cuts) for end in row[1:])]
            for row, cuts in zip(side, common, strict=True)
        ]
        for side in ends
    ]
    num_chunks = torch.tensor([len(cuts) for cuts in common])
    index = torch.arange(int(num_chunks.max()))
    tensors = {}
    for name, ids, chunks in (
        ("student", student, chunk_ids[0]),
        ("teacher", teacher, chunk_ids[1]),
    ):
        lengths = torch.tensor([len(row) for row in ids])
        inside = torch.arange(int(lengths.max())) < lengths[:, None]
        tensors[f"{name}_ids"] = _rectangle(ids, 0)
        tensors[f"{name}_attention_mask"] = inside.long()
        tensors[f"{name}_loss_mask"] = inside & (torch.arange(inside.shape[1]) > 0)
        tensors[f"{name}_chunk_ids"] = _rectangle(chunks, -1)
    num_bytes = torch.tensor([row[-2] if len(row) > 2 else 0 for row in ends[0]])
    return AlignedBatch(
        **tensors,
        chunk_mask=index < num_chunks[:, None],
        chunk_is_special=index == num_chunks[:, None] - 1,
        num_bytes=num_bytes,
        covered_bytes=num_bytes,
        rows=torch.arange(len(student)),
    )


def _byte_ends(ids: list[int], vocab: ByteVocab) -> list[int]:
    """End of each token in the text, in bytes; eos ends one byte after it."""
    lengths = [len(vocab.token_bytes[index] or b"") for index in ids]
    ends = torch.tensor(lengths).cumsum(0).tolist()
    return [*ends[:-1], ends[-1] + 1]


def _rectangle(rows: Sequence[list[int]], fill: int) -> Int[Tensor, "B T"]:
    width = max(map(len, rows))
    return torch.tensor([row + [fill] * (width - len(row)) for row in rows])


def _random_texts(generator: torch.Generator, rows: int, num_bytes: int) -> list[bytes]:
    lengths = torch.randint(num_bytes // 2, num_bytes + 1, (rows,), generator=generator)
    return [
        bytes(b"ab "[i] for i in torch.randint(3, (int(length),), generator=generator))
        for length in lengths
    ]


def _scores(view: ModelView, hidden: Tensor, ids: Tensor, attention_mask: Tensor) -> Scores:
    boundary = torch.from_numpy(view.byte_vocab.boundary_mask(view.head.weight.shape[0]))
    scores = scores_from_hidden(
        hidden, view.head, ids, attention_mask, boundary, valid_ids=view.valid_ids
    )
    return replace(scores, hidden=hidden)


def as_leaf(tensor: Tensor) -> Tensor:
    """Copy a tensor as a leaf that takes a gradient."""
    return tensor.detach().clone().requires_grad_()


def _in_single_precision(view: ModelView) -> ModelView:
    return replace(
        view,
        head=view.head.of(as_leaf(view.head.weight.float())),
        input_embeddings=copy.deepcopy(view.input_embeddings).float(),
    )
