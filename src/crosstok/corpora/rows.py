"""Rows that a caller has in memory."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import datasets

from crosstok.loaded import Loaded

Rows: TypeAlias = datasets.Dataset | datasets.IterableDataset | list[Any]


def rows_in_memory(given: Loaded, split: str) -> Rows:
    """Return the rows of a data set that a caller passed; other iterables are read into a list.

    Args:
        given: a data set of ``datasets``, one with splits, or rows.
        split: which of several splits.

    Raises:
        ValueError: there is no such split, or it does not hold rows.
    """
    rows = given.data
    if isinstance(rows, datasets.DatasetDict | datasets.IterableDatasetDict):
        if split not in rows:
            raise ValueError(
                f"the data has no split {split!r}; its splits are: {', '.join(map(str, rows))}. "
                "Choose one of them as split, or give data[SPLIT]."
            )
        chosen: Rows = rows[split]
        return chosen
    if isinstance(rows, datasets.Dataset | datasets.IterableDataset | list):
        return rows
    if hasattr(rows, "to_records"):
        raise ValueError(
            f"the data is a {type(rows).__name__} of pandas; give "
            "datasets.Dataset.from_pandas(frame)."
        )
    if isinstance(rows, Iterable) and not isinstance(rows, str | bytes | Mapping):
        return list(rows)
    raise ValueError(
        f"the data is a {type(rows).__name__}; it must be a name, a Dataset or IterableDataset of "
        "the package datasets, or a list of rows."
    )
