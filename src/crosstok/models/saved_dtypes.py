"""The dtypes in which a checkpoint keeps its weights, so that what is written keeps them too.

Most checkpoints have one dtype. Some keep a few tensors wider: the routing biases of DeepSeek-V3
and the decays of recurrent models are fp32 in bf16 checkpoints.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.modeling_utils import remove_tied_weights_from_state_dict
from transformers.utils.hub import cached_file

_FLOATS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
_ONE_FILE, _INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True)
class SavedDtypes:
    """In which dtypes weights are written.

    Attributes:
        main: of every tensor that is not named in ``others``.
        others: name of a tensor in the files -> its dtype, where that is not ``main``.
    """

    main: torch.dtype
    others: Mapping[str, torch.dtype] = field(default_factory=dict)

    @property
    def widest(self) -> torch.dtype:
        """The dtype that holds all of them exactly."""
        widest = self.main
        for dtype in self.others.values():
            widest = torch.promote_types(widest, dtype)
        return widest


def read_dtypes(name: str) -> SavedDtypes | None:
    """Read the dtypes of a checkpoint's floating-point tensors from the headers of its files.

    Args:
        name: folder, or repository on the Hugging Face hub.

    Returns:
        The dtype of most numbers as ``main``; None where there are no safetensors to read.
    """
    numbers: Counter[torch.dtype] = Counter()
    dtypes: dict[str, torch.dtype] = {}
    for file in _weight_files(name):
        with safe_open(file, "pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 (not a mapping)
                header = tensors.get_slice(key)
                dtype = _FLOATS.get(header.get_dtype())
                if dtype is not None:
                    dtypes[key] = dtype
                    numbers[dtype] += torch.Size(header.get_shape()).numel()
    if not numbers:
        return None
    main = max(numbers, key=lambda dtype: numbers[dtype])
    return SavedDtypes(main, {key: dtype for key, dtype in dtypes.items() if dtype != main})


def dtypes_of(model: PreTrainedModel) -> SavedDtypes:
    """The dtypes of a model that is in memory."""
    others = {
        name: tensor.dtype
        for name, tensor in model.state_dict().items()
        if tensor.is_floating_point() and tensor.dtype != model.dtype
    }
    return SavedDtypes(model.dtype, others)


def holds_any(name: str, weights: Iterable[str]) -> bool:
    """Whether the files of a checkpoint hold a weight of one of these names.

    Args:
        name: folder, or repository on the Hugging Face hub.
        weights: names to look for.

    Returns:
        True, too, where there are no safetensors to read.
    """
    files, sought = _weight_files(name), set(weights)
    for file in files:
        with safe_open(file, "pt") as tensors:
            if sought.intersection(tensors.keys()):
                return True
    return not files


def save_weights(folder: Path, model: PreTrainedModel, dtypes: SavedDtypes | None) -> None:
    """Write a model as safetensors, each tensor in the dtype that it is to have.

    Args:
        folder: as `save_pretrained` takes it.
        model: converted to ``dtypes.main``, in place.
        dtypes: of the tensors; None leaves each as it is.
    """
    state = None
    if dtypes is not None:
        state = _in_dtypes(model, dtypes) if dtypes.others else None
        nn.Module.to(model, dtypes.main)
    if state is None:
        model.save_pretrained(folder)
    else:
        model.save_pretrained(folder, state_dict=state, save_original_format=False)


def _in_dtypes(model: PreTrainedModel, dtypes: SavedDtypes) -> dict[str, Tensor]:
    """The weights under the names of the files, each in its dtype."""
    ignored = set(model._keys_to_ignore_on_save or ())
    state: Any = {key: value for key, value in model.state_dict().items() if key not in ignored}
    state = remove_tied_weights_from_state_dict(state, model)
    state = revert_weight_conversion(model, state)
    return {
        key: value.to(dtypes.others.get(key, dtypes.main)) if value.is_floating_point() else value
        for key, value in state.items()
    }


def _weight_files(name: str) -> list[Path]:
    index = _find(name, _INDEX)
    if index is None:
        found = [_find(name, _ONE_FILE)]
    else:
        shards = json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).values()
        found = [_find(name, shard) for shard in sorted(set(shards))]
    return [file for file in found if file is not None]


def _find(name: str, file: str) -> Path | None:
    """A file of the folder or, for a repository that has been loaded, of the hub's cache."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path / file if (path / file).is_file() else None
    found = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
    return None if found is None else Path(found)
