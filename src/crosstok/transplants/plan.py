"""Which source rows each row of the target's embedding matrix is made from. No tensors here."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from crosstok.choices import Method
from crosstok.tokenizers import ByteVocab, TextEncoder
from crosstok.transplants.heuristics import source_pieces

READ_ROLES = ("bos", "start_header", "end_header", "system", "user", "assistant", "tool", "pad")
WRITE_ROLES = ("document_end", "eos", "end_of_turn")
"""A special that plays several roles (``<|endoftext|>`` starts and ends documents) is read in the
first of these and predicted in the first of those: input and output rows may differ."""


class RowSource(StrEnum):
    """Where a target row comes from."""

    COPIED = "copied"  # the same bytes, or the same special, in the source vocabulary
    MAPPED = "mapped"  # a special that plays the same role
    COMPOSED = "composed"  # mean of its pieces
    FALLBACK = "fallback"  # mean of all source rows


@dataclass(frozen=True)
class TransplantPlan:
    """For each target id the source ids whose mean makes its row; an empty tuple: all of them."""

    input_rows: tuple[tuple[int, ...], ...]
    output_rows: tuple[tuple[int, ...], ...]
    sources: tuple[RowSource, ...]

    def count(self, source: RowSource) -> int:
        """Number of target rows of this kind."""
        return self.sources.count(source)


def plan_rows(source: TextEncoder, target: TextEncoder, method: Method = "fvt") -> TransplantPlan:
    """Decide for every target id how its rows are made.

    In this order: the same bytes are copied; a special takes the row of the same special or of the
    one with its role; other tokens are composed from pieces (``fvt``) or take the mean.
    """
    vocab, old = target.byte_vocab, source.byte_vocab
    if vocab.same_as(old):
        rows = tuple((id_,) for id_ in range(len(vocab.token_bytes)))
        return TransplantPlan(rows, rows, (RowSource.COPIED,) * len(rows))

    input_rows: list[tuple[int, ...]] = [()] * len(vocab.token_bytes)
    sources = [RowSource.FALLBACK] * len(vocab.token_bytes)
    missing: list[int] = []
    for id_, token in enumerate(vocab.token_bytes):
        if token is None:
            continue
        same = old.ids_of(token)
        if same:
            twin = min(vocab.ids_of(token).index(id_), len(same) - 1)
            input_rows[id_], sources[id_] = (same[twin],), RowSource.COPIED
        else:
            missing.append(id_)
    if method == "fvt":
        tokens = [vocab.token_bytes[id_] or b"" for id_ in missing]
        for id_, pieces in zip(missing, source_pieces(tokens, source), strict=True):
            if pieces:
                input_rows[id_], sources[id_] = pieces, RowSource.COMPOSED

    output_rows = list(input_rows)
    for id_ in sorted(vocab.special_ids):
        read = _special_twin(id_, source, target, READ_ROLES + WRITE_ROLES)
        write = _special_twin(id_, source, target, WRITE_ROLES + READ_ROLES)
        if read is not None and write is not None:
            input_rows[id_], output_rows[id_] = (read[0],), (write[0],)
            sources[id_] = read[1]
    return TransplantPlan(tuple(input_rows), tuple(output_rows), tuple(sources))


def _special_twin(
    id_: int, source: TextEncoder, target: TextEncoder, roles: Sequence[str]
) -> tuple[int, RowSource] | None:
    """The source special that plays the first of these roles that the target special plays."""
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
    """Ids that play a role, counting the places of a document as roles."""
    places = {"bos": vocab.document_start, "document_end": vocab.document_end}
    place = places.get(role)
    return vocab.roles.get(role, () if place is None else (place,))


def _nearest_ids(vocab: ByteVocab, role: str) -> tuple[int, ...]:
    """Ids of a role, or what comes nearest to it where the vocabulary has none."""
    own = _own_ids(vocab, role)
    if not own and role in ("end_of_turn", "pad") and vocab.document_end is not None:
        return (vocab.document_end,)
    return own
