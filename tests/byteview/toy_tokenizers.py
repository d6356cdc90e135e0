"""Tokenizers of a dozen tokens, small enough to write down every token sequence of a short text."""

from __future__ import annotations

from functools import cache
from typing import Literal

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

Toy = Literal["bpe", "bpe_words", "bpe_bytes", "unigram", "unigram_words", "wordpiece"]
TOYS: tuple[Toy, ...] = ("bpe", "bpe_words", "bpe_bytes", "unigram", "unigram_words", "wordpiece")

# Characters that each can spell.
ALPHABETS: dict[Toy, str] = {
    "bpe": "abc",
    "bpe_words": "ab ",
    "bpe_bytes": "aéÀ",
    "unigram": "abc",
    "unigram_words": "ab ",
    "wordpiece": "ab",
}


@cache
def toy_tokenizer(toy: Toy) -> PreTrainedTokenizerFast:
    """One of them; the same object every time.

    bpe            merges and nothing else
    bpe_words      byte-level, split into words as GPT-2 does
    bpe_bytes      byte-level; é is one token or two bytes, the A with a grave is two bytes
    unigram        pieces without marks
    unigram_words  pieces with a mark for the space, which every text begins with
    wordpiece      longest match first, with ## inside of words
    """
    backend = _BACKENDS[toy]()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<e>", bos_token="<s>", unk_token="<u>"
    )


def _bpe(pieces: list[str], merges: list[tuple[str, str]]) -> Tokenizer:
    pieces = ["<s>", "<e>", "<u>", *pieces, *(a + b for a, b in merges)]
    vocab = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    return Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<u>"))


def _plain() -> Tokenizer:
    merges = [("a", "b"), ("b", "c"), ("ab", "c"), ("a", "a"), ("bc", "a"), ("ab", "ab")]
    return _bpe(["a", "b", "c"], merges)


def _words() -> Tokenizer:
    merges = [("Ġ", "a"), ("a", "b"), ("Ġ", "Ġ"), ("Ġa", "b"), ("b", "b"), ("ab", "b")]
    backend = _bpe(["a", "b", "Ġ"], merges)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def _bytes() -> Tokenizer:
    backend = _bpe(["a", "Ã", "©", "Ģ"], [("Ã", "©"), ("©", "a"), ("Ģ", "Ã"), ("Ã©", "a")])
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def _unigram(pieces: dict[str, float]) -> Tokenizer:
    vocab = [(special, 0.0) for special in ("<s>", "<e>", "<u>")]
    return Tokenizer(models.Unigram([*vocab, *pieces.items()], unk_id=2))


def _unigram_plain() -> Tokenizer:
    scores = {"a": -2.1, "b": -2.3, "c": -2.7, "ab": -3.3, "bc": -5.9, "abc": -5.5, "ca": -3.1}
    return _unigram(scores | {"bca": -6.3, "aa": -4.4})


def _unigram_words() -> Tokenizer:
    scores = {"▁": -1.3, "a": -2.1, "b": -2.3, "▁a": -2.9, "▁ab": -5.7, "ab": -3.5, "ba": -4.7}
    backend = _unigram(scores | {"aba": -6.1, "▁▁": -2.8})
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return backend


def _wordpiece() -> Tokenizer:
    pieces = ["<s>", "<e>", "<u>", "a", "b", "##a", "##b", "ab", "##ab", "aba", "##bb"]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    backend = Tokenizer(models.WordPiece(vocab=vocab, unk_token="<u>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.decoder = decoders.WordPiece()
    return backend


_BACKENDS = {
    "bpe": _plain,
    "bpe_words": _words,
    "bpe_bytes": _bytes,
    "unigram": _unigram_plain,
    "unigram_words": _unigram_words,
    "wordpiece": _wordpiece,
}
