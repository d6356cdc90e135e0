"""A teacher that scores every row once: scores are stored on disk, and read from there afterwards.

ALM needs two numbers for every token of the teacher. They depend on the token ids alone, so a row
of ids that was scored before needs no teacher: the model is loaded for the first row that is not
stored, and not at all if every row is.

The folder of a teacher contains

    teacher.json         the fingerprint of the teacher that the scores are from
    files_seen.json      digests of its weight files, with their sizes and modification times
    KEY-*.scores|.index  the scores (crosstok.teachers.score_store); KEY is from the fingerprint

Scores are computed and stored in float32, so storing them is exact (scores of a teacher in float64
are rounded to 1 part in 2^24). Rows are scored in the batch in which they are first needed; in
another batch the scores of the model itself would differ in the last digits.
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
_SHOWN = 60  # characters of a row in errors


class CachedTeacher(Teacher):
    """A teacher's stored scores, and the teacher itself for rows that are not stored.

    Args:
        store: the stored scores.
        byte_vocab: vocabulary of its tokenizer.
        name: its name in errors and metrics.
        load: loads the teacher itself; called for the first row that is not stored.

    Attributes:
        rows: number of rows scored.
        hits: number of these rows that were stored.
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
            computed = self._compute(input_ids, attention_mask, rows, missing)
            for i, scores in zip(missing, computed, strict=True):
                found[i] = scores
            new = {digests[i]: scores for i, scores in zip(missing, computed, strict=True)}
            # NaN is a fault (an overflow in half precision), and is not stored.
            self.store.add({d: s for d, s in new.items() if not np.isnan(s).any()})
        stacked = np.zeros((*input_ids.shape, 2), np.float32)
        for i, row in enumerate(found):
            assert row is not None
            stacked[i, : len(row)] = row
        both = torch.from_numpy(stacked).to(input_ids.device)
        return Scores(both[..., 0], both[..., 1] if needs.boundary_mass else None)

    def metrics(self) -> dict[str, tuple[float, float]]:
        """Share of the rows of this run that were stored."""
        return {"teacher_cache_hits": (float(self.hits), float(self.rows))}

    def _compute(
        self,
        input_ids: Int[Tensor, "B T"],
        attention_mask: Int[Tensor, "B T"],
        rows: Sequence[np.ndarray],
        missing: Sequence[int],
    ) -> list[Float[np.ndarray, "T 2"]]:
        """Score the missing rows by the teacher itself."""
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
                    f"teacher {self.name!r} cannot score the row of {len(row)} tokens that begins "
                    f"{self._spelled(row)!r}: it is not among the {len(self.store):,} rows stored "
                    f"in {self.store.folder}, and the model does not load ({error}) Run the same "
                    "data with teacher_cache where the model is, and copy the folder."
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
    """Open a teacher whose scores are stored in a folder of its own.

    The model need not be available: then the folder must hold scores with the same vocabulary.

    Args:
        folder: folder of the scores; created if it does not exist.
        model: hub name or folder of the teacher.
        byte_vocab: vocabulary of its tokenizer.
        identify: computes its fingerprint, with a file in which digests of large files are stored.
        load: loads the teacher itself.

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
        log.info("teacher %s is not available: only its stored scores are used", name)
    return CachedTeacher(ScoreStore(folder, stored.key), byte_vocab, name, load)


def _read_fingerprint(file: Path) -> Fingerprint:
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
        if about["format"] == _FORMAT:
            return Fingerprint(**{f.name: about[f.name] for f in fields(Fingerprint)})
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} does not say which teacher the scores beside it are from ({error!r}). Give "
            f"another teacher_cache, or remove {file.parent}: the rows are then scored again."
        ) from error
    raise ValueError(
        f"{file} is of format {about['format']}, and this crosstok reads format {_FORMAT}. Give "
        "another teacher_cache, or use the crosstok that wrote it."
    )


def _check_same(name: str, own: Fingerprint, stored: Fingerprint, folder: Path) -> None:
    """Compare the fingerprints; without the model, only the vocabularies."""
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
    is_digest = len(value) == 64 and " " not in value  # SHA-256 in hexadecimal
    return value[:12] if is_digest else value


def _without_padding(input_ids: Tensor, attention_mask: Tensor) -> list[np.ndarray]:
    ids = input_ids.cpu().numpy()
    lengths = attention_mask.sum(dim=1).tolist()
    return [row[:length] for row, length in zip(ids, lengths, strict=True)]


def _digest(ids: np.ndarray) -> bytes:
    return hashlib.blake2b(ids.astype("<i8").tobytes(), digest_size=16).digest()
