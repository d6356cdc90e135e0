"""Labels and formats of all numbers in tables, for the terminal and for pages.

Computes nothing but shares of sums.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = tuple[str, ...]


@dataclass(frozen=True)
class Figures:
    """A table of text, without escapes.

    Attributes:
        title: title above the table.
        rows: rows; an empty one separates two groups. Without a header the first cell is a label.
        header: names of the columns, or empty.
        numeric: indices of columns of numbers, which are aligned right.
    """

    title: str
    rows: Sequence[Row]
    header: Row = ()
    numeric: frozenset[int] = frozenset()


def pair_figures(numbers: Mapping[str, Any], source: str, target: str) -> Figures:
    """Make the table of a pair from ``PairReport.as_json``."""
    return Figures(f"{source}  →  {target}", list(_pair_rows(numbers)))


def _pair_rows(numbers: Mapping[str, Any]) -> Iterator[Row]:
    yield "bytes", f"{numbers['bytes']:,}"
    for side in ("source", "target"):
        tokens = numbers[f"{side}_tokens"]
        each = numbers["bytes"] / max(1, tokens)
        yield f"{side} tokens", f"{tokens:,}  ({each:.2f} bytes each)"
    yield "chunks", f"{numbers['chunks']:,}"
    yield "one-to-one", f"{numbers['one_to_one_share']:.1%} of chunks"
    yield "coverage", f"{numbers['coverage']:.4%} of bytes lie in a chunk"
    yield "comparable", f"{numbers['comparable']:.4%} of bytes are spelled as written"
    yield "overlapping tokens", f"{numbers['overlapping_tokens']:,}"
    by_file = numbers["coverage_by_file"]
    if len(by_file) > 1:
        lowest = min(by_file, key=by_file.__getitem__)
        yield "lowest coverage", f"{by_file[lowest]:.4%} in {lowest}"


OUTCOMES: dict[str, tuple[str, str]] = {
    "method": ("method", "{}"),
    "copied": ("rows copied", "{:,}"),
    "mapped": ("rows mapped", "{:,}"),
    "composed": ("rows composed", "{:,}"),
    "fallback": ("rows set to the mean", "{:,}"),
    "source_rows": ("rows before", "{:,}"),
    "target_rows": ("rows after", "{:,}"),
    "tied": ("input and output tied", "{}"),
    "steps": ("steps", "{:,.0f}"),
    "best_step": ("steps of the saved model", "{:,.0f}, the best on held-out data"),
    "diverged_since_step": ("diverged", "since step {:,.0f}"),
    "seconds": ("training time", "{:,.1f} s"),
    "loss": ("loss", "{:.4g}"),
    "bits_per_byte": ("bits per byte", "{:.4f}"),
    "coverage": ("coverage", "{:.3%} of bytes lie in a chunk"),
    "cut_share": ("cut off", "{:.2%} of bytes, beyond the windows"),
    "student_tokens_per_chunk": ("student", "{:.2f} tokens per chunk"),
    "teacher_tokens_per_chunk": ("teacher", "{:.2f} tokens per chunk"),
    "teacher_cache_hits": ("stored teacher", "{:.1%} of rows found"),
    "tokens_per_second": ("speed", "{:,.0f} tokens per second"),
    "bytes_per_second": ("speed in bytes", "{:,.0f} bytes per second"),
    "peak_memory_gib": ("peak memory", "{:.2f} GiB"),
    "grad_norm": ("gradient norm", "{:.4g}"),
}
"""Label and format string of each metric, in the order of the table; others come last."""

Labels = Mapping[str, tuple[str, str]]
"""Label and format string of the objectives' own metrics, by name."""

NO_LABELS: Labels = {}


