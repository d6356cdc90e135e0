"""Which tensors of a model have its vocabulary as an axis: found by what the model is and does.

Two models of the same configuration are made without memory (on the device ``meta``), one with one
more id: the tensors whose shapes differ have the vocabulary as an axis. A forward pass over a few
tokens shows which tables are looked up by the ids themselves, and which by numbers computed from
them (hashes of n-grams), which no change of rows can follow.
"""

import copy
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from crosstok.models.modes import evaluating

log = logging.getLogger("crosstok")

_NUM_PROBED = 8
_Places = dict[str, tuple[int, int]]  # name of a tensor -> axis, number of further entries


@dataclass(frozen=True)
class VocabularyTensor:
    """A tensor with an entry for each id.

    Attributes:
        names: every name under which the model has it; a tied one has several.
        axis: along which the ids run.
        tail: number of entries after those of the ids, which stand for something else.
        beyond: the entry that the model reads for an id past the end; None if that is an error.
        is_read: looked up by the ids of the input; else it scores the next id.
    """

    names: tuple[str, ...]
    axis: int
    tail: int
    beyond: int | None
    is_read: bool


@dataclass(frozen=True)
class VocabularyAxes:
    """What changes in a model with the number of its ids.

    Attributes:
        tensors: those with the vocabulary as an axis.
        fields: names of the fields of its text configuration that hold its number of ids.
    """

    tensors: tuple[VocabularyTensor, ...]
    fields: tuple[str, ...]


