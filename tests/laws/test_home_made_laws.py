"""Laws of tokenizers of any combination of parts: bytes are what the library decodes."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from crosstok.alignment import align
from crosstok.tokenizers import TextEncoder, byte_tokenizer, load_tokenizer, shared_texts
from tests.tiny import KINDS, tiny_tokenizer
from tests.tokenizers.home_made import MARKS, Parts, make, parts, plain_texts
from tests.tokenizers.odd_texts import texts

MADE = settings(max_examples=150, deadline=None)
GIVEN = settings(max_examples=30, deadline=None)
PUBLISHED = (
    "gpt2", "qwen2.5", "cl100k_base", "tinyllama", "mistral-7b-instruct-v0.2", "t5",
    "bert-base-uncased", "small-unigram-bytefallback-8k", "small-spm-bpe-bytefallback-8k",
)  # fmt: skip
any_text = st.one_of(plain_texts(), texts())


@lru_cache(maxsize=64)
def encoder_of(made: Parts) -> TextEncoder:
    return TextEncoder(make(made))


@lru_cache
def bytes_encoder() -> TextEncoder:
    return TextEncoder(byte_tokenizer(tiny_tokenizer("bytelevel_bpe")))


@lru_cache
def published(name: str) -> TextEncoder:
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "tokenizers" / name
    if not folder.is_dir():
        pytest.skip("needs the folder ../shared")
    return TextEncoder(load_tokenizer(str(folder)))


def check(encoder: TextEncoder, text: str, *, is_joined: bool = True) -> None:
    """Compare the tokens of a text with the text, and with what the library makes of them."""
    vocab = encoder.byte_vocab
    [text] = shared_texts([text], encoder, bytes_encoder())
    [spans] = encoder([text], add_start=False, add_end=False)
    ids, payload = spans.ids.tolist(), text.encode()
    contents = vocab.in_context(ids)
    place = 0
    for content, end, exact in zip(
        contents, spans.ends.tolist(), spans.exact.tolist(), strict=True
    ):
        covered = payload[place:end]
        assert not exact or content in (covered, b" " + covered)
        place = end
    assert place == len(payload) or not ids
    if None in contents or not ids or any(mark in text for mark in MARKS):
        return
    joined = b"".join(content or b"" for content in contents)
    assert joined != payload or spans.exact.all()
    decoded = encoder.tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=False)
    if decoded == text:
        assert spans.exact.all()
        [other] = bytes_encoder()([text], add_start=False, add_end=False)
        assert align(other, spans, bytes_encoder().byte_vocab, vocab).coverage == 1.0
    if is_joined and not any(mark in decoded for mark in (*MARKS, "\ufffd")):
        ours = joined.decode(errors="replace")
        assert decoded in (ours, ours.removeprefix(" "), ours.lstrip(" "), ours + " ")


@MADE
@given(made=parts(), text=any_text)
def test_the_bytes_of_tokens_are_what_the_library_decodes(made: Parts, text: str) -> None:
    assume(made.decoder != "CTC")
    check(encoder_of(made), text, is_joined=made.decoder != "none")


@pytest.mark.parametrize("name", [*KINDS, *PUBLISHED])
@GIVEN
@given(text=any_text)
def test_and_so_they_are_for_tokenizers_that_models_have(name: str, text: str) -> None:
    check(TextEncoder(tiny_tokenizer(name)) if name in KINDS else published(name), text)  # type: ignore[arg-type]


@MADE
@given(made=parts(), data=st.data())
def test_the_bytes_of_an_id_are_what_the_library_adds_to_a_text(
    made: Parts, data: st.DataObject
) -> None:
    """The slow twin: decode with and without the token, and compare."""
    assume(made.decoder not in ("none", "CTC"))
    encoder = encoder_of(made)
    vocab, backend = encoder.byte_vocab, encoder.tokenizer.backend_tokenizer
    plain = [index for index, content in enumerate(vocab.token_bytes) if _is_text(content)]
    ids = data.draw(st.lists(st.sampled_from(plain), min_size=2, max_size=6))
    assume(not any(mark in (backend.id_to_token(index) or "") for index in ids for mark in MARKS))
    contents = vocab.in_context(ids)
    before = backend.decode(ids[:-1], skip_special_tokens=False)
    whole = backend.decode(ids, skip_special_tokens=False)
    added = (contents[-1] or b"").decode()
    if vocab.word_ends:
        before, whole, added = before.rstrip(" "), whole.rstrip(" "), added.rstrip(" ")
    assert whole == before + added or whole == (before + added).lstrip(" ")


def _is_text(content: bytes | None) -> bool:
    try:
        return bool(content) and bool((content or b"").decode().strip())
    except UnicodeDecodeError:
        return False
