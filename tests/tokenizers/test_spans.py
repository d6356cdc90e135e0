import copy
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from crosstok.tokenizers import TextEncoder, load_tokenizer
from tests.tiny import KINDS, tiny_tokenizer, with_chat_template


def cut(encoder: TextEncoder, text: str) -> list[tuple[str, bytes, bool]]:
    """The text tokens of a text as (piece, covered bytes, exact)."""
    (spans,) = encoder([text], add_start=False, add_end=False)
    pieces = [encoder.tokenizer.convert_ids_to_tokens(int(index)) for index in spans.ids]
    payload = text.encode()
    covered = [payload[a:b] for a, b in zip(spans.starts, spans.ends, strict=True)]
    return list(zip(pieces, covered, spans.exact.tolist(), strict=True))


def changed(kind, normalizer=None, pre_tokenizer=None) -> TextEncoder:
    """A tiny tokenizer with another normaliser or pre-tokenizer."""
    tokenizer = copy.deepcopy(tiny_tokenizer(kind))
    if normalizer is not None:
        tokenizer.backend_tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizer
    return TextEncoder(tokenizer)


def test_specials_stand_at_both_ends_without_width():
    encoder = TextEncoder(tiny_tokenizer("spm_bpe"))
    (spans,) = encoder(["the dog"])
    assert spans.specials == ((0, "bos"), (len(spans) - 1, "eos"))
    assert (spans.ids[0], spans.starts[0], spans.ends[0]) == (1, 0, 0)
    assert (spans.ids[-1], spans.starts[-1], spans.ends[-1]) == (2, 7, 7)
    (bare,) = encoder(["the dog"], add_start=False, add_end=False)
    assert bare.specials == ()
    assert bare.ids.tolist() == spans.ids[1:-1].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_text_has_no_text_tokens(kind):
    encoder = TextEncoder(tiny_tokenizer(kind))
    (spans,) = encoder([""])
    assert len(spans) == len(spans.specials)
    assert spans.num_bytes == 0
    assert encoder([]) == []


def test_a_dummy_prefix_takes_no_bytes():
    encoder = TextEncoder(tiny_tokenizer("spm_bpe"))
    assert cut(encoder, "the")[0] == ("▁the", b"the", True)
    assert cut(encoder, "狗")[:2] == [("▁", b"", True), ("<0xE7>", b"\xe7", True)]


def test_a_text_that_begins_with_spaces_has_no_dummy_prefix_under_metaspace_first():
    encoder = changed(
        "spm_bpe",
        normalizers.Sequence([]),
        pre_tokenizers.Metaspace(prepend_scheme="first", split=False),
    )
    assert cut(encoder, "the")[0] == ("▁the", b"the", True)
    assert cut(encoder, " the")[0] == ("▁the", b" the", True)


