"""Two tokenizers read the same bytes where one of them composes characters."""

from tokenizers import Tokenizer, normalizers
from transformers import PreTrainedTokenizerFast

from crosstok.reports import compare_tokenizers
from crosstok.tokenizers import TextEncoder, shared_texts
from tests.tiny import tiny_tokenizer

APART = "cafe\u0301 ﬁ K"


def composing() -> TextEncoder:
    backend = Tokenizer.from_str(tiny_tokenizer("bytelevel_bpe").backend_tokenizer.to_str())
    backend.normalizer = normalizers.NFC()
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
