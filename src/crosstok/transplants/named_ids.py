"""Ids that a model's configurations name: they move with the tokenizer, or are taken out.

``generation_config.json`` and ``config.json`` name tokens that are never or always written
(``suppress_tokens``, ``bad_words_ids``, ``sequence_bias``, ``forced_eos_token_id``, ...), and
tokens that stand for an image or a sound (``image_token_id``, ...). Under another tokenizer the
same numbers are other tokens.
"""

import logging
import re
from collections.abc import Iterable, Sequence
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedModel

from crosstok.tokenizers import ByteVocab, TextEncoder
from crosstok.transplants.fvt import source_pieces
from crosstok.transplants.plan import READ_ROLES, WRITE_ROLES

log = logging.getLogger("crosstok")

_OF_TARGET = ("bos_token_id", "eos_token_id", "pad_token_id")
"""Fields whose ids are those of the target's own special tokens, whatever they were."""

_STANDARD = re.compile(
    r"(bos|eos|pad|sep|cls|mask|unk|decoder_start|forced_bos|forced_eos)_(token_id|index)"
)
_ONE_ID = re.compile(
    r".*_token_(id|index)|(bos|eos|pad|sep|cls|mask|unk)_index"
    r"|(im|image|video|audio|vision|slice|frame|newline|boi|eoi|boa|eoa)(_[a-z]+)*_(id|index)"
)
_IDS = re.compile(r".*_token_(ids|indices|indexes)|(begin_)?suppress_tokens")
_SEQUENCES = ("bad_words_ids", "force_words_ids")
_NO_TOKEN = -1
"""An id that no text has: an architecture that compares ids with it finds none."""


class IdMoves:
    """Which id of the target's tokenizer a source id becomes.

    Args:
        source: encoder of the tokenizer that the ids are of.
        target: encoder of the tokenizer that they shall be of.
    """

    def __init__(self, source: TextEncoder, target: TextEncoder) -> None:
        self._source, self._target = source, target
        self._is_same = source.byte_vocab.same_as(target.byte_vocab)

    def move(self, index: int, *, forbids: bool = False) -> int | None:
        """The one token with the same bytes, or the special token of the same name or role.

        Args:
            index: an id of the source.
            forbids: the id is named so as not to be written: a start that elsewhere is the end,
                too, does not become that one, or no text would end.
        """
        old, new = self._source.byte_vocab, self._target.byte_vocab
        if not 0 <= index < len(old.token_bytes):
            return None
        if self._is_same:
            return index
        if index in old.special_ids:
            return self._special(index, forbids)
        content = old.token_bytes[index]
        if content is None:
            return None
        same, twins = old.ids_of(content), new.ids_of(content)
        if len(same) == len(twins):
            return twins[same.index(index)]
        emitted = [id_ for id_ in twins if id_ not in new.shadowed_ids]
        return emitted[0] if len(emitted) == 1 else None

    def respell(self, ids: Sequence[int]) -> list[int] | None:
        """The target's ids for the same text, exactly; None if it cannot spell it."""
        spelled: list[int] = []
        content = b""
        for index in [*ids, None]:
            part = None if index is None else self._bytes(index)
            if part is not None:
                content += part
                continue
            if content:
                pieces = source_pieces([content], self._target)[0]
                if not pieces:
                    return None
                spelled += pieces
                content = b""
            moved = None if index is None else self.move(index, forbids=True)
            if index is not None and moved is None:
                return None
            spelled += [] if moved is None else [moved]
        return list(ids) if self._is_same else spelled

    def show(self, index: int) -> str:
        """The id with its token, for messages."""
        token = self._source.tokenizer.convert_ids_to_tokens(index) if index >= 0 else None
        return f"{index} ({token!r})" if token is not None else f"{index} (no token)"

    def _bytes(self, index: int) -> bytes | None:
        held = self._source.byte_vocab.token_bytes
        return held[index] if 0 <= index < len(held) else None

    def _special(self, index: int, forbids: bool) -> int | None:
        old, new = self._source.byte_vocab, self._target.byte_vocab
        name: Any = self._source.tokenizer.convert_ids_to_tokens(index)
        same = self._target.tokenizer.get_vocab().get(name)
        if same is not None and same in new.special_ids:
            return int(same)
        had = _roles(old, index)
        for role in filter(had.__contains__, (*WRITE_ROLES, *READ_ROLES, "sep", "cls", "mask")):
            ours = new.roles.get(role, ())
            fits = not forbids or (bool(ours) and _roles(new, ours[0]) <= had)
            if len(ours) == 1 and ours[0] in new.special_ids and fits:
                return ours[0]
        return None


def _roles(vocab: ByteVocab, index: int) -> set[str]:
    return {role for role, ids in vocab.roles.items() if ids == (index,)}


def move_named_ids(model: PreTrainedModel, source: TextEncoder, target: TextEncoder) -> None:
    """Move every id that the model's configurations name; what has no equal is taken out.

    An id moves if one token of the target has the same bytes, or if a special token has the same
    name or role. An entry of several ids (``bad_words_ids``, ``sequence_bias``) is spelled anew if
    the target can spell exactly the same text. There is a warning for each field that loses
    something.

    Args:
        model: its configurations are changed in place.
        source: encoder of the tokenizer that the model was trained with.
        target: encoder of the tokenizer that the model will have.
    """
    moves = IdMoves(source, target)
    config: Any = model.config
    text: Any = config.get_text_config()
    held = {"config": config, "generation_config": model.generation_config}
    if text is not config:
        held["config.text_config"] = text
    for name, owner in held.items():
        for field, value in list(vars(owner).items()) if owner is not None else []:
            if value is not None and field not in _OF_TARGET:
                _move_field(moves, owner, f"{name}.{field}", field, value)
    _set_special_ids(model, moves, target)


