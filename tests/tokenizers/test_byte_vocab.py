import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from crosstok.tokenizers import ByteVocab, load_tokenizer
from crosstok.tokenizers.decoders import BYTE_ALPHABET
from tests.tiny import KINDS, tiny_tokenizer


def vocab_of(kind) -> ByteVocab:
    return ByteVocab.from_tokenizer(tiny_tokenizer(kind))


def id_of(kind, piece: str) -> int:
    return tiny_tokenizer(kind).backend_tokenizer.token_to_id(piece)


def test_the_byte_alphabet_is_the_one_of_the_tokenizers_library():
    from tokenizers.pre_tokenizers import ByteLevel

    assert set(BYTE_ALPHABET.values()) == set(ByteLevel.alphabet())
    shown = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(" \n\x00é")
    assert [
        (piece, "".join(BYTE_ALPHABET[b] for b in " \n\x00é".encode())) for piece, _ in shown
    ] == [("ĠĊĀÃ©", "ĠĊĀÃ©")]


def test_byte_level_pieces_are_read_through_the_alphabet():
    vocab = vocab_of("bytelevel_bpe")
    assert vocab.token_bytes[id_of("bytelevel_bpe", "Ġthe")] == b" the"
    assert vocab.token_bytes[id_of("bytelevel_bpe", "Ã")] == b"\xc3"
    assert sum(len(piece or b"") == 1 for piece in vocab.token_bytes) == 256


def test_sentencepiece_pieces_have_spaces_and_single_bytes():
    for kind in ("spm_bpe", "unigram"):
        vocab = vocab_of(kind)
        assert vocab.token_bytes[id_of(kind, "▁the")] == b" the"
        assert vocab.token_bytes[id_of(kind, "<0xC3>")] == b"\xc3"
        assert vocab.ids_of(b"a") == (id_of(kind, "a"), id_of(kind, "<0x61>"))
        assert vocab.ids_of(b"no such token") == ()


def test_without_byte_fallback_a_byte_piece_is_ordinary_text():
    backend = Tokenizer(models.BPE({"<0x41>": 0, "A": 1}, []))
    vocab = ByteVocab.from_tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend))
    assert vocab.token_bytes == (b"<0x41>", b"A")


def test_a_word_piece_begins_with_a_space_unless_it_continues_a_word():
    vocab = vocab_of("wordpiece")
    assert vocab.token_bytes[id_of("wordpiece", "the")] == b" the"
    assert vocab.token_bytes[id_of("wordpiece", "##e")] == b"e"


def test_added_tokens_are_their_text_and_special_ones_have_no_bytes():
    backend = Tokenizer.from_str(tiny_tokenizer("bytelevel_bpe").backend_tokenizer.to_str())
    backend.add_tokens(["<tool call é>", AddedToken("  ", normalized=False)])
    backend.add_special_tokens(["<|eot|>"])
    vocab = ByteVocab.from_tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend))
    assert vocab.token_bytes[512:] == ("<tool call é>".encode(), b"  ", None)
    assert vocab.special_tokens[514] == "<|eot|>"
    assert 514 in vocab.special_ids


def test_an_added_token_that_is_a_piece_of_the_model_is_read_as_the_model_does():
    backend = Tokenizer(models.BPE({"▁▁": 0, "a": 1}, [], byte_fallback=True))
    backend.decoder = decoders.Replace("▁", " ")
    backend.add_tokens(["▁▁"])
    vocab = ByteVocab.from_tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend))
    assert vocab.token_bytes == (b"  ", b"a")


def test_gaps_in_the_ids_have_neither_bytes_nor_a_role():
    vocab = vocab_of("gapped")
    assert len(vocab) == 541
    assert vocab.special_ids == {520, 521, 540}
    assert set(vocab.token_bytes[512:]) == {None}
    assert vocab.document_start == vocab.document_end == 520