class _NotedLookups(TorchFunctionMode):
    """Notes the numbers by which each table is looked up first, by the identity of the table."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, Tensor] = {}

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is nn.functional.embedding:
            numbers, table = args[0], args[1]
            self.seen.setdefault(id(table), numbers.detach())
        return function(*args, **(kwargs or {}))


@dataclass(frozen=True)
class _Lookups:
    """What a forward pass over a few ids looked up, by module; and the width of its logits."""

    beyond: Mapping[str, int | None]
    hashed: tuple[str, ...]
    width: int | None


def vocabulary_axes(model: PreTrainedModel) -> VocabularyAxes:
    """Find what has the vocabulary as an axis, before anything is changed.

    Raises:
        ValueError: a tensor depends on the ids in a way that no change of rows can follow; it is
            named.
    """
    inner: Any = model
    lookups = _look_up(inner)
    if lookups.hashed:
        raise ValueError(
            f"{type(inner).__name__} looks up {lookups.hashed[0]}.weight by numbers that it "
            "computes from the ids (a hash), so its rows belong to no token and cannot be moved "
            "to another tokenizer. Choose a model without such a table."
        )
    places = _places_by_field(inner)
    output = inner.get_output_embeddings()
    fields = tuple(
        field
        for field, found in places.items()
        if field == "vocab_size"
        or any(_owner(name) in lookups.beyond for name in found)
        or any(inner.get_submodule(_owner(name)) is output for name in found)
        or (not found and getattr(inner.config.get_text_config(), field) == lookups.width)
    )
    known = {name: place for field in fields for name, place in places[field].items()}
    return VocabularyAxes(tuple(_group(inner, known, lookups)), fields)


def check_padding(model: PreTrainedModel, pad: int | None) -> None:
    """Refuse a model that counts its positions from the id of its padding, if that id changes.

    Raises:
        ValueError: names the table of positions.
    """
    inner: Any = model
    config = copy.deepcopy(inner.config)
    config.pad_token_id = config.get_text_config().pad_token_id = pad
    before, after = _twin(inner, inner.config), _twin(inner, config)
    if before is None or after is None:
        return
    tables = {id(inner.get_input_embeddings())}
    for name, module in inner.named_modules():
        if not isinstance(module, nn.Embedding) or id(module) in tables:
            continue
        old, new = (twin.get_submodule(name).padding_idx for twin in (before, after))
        is_positions = module.num_embeddings == getattr(
            inner.config.get_text_config(), "max_position_embeddings", None
        )
        if old != new and is_positions:
            raise ValueError(
                f"{type(inner).__name__} counts its positions from the id of its padding token "
                f"({old}): the rows of {name}.weight would be other positions under this "
                f"tokenizer, whose padding token is {new}. Choose a model whose positions do not "
                "depend on the tokenizer, or a tokenizer with the same padding id."
            )


def follow_configuration(model: PreTrainedModel, before: Any) -> None:
    """Set the numbers that modules took from the configuration when they were made, as it is now.

    Args:
        model: whose configuration has changed.
        before: a copy of the configuration as it was.
    """
    inner: Any = model
    old, new = _twin(inner, before), _twin(inner, inner.config)
    if old is None or new is None:
        return
    parts = dict(new.named_modules())
    was = dict(old.named_modules())
    for name, module in inner.named_modules():
        if name not in parts or name not in was or isinstance(module, nn.Embedding | nn.Linear):
            continue
        for key, value in vars(parts[name]).items():
            if isinstance(value, int) and key in vars(module) and value != vars(was[name]).get(key):
                setattr(module, key, value)


def _group(inner: Any, known: _Places, lookups: _Lookups) -> Iterator[VocabularyTensor]:
    """The tensors, each once, with all of its names; input and output matrix in any case."""
    ends = [inner.get_input_embeddings(), inner.get_output_embeddings()]
    own = {id(t) for m in ends if m is not None for t in (m.weight, getattr(m, "bias", None))}
    names: dict[int, list[str]] = {}
    held = dict(_tensors(inner))
    for name, tensor in held.items():
        names.setdefault(id(tensor), []).append(name)
    for key, group in names.items():
        place = next((known[name] for name in group if name in known), None)
        if place is None and key not in own:
            continue
        axis, tail = place or (0, 0)
        owners = [_owner(name) for name in group]
        is_read = any(isinstance(inner.get_submodule(owner), nn.Embedding) for owner in owners)
        yield VocabularyTensor(
            names=tuple(group),
            axis=axis,
            tail=tail,
            beyond=next((lookups.beyond[o] for o in owners if o in lookups.beyond), None),
            is_read=is_read or not held[group[0]].is_floating_point(),
        )


def _places_by_field(inner: Any) -> dict[str, _Places]:
    """For each number in the configuration that may be one of ids: the tensors it shapes."""
    text = inner.config.get_text_config()
    base = _shapes(_twin(inner, inner.config))
    found: dict[str, _Places] = {"vocab_size": {}}
    for field, value in list(vars(text).items()):
        if "vocab" not in field or type(value) is not int or base is None:
            continue
        config = copy.deepcopy(inner.config)
        setattr(config.get_text_config(), field, value + 1)
        more = _shapes(_twin(inner, config))
        if more is None:
            continue
        changed = {name: shape for name, shape in more.items() if base.get(name) != shape}
        places: _Places = {}
        for name, shape in changed.items():
            place = _place(base.get(name, ()), shape)
            if place is None and field == "vocab_size":
                raise ValueError(
                    f"{type(inner).__name__}: {name} {list(shape)} mixes ids with something else "
                    "in one axis, so it cannot be moved to another tokenizer. Choose another model."
                )
            if place is not None:
                places[name] = place, max(0, base[name][place] - value)
        found[field] = places
    return found


def _place(old: tuple[int, ...], new: tuple[int, ...]) -> int | None:
    """The one axis that has grown by one."""
    if len(old) != len(new):
        return None
    grown = [axis for axis, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
    return grown[0] if len(grown) == 1 and new[grown[0]] == old[grown[0]] + 1 else None


def _twin(inner: Any, config: Any) -> Any:
    """A model of this configuration without memory; None if it cannot be made like this."""
    try:
        with torch.device("meta"), no_init_weights():
            return type(inner)(copy.deepcopy(config))
    except Exception as error:  # whatever code of its own a model has
        log.debug("%s cannot be made on the device meta: %s", type(inner).__name__, error)
        return None


def _shapes(twin: Any) -> dict[str, tuple[int, ...]] | None:
    return None if twin is None else {name: tuple(t.shape) for name, t in _tensors(twin)}


def _tensors(model: Any) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _owner(name: str) -> str:
    return name.rpartition(".")[0]


def _look_up(inner: Any) -> _Lookups:
    """Run the model on two rows of ids and see which tables are looked up, and by what."""
    table = inner.get_input_embeddings().weight
    ids = _probe_ids(inner.config, table.shape[0]).to(table.device)
    lookups = _NotedLookups()
    try:
        with torch.no_grad(), evaluating(inner), lookups:
            width = int(inner(input_ids=ids, use_cache=False).logits.shape[-1])
    except Exception as error:  # an architecture may need what this machine does not have
        log.warning(
            "%s does not run here (%s): its tables are found by their shapes alone",
            type(inner).__name__,
            str(error).split("\n")[0],
        )
        return _Lookups({}, (), None)
    beyond: dict[str, int | None] = {}
    hashed = []
    for name, module in inner.named_modules():
        numbers = lookups.seen.get(id(getattr(module, "weight", None)))
        if numbers is None or not isinstance(module, nn.Embedding):
            continue
        kind = _kind(ids, numbers, module.num_embeddings)
        if kind == "hash":
            hashed.append(name)
        elif kind is not None:
            beyond[name] = kind[0]
    return _Lookups(beyond, tuple(hashed), width)


def _kind(ids: Tensor, numbers: Tensor, size: int) -> Any:
    """None: not looked up by ids; ``(entry,)``: by ids, with that entry past the end; "hash"."""
    if numbers.shape[:1] != ids.shape[:1] or torch.equal(numbers[0], numbers[1]):
        return None
    if numbers.ndim != 2 or numbers.shape[1] < ids.shape[1]:
        return "hash"
    numbers = numbers[:, -ids.shape[1] :]  # after a prompt of the architecture's own
    inside = ids < size
    if not torch.equal(numbers[inside], ids[inside]):
        return "hash"
    rest = torch.unique(numbers[~inside])
    if len(rest) > 1:
        return "hash"
    return (int(rest[0]) if len(rest) else None,)


def _probe_ids(config: Any, size: int) -> Tensor:
    """Two rows of ids spread over the vocabulary, without those that the configuration names."""
    named = {
        index
        for part in (config, config.get_text_config())
        for key, value in vars(part).items()
        if "token" in key or key.endswith(("_index", "_id"))
        for index in (value if isinstance(value, list) else [value])
        if isinstance(index, int)
    }
    spread = sorted(set(torch.linspace(size - 1, 1, min(size - 1, 4 * _NUM_PROBED)).int().tolist()))
    usable = [index for index in spread if index not in named][-2 * _NUM_PROBED :] or [0, 0]
    half = len(usable) // 2 * 2
    return torch.tensor(usable[len(usable) - half :]).view(-1, 2).T.contiguous()
