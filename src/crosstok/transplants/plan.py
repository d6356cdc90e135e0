"""Plan of a transplant: the source rows, with weights, for every row of the target's matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from crosstok.tokenizers import ByteVocab, TextEncoder
from crosstok.transplants.base import (
    MethodInputs,
    MethodRows,
    Resources,
    SourceMatrices,
    SourceRows,
    TransplantMethod,
)
from crosstok.transplants.methods import check_resources, describe_method, find_method

READ_ROLES = ("bos", "start_header", "end_header", "system", "user", "assistant", "tool", "pad")
WRITE_ROLES = ("document_end", "eos", "end_of_turn")
"""A special token with several roles (``<|endoftext|>`` starts and ends documents) takes its input
row from the first role in READ_ROLES and its output row from the first in WRITE_ROLES."""


class RowSource(StrEnum):
    """Where a target row comes from."""

    COPIED = "copied"  # the same bytes, or the same special, in the source vocabulary
    MAPPED = "mapped"  # a special token with the same role
    COMPOSED = "composed"  # made by the method, which has its own word for that
    FALLBACK = "fallback"  # mean of all source rows

    @property
    def label(self) -> str:
        """What was done to such a row, in words."""
        return _LABELS[self]


_LABELS = {
    RowSource.COPIED: "copied",
    RowSource.MAPPED: "mapped by role",
    RowSource.COMPOSED: "composed",
    RowSource.FALLBACK: "set to the mean",
}


@dataclass(frozen=True)
class TransplantPlan:
    """What the rows of every target id are made of, and where they come from.

    Attributes:
        input_rows: source rows of each target id, for the input embeddings.
        output_rows: the same for the output embeddings, where these are a separate matrix.
        sources: where the rows of each target id come from.
    """

    input_rows: tuple[SourceRows, ...]
    output_rows: tuple[SourceRows, ...]
    sources: tuple[RowSource, ...]

    def without_rows_past(self, num_rows: int) -> TransplantPlan:
        """The plan for a matrix of `num_rows`: special ids that it lacks get the mean."""
        if all(i < num_rows for row in (*self.input_rows, *self.output_rows) for i in row.ids):
            return self
        lacks = [
            any(i >= num_rows for i in (*read.ids, *write.ids))
            for read, write in zip(self.input_rows, self.output_rows, strict=True)
        ]
        both = [
            tuple(SourceRows() if lack else row for row, lack in zip(rows, lacks, strict=True))
            for rows in (self.input_rows, self.output_rows)
        ]
        sources = (
            RowSource.FALLBACK if lack else where_from
            for where_from, lack in zip(self.sources, lacks, strict=True)
        )
        return TransplantPlan(both[0], both[1], tuple(sources))

    def count(self, source: RowSource) -> int:
        """Number of target rows of this kind."""
        return self.sources.count(source)


def plan_rows(
    source: TextEncoder,
    target: TextEncoder,
    method: str | TransplantMethod = "fvt",
    *,
    resources: Resources | None = None,
    matrices: SourceMatrices | None = None,
) -> TransplantPlan:
    """Decide for every target id how its rows are made.

    Rows of tokens with equal bytes are copied. A special token takes the row of the same special
    token, or of one with its role. The method decides about the other tokens.

    Args:
        source: encoder of the tokenizer that the model was trained with.
        target: encoder of the tokenizer that the model will have.
        method: for tokens that the source vocabulary lacks: a name or an object.
        resources: what the method needs besides the two tokenizers.
        matrices: the source model's embeddings, for a method that needs them.

    Raises:
        ValueError: the method is unknown, lacks something it needs, or returns invalid rows.
    """
    method = find_method(method)
    resources = resources or Resources()
    check_resources(method, resources)
    vocab, old = target.byte_vocab, source.byte_vocab
    if vocab.same_as(old):
        rows = tuple(SourceRows((id_,)) for id_ in range(len(vocab.token_bytes)))
        return TransplantPlan(rows, rows, (RowSource.COPIED,) * len(rows))

    input_rows = [SourceRows()] * len(vocab.token_bytes)
    sources = [RowSource.FALLBACK] * len(vocab.token_bytes)
    twins = _twins(old, vocab)
    for id_, twin in twins.items():
        input_rows[id_], sources[id_] = SourceRows((twin,)), RowSource.COPIED
    output_rows = list(input_rows)

    missing = {
        id_: token
        for id_, token in enumerate(vocab.token_bytes)
        if token is not None and id_ not in twins
    }
    inputs = MethodInputs(
        ids=tuple(missing),
        tokens=tuple(missing.values()),
        source=source,
        target=target,
        resources=resources,
        matrices=_declared(method, matrices),
    )
    for id_, read, write in zip(missing, *_ask(method, inputs), strict=True):
        input_rows[id_], output_rows[id_] = read, write
        sources[id_] = RowSource.COMPOSED if read.ids or write.ids else RowSource.FALLBACK

    for id_, read, write, where_from in _special_rows(source, target):
        input_rows[id_], output_rows[id_], sources[id_] = read, write, where_from
    return TransplantPlan(tuple(input_rows), tuple(output_rows), tuple(sources))


def _twins(old: ByteVocab, new: ByteVocab) -> dict[int, int]:
    """Target id -> source id with the same bytes; of several, the n-th goes to the n-th."""
    twins: dict[int, int] = {}
    for id_, token in enumerate(new.token_bytes):
        same = () if token is None else old.ids_of(token)
        if token is not None and same:
            twins[id_] = same[min(new.ids_of(token).index(id_), len(same) - 1)]
    return twins


def _declared(method: TransplantMethod, matrices: SourceMatrices | None) -> SourceMatrices | None:
    """Return the matrices if the method declares them."""
    if not method.needs.source_matrix:
        return None
    if matrices is None:
        raise ValueError(
            f"transplant method {describe_method(method)!r} needs the source model's embeddings, "
            "and matrices is None. Pass matrices=SourceMatrices(model, num_ids)."
        )
    return matrices


def _ask(
    method: TransplantMethod, inputs: MethodInputs
) -> tuple[Sequence[SourceRows], Sequence[SourceRows]]:
    """Run the method, and check its input and output rows."""
    name = f"transplant method {describe_method(method)!r}"
    rows = method(inputs)
    if not isinstance(rows, MethodRows):
        raise ValueError(f"{name} returned {type(rows).__name__}; it must return MethodRows.")
    both = rows.input_rows, rows.input_rows if rows.output_rows is None else rows.output_rows
    num_ids = len(inputs.source.byte_vocab.token_bytes)
    for made in both:
        if len(made) != len(inputs.tokens):
            raise ValueError(
                f"{name} returned {len(made)} rows for {len(inputs.tokens)} tokens; it must return "
                "one for each, and SourceRows() for a token that it cannot make."
            )
        for token, row in zip(inputs.tokens, made, strict=True):
            outside = [id_ for id_ in row.ids if not 0 <= id_ < num_ids]
            if outside:
                raise ValueError(
                    f"{name} makes {token!r} of source row {outside[0]}; source ids are 0 to "
                    f"{num_ids - 1}. Use ids of inputs.source."
                )
    return both


def _special_rows(
    source: TextEncoder, target: TextEncoder
) -> Iterator[tuple[int, SourceRows, SourceRows, RowSource]]:
    """Target specials with a source special: id, input row, output row, where they come from."""
    for id_ in sorted(target.byte_vocab.special_ids):
        read = _special_twin(id_, source, target, READ_ROLES + WRITE_ROLES)
        write = _special_twin(id_, source, target, WRITE_ROLES + READ_ROLES)
        if read is not None and write is not None:
            yield id_, SourceRows((read[0],)), SourceRows((write[0],)), read[1]


def _special_twin(
    id_: int, source: TextEncoder, target: TextEncoder, roles: Sequence[str]
) -> tuple[int, RowSource] | None:
    """The source special for the first of these roles that the target special has."""
    old, new = source.byte_vocab, target.byte_vocab
    name = target.tokenizer.convert_ids_to_tokens(id_)
    for role in (*roles, "unk"):
        ours = [token for token in _own_ids(new, role) if token in new.special_ids]
        theirs = [token for token in _nearest_ids(old, role) if token in old.special_ids]
        if id_ in ours and theirs:
            twin = theirs[min(ours.index(id_), len(theirs) - 1)]
            is_same = source.tokenizer.convert_ids_to_tokens(twin) == name
            return twin, RowSource.COPIED if is_same else RowSource.MAPPED
    same = source.tokenizer.convert_tokens_to_ids(name) if name else None
    if not isinstance(same, int) or same not in old.special_ids:
        return None
    is_same = source.tokenizer.convert_ids_to_tokens(same) == name
    return (same, RowSource.COPIED) if is_same else None


def _own_ids(vocab: ByteVocab, role: str) -> tuple[int, ...]:
    """Ids with a role, where start and end of a document count as roles."""
    places = {"bos": vocab.document_start, "document_end": vocab.document_end}
    place = places.get(role)
    return vocab.roles.get(role, () if place is None else (place,))


def _nearest_ids(vocab: ByteVocab, role: str) -> tuple[int, ...]:
    """Ids with a role, or with the nearest role where the vocabulary has none."""
    own = _own_ids(vocab, role)
    if not own and role in ("end_of_turn", "pad") and vocab.document_end is not None:
        return (vocab.document_end,)
    return own
