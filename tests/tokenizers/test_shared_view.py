"""Two tokenizers read the same bytes where one of them composes or decomposes characters."""

import unicodedata

import pytest
from tokenizers import Tokenizer, normalizers
from transformers import PreTrainedTokenizerFast

from crosstok.reports import compare_tokenizers
from crosstok.tokenizers import TextEncoder, shared_texts
from tests.tiny import tiny_tokenizer

APART = "cafe\u0301 ﬁ K"


MIXED = "안녕하세요 세계, naïve café が"


def composing() -> TextEncoder:
    return normalizing(normalizers.NFC())


def normalizing(normalizer: normalizers.Normalizer) -> TextEncoder:
    backend = Tokenizer.from_str(tiny_tokenizer("bytelevel_bpe").backend_tokenizer.to_str())
    backend.normalizer = normalizer
    return TextEncoder(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>"))


def test_a_pair_with_a_composing_side_reads_composed_text():
    plain = TextEncoder(tiny_tokenizer("spm_bpe"))
    assert shared_texts([APART], plain, composing()) == ["caf\u00e9 ﬁ K"]


def test_other_pairs_read_the_text_as_it_is():
    encoders = [TextEncoder(tiny_tokenizer(kind)) for kind in ("spm_bpe", "wordpiece")]
    assert shared_texts([APART], *encoders) == [APART]


def test_no_byte_of_accented_text_is_lost_to_composition():
    report = compare_tokenizers(
        composing(), TextEncoder(tiny_tokenizer("spm_bpe")), {"accents": [APART * 20]}
    )
    assert report.total.coverage == 1.0


def coverage(text: str, one: TextEncoder, other: TextEncoder) -> float:
    return compare_tokenizers(one, other, {"text": [text]}).total.coverage


@pytest.mark.parametrize("normalizer", [normalizers.NFD(), normalizers.NFKD()])
def test_a_pair_with_a_decomposing_side_reads_decomposed_text(normalizer):
    one, plain = normalizing(normalizer), TextEncoder(tiny_tokenizer("bytelevel_bpe"))
    for pair in ((one, plain), (plain, one)):
        assert shared_texts([MIXED], *pair) == [unicodedata.normalize("NFD", MIXED)]
        assert coverage(MIXED, *pair) == 1.0


def test_korean_alone_is_decomposed_where_accents_are_stripped():
    one = normalizing(normalizers.BertNormalizer(lowercase=False, strip_accents=True))
    plain = TextEncoder(tiny_tokenizer("bytelevel_bpe"))
    [shared] = shared_texts([MIXED], one, plain)
    assert shared == unicodedata.normalize("NFD", MIXED[:9]) + MIXED[9:]
    assert coverage(MIXED[:8], one, plain) == 1.0


def test_a_side_that_composes_and_one_that_decomposes_share_no_form_and_lose_only_accents():
    pair = composing(), normalizing(normalizers.NFD())
    assert shared_texts([MIXED], *pair) == [unicodedata.normalize("NFC", MIXED)]
    assert 0.1 < coverage(MIXED, *pair) < 1.0
    assert coverage("plain text", *pair) == 1.0
