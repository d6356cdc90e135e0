"""Fingerprints of teachers: scores may be mixed only where the whole fingerprint is equal."""

import contextlib
import hashlib
import json
import logging
import os
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from transformers.utils.hub import cached_file, extract_commit_hash

from crosstok.models import load_config
from crosstok.tokenizers import ByteVocab

log = logging.getLogger("crosstok")

_WEIGHTS = ("*.safetensors*", "pytorch_model*", "adapter_*")
_CONFIGURATION = ("config.json", "*.py")
_READ_AT_ONCE = 1 << 22
_WORTH_A_WORD = 1 << 30  # bytes of weights


@dataclass(frozen=True)
class Fingerprint:
    """What identifies a teacher.

    Attributes:
        weights: digest of the weight files, or the commit on the hub; None if not available.
        configuration: the same for the configuration and the Python code beside it.
        vocabulary: digest of the bytes of every id and of the special ids; these determine the
            boundary set.
        arithmetic: dtype that the teacher computes in, in words.
    """

    weights: str | None
    configuration: str | None
    vocabulary: str
    arithmetic: str

    @property
    def key(self) -> str:
        """First twelve characters of a digest of the fingerprint."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:12]


def fingerprint(
    name: str,
    byte_vocab: ByteVocab,
    arithmetic: str,
    notes: Path,
    *,
    trust_remote_code: bool = False,
) -> Fingerprint:
    """Compute the fingerprint of a teacher, without loading it.

    The weight files of a folder are read in full once; afterwards, a file of the same size and
    modification time counts as unchanged. Models on the hub are identified by their commit.

    Args:
        name: folder, or repository on the hub.
        byte_vocab: vocabulary of its tokenizer.
        arithmetic: dtype that it computes in, in words.
        notes: file that stores the digests of weight files.
        trust_remote_code: whether its Python code may be executed.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        weights, configuration = _of_folder(folder, notes)
    else:
        weights = configuration = _of_hub(name, trust_remote_code=trust_remote_code)
    return Fingerprint(weights, configuration, _of_vocabulary(byte_vocab), arithmetic)


def replace_file(file: Path, content: str) -> None:
    """Write a small file atomically: it is complete or unchanged."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{uuid.uuid4().hex}")
    partial.write_text(content, encoding="utf-8")
    os.replace(partial, file)


def _of_folder(folder: Path, notes: Path) -> tuple[str | None, str | None]:
    files = _matching(folder, _WEIGHTS)
    if not files or not (folder / "config.json").is_file():
        return None, None
    known = _Notes(notes)
    weights = _joined((file.name, known.digest(file)) for file in files)
    known.save()
    code = _matching(folder, _CONFIGURATION)
    return weights, _joined((file.name, _digest(file)) for file in code)


def _of_hub(name: str, *, trust_remote_code: bool) -> str | None:
    try:
        load_config(name, trust_remote_code=trust_remote_code)
        file = cached_file(name, "config.json")
    except (ValueError, OSError):
        return None
    commit = extract_commit_hash(file, None)  # configurations no longer hold it
    return f"{name} at {commit}" if commit else None


def _of_vocabulary(byte_vocab: ByteVocab) -> str:
    tokens = (repr(token) for token in byte_vocab.token_bytes)
    specials = (str(id_) for id_ in sorted(byte_vocab.special_ids))
    return _joined([("tokens", "\n".join(tokens)), ("specials", " ".join(specials))])


class _Notes:
    """Stored digests of large files, with sizes and times that show whether a file has changed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[str, list[int | str]] = {}
        self._is_changed = False
        with contextlib.suppress(OSError, ValueError):  # then every file is read again
            self._known = json.loads(file.read_text(encoding="utf-8"))

    def digest(self, file: Path) -> str:
        status = file.stat()
        path = str(file.resolve())
        noted = self._known.get(path)
        if noted is not None and noted[:2] == [status.st_size, status.st_mtime_ns]:
            return str(noted[2])
        if status.st_size > _WORTH_A_WORD:
            log.info("reading %s once, to compute its digest", file)
        digest = _digest(file)
        self._known[path] = [status.st_size, status.st_mtime_ns, digest]
        self._is_changed = True
        return digest

    def save(self) -> None:
        if not self._is_changed:
            return
        with contextlib.suppress(OSError):  # a read-only folder
            replace_file(self._file, json.dumps(self._known, indent=2) + "\n")


def _matching(folder: Path, patterns: Iterable[str]) -> list[Path]:
    found = {file for pattern in patterns for file in folder.glob(pattern) if file.is_file()}
    return sorted(found)


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(_READ_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()


def _joined(named: Iterable[tuple[str, str]]) -> str:
    lines = "".join(f"{name} {value}\n" for name, value in named)
    return hashlib.sha256(lines.encode()).hexdigest()
