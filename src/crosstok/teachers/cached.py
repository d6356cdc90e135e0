"""A teacher that is asked once: what it said is kept on disk, and read from there ever after.

ALM needs two numbers of every token of the teacher. They depend on the token ids alone, so a row of
ids that was scored before needs no teacher: it is loaded when the first row is missing, and never
where nothing is.

A folder of one teacher holds

    teacher.json         the fingerprint: whose scores these are
    files_seen.json      digests of its weights' files, with their sizes and times of change
    KEY-*.scores|.index  the scores, see crosstok.teachers.score_store; KEY is of the fingerprint

Scores are kept in float32, in which they are computed: reading them rounds nothing (those of a
teacher in float64 are rounded to 1 part in 2^24). Rows are scored in the batch they are asked in;
in another batch the model itself would give numbers that differ in the last digits.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from crosstok.models import Scores
from crosstok.objectives import Needs
from crosstok.teachers.base import Teacher
from crosstok.teachers.fingerprint import Fingerprint, replace_file
from crosstok.teachers.local import short_name
from crosstok.teachers.score_store import ScoreStore
from crosstok.tokenizers import ByteVocab

log = logging.getLogger("crosstok")

_TEACHER, _FILES_SEEN = "teacher.json", "files_seen.json"
_FORMAT = 1
_SHOWN = 60  # characters of a row, in errors


class CachedTeacher(Teacher):
    """A teacher's stored scores, and the teacher behind them.

    Args:
        store: what it said before.
        byte_vocab: of its tokenizer.
        name: what errors and metrics call it.
        load: the teacher itself; called when the first row is missing.

    Attributes:
        rows: how many it was asked for.
        hits: how many of them were stored.
    """

    supports = Needs(teacher=True, boundary_mass=True)
    advice = (
        "A stored teacher holds likelihoods only: leave out teacher_cache, so that the model "
        "itself runs beside the student, or choose an objective that needs no more (alm)."
    )

    def __init__(
        self, store: ScoreStore, byte_vocab: ByteVocab, name: str, load: Callable[[], Teacher]
    ) -> None:
        self.store, self.name = store, name
        self.rows = self.hits = 0
        self._byte_vocab = byte_vocab
        self._load = load
        self._teacher: Teacher | None = None

    def scores(
        self, input_ids: Int[Tensor, "B T"], attention_mask: Int[Tensor, "B T"], needs: Needs
    ) -> Scores:
        """See :class:`Teacher`; likelihoods only."""
        rows = _without_padding(input_ids, attention_mask)
        digests = [_digest(row) for row in rows]
        found = [self.store.get(digest) for digest in digests]
        missing = [i for i, scores in enumerate(found) if scores is None]
        self.rows += len(rows)
        self.hits += len(rows) - len(missing)
        if missing:
            asked = self._ask(input_ids, attention_mask, rows, missing)
            for i, scores in zip(missing, asked, strict=True):
                found[i] = scores
            told = {digests[i]: scores for i, scores in zip(missing, asked, strict=True)}
            # NaN is an accident (an overflow in half precision), not something to keep.
            self.store.add({d: s for d, s in told.items() if not np.isnan(s).any()})
        stacked = np.zeros((*input_ids.shape, 2), np.float32)
        for i, row in enumerate(found):
            assert row is not None
            stacked[i, : len(row)] = row
        both = torch.from_numpy(stacked).to(input_ids.device)
        return Scores(both[..., 0], both[..., 1] if needs.boundary_mass else None)

    def metrics(self) -> dict[str, tuple[float, float]]:
        """Of the rows that it was asked for in this run, the share that was stored."""
        return {"teacher_cache_hits": (float(self.hits), float(self.rows))}

    def _ask(
        self,
        input_ids: Int[Tensor, "B T"],
        attention_mask: Int[Tensor, "B T"],
        rows: Sequence[np.ndarray],
        missing: Sequence[int],
    ) -> list[Float[np.ndarray, "T 2"]]:
        """What the teacher itself says of the missing rows."""
        teacher = self._teacher_for(rows[missing[0]])
        if len(missing) < len(rows):
            chosen = torch.tensor(missing, device=input_ids.device)
            input_ids, attention_mask = input_ids[chosen], attention_mask[chosen]
        scores = teacher.scores(input_ids, attention_mask, self.supports)
        assert scores.boundary_logprobs is not None
        both = torch.stack([scores.token_logprobs, scores.boundary_logprobs], -1).float().cpu()
        return [both[at, : len(rows[i])].numpy() for at, i in enumerate(missing)]

    def _teacher_for(self, row: np.ndarray) -> Teacher:
        if self._teacher is None:
            try:
                self._teacher = self._load()
            except ValueError as error:
                raise ValueError(
                    f"teacher {self.name!r} cannot be asked for the row of {len(row)} tokens that "
                    f"begins {self._spelled(row)!r}: it is not among the {len(self.store):,} that "
                    f"{self.store.folder} holds, and the model does not load ({error}) Run the "
                    "same data with teacher_cache where the model is, and copy the folder."
                ) from error
        return self._teacher

    def _spelled(self, row: np.ndarray) -> str:
        tokens = (self._byte_vocab.token_bytes[id_] or b"" for id_ in row[:_SHOWN].tolist())
        return b"".join(tokens).decode("utf-8", "replace")[:_SHOWN]


def cached_teacher(
    folder: Path,
    model: str,
    byte_vocab: ByteVocab,
    identify: Callable[[Path], Fingerprint],
    load: Callable[[], Teacher],
) -> CachedTeacher:
    """A teacher with a folder of its own for what it says.

    The model need not be there: then the folder must hold scores made with the same vocabulary.

    Args:
        folder: made if it is not there.
        model: the teacher's name on the hub, or its folder.
        byte_vocab: of its tokenizer.
        identify: its fingerprint, given a file where digests of large files may be kept.
        load: the teacher itself.

    Raises:
        ValueError: the folder holds scores of another teacher, or there are neither scores nor
            model.
    """
    own = identify(folder / _FILES_SEEN)
    name = short_name(model)
    file = folder / _TEACHER
    if not file.is_file():
        if own.weights is None:
            raise ValueError(
                f"teacher {model!r} is neither stored in {folder} nor a model that can be loaded "
                "here. Give the folder that a run with teacher_cache filled, or the model."
            )
        about = {"format": _FORMAT, "name": name, **asdict(own)}
        replace_file(file, json.dumps(about, indent=2) + "\n")
    stored = _read_fingerprint(file)
    _check_same(name, own, stored, folder)
    if own.weights is None:
        log.info("teacher %s is not here: its stored scores alone are read", name)
    return CachedTeacher(ScoreStore(folder, stored.key), byte_vocab, name, load)


def _read_fingerprint(file: Path) -> Fingerprint:
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
        if about["format"] == _FORMAT:
            return Fingerprint(**{f.name: about[f.name] for f in fields(Fingerprint)})
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} does not say whose scores lie beside it ({error!r}). Give another "
            f"teacher_cache, or remove {file.parent}: the teacher is asked again."
        ) from error
    raise ValueError(
        f"{file} is of format {about['format']}, and this crosstok reads format {_FORMAT}. Give "
        "another teacher_cache, or use the crosstok that wrote it."
    )


def _check_same(name: str, own: Fingerprint, stored: Fingerprint, folder: Path) -> None:
    """Without the model there is its vocabulary alone to compare."""
    compared = ["vocabulary"] if own.weights is None else [f.name for f in fields(Fingerprint)]
    other = [n for n in compared if getattr(own, n) != getattr(stored, n)]
    if not other:
        return
    differences = ", ".join(
        f"{n} {_short(getattr(own, n))} instead of {_short(getattr(stored, n))}" for n in other
    )
    precision = " Or choose the precision that they were made with." * (other == ["arithmetic"])
    raise ValueError(
        f"{folder} holds scores of another teacher than {name!r}, which has {differences}. Scores "
        f"of two teachers are never mixed: give another teacher_cache, or remove {folder} (the "
        f"scores in it are lost).{precision}"
    )


def _short(value: str) -> str:
    is_digest = len(value) == 64 and " " not in value  # of SHA-256, in hexadecimal
    return value[:12] if is_digest else value


def _without_padding(input_ids: Tensor, attention_mask: Tensor) -> list[np.ndarray]:
    ids = input_ids.cpu().numpy()
    lengths = attention_mask.sum(dim=1).tolist()
    return [row[:length] for row, length in zip(ids, lengths, strict=True)]


def _digest(ids: np.ndarray) -> bytes:
    return hashlib.blake2b(ids.astype("<i8").tobytes(), digest_size=16).digest()
