"""One text for two tokenizers that spell characters differently.

Unicode has two spellings of ``é``: one character, or ``e`` and a combining accent; and two of a
Korean syllable: one character, or its letters. They are the same text (canonically equivalent) with
different bytes. A tokenizer whose normaliser composes (NFC) or decomposes (NFD) characters turns
one spelling into the other, so the bytes of the two sides would differ at every accent. Both sides
therefore read the text in the form of the one that changes it. No other normalisation is shared: a
tokenizer that lower-cases must not make the other side read lower case.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

from crosstok.tokenizers.spans import TextEncoder

Form = Literal["NFC", "NFD", "letters"]
"""NFC: composed. NFD: decomposed. letters: only Korean syllables are decomposed, as a tokenizer
does that decomposes all characters and then drops accents (BERT's, uncased)."""

_APART, _COMPOSED = "e\u0301", "\u00e9"
_LETTERS, _SYLLABLE = "\u1112\u1161\u11ab", "\ud55c"
_SYLLABLES = re.compile("[\uac00-\ud7a3]+")


def form_of(encoder: TextEncoder) -> Form | None:
    """Return the form in which a tokenizer's normaliser writes characters; None if it keeps them.

    Found by normalising both spellings of a letter with an accent and of a Korean syllable.
    """
    normalizer = encoder.tokenizer.backend_tokenizer.normalizer
    if normalizer is None:
        return None
    if _COMPOSED in normalizer.normalize_str(_APART):
        return "NFC"
    if _APART in normalizer.normalize_str(_COMPOSED):
        return "NFD"
    if _SYLLABLE in normalizer.normalize_str(_LETTERS):
        return "NFC"
    return "letters" if _LETTERS in normalizer.normalize_str(_SYLLABLE) else None


def shared_form(*encoders: TextEncoder) -> Form | None:
    """Return the form in which all of these encoders read a text; None if it stays as it is.

    If one composes characters and another decomposes them, no form is kept by both: it is NFC, and
    what the other changes is inexact in its spans and not in coverage.
    """
    forms = {form_of(encoder) for encoder in encoders}
    order: tuple[Form, ...] = ("NFC", "NFD", "letters")
    return next((form for form in order if form in forms), None)


def in_form(text: str, form: Form | None) -> str:
    """Return a text in a form; as it is for None."""
    if form is None or text.isascii():
        return text
    if form == "letters":
        return _SYLLABLES.sub(lambda found: unicodedata.normalize("NFD", found[0]), text)
    return unicodedata.normalize(form, text)


def shared_texts(texts: Sequence[str], *encoders: TextEncoder) -> list[str]:
    """Return the texts as all of these encoders read them: see `shared_form`.

    Example: ``e`` and a combining acute become one ``é`` for gpt2 with qwen2.5, and stay as they
    are for gpt2 with llama.
    """
    form = shared_form(*encoders)
    return [in_form(text, form) for text in texts]
