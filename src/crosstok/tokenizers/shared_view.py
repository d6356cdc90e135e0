"""One text for two tokenizers, one of which composes characters before it cuts.

Unicode has two spellings of ``é``: one character, or ``e`` and a combining accent. They are the
same text (canonically equivalent) with different bytes. A tokenizer with an NFC normaliser turns
the second into the first, so on text that is not in NFC the bytes of the two sides would differ at
every accent. Both sides therefore read the text in NFC. No other normalisation is shared: a
tokenizer that lower-cases must not make the other side read lower case.
"""

import unicodedata
from collections.abc import Sequence

from crosstok.tokenizers.spans import TextEncoder

_APART, _COMPOSED = "e\u0301", "\u00e9"


def composes(encoder: TextEncoder) -> bool:
    """Return whether the tokenizer's normaliser composes characters (NFC or NFKC)."""
    normalizer = encoder.tokenizer.backend_tokenizer.normalizer
    return normalizer is not None and _COMPOSED in normalizer.normalize_str(_APART)


def shared_texts(texts: Sequence[str], *encoders: TextEncoder) -> list[str]:
    """Return the texts as all of these encoders read them: in NFC if one of them composes.

    Example: ``e`` and a combining acute become one ``é`` for gpt2 with qwen2.5, and stay as they
    are for gpt2 with llama.
    """
    if not any(composes(encoder) for encoder in encoders):
        return list(texts)
    return [unicodedata.normalize("NFC", text) for text in texts]
