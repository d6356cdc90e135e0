"""Look at the files of a model before it is loaded: missing, cut short, or something else."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from crosstok.loaded import Loaded
from crosstok.local_files import (
    describe_lfs_pointer,
    is_lfs_pointer,
    read_json_object,
    why_not_there,
)
from crosstok.models.in_memory import check_in_memory

_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_CHECKED = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def check_model_exists(name: str) -> None:
    """Check that a folder holds a model whose files are whole, without loading anything.

    A name that is not a folder passes if the hub may have it.

    Args:
        name: folder, or repository on the Hugging Face hub.

    Raises:
        ValueError: there is a folder of that name without a model in it, one of its files is
            damaged, or the name is a path at which there is nothing.
    """
    if isinstance(name, Loaded):
        check_in_memory(name)
        return
    if why := why_not_there(name):
        raise ValueError(f"no model {name!r}: {why}")
    path = Path(name).expanduser()
    if path.is_file():
        raise ValueError(_not_a_folder(name, path))
    if not path.is_dir():
        return
    if not (path / "config.json").is_file():
        raise ValueError(_without_config(name, path))
    read_json_object(path / "config.json")
    for file in _weight_files(path):
        _check_weight_file(file)


def _not_a_folder(name: str, path: Path) -> str:
    if path.suffix == ".gguf":
        return (
            f"{name!r} is a GGUF file, for llama.cpp; crosstok trains and reads models in the "
            "format of transformers. Name the model that it was converted from."
        )
    return (
        f"{name!r} is a file, and a model is a folder with config.json and weights. Give the "
        "folder written by save_pretrained, or a name on the Hugging Face hub."
    )


def _without_config(name: str, path: Path) -> str:
    if (path / "adapter_config.json").is_file():
        base = read_json_object(path / "adapter_config.json").get("base_model_name_or_path")
        return (
            f"folder {name!r} holds an adapter only, without its base model {base!r}. Merge it "
            "(peft: merge_and_unload, then save_pretrained) and give that folder, or give the base "
            "model."
        )
    hint = ""
    if any(path.glob("*.gguf")):
        hint = " GGUF files are for llama.cpp: name the model that they were converted from."
    return (
        f"folder {name!r} holds no model: there is no config.json in it (it holds "
        f"{_listing(path)}). Give a folder written by save_pretrained, or a name on the "
        f"Hugging Face hub.{hint}"
    )


def _listing(path: Path) -> str:
    names = sorted(entry.name for entry in path.iterdir())
    if not names:
        return "nothing"
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _weight_files(folder: Path) -> list[Path]:
    """The files with weights, of which an index may name several."""
    for index in _INDEXES:
        file = folder / index
        if file.is_file():
            places = read_json_object(file).get("weight_map")
            if not isinstance(places, dict):
                raise ValueError(f"{str(file)!r} has no weight_map: it is damaged. Fetch it again.")
            shards = [folder / str(name) for name in sorted(set(places.values()))]
            missing = [shard.name for shard in shards if not shard.is_file()]
            if missing:
                raise ValueError(
                    f"{len(missing)} of the {len(shards)} files of weights in {str(file)!r} "
                    f"{'is' if len(missing) == 1 else 'are'} missing: {', '.join(missing[:3])}. "
                    "Fetch the model again."
                )
            return shards
    single = (folder / "model.safetensors", folder / "pytorch_model.bin")
    return [file for file in single if file.is_file()][:1]


def _check_weight_file(file: Path) -> None:
    if is_lfs_pointer(file):
        raise ValueError(describe_lfs_pointer(file))
    if file.suffix != ".safetensors":
        return
    try:
        with safe_open(file, "pt"):  # reads the header, not weights
            pass
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{str(file)!r} is damaged or cut short ({error}). Fetch it again."
        ) from error


def check_finite(name: str, model: nn.Module) -> None:
    """Check that no weight is NaN or infinite, of which a model could only give more.

    Raises:
        ValueError: one is; names it.
    """
    for key, weight in model.named_parameters():
        if weight.dtype not in _CHECKED or weight.is_meta or not weight.numel():
            continue
        low, high = torch.aminmax(weight.detach())
        if not (torch.isfinite(low) and torch.isfinite(high)):
            raise ValueError(
                f"model {name!r} cannot be used: its weight {key} holds values that are NaN or "
                "infinite. Fetch it again, or take an earlier checkpoint."
            )
