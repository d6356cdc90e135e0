"""Pictures of what others computed: the chunks of a text, and tables. Computes nothing."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from crosstok.alignment import Alignment
from crosstok.tokenizers import ByteVocab, Spans

_COLOURS = ("cyan", "yellow", "green", "magenta")
_SEPARATOR = "·"
_MARGIN = 8  # columns of "source  "
_BLANKS = str.maketrans({" ": "␣", "\n": "⏎", "\t": "⇥"})


def print_chunks(
    console: Console,
    source: Spans,
    target: Spans,
    alignment: Alignment,
    source_vocab: ByteVocab,
    target_vocab: ByteVocab,
) -> None:
    """Print the text cut by both tokenizers: source above target, a column for each chunk.

    Tokens of a chunk are parted by a middle dot, chunks by a bar; tokens in no chunk are red, and
    marked by ``~`` for those who see no colours. A chunk wider than the console ends in ``…``.
    """
    console.print("Chunks of the text: source above target.", style="dim", highlight=False)
    top, bottom = Text("source".ljust(_MARGIN)), Text("target".ljust(_MARGIN))
    room = max(24, console.width) - _MARGIN
    used = 0
    for number, cell in enumerate(_cells(source, target, alignment)):
        upper = _spell(source, cell.source, source_vocab, cell.is_chunk)
        lower = _spell(target, cell.target, target_vocab, cell.is_chunk)
        columns = min(room - 1, max(cell_len(upper), cell_len(lower)))
        if used + columns + 1 > room and used:
            _print_rows(console, top, bottom)
            top, bottom = Text(" " * _MARGIN), Text(" " * _MARGIN)
            used = 0
        style = _COLOURS[number % len(_COLOURS)] if cell.is_chunk else "red"
        top.append(_fit(upper, columns), style).append("|", "dim")
        bottom.append(_fit(lower, columns), style).append("|", "dim")
        used += columns + 1
    _print_rows(console, top, bottom)


def pair_table(numbers: Mapping[str, Any], source: str, target: str) -> Table:
    """The pair's numbers as ``PairReport.as_json`` gives them."""
    table = Table(title=f"{escape(source)}  →  {escape(target)}", show_header=False)
    table.add_row("bytes", f"{numbers['bytes']:,}")
    for side in ("source", "target"):
        tokens = numbers[f"{side}_tokens"]
        table.add_row(
            f"{side} tokens", f"{tokens:,}  ({numbers['bytes'] / max(1, tokens):.2f} bytes each)"
        )
    table.add_row("chunks", f"{numbers['chunks']:,}")
    table.add_row("one-to-one", f"{numbers['one_to_one_share']:.1%} of chunks")
    table.add_row("coverage", f"{numbers['coverage']:.4%} of bytes lie in a chunk")
    table.add_row("comparable", f"{numbers['comparable']:.4%} of bytes are spelled as written")
    table.add_row("overlapping tokens", f"{numbers['overlapping_tokens']:,}")
    by_file = numbers["coverage_by_file"]
    if len(by_file) > 1:
        lowest = min(by_file, key=by_file.__getitem__)
        table.add_row("lowest coverage", f"{by_file[lowest]:.4%} in {escape(lowest)}")
    return table


_OUTCOMES: dict[str, tuple[str, str]] = {
    "copied": ("rows copied (same bytes)", "{:,}"),
    "mapped": ("rows mapped (same role)", "{:,}"),
    "composed": ("rows composed (from pieces)", "{:,}"),
    "fallback": ("rows set to the mean", "{:,}"),
    "source_rows": ("rows before", "{:,}"),
    "target_rows": ("rows after", "{:,}"),
    "tied": ("input and output tied", "{}"),
    "steps": ("steps", "{:,.0f}"),
    "seconds": ("training time", "{:,.1f} s"),
    "loss": ("loss", "{:.4g}"),
    "loss_alm": ("ALM loss", "{:.4g} nats per chunk"),
    "loss_cross_entropy": ("cross-entropy", "{:.4f} nats per token"),
    "chunk_gap_nats": ("likelihood gap to teacher", "{:.4f} nats per chunk"),
    "bits_per_byte": ("bits per byte", "{:.4f}"),
    "coverage": ("coverage", "{:.3%} of bytes lie in a chunk"),
    "cut_share": ("cut off", "{:.2%} of bytes, beyond the windows"),
    "open_tail": ("open tails", "{:.2%} of chunks"),
    "student_tokens_per_chunk": ("student", "{:.2f} tokens per chunk"),
    "teacher_tokens_per_chunk": ("teacher", "{:.2f} tokens per chunk"),
    "tokens_per_second": ("speed", "{:,.0f} tokens per second"),
    "bytes_per_second": ("", "{:,.0f} bytes per second"),
    "peak_memory_gib": ("peak memory", "{:.2f} GiB"),
    "grad_norm": ("gradient norm", "{:.4g}"),
}
"""Label and form of each figure, in the order of the table; others follow as they are."""