def outcome_figures(
    counts: Mapping[str, Any], metrics: Mapping[str, float], labels: Labels = NO_LABELS
) -> list[Figures]:
    """Make the tables of a run: where the embedding rows came from, if any, and final metrics.

    Args:
        counts: ``TransplantReport.as_dict()``; its ``labels`` are the labels of the counts. Counts
            without a label are called by their names.
        metrics: value by name.
        labels: labels and format strings of the objectives' metrics.
    """
    rows = {name: f"rows {label}" for name, label in counts.get("labels", {}).items()}
    counts = {name: value for name, value in counts.items() if name != "labels"}
    held_out = {name: value for name, value in metrics.items() if is_held_out(name)}
    means = {name: value for name, value in metrics.items() if name not in held_out}
    parts = [
        ("embedding rows", counts),
        ("training, mean of the last tenth", means),
        (
            f"held-out data, {'at the best step' if 'best_step' in metrics else 'at the end'}",
            held_out,
        ),
    ]
    return [
        Figures(title, list(_outcomes(values, labels, rows))) for title, values in parts if values
    ]


def _outcomes(values: Mapping[str, Any], labels: Labels, rows: Mapping[str, str]) -> Iterator[Row]:
    for name in in_order(values, labels):
        label, form = label_and_form(name, labels)
        label, value = rows.get(name, label), values[name]
        if isinstance(value, bool):
            shown = "yes" if value else "no"
        else:
            shown = form.format(value) if isinstance(value, int | float) else str(value)
        yield label, shown


def label_and_form(name: str, labels: Labels = NO_LABELS) -> tuple[str, str]:
    """Return the label of a metric, with the teacher after ``@``, and its format string."""
    plain, _, teacher = name.partition("@")
    form = _held_out_form(name) if is_held_out(name) else "{:.4g}"
    label, form = {**labels, **OUTCOMES}.get(plain, (plain_label(plain), form))
    return label + (f", {teacher}" if teacher else ""), form


def in_order(names: Mapping[str, Any], labels: Labels = NO_LABELS) -> list[str]:
    """Sort metrics as in the table: the objectives' own after the loss, unknown ones last."""
    first = list(OUTCOMES).index("loss") + 1
    known = [*list(OUTCOMES)[:first], *labels, *list(OUTCOMES)[first:]]
    place = {name: i for i, name in enumerate(known)}

    def key(name: str) -> int:
        known = "bits_per_byte" if is_held_out(name) else name.partition("@")[0]
        return place.get(known, len(place))

    return sorted(names, key=key)


START, REFERENCES = "_start", ("_start", "_original", "_teacher")
"""Ends of the names of figures that later ones are compared with; they are logged once."""

_BITS, _ACCURACY, _RECOVERED = "_bits_per_byte", "_accuracy", "_recovered"


def is_held_out(name: str) -> bool:
    """Whether a metric is of held-out data, such as ``eval_wiki_bits_per_byte``."""
    return name.startswith("eval_")


def is_reference(name: str) -> bool:
    """Whether it is logged once, for later figures to be compared with."""
    return is_held_out(name) and name.endswith(REFERENCES)


def is_bits_per_byte(name: str) -> bool:
    """Whether it is bits per byte on held-out data, of the student in training."""
    return is_held_out(name) and name.endswith(_BITS)


def recovered_of(name: str) -> str:
    """The name of the share recovered, for a name of bits per byte."""
    return name.removesuffix(_BITS) + _RECOVERED


def _held_out_form(name: str) -> str:
    if name.endswith(_RECOVERED):
        return "{:.1%} of the gap in bits per byte between start and original"
    return "{:.1%}" if _ACCURACY in name else OUTCOMES["bits_per_byte"][1]


def plain_label(name: str) -> str:
    """Write the name of a metric in words: ``loss of strict`` for ``loss_strict``."""
    if is_held_out(name):
        return _held_out_label(name.removeprefix("eval_"))
    kind, _, objective = name.partition("_")
    if kind in ("loss", "weight") and objective:
        return f"{kind} of {objective.replace('_', ' ')}"
    return name.replace("_", " ")


def _held_out_label(name: str) -> str:
    whose = next((end for end in REFERENCES if name.endswith(end)), "")
    plain = name.removesuffix(whose)
    for end, what in ((_BITS, "bits per byte"), (_ACCURACY, "accuracy"), (_RECOVERED, "recovered")):
        if plain.endswith(end):
            model = {"": "", START: ", at the start"}.get(whose, f", {whose[1:]}")
            return f"{what} on {plain.removesuffix(end)}{model}"
    return name
