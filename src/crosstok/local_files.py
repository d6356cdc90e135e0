"""Files and folders that people name: those that are not there, and those that are damaged."""

import difflib
import json
import re
import socket
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from huggingface_hub import constants

_LFS = b"version https://git-lfs.github.com/spec/"
_HUB_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?")


def why_not_there(name: str) -> str | None:
    """Say why a name can only be that of a folder or file that is missing.

    Names that the hub cannot have are decided here, and so are those below a folder that exists,
    unless the hub's cache holds a model of that name.

    Args:
        name: as the user gave it.

    Returns:
        A sentence with the nearest name that exists; None where something is there, or the name may
        be one on the hub.
    """
    path = Path(name).expanduser()
    if path.exists() or not _is_local(name, path):
        return None
    parent = path.parent
    while not parent.is_dir():
        path, parent = parent, parent.parent
    entries = sorted(entry.name for entry in parent.iterdir())
    near = difflib.get_close_matches(path.name, entries, n=1)
    missing = f"there is no file or folder {name!r}"
    if near:
        return f"{missing}; {str(parent)!r} has {near[0]!r}. Correct the path."
    return f"{missing}; {str(parent)!r} has no {path.name!r}. Correct the path."


def _is_local(name: str, path: Path) -> bool:
    if name.startswith(("~", "/", ".")) or not _HUB_NAME.fullmatch(name):
        return True
    if "/" not in name or not path.parent.is_dir():
        return False
    return not _is_in_cache(name, "config.json")


def _is_in_cache(name: str, file: str) -> bool:
    from huggingface_hub import (
        try_to_load_from_cache,
    )  # takes longer to import than a typo is worth

    return isinstance(try_to_load_from_cache(name, file), str)


def why_not_fetched(name: str) -> str | None:
    """Say why a name on the hub cannot be fetched now, without the minute of retries that it costs.

    Args:
        name: of a repository that is not a folder here.

    Returns:
        A sentence; None where the hub answers, is not asked (offline mode), or need not be, as the
        cache has the repository.
    """
    if constants.HF_HUB_OFFLINE or any(
        _is_in_cache(name, file) for file in ("config.json", "tokenizer.json")
    ):
        return None
    reason = _try_to_connect(constants.ENDPOINT)
    if reason is None:
        return None
    return (
        f"it is not a folder here, and {constants.ENDPOINT} cannot be reached ({reason}). Give the "
        f"path of a folder, or download it while online: `hf download {name}`; without network set "
        "HF_HUB_OFFLINE=1."
    )


@cache
def _try_to_connect(endpoint: str) -> str | None:
    """Why there is no connection, or None; where a proxy is set nothing is tried."""
    address = urlsplit(endpoint)
    if getproxies() or address.hostname is None:
        return None
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname, port), timeout=2.5).close()
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
    return None


def is_lfs_pointer(file: Path) -> bool:
    """Whether git-lfs left a file of three lines here instead of the file itself."""
    with file.open("rb") as opened:
        return opened.read(len(_LFS)) == _LFS


def describe_lfs_pointer(file: Path) -> str:
    """The sentence about such a file."""
    return (
        f"{str(file)!r} is a pointer of git-lfs, not the file itself. Fetch it with `git lfs pull` "
        "in its folder, or download the model with `hf download`."
    )


def read_json_object(file: Path) -> dict[str, Any]:
    """Read a file that must hold a JSON object.

    Raises:
        ValueError: it is a pointer of git-lfs, or does not hold one; names the file and the place.
    """
    if is_lfs_pointer(file):
        raise ValueError(describe_lfs_pointer(file))
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{str(file)!r} is not JSON ({str(error).splitlines()[0]}): the file is damaged or cut "
            "short. Fetch it again."
        ) from error
    if not isinstance(found, dict):
        raise ValueError(
            f"{str(file)!r} must hold a JSON object, and it holds a {type(found).__name__}. "
            "Fetch it again."
        )
    return found
