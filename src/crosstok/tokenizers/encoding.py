"""Encode with a tokenizer's backend: always the same ids, and texts that it cannot encode."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from tokenizers import Encoding, Tokenizer

# Settings of a model with which the same text has other ids every time: BPE dropout (Provilkov et
# al. 2020, arXiv 1910.13267) and Unigram sampling (Kudo 2018, arXiv 1804.10959).
_SAMPLING = ("dropout", "alpha", "nbest_size")


def without_sampling(backend: Tokenizer) -> Tokenizer:
    """Return a tokenizer that gives a text the same ids every time.

    It is `backend` itself, or a copy if dropout or sampling is switched on there; `backend` keeps
    them, so that they are saved with it.
    """
    if not any(getattr(backend.model, name, None) for name in _SAMPLING):
        return backend
    description = json.loads(backend.to_str())  # which does not hold alpha and nbest_size
    if "dropout" in description["model"]:
        description["model"]["dropout"] = None
    copy = Tokenizer.from_str(json.dumps(description))
    copy.encode_special_tokens = backend.encode_special_tokens
    return copy


def encode_each(
    backend: Tokenizer, texts: Sequence[str], *, offsets: bool = False
) -> Iterator[Encoding | Exception]:
    """Encode texts without special tokens; an exception for each text that cannot be encoded.

    A model without an unknown token, such as Unigram without ``unk_id``, raises an exception for
    characters that it does not have.

    Args:
        backend: the tokenizer.
        texts: the texts.
        offsets: whether the encodings need offsets, which take longer.
    """
    encode = backend.encode_batch if offsets else backend.encode_batch_fast
    try:
        yield from encode(list(texts), add_special_tokens=False)
        return
    except Exception as error:  # the library has no exception of its own
        if len(texts) == 1:
            yield error
            return
    for text in texts:
        yield from encode_each(backend, [text], offsets=offsets)


def probe_ids(
    backend: Tokenizer, text: str, *, add_special_tokens: bool = False
) -> list[int] | None:
    """Return the ids of a text that is not the user's; None if it cannot be encoded.

    What the text would have shown is then not known.
    """
    try:
        return list(backend.encode(text, add_special_tokens=add_special_tokens).ids)
    except Exception:  # the library has no exception of its own
        return None


def encode_alike(
    one: Tokenizer, other: Tokenizer, probe: str, *, add_special_tokens: bool = False
) -> bool:
    """Return whether two tokenizers give a text the same ids.

    If neither can encode it, the strings of the vocabulary are compared instead.
    """
    both = without_sampling(one), without_sampling(other)
    for text in (probe, *sorted(one.get_vocab())):
        first, second = (probe_ids(b, text, add_special_tokens=add_special_tokens) for b in both)
        if first != second:
            return False
        if text == probe and first is not None:
            return True
    return True
