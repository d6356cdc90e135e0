"""Tokenizers that leave out what most have: an unknown token, specials, the same ids every time."""

from __future__ import annotations

import json

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.tiny import tiny_tokenizer

DNA = "GATTACA ACGT"


def with_dropout(dropout: float = 0.3) -> PreTrainedTokenizerFast:
    """The byte-level tokenizer with BPE dropout in its file."""
    tokenizer = tiny_tokenizer("bytelevel_bpe")
    description = json.loads(tokenizer.backend_tokenizer.to_str())
    description["model"]["dropout"] = dropout
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(description)), eos_token="<|endoftext|>"
    )


def unigram_without_unk(**names: str) -> PreTrainedTokenizerFast:
    """Letters of DNA, and nothing for any other character."""
    pieces = ["<eos>", "▁", "A", "C", "G", "T", "▁ACGT", "GATT"]
    backend = Tokenizer(models.Unigram([(piece, -float(i)) for i, piece in enumerate(pieces)]))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def words_without_unk(**names: str) -> PreTrainedTokenizerFast:
    """Whole words of DNA, and nothing for any other word."""
    vocab = {piece: i for i, piece in enumerate(["<eos>", "GATTACA", "ACGT", "A"])}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="<none>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def word_pieces_without_unk(**names: str) -> PreTrainedTokenizerFast:
    """Pieces of DNA with ## marks, and nothing for any other word."""
    pieces = ["<eos>", "A", "C", "G", "T", "##A", "##C", "##G", "##T", "##TTA"]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    backend = Tokenizer(models.WordPiece(vocab, unk_token="<none>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def bpe_of_letters(**names: str) -> PreTrainedTokenizerFast:
    """BPE over the letters of DNA; other characters are dropped."""
    vocab = {piece: i for i, piece in enumerate(["<eos>", "A", "C", "G", "T", " ", "AC"])}
    backend = Tokenizer(models.BPE(vocab, [("A", "C")]))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


BARE = (unigram_without_unk, words_without_unk, word_pieces_without_unk, bpe_of_letters)
