"""The bytes of an id are what it stands for in text, by the decoder of its tokenizer."""

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from crosstok.alignment import align
from crosstok.tokenizers import ByteVocab, TextEncoder
from tests.tiny import tiny_tokenizer
from tests.tokenizers.home_made import Parts, make


def vocab_of(backend: Tokenizer) -> ByteVocab:
    return ByteVocab.from_tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend))


def suffixed() -> TextEncoder:
    """GPT-1 like: words end with a mark."""
    return TextEncoder(
        make(Parts("Lowercase", "Bert", "BPE suffix", "BPEDecoder", has_unknown=True))
    )


def pieces(encoder: TextEncoder, text: str) -> list[tuple[bytes, bool]]:
    [spans] = encoder([text], add_start=False, add_end=False)
    payload = text.encode()
    found = zip(spans.starts.tolist(), spans.ends.tolist(), spans.exact.tolist(), strict=True)
    return [(payload[start:end], exact) for start, end, exact in found]


def test_a_piece_that_ends_a_word_ends_with_a_space_which_the_next_one_takes():
    encoder = suffixed()
    vocab = encoder.byte_vocab
    the, dog = (
        encoder.tokenizer.backend_tokenizer.token_to_id(f"{word}</w>") for word in ("the", "dog")
    )
    assert vocab.token_bytes[the] == b"the "
    assert {the, dog} <= vocab.word_ends
    assert vocab.in_context([the, dog]) == [b"the", b" dog"]
    assert vocab.in_context([dog], before=the) == [b" dog"]
    assert vocab.in_context([dog]) == [b"dog"]


def test_the_mark_of_a_words_end_costs_no_coverage_and_keeps_cuts_before_spaces():
    encoder, plain = suffixed(), TextEncoder(tiny_tokenizer("bytelevel_bpe"))
    text = "the quick brown fox"
    assert pieces(encoder, text) == [
        (b"the", True), (b" quick", True), (b" brown", True), (b" fox", True)
    ]  # fmt: skip
    both = [one([text], add_start=False, add_end=False)[0] for one in (encoder, plain)]
    found = align(*both, encoder.byte_vocab, plain.byte_vocab)
    assert found.coverage == 1.0
    assert len(found.chunk_ends) == 4


@pytest.mark.parametrize("model", ["WordLevel", "BPE"])
def test_without_a_decoder_words_are_joined_with_spaces_as_the_library_joins_them(model):
    encoder = TextEncoder(make(Parts("none", "WhitespaceSplit", model, "none")))
    assert pieces(encoder, "the quick") == [(b"the", True), (b" quick", True)]
    index = encoder.tokenizer.backend_tokenizer.token_to_id("quick")
    assert encoder.byte_vocab.token_bytes[index] == b" quick"


def test_a_decoder_that_cleans_up_makes_punctuation_of_a_piece_without_a_space():
    encoder = TextEncoder(tiny_tokenizer("wordpiece"))
    index = encoder.tokenizer.backend_tokenizer.token_to_id(",")
    assert encoder.byte_vocab.token_bytes[index] == b","
    assert pieces(encoder, "the dog, and") == [
        (b"the", True), (b" dog", True), (b",", True), (b" and", True)
    ]  # fmt: skip
    assert (b" ,", False) in pieces(encoder, "the dog , and")


def test_an_added_token_is_spelt_as_the_normaliser_spells_it():
    backend = Tokenizer.from_str(tiny_tokenizer("spm_bpe").backend_tokenizer.to_str())
    backend.add_tokens([AddedToken("two words", normalized=True)])
    encoder = TextEncoder(
        PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    )
    index = backend.get_vocab_size() - 1
    assert encoder.byte_vocab.token_bytes[index] == b" two words"
    assert (b" two words", True) in pieces(encoder, "the two words")
    assert backend.decode([index, index]) == "two words two words"


def test_an_added_token_of_a_lower_casing_tokenizer_stands_for_lower_case():
    backend = Tokenizer.from_str(tiny_tokenizer("bytelevel_bpe").backend_tokenizer.to_str())
    backend.normalizer = normalizers.Lowercase()
    backend.add_tokens([AddedToken("Tool", normalized=True)])
    encoder = TextEncoder(PreTrainedTokenizerFast(tokenizer_object=backend))
    assert pieces(encoder, "tool") == [(b"tool", True)]
    assert pieces(encoder, "Tool") == [(b"Tool", False)]


def test_an_added_word_with_an_accent_is_its_own_letters_though_a_byte_level_decoder_misreads_it():
    backend = Tokenizer.from_str(tiny_tokenizer("bytelevel_bpe").backend_tokenizer.to_str())
    backend.add_tokens(["España"])
    assert vocab_of(backend).token_bytes[-1] == "España".encode()


def test_added_tokens_of_tokenizers_that_join_words_begin_with_a_space():
    backend = Tokenizer.from_str(tiny_tokenizer("wordpiece").backend_tokenizer.to_str())
    backend.add_tokens([AddedToken("<tool>", normalized=False)])
    encoder = TextEncoder(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]"))
    assert pieces(encoder, "the <tool> dog") == [
        (b"the", True),
        (b" <tool>", True),
        (b" dog", True),
    ]


def test_digits_split_before_metaspace_stand_for_a_space_and_are_declared():
    backend = Tokenizer(
        models.BPE({"▁a": 0, "▁1": 1, "▁": 2, "a": 3, "1": 4}, [("▁", "a"), ("▁", "1")])
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Metaspace()]
    )
    backend.decoder = decoders.Metaspace()
    encoder = TextEncoder(PreTrainedTokenizerFast(tokenizer_object=backend))
    assert backend.decode([0, 1, 1]) == "a 1 1"
    assert pieces(encoder, "a11") == [(b"a", True), (b"1", False), (b"1", False)]
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Digits(individual_digits=True)]
    )
    encoder = TextEncoder(PreTrainedTokenizerFast(tokenizer_object=backend))
    assert pieces(encoder, "a11") == [(b"a", True), (b"1", True), (b"1", True)]


def test_a_decoder_of_several_parts_is_run_in_their_order():
    backend = Tokenizer(models.BPE({"_a": 0, "<0x41>": 1, "b": 2}, []))
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("_", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    assert vocab_of(backend).token_bytes == (b" a", b"A", b"b")
    backend.decoder = decoders.Sequence([decoders.Replace("_", " "), decoders.Strip(" ", 1, 0)])
    assert vocab_of(backend).token_bytes == (b"a", b"<0x41>", b"b")
