"""Name the fields of chat data that are not read, with the number of rows that have them."""

import json
import logging
from collections import Counter

import datasets

from crosstok.chats.rows import HARMLESS

log = logging.getLogger(__name__)


def name_unread(source: str, table: datasets.Dataset) -> None:
    """Log the fields in the column ``unread`` of a data set."""
    counts: Counter[str] = Counter()
    for found, number in Counter(table["unread"]).items():
        for name in json.loads(found):
            counts[name] += number
    _log(source, counts, "")


def naming_unread(source: str, rows: datasets.IterableDataset) -> datasets.IterableDataset:
    """Return the same stream, which logs fields that are not read when a row first has them."""
    return rows.filter(_NameUnread(source), input_columns="unread")


class _NameUnread:
    """Keeps every row of a stream, and logs the fields that no row before it had."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._named: set[str] = set()

    def __call__(self, unread: str) -> bool:
        new = set(json.loads(unread)) - self._named
        if new:
            self._named |= new
            _log(self._source, Counter(sorted(new)), " so far")
        return True


def _log(source: str, counts: Counter[str], so_far: str) -> None:
    def listed(names: list[str]) -> str:
        return ", ".join(f"{name!r} ({counts[name]:,} rows{so_far})" for name in names)

    loud = [name for name in counts if name.lower() not in HARMLESS]
    quiet = [name for name in counts if name.lower() in HARMLESS]
    if loud:
        log.warning(
            "%s: fields that are not read, so nothing of them is learned: %s. Rename or remove "
            "them; docs/guides/distil.md lists what is read", source, listed(loud),
        )  # fmt: skip
    if quiet:
        log.info("%s: fields that only describe rows are not read: %s", source, listed(quiet))
