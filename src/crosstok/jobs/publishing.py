"""Uploading what a job has saved to the Hugging Face hub."""

import logging
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id

from crosstok.recipes import PublishedRecipe, RecipeError

log = logging.getLogger("crosstok")


class UploadError(RuntimeError):
    """The model is saved, and could not be uploaded."""


def check_hub(recipe: PublishedRecipe) -> None:
    """Refuse an upload that cannot come about, before any work is done and without the network.

    Raises:
        RecipeError: the name is not one of the hub, there is no token, or the hub is switched off.
    """
    name = recipe.push_to_hub
    if name is None:
        return
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise RecipeError(
            f"push_to_hub is {name!r}, which cannot be the name of a repository: {error} "
            "Give USER/NAME."
        ) from error
    if constants.is_offline_mode():
        raise RecipeError(
            "push_to_hub is given, and HF_HUB_OFFLINE is set. Unset it, or leave push_to_hub out."
        )
    if get_token() is None:
        raise RecipeError(
            f"push_to_hub is {name!r}, and there is no token for the hub. Log in by "
            "`hf auth login`, set HF_TOKEN, or leave push_to_hub out."
        )


def publish(recipe: PublishedRecipe, folder: Path, names: Sequence[str]) -> None:
    """Upload files of an output folder to the repository that the recipe names, if it names one.

    Args:
        recipe: of the job.
        folder: complete.
        names: entries of the folder to upload: model, tokenizer and card.

    Raises:
        UploadError: it failed; gives the command that does it. The folder stands.
    """
    name = recipe.push_to_hub
    if name is None:
        return
    api = HfApi()
    try:
        repository = api.create_repo(name, private=recipe.hub_private or None, exist_ok=True)
        patterns = [pattern for entry in names for pattern in _patterns(folder, entry)]
        api.upload_folder(
            repo_id=repository.repo_id,
            folder_path=folder,
            allow_patterns=patterns,
            commit_message="Upload by crosstok",
        )
    except Exception as error:  # whatever it is, the model is saved
        raise UploadError(
            f"the model is saved in {folder}, but could not be uploaded to {name} "
            f"({_first_line(error)}). Repeat the upload: {_command(recipe, folder, names)}"
        ) from error
    log.info("uploaded to %s/%s", api.endpoint, repository.repo_id)


def _patterns(folder: Path, entry: str) -> list[str]:
    return [f"{entry}/*"] if (folder / entry).is_dir() else [entry]


def _command(recipe: PublishedRecipe, folder: Path, names: Sequence[str]) -> str:
    included = [
        part for entry in names for p in _patterns(folder, entry) for part in ("--include", p)
    ]
    private = ["--private"] if recipe.hub_private else []
    where = os.fspath(folder)
    return shlex.join(["hf", "upload", str(recipe.push_to_hub), where, ".", *included, *private])


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