def outcome_table(counts: Mapping[str, Any], metrics: Mapping[str, float]) -> Table:
    """What a run did: where the embedding rows came from (if any), and its metrics at the end."""
    table = Table(show_header=False)
    if counts:
        table.add_row("embedding rows", "", style="bold")
        _add_outcomes(table, counts)
    if metrics:
        table.add_section()
        table.add_row("training, mean of the last tenth", "", style="bold")
        _add_outcomes(table, metrics)
    return table


def _add_outcomes(table: Table, values: Mapping[str, Any]) -> None:
    order = list(_OUTCOMES)
    place = {name: order.index(name) for name in order}
    for name in sorted(values, key=lambda name: place.get(name.partition("@")[0], len(order))):
        plain, _, teacher = name.partition("@")
        label, form = _OUTCOMES.get(plain, (_label(plain), "{:.4g}"))
        label += f", {teacher}" if teacher else ""
        value = values[name]
        if isinstance(value, bool):
            shown = "yes" if value else "no"
        else:
            shown = form.format(value) if isinstance(value, int | float) else str(value)
        table.add_row(escape(label), escape(shown))


def _label(name: str) -> str:
    """``loss_strict`` in words."""
    kind, _, objective = name.partition("_")
    if kind in ("loss", "weight") and objective:
        return f"{kind} of {objective.replace('_', ' ')}"
    return name.replace("_", " ")


@dataclass(frozen=True)
class _Cell:
    """Tokens that are shown one above the other: a chunk, or a token without one."""

    source: list[int]
    target: list[int]
    is_chunk: bool


def _cells(source: Spans, target: Spans, alignment: Alignment) -> list[_Cell]:
    """Cells in the order of the text."""
    ours = _tokens_by_chunk(alignment.source_chunk_ids, alignment.num_chunks)
    theirs = _tokens_by_chunk(alignment.target_chunk_ids, alignment.num_chunks)
    placed = [
        (int(end), _Cell(above, below, is_chunk=True))
        for end, above, below in zip(alignment.chunk_ends, ours[1:], theirs[1:], strict=True)
    ]
    placed += [(int(source.ends[t]), _Cell([t], [], is_chunk=False)) for t in ours[0]]
    placed += [(int(target.ends[t]), _Cell([], [t], is_chunk=False)) for t in theirs[0]]
    return [cell for _, cell in sorted(placed, key=lambda pair: pair[0])]


def _tokens_by_chunk(chunk_ids: Int[np.ndarray, " T"], num_chunks: int) -> list[list[int]]:
    """Tokens in no chunk, then those of each chunk."""
    tokens: list[list[int]] = [[] for _ in range(num_chunks + 1)]
    for token, chunk in enumerate(chunk_ids.tolist()):
        tokens[chunk + 1].append(token)
    return tokens


def _spell(spans: Spans, tokens: list[int], vocab: ByteVocab, is_chunk: bool) -> str:
    roles = dict(spans.specials)
    spelled = _SEPARATOR.join(
        f"<{roles[token]}>" if token in roles else _readable(vocab.token_bytes[spans.ids[token]])
        for token in tokens
    )
    return spelled if is_chunk or not tokens else f"~{spelled}"


def _readable(token: bytes | None) -> str:
    r"""Text with blanks made visible; what is no text or cannot be seen as ``\x..``, ``\u....``."""
    if token is None:
        return "<unk>"
    text = token.decode("utf-8", errors="backslashreplace").translate(_BLANKS)
    return "".join(char if _can_be_seen(char) else _escaped(char) for char in text)


def _can_be_seen(char: str) -> bool:
    return char.isprintable() and not unicodedata.combining(char) and cell_len(char) > 0


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def _fit(text: str, columns: int) -> str:
    if cell_len(text) > columns:
        return set_cell_size(text, columns - 1) + "…"
    return set_cell_size(text, columns)


def _print_rows(console: Console, top: Text, bottom: Text) -> None:
    for row in (top, bottom):
        console.print(row, soft_wrap=True, highlight=False)
    console.print()
