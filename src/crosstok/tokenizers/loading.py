"""Load a tokenizer, with errors that say what is wrong with it."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any, cast

from huggingface_hub.errors import GatedRepoError
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils.hub import cached_file

from crosstok.loaded import IN_MEMORY, Loaded
from crosstok.local_files import (
    describe_lfs_pointer,
    is_lfs_pointer,
    read_json_object,
    why_not_fetched,
    why_not_there,
)
from crosstok.tokenizers.encoding import encode_alike

logger = logging.getLogger(__name__)

_PROBE = "A  b\n\n Caf\u00e9, don't\tx=1234; \u732b\u306f (\ufb01) the user asked"

_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "vocab.txt",
    "tekken.json",
    "*.tiktoken",
)


def load_tokenizer(name: str, *, trust_remote_code: bool = False) -> PreTrainedTokenizerFast:
    """Load a fast tokenizer by hub name or folder; a slow one is converted if possible.

    Args:
        name: name on the Hugging Face hub, a folder with tokenizer files (such as a model's
            folder), or a ``tokenizer.json`` file; or a `Loaded` tokenizer, which is copied.
        trust_remote_code: run code that comes with the tokenizer; off by default.

    Raises:
        ValueError: there is no tokenizer under this name, its files cannot be read, or it is a slow
            tokenizer that cannot be made fast.
    """
    if isinstance(name, Loaded):
        return _of_caller(name, trust_remote_code=trust_remote_code)
    path = Path(name).expanduser()
    name = str(path) if path.exists() else name
    try:
        if path.is_file():
            _check_file(name, path)
            return cast(
                PreTrainedTokenizerFast,
                cast(Any, PreTrainedTokenizerFast)(tokenizer_file=str(path)),
            )
        _check_folder(name, path)
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
    except _Explained as error:
        raise ValueError(str(error)) from None
    except (
        Exception
    ) as error:  # every file format has its own errors; all of them mean faulty files
        raise ValueError(_explain(name, path, error)) from error
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"tokenizer {name!r} is a slow tokenizer ({type(tokenizer).__name__}), which gives "
            "neither bytes nor spans, and transformers cannot convert it to a fast one; use a "
            "tokenizer that has a tokenizer.json (the hub often has a converted one)."
        )
    specials = len(tokenizer.all_special_ids)
    if len(tokenizer) <= specials:
        raise ValueError(
            f"tokenizer {name!r} has an empty vocabulary ({len(tokenizer)} tokens, all special): "
            f"its vocabulary file is missing; the folder needs one of {', '.join(_FILES)}."
        )
    return _as_written(name, cast(PreTrainedTokenizerFast, tokenizer))


def _of_caller(given: Loaded, *, trust_remote_code: bool) -> PreTrainedTokenizerFast:
    """A copy of a tokenizer that a caller passed; that of a model alone is loaded by its name.

    Raises:
        ValueError: it is of another kind, or a model has no name.
    """
    tokenizer = given.tokenizer
    if tokenizer is None and given == IN_MEMORY:
        raise ValueError(
            f"the tokenizer of the {type(given.model).__name__} is not known, since it has no "
            "name_or_path; give (model, tokenizer)."
        )
    if tokenizer is None:
        try:
            return load_tokenizer(str(given), trust_remote_code=trust_remote_code)
        except ValueError as error:
            raise ValueError(f"{error} Or give (model, tokenizer).") from error
    if isinstance(tokenizer, Tokenizer):
        return _wrapped(Tokenizer.from_str(tokenizer.to_str()))
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"{type(tokenizer).__name__} is not a fast tokenizer of transformers; load it with "
            "AutoTokenizer, or give a tokenizer of the package tokenizers."
        )
    return cast(PreTrainedTokenizerFast, copy.deepcopy(tokenizer))


def _wrapped(backend: Tokenizer) -> PreTrainedTokenizerFast:
    return cast(Any, PreTrainedTokenizerFast)(tokenizer_object=backend)  # type: ignore[no-any-return]


def _as_written(name: str, loaded: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """Return the tokenizer of the model's tokenizer.json, even if transformers builds another.

    For models of some families ``AutoTokenizer`` ignores that file and rebuilds the family's own
    tokenizer, with other ids than the model was trained on.
    """
    file = cached_file(
        name,
        "tokenizer.json",
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if file is None:
        return loaded
    written = Tokenizer.from_file(str(file))
    if encode_alike(written, loaded.backend_tokenizer, _PROBE):
        return loaded
    logger.warning(
        "%s: transformers loads it as %s, which gives other ids than its tokenizer.json; crosstok "
        "uses the file",
        name,
        type(loaded).__name__,
    )
    return cast(PreTrainedTokenizerFast, PreTrainedTokenizerFast.from_pretrained(name))


class _Explained(Exception):
    """An error whose message already gives the next step."""


def _check_folder(name: str, path: Path) -> None:
    if why := why_not_there(name):
        raise _Explained(f"no tokenizer {name!r}: {why}")
    if path.is_dir():
        _check_damage(path)
    elif why := why_not_fetched(name):
        raise _Explained(f"no tokenizer {name!r}: {why}")
    if path.is_dir() and not any(found for glob in _FILES for found in path.glob(glob)):
        # Tokenizers with their own code, or without a vocabulary, have only a config of their own.
        if (path / "tokenizer_config.json").is_file():
            return
        there = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"
        raise _Explained(
            f"folder {name!r} holds no tokenizer (it holds: {there}); it needs one of "
            f"{', '.join(_FILES)}; save one there with tokenizer.save_pretrained({name!r}), or "
            "name the folder that has it."
        )


def _check_file(name: str, path: Path) -> None:
    if path.suffix == ".gguf":
        raise _Explained(
            f"{name!r} is a GGUF file, for llama.cpp. Name the model that it was converted from."
        )
    if path.suffix == ".json":
        _check_is_json(path)


def _check_damage(folder: Path) -> None:
    """Name the file of a folder that is damaged, of those that a tokenizer is read from."""
    for file in (
        folder / "config.json",
        folder / "tokenizer.json",
        folder / "tokenizer_config.json",
    ):
        if file.is_file():
            _check_is_json(file)
    for glob in _FILES:
        for file in folder.glob(glob):
            if is_lfs_pointer(file):
                raise _Explained(describe_lfs_pointer(file))


def _check_is_json(file: Path) -> None:
    try:
        read_json_object(file)
    except ValueError as error:
        raise _Explained(str(error)) from error


def _is_gated(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, GatedRepoError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _explain(name: str, path: Path, error: Exception) -> str:
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if path.is_file():
        return (
            f"file {name!r} is not a tokenizer.json that the tokenizers library can read "
            f"({reason}); give a folder saved by tokenizer.save_pretrained, or a hub name."
        )
    if _is_gated(error):
        return (
            f"tokenizer {name!r} is gated on the Hugging Face hub. Accept its conditions at "
            f"https://huggingface.co/{name}, then log in with `hf auth login`."
        )
    if not path.is_dir():
        return (
            f"no tokenizer {name!r}: there is no such folder, and none could be fetched from the "
            f"hub ({reason}); check the name, log in for a gated one, or give a folder."
        )
    if (path / "tokenizer.json").is_file():
        return (
            f"the tokenizer in {name!r} cannot be loaded ({reason}); its tokenizer.json may be "
            "truncated, or from a newer version of tokenizers: fetch it again, or upgrade "
            "tokenizers."
        )
    if trust := next((word for word in ("trust_remote_code",) if word in str(error)), None):
        return (
            f"tokenizer {name!r} comes with its own code ({reason}); read that code, and pass "
            f"{trust}=True to run it."
        )
    return (
        f"tokenizer {name!r} has no tokenizer.json and cannot be converted here ({reason}); "
        "install what the conversion needs (pip install sentencepiece tiktoken protobuf) and try "
        "again, or use a folder with a tokenizer.json."
    )
