"""`load_mixture`: several sources as one corpus, in fixed proportions and a fixed order."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import datasets
import numpy as np

from crosstok.choices import TextUnit
from crosstok.corpora.examples import Examples, load_examples
from crosstok.corpora.in_memory import as_examples
from crosstok.corpora.load import Skipped
from crosstok.corpora.rows import rows_in_memory
from crosstok.loaded import Loaded

log = logging.getLogger(__name__)


def load_mixture(
    sources: Sequence[str],
    weights: Sequence[float] | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    text_field: str = "text",
    text_unit: TextUnit = "line",
    split: str = "train",
    streaming: bool = False,
    may_lack_columns: bool = False,
) -> Examples:
    """Load one or several sources of texts or chats as one corpus.

    The rows of several sources are interleaved evenly, always in the same order, so that every part
    of the corpus holds the sources in the same proportions. A stream takes a row of each source in
    turn, until all are at their end.

    Args:
        sources: see `load_examples`; or `Loaded` data.
        weights: how often the rows of each source come in one pass over the corpus; 1 by default.
            Of a source with weight 2 every row comes twice, with weight 0.5 every second row. A
            source of n rows and weight w gives ``max(1, round(n * w))`` rows.
        columns: see `load_examples`. With several sources, one that has none of these columns is
            read by its own names, and that is logged.
        text_field: see `load_corpus`.
        text_unit: see `load_corpus`.
        split: see `load_corpus`.
        streaming: see `load_corpus`; weights are then not possible, as no length is known.
        may_lack_columns: see `load_examples`; always so with several sources.

    Raises:
        ValueError: see `load_examples`; or there are both texts and chats, or weights that do not
            fit the sources, or are given for a stream.
    """
    _check_weights(sources, weights, streaming=streaming)
    may_lack = len(sources) > 1 or may_lack_columns
    parts = []
    for source in sources:
        if isinstance(source, Loaded):
            rows = rows_in_memory(source, split)
            part = as_examples(
                rows, columns=columns, text_field=text_field, may_lack_columns=may_lack
            )
            parts.append(_read_as_asked(part, streaming=streaming))
            continue
        part = load_examples(
            source,
            columns=columns,
            text_field=text_field,
            text_unit=text_unit,
            split=split,
            streaming=streaming,
            may_lack_columns=may_lack,
        )
        parts.append(part)
    return mix(sources, parts, weights)


def _read_as_asked(part: Examples, *, streaming: bool) -> Examples:
    """Data in memory as a stream where everything is streamed; a stream is not read otherwise."""
    if streaming:
        return replace(part, dataset=_as_stream(part.dataset))
    if isinstance(part.dataset, datasets.IterableDataset):
        raise ValueError(
            "the data is an IterableDataset, which is read while training. Add streaming, or give "
            "a Dataset."
        )
    return part


def _check_weights(
    sources: Sequence[str], weights: Sequence[float] | None, *, streaming: bool
) -> None:
    if weights is None:
        return
    if streaming:
        raise ValueError(
            "data_weight is given, and the data is streamed, so that the number of its rows is not "
            "known. Leave data_weight or streaming out."
        )
    if len(weights) != len(sources) or not all(0 < weight < float("inf") for weight in weights):
        raise ValueError(
            f"data_weight is {list(weights)}; there must be one for each of the {len(sources)} "
            "sources of data, in their order, above 0. Leave a source out to give it no weight."
        )


def mix(
    sources: Sequence[str], parts: Sequence[Examples], weights: Sequence[float] | None = None
) -> Examples:
    """Make one corpus of several, as `load_mixture` does.

    Raises:
        ValueError: some are texts and others chats.
    """
    if len(parts) == 1 and weights is None:
        return parts[0]
    _check_same_kind(sources, parts)
    name = "+".join(part.name for part in parts)
    skipped = Skipped(name, sum(part.num_skipped for part in parts))
    tables: list[Any] = [part.dataset for part in parts]
    if any(isinstance(table, datasets.IterableDataset) for table in tables):
        streams = [_as_stream(table) for table in tables]
        joined = datasets.interleave_datasets(
            streams, stopping_strategy="all_exhausted_without_replacement"
        )
        return Examples(name, joined, skipped, parts[0].kind)
    given = [1.0] * len(parts) if weights is None else weights
    rows, counts = _interleaved(tables, given)
    said = [
        f"{count:,} rows of {source}"
        + (f" ({len(table):,} with weight {weight:g})" * (weight != 1))
        for source, table, weight, count in zip(sources, tables, given, counts, strict=True)
    ]
    log.info("data: %s; %s in one pass", ", ".join(said), f"{len(rows):,}")
    return Examples(name, rows, skipped, parts[0].kind)


def _as_stream(table: Any) -> datasets.IterableDataset:
    return table if isinstance(table, datasets.IterableDataset) else table.to_iterable_dataset()


def _check_same_kind(sources: Sequence[str], parts: Sequence[Examples]) -> None:
    by_kind: dict[str, list[str]] = {}
    for source, part in zip(sources, parts, strict=True):
        by_kind.setdefault(part.kind, []).append(source)
    if len(by_kind) > 1:
        raise ValueError(
            f"the data holds texts ({', '.join(by_kind['text'])}) and chats "
            f"({', '.join(by_kind['chat'])}), which cannot be mixed in one run. Name data of one "
            "kind, or give texts the form of chats."
        )


def _interleaved(
    tables: Sequence[datasets.Dataset], weights: Sequence[float]
) -> tuple[datasets.Dataset, list[int]]:
    """The rows of all tables, each table's spread evenly over the whole, and how many of each."""
    indices, places, counts = [], [], []
    start = 0
    for table, weight in zip(tables, weights, strict=True):
        count = max(1, round(len(table) * weight))
        number = np.arange(count)
        indices.append(start + number * len(table) // count)
        places.append((number + 0.5) / count)
        counts.append(count)
        start += len(table)
    order = np.argsort(np.concatenate(places), kind="stable")
    joined = datasets.concatenate_datasets(list(tables))
    return joined.select(np.concatenate(indices)[order]), counts
