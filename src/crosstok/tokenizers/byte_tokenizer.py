"""Byte tokenizers: the 256 bytes, with the special tokens and chat template of another tokenizer.

The result is a plain ``tokenizer.json``: BPE over the byte alphabet, without merges. Only special
tokens are longer than a byte. The text that a chat template writes between them (``user``, line
breaks) is encoded as bytes, with the same ids as the same words in a text (the byte tokenizers of
arXiv 2503.20083 turn such words into template tokens wherever they occur).
"""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Encoding,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
)
from transformers import PreTrainedTokenizerFast

from crosstok.tokenizers.byte_vocab import ByteVocab
from crosstok.tokenizers.decoders import BYTE_ALPHABET
from crosstok.tokenizers.loading import load_tokenizer

logger = logging.getLogger(__name__)

BYTES = "bytes"
"""As the name of a target tokenizer: the 256 bytes, with the specials of the model's tokenizer."""

_ROLES = ("bos", "eos", "pad", "unk", "sep", "cls", "mask")


def load_target_tokenizer(
    name: str, source: str, *, trust_remote_code: bool = False
) -> PreTrainedTokenizerFast:
    """Load the tokenizer that a model is to be moved to.

    Args:
        name: as for `load_tokenizer`, or ``bytes`` for the `byte_tokenizer` of the source.
        source: the model, or its tokenizer: name or folder.
        trust_remote_code: run code that comes with the tokenizer.

    Raises:
        ValueError: as for `load_tokenizer` and `byte_tokenizer`.
    """
    if name != BYTES:
        return load_tokenizer(name, trust_remote_code=trust_remote_code)
    if Path(BYTES).exists():
        logger.warning(
            "%r means the 256 bytes as a tokenizer, not the file or folder of that name here; "
            "for that, pass './%s'",
            BYTES,
            BYTES,
        )
    return byte_tokenizer(load_tokenizer(source, trust_remote_code=trust_remote_code))


def byte_tokenizer(original: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """Make a tokenizer of bytes that marks up texts and chats as another one does.

    Id ``b`` is the byte ``b``; the special tokens of the original follow from 256 on, in the order
    of their ids. Their strings, their flags (a special that swallows the white space after it still
    does), the specials around a text (bos, eos) and the chat template are the original's. The byte
    tokenizer of a byte tokenizer is a copy of it.

    Raises:
        ValueError: a special token of the original is one character that stands for a byte.
    """
    vocab = ByteVocab.from_tokenizer(original)
    backend = _byte_backend()
    _add_specials(backend, original, vocab)
    _add_post_processor(backend, original.backend_tokenizer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=original.model_max_length,
        padding_side=original.padding_side,
        truncation_side=original.truncation_side,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
        **_named(original),
    )
    tokenizer.chat_template = copy.deepcopy(original.chat_template)
    tokenizer.name_or_path = f"{original.name_or_path} ({BYTES})".lstrip()
    return tokenizer


def is_byte_tokenizer(vocab: ByteVocab) -> bool:
    """Return whether the ids are the 256 bytes followed by specials, as in `byte_tokenizer`."""
    ids = range(256)
    return len(vocab) >= 256 and all(
        vocab.token_bytes[i] == bytes([i]) if i in ids else vocab.token_bytes[i] is None
        for i in range(len(vocab))
    )


def _byte_backend() -> Tokenizer:
    pieces = {character: byte for byte, character in BYTE_ALPHABET.items()}
    backend = Tokenizer(models.BPE(vocab=pieces, merges=[]))
    byte_level: Any = pre_tokenizers.ByteLevel  # its stub lacks trim_offsets
    backend.pre_tokenizer = byte_level(add_prefix_space=False, use_regex=False, trim_offsets=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def _add_specials(backend: Tokenizer, original: PreTrainedTokenizerFast, vocab: ByteVocab) -> None:
    flags = original.backend_tokenizer.get_added_tokens_decoder()
    for index, content in vocab.special_tokens.items():
        if backend.token_to_id(content) is not None:
            raise ValueError(
                f"special token {content!r} (id {index}) of {original.name_or_path!r} has the "
                "string of a byte or of another special token, so a byte tokenizer cannot hold "
                "it. Rename it in tokenizer.json."
            )
        known = flags.get(index)
        token = AddedToken(
            content,
            single_word=bool(known and known.single_word),
            lstrip=bool(known and known.lstrip),
            rstrip=bool(known and known.rstrip),
            normalized=False,
            special=True,
        )
        backend.add_special_tokens([token])


def _add_post_processor(backend: Tokenizer, original: Tokenizer) -> None:
    """Add the specials that the original puts around one text and around a pair of texts."""
    plain = Tokenizer.from_str(original.to_str())
    # Whatever the tokenizer's own text tokens are: the specials around a text are the same.
    plain.model = models.WordLevel({"A": 0}, unk_token="A")
    plain.normalizer = plain.pre_tokenizer = None
    plain.no_truncation()
    plain.no_padding()
    parts = {"single": _template(plain.encode("A")), "pair": _template(plain.encode("A", "A"))}
    specials = sorted({token for part in parts.values() for token in part if token[0] != "$"})
    if not specials:
        return
    backend.post_processor = processors.TemplateProcessing(
        single=parts["single"],
        pair=parts["pair"],
        special_tokens=[(token, backend.token_to_id(token)) for token in specials],
    )


def _template(encoding: Encoding) -> list[str]:
    """List the specials by their strings, and each text once, as ``$A`` or ``$B``."""
    places: list[str] = []
    for token, sequence in zip(encoding.tokens, encoding.sequence_ids, strict=True):
        place = token if sequence is None else f"${'AB'[sequence]}"
        if sequence is None or place not in places:
            places.append(place)
    return places


def _named(original: PreTrainedTokenizerFast) -> dict[str, str]:
    """Collect the specials that the tokenizer has a name for, such as ``bos_token``."""
    named = {f"{role}_token": getattr(original, f"{role}_token", None) for role in _ROLES}
    return {name: str(token) for name, token in named.items() if token is not None}