def test_the_space_marker_typed_in_a_text_becomes_a_space_and_is_not_exact():
    tokens = cut(TextEncoder(tiny_tokenizer("spm_bpe")), "▁a")
    assert b"".join(covered for _, covered, _ in tokens) == "▁a".encode()
    assert not all(exact for *_, exact in tokens)
    tokens = cut(TextEncoder(tiny_tokenizer("bytelevel_bpe")), "▁a")
    assert all(exact for *_, exact in tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_a_special_token_typed_in_a_text_is_text(kind):
    encoder = TextEncoder(tiny_tokenizer(kind))
    unknown = encoder.byte_vocab.roles.get("unk", ())
    for mark in encoder.byte_vocab.special_tokens.values():
        (spans,) = encoder([f"a {mark} b"], add_start=False, add_end=False)
        assert not set(spans.ids.tolist()) & encoder.byte_vocab.special_ids - set(unknown)


def test_added_tokens_are_text_and_a_dummy_prefix_after_them_takes_no_bytes():
    tokenizer = with_chat_template("spm_bpe", "")
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    tokens = cut(TextEncoder(tokenizer), "the<tool>dog")
    assert ("<tool>", b"<tool>", True) in tokens
    assert b"".join(covered for _, covered, _ in tokens) == b"the<tool>dog"
    assert all(exact for *_, exact in tokens)


def test_a_composed_character_covers_what_it_was_composed_from():
    encoder = changed("bytelevel_bpe", normalizers.NFC())
    tokens = cut(encoder, "cafe\u0301s\nthe")
    covered = {piece: (part, exact) for piece, part, exact in tokens}
    assert covered["Ã©"] == (b"e\xcc\x81", False)
    assert tokens[-1][2]
    assert [exact for piece, _, exact in tokens if piece != "Ã©"] == [True] * (len(tokens) - 1)


def test_of_tokens_on_one_changed_character_the_first_has_it():
    encoder = changed("bytelevel_bpe", normalizers.NFKC())
    tokens = cut(encoder, "¼ x")
    numerator, *rest = [token for token in tokens if not token[2]]
    assert numerator[1] == "¼".encode()
    assert {part for _, part, _ in rest} == {b""}
    assert tokens[-1][1:] == (b" x", True) or tokens[-1][1:] == (b"x", True)


def test_dropped_white_space_belongs_to_the_token_after_it():
    encoder = TextEncoder(tiny_tokenizer("wordpiece"))
    tokens = cut(encoder, "the\n\n dog and ")
    assert tokens[0] == ("the", b"the", True)
    assert tokens[1] == ("dog", b"\n\n dog", False)
    assert tokens[2][1:] == (b" and ", False)
    assert cut(encoder, " \n ") == []


def test_a_word_piece_is_exact_with_its_space_or_without():
    tokens = cut(TextEncoder(tiny_tokenizer("wordpiece")), "the dog, and")
    assert [part for _, part, _ in tokens] == [b"the", b" dog", b",", b" and"]
    assert all(exact for *_, exact in tokens)


def test_lower_casing_makes_only_the_changed_words_inexact():
    tokens = cut(TextEncoder(tiny_tokenizer("wordpiece")), "The dog")
    assert tokens == [("the", b"The", False), ("dog", b" dog", True)]


def test_an_unknown_token_covers_its_characters_and_is_not_exact():
    tokens = cut(TextEncoder(tiny_tokenizer("wordpiece")), "the 😀 dog")
    assert tokens[1] == ("[UNK]", " 😀".encode(), False)
    assert tokens[2] == ("dog", b" dog", True)


def test_a_lone_surrogate_is_an_error_that_says_where():
    encoder = TextEncoder(tiny_tokenizer("bytelevel_bpe"))
    with pytest.raises(ValueError, match=r"text 1 holds the lone surrogate U\+D83D at character 2"):
        encoder(["fine", "ab\ud83d"])


def test_what_is_not_a_list_of_texts_is_refused():
    encoder = TextEncoder(tiny_tokenizer("bytelevel_bpe"))
    with pytest.raises(TypeError, match="a list of texts"):
        encoder("a text")
    with pytest.raises(TypeError, match="text 1 is NoneType"):
        encoder(["a", None])


@pytest.mark.parametrize("kind", KINDS)
def test_a_pickled_encoder_gives_the_same_spans(kind):
    encoder = TextEncoder(tiny_tokenizer(kind))
    again = pickle.loads(pickle.dumps(encoder))
    for one, other in zip(encoder(["Le café", "ﬁ"]), again(["Le café", "ﬁ"]), strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        assert one.ends.tolist() == other.ends.tolist()
    assert again.byte_vocab.same_as(encoder.byte_vocab)


def test_truncation_padding_and_post_processing_of_the_tokenizer_do_not_matter():
    tokenizer = copy.deepcopy(tiny_tokenizer("spm_bpe"))
    text = "the dog and the fox " * 5
    (plain,) = TextEncoder(tokenizer)([text])
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding(length=100)
    tokenizer.backend_tokenizer.post_processor = None
    before = tokenizer.backend_tokenizer.to_str()
    (spans,) = TextEncoder(tokenizer)([text])
    assert spans.ids.tolist() == plain.ids.tolist()
    assert tokenizer.backend_tokenizer.to_str() == before
    assert not tokenizer.backend_tokenizer.encode_special_tokens


def test_long_texts_take_linear_time_also_where_they_were_changed():
    encoder = TextEncoder(tiny_tokenizer("wordpiece"))
    text = "The cafe\u0301 ﬁlls, ÉCOLE and 猫\n" * 900

    def seconds(size: int) -> float:
        best = float("inf")
        for _ in range(3):
            begin = time.perf_counter()
            encoder([text[:size]])
            best = min(best, time.perf_counter() - begin)
        return best

    assert seconds(24_000) < 16 * seconds(6_000)


def test_ids_do_not_move_when_specials_stand_between_added_tokens(shared: Path):
    tokenizer = load_tokenizer(str(shared / "data" / "tokenizers" / "qwen2.5"))
    encoder = TextEncoder(tokenizer)
    (spans,) = encoder(["<tool_call>{}</tool_call><|im_end|>"], add_start=False, add_end=False)
    assert spans.ids[0] == tokenizer.convert_tokens_to_ids("<tool_call>")
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") not in spans.ids
    assert spans.exact.all()
    assert spans.ids.dtype == np.int64


def test_a_backend_without_normaliser_is_shared_not_changed():
    backend = Tokenizer.from_str(tiny_tokenizer("gapped").backend_tokenizer.to_str())
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    (spans,) = TextEncoder(tokenizer)(["<|endofprompt|> the"])
    assert not set(spans.ids.tolist()) & {520, 521, 540}
    assert tokenizer("<|endofprompt|>")["input_ids"] == [540]