def padding_id(target: TextEncoder) -> int | None:
    """The id that pads texts under this tokenizer: the end of a document if there is no other."""
    vocab = target.byte_vocab
    return next(iter(vocab.roles.get("pad", ())), vocab.document_end)


def _move_field(moves: IdMoves, owner: Any, name: str, field: str, value: Any) -> None:
    lost: list[str] = []
    if _ONE_ID.fullmatch(field) and isinstance(value, int) and not isinstance(value, bool):
        moved: Any = _kept([value], moves, lost) if value >= 0 else [value]
        moved = moved[0] if moved else None
    elif _IDS.fullmatch(field) or _ONE_ID.fullmatch(field):
        moved = _kept(_flat(value), moves, lost, forbids="suppress" in field) or None
    elif field in _SEQUENCES:
        moved = [part for entry in value for part in _respelled(entry, moves, lost)] or None
    elif field == "sequence_bias":
        moved = _moved_biases(value, moves, lost)
    elif field == "forced_decoder_ids":
        moved = [
            [place, ids[0]]
            for place, index in value
            if index is not None and (ids := _kept([index], moves, lost))
        ] or None
    elif field.endswith("_to_id") and isinstance(value, dict):
        moved = {key: i for key, index in value.items() for i in _kept([index], moves, lost)}
    else:
        return
    if lost:
        log.warning(
            "%s names ids that have no equal in the new tokenizer and are taken out: %s",
            name,
            ", ".join(lost[:8]) + (f" and {len(lost) - 8} more" if len(lost) > 8 else ""),
        )
    if moved is None and not _STANDARD.fullmatch(field) and _ONE_ID.fullmatch(field):
        moved = _NO_TOKEN
    _set_id(owner, field, moved)


def _kept(
    ids: Iterable[int], moves: IdMoves, lost: list[str], *, forbids: bool = False
) -> list[int]:
    """The ids that move, in the target's numbers; the others are noted."""
    kept = []
    for index in ids:
        moved = moves.move(int(index), forbids=forbids)
        if moved is None:
            lost.append(moves.show(int(index)))
        else:
            kept.append(moved)
    return list(dict.fromkeys(kept))


def _respelled(entry: Any, moves: IdMoves, lost: list[str]) -> list[Any]:
    """The entry in the target's ids, or nothing; an entry may be a list of alternatives."""
    if entry and not isinstance(entry[0], int):
        alternatives = [part for each in entry for part in _respelled(each, moves, lost)]
        return [alternatives] if alternatives else []
    spelled = moves.respell(entry)
    if not spelled:
        lost.append("[" + ", ".join(map(moves.show, entry)) + "]")
        return []
    return [spelled]


def _moved_biases(value: Any, moves: IdMoves, lost: list[str]) -> Any:
    """The biases under the target's ids, in the form (mapping or pairs) that they had."""
    is_mapping = isinstance(value, dict)
    pairs = value.items() if is_mapping else value
    moved = [
        (spelled, bias)
        for ids, bias in pairs
        for spelled in _respelled([ids] if isinstance(ids, int) else list(ids), moves, lost)
    ]
    if is_mapping:
        return {tuple(ids): bias for ids, bias in moved} or None
    return [[ids, bias] for ids, bias in moved] or None


def _flat(value: Any) -> list[int]:
    if isinstance(value, int):
        return [value]
    return [index for part in value for index in _flat(part)]


def _set_special_ids(model: PreTrainedModel, moves: IdMoves, target: TextEncoder) -> None:
    """Name the target's bos, pad and ends, and the ends of the source that it has, too."""
    vocab = target.byte_vocab
    last_of_turn = [id_ for id_ in vocab.roles.get("end_of_turn", ()) if id_ in vocab.special_ids]
    own = [id_ for id_ in (vocab.document_end, *last_of_turn) if id_ is not None]
    pad = padding_id(target)
    configs: tuple[Any, ...] = (
        model.config,
        model.config.get_text_config(),
        model.generation_config,
    )
    moved: dict[int, list[int]] = {}
    for config in filter(None, configs):
        before = getattr(config, "eos_token_id", None)
        further = [] if isinstance(before, int | None) else _kept(before, moves, [])
        moved[id(config)] = list(dict.fromkeys([*own, *further]))
    for config in filter(None, configs):
        ends = moved[id(config)]
        _set_id(config, "bos_token_id", vocab.document_start)
        _set_id(config, "eos_token_id", ends[0] if len(ends) == 1 else ends or None)
        _set_id(config, "pad_token_id", pad)


def _set_id(config: Any, field: str, value: int | list[int] | None) -> None:
    """Set a field; an architecture that takes one number only gets the first of several."""
    try:
        setattr(config, field, value)
    except StrictDataclassError:
        one = value[0] if isinstance(value, list) else _NO_TOKEN if value is None else value
        setattr(config, field, one)