def test_document_marks_fall_back_from_bos_to_eos_to_none():
    assert (vocab_of("spm_bpe").document_start, vocab_of("spm_bpe").document_end) == (1, 2)
    assert (vocab_of("unigram").document_start, vocab_of("unigram").document_end) == (1, 1)
    assert (vocab_of("wordpiece").document_start, vocab_of("wordpiece").document_end) == (None,) * 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_boundary_mask_holds_space_newline_tab_and_specials(kind):
    vocab = vocab_of(kind)
    mask = vocab.boundary_mask(len(vocab) + 7)
    assert mask.dtype == np.bool_
    assert not mask[len(vocab) :].any()
    for index, content in enumerate(vocab.token_bytes):
        starts = content is not None and content.startswith((b" ", b"\n", b"\t"))
        assert mask[index] == (starts or index in vocab.special_ids)
    assert (vocab.boundary_mask() == mask[: len(vocab)]).all()
    needed = vocab.num_rows_needed
    with pytest.raises(ValueError, match=f"size {needed - 1}.*at least {needed}"):
        vocab.boundary_mask(vocab.num_rows_needed - 1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_token_mask_leaves_out_gaps_and_rows_that_pad(kind):
    vocab = vocab_of(kind)
    mask = vocab.token_mask(len(vocab) + 7)
    assert set(np.flatnonzero(mask)) == set(tiny_tokenizer(kind).get_vocab().values())
    assert (vocab.token_mask() == mask[: len(vocab)]).all()
    with pytest.raises(ValueError, match=r"token_mask got size .* ids up to"):
        vocab.token_mask(vocab.num_rows_needed - 1)


def test_same_as_compares_bytes_and_specials_never_sizes():
    vocab = vocab_of("bytelevel_bpe")
    assert vocab.same_as(pickle.loads(pickle.dumps(vocab)))
    assert vocab.same_as(replace(vocab, roles={}))
    swapped = list(vocab.token_bytes)
    swapped[10], swapped[11] = swapped[11], swapped[10]
    assert not vocab.same_as(replace(vocab, token_bytes=tuple(swapped)))
    assert not vocab.same_as(replace(vocab, special_tokens={0: "<s>", 1: "<|pad|>"}))
    assert not vocab.same_as(vocab_of("gapped"))


def test_a_tokenizer_without_a_fast_backend_is_refused():
    with pytest.raises(ValueError, match="no fast backend"):
        ByteVocab.from_tokenizer(object())


def test_known_pieces_of_real_tokenizers(shared: Path):
    folder = shared / "data" / "tokenizers"
    gpt2 = load_tokenizer(str(folder / "gpt2"))
    llama = load_tokenizer(str(folder / "tinyllama"))
    assert (
        ByteVocab.from_tokenizer(gpt2).token_bytes[gpt2.convert_tokens_to_ids("Ġhello")]
        == b" hello"
    )
    vocab = ByteVocab.from_tokenizer(llama)
    assert vocab.token_bytes[llama.convert_tokens_to_ids("<0x0A>")] == b"\n"


def test_overlap_by_true_bytes_of_real_tokenizers(shared: Path):
    names = {
        "gpt2": "gpt2",
        "qwen": "qwen2.5",
        "llama": "tinyllama",
        "mistral": "mistral-7b-instruct-v0.2",
    }
    contents = {}
    for short, name in names.items():
        tokenizer = load_tokenizer(str(shared / "data" / "tokenizers" / name))
        contents[short] = set(ByteVocab.from_tokenizer(tokenizer).token_bytes) - {None}
    expected = {
        ("gpt2", "qwen"): 42_256,
        ("gpt2", "llama"): 18_207,
        ("gpt2", "mistral"): 21_240,
        ("qwen", "llama"): 26_342,
        ("qwen", "mistral"): 29_234,
        ("llama", "mistral"): 24_085,
    }
    found = {(one, other): len(contents[one] & contents[other]) for one, other in expected}
    assert found == expected
