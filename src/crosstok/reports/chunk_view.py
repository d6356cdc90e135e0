"""Contents of a picture of chunks: spelled tokens and likelihood gaps, as plain values."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from crosstok.alignment import Alignment
from crosstok.reports.cells import Cell, cells, spell_tokens
from crosstok.tokenizers import ByteVocab, Spans

_SHOWN = 100  # cells of one text
_LEAD = 8  # cells before the first measured one: the end of a prompt


@dataclass(frozen=True)
class ChunkCell:
    """One column of the picture.

    Attributes:
        source: its tokens on the source side, spelled in visible characters.
        target: the same on the target side.
        kind: "chunk": both sides have the same bytes; "special": both have this special token;
            "uncovered": neighbouring tokens in no chunk.
        gaps: for every measure, log p_source(chunk) - log p_target(chunk) in nats; None if not
            compared.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    kind: Literal["chunk", "special", "uncovered"]
    gaps: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class ChunkView:
    """A text, or the displayed part of it.

    Attributes:
        label: where the text is from.
        source: name of the upper side, such as "teacher".
        target: name of the lower side.
        measures: names of the gaps of a cell, such as ("before", "after").
        mean_gaps: mean absolute gap over all compared chunks of the text, for every measure.
        num_compared: number of these chunks.
        cells: the displayed cells.
        num_before: number of cells before them.
        num_after: number of cells after them.
    """

    label: str
    source: str
    target: str
    measures: tuple[str, ...]
    mean_gaps: tuple[float, ...]
    num_compared: int
    cells: tuple[ChunkCell, ...]
    num_before: int
    num_after: int


def chunk_view(
    label: str,
    spans: tuple[Spans, Spans],
    alignment: Alignment,
    vocabs: tuple[ByteVocab, ByteVocab],
    sides: tuple[str, str],
    gaps: Mapping[str, Float[np.ndarray, " C"]] | None = None,
) -> ChunkView:
    """Make a view of the beginning of a text, or from shortly before the first compared chunk.

    Args:
        label: where the text is from.
        spans: its tokens, source and target.
        alignment: alignment of the two.
        vocabs: vocabularies of the two.
        sides: names of the two.
        gaps: by measure: log p_source - log p_target in nats for every chunk, NaN where it was not
            compared; may be shorter than the number of chunks.
    """
    gaps = gaps or {}
    found = _join_uncovered(cells(*spans, alignment))
    compared = [values[np.isfinite(values)] for values in gaps.values()]
    measured = [i for i, cell in enumerate(found) if _is_measured(_gaps(cell, gaps))]
    first = max(0, measured[0] - _LEAD) if measured else 0
    shown = found[first : first + _SHOWN]
    return ChunkView(
        label=label,
        source=sides[0],
        target=sides[1],
        measures=tuple(gaps),
        mean_gaps=tuple(float(np.abs(v).mean()) if len(v) else 0.0 for v in compared),
        num_compared=len(compared[-1]) if compared else 0,
        cells=tuple(
            ChunkCell(
                source=tuple(spell_tokens(spans[0], cell.source, vocabs[0])),
                target=tuple(spell_tokens(spans[1], cell.target, vocabs[1])),
                kind=_kind(cell, alignment),
                gaps=_gaps(cell, gaps),
            )
            for cell in shown
        ),
        num_before=first,
        num_after=len(found) - first - len(shown),
    )


def _join_uncovered(found: Iterable[Cell]) -> list[Cell]:
    """Join neighbouring tokens in no chunk, so that the tokens of both sides share a cell."""
    joined: list[Cell] = []
    for cell in found:
        if joined and not cell.is_chunk and not joined[-1].is_chunk:
            last = joined.pop()
            cell = Cell(last.source + cell.source, last.target + cell.target, -1)
        joined.append(cell)
    return joined


def _is_measured(gaps: tuple[float | None, ...]) -> bool:
    return any(gap is not None for gap in gaps)


def _kind(cell: Cell, alignment: Alignment) -> Literal["chunk", "special", "uncovered"]:
    if not cell.is_chunk:
        return "uncovered"
    return "special" if alignment.chunk_is_special[cell.chunk] else "chunk"


def _gaps(cell: Cell, gaps: Mapping[str, Float[np.ndarray, " C"]]) -> tuple[float | None, ...]:
    """Gaps of a cell, rounded to a thousandth of a nat."""
    return tuple(
        round(float(values[cell.chunk]), 3)
        if 0 <= cell.chunk < len(values) and np.isfinite(values[cell.chunk])
        else None
        for values in gaps.values()
    )
