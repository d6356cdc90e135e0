"""Every ordered pair of real tokenizers on text in many scripts and on code."""

import itertools
import json
import lzma
from pathlib import Path

import pytest

from crosstok.alignment import align_batch, overlapping_tokens
from crosstok.reports import PairCounts
from crosstok.tokenizers import TextEncoder, load_tokenizer, shared_texts

LANGUAGES = ("amh", "arb", "ell", "eng", "hin", "jpn", "kat", "khm", "kor", "rus", "tha", "vie",
             "yor", "zho-CN")  # fmt: skip
NORMALISING = {"bert-base-uncased", "t5"}  # lower case and accents; NFKC, white space, unknowns
NUM_LINES = 50
NUM_FILES = 30
NUM_CHARACTERS = 3_000


@pytest.fixture(scope="module")
def encoders(shared: Path) -> dict[str, TextEncoder]:
    folders = sorted((shared / "data" / "tokenizers").iterdir())
    return {f.name: TextEncoder(load_tokenizer(str(f))) for f in folders if f.is_dir()}


@pytest.fixture(scope="module")
def texts(shared: Path) -> list[str]:
    corpora = shared / "data" / "corpora"
    found = []
    for language in LANGUAGES:
        with lzma.open(corpora / "multilingual_ntrex" / f"{language}.txt.xz", "rt") as lines:
            found += [line.rstrip("\n") for line in itertools.islice(lines, NUM_LINES)]
    with lzma.open(corpora / "python_stdlib_3.11" / "stdlib.jsonl.xz", "rt") as lines:
        rows = [
            json.loads(line)["text"][:NUM_CHARACTERS] for line in itertools.islice(lines, NUM_FILES)
        ]
    return found + rows


@pytest.fixture(scope="module")
def spans(encoders, texts):
    """Spans by tokenizer and text; of the texts as they are, and as they are read in some pair."""
    pairs = itertools.combinations(encoders.values(), 2)
    read = itertools.chain.from_iterable(shared_texts(texts, *pair) for pair in pairs)
    different = list(dict.fromkeys([*texts, *read]))
    return {
        name: dict(zip(different, encoder(different, add_start=False, add_end=False), strict=True))
        for name, encoder in encoders.items()
    }


def chunk_bytes(spans, chunk_ids, num_chunks, vocab) -> list[bytes]:
    """What the tokens of each chunk spell, from the vocabulary alone."""
    spelled = [b""] * num_chunks
    for token, chunk in enumerate(chunk_ids.tolist()):
        if chunk >= 0:
            piece = vocab.token_bytes[spans.ids[token]]
            width = spans.ends[token] - spans.starts[token]
            is_prefixed = spans.exact[token] and len(piece) == width + 1  # a space of its own
            spelled[chunk] += piece.removeprefix(b" ") if is_prefixed else piece
    return spelled


def test_every_ordered_pair_covers_what_can_be_compared(encoders, spans, texts):
    assert len(encoders) >= 11
    for one, other in itertools.permutations(encoders, 2):
        sides = encoders[one], encoders[other]
        read = shared_texts(texts, *sides)
        sources, targets = (
            [spans[one][text] for text in read],
            [spans[other][text] for text in read],
        )
        counts = PairCounts()
        alignments = align_batch(sources, targets, *(side.byte_vocab for side in sides))
        for row in zip(sources, targets, alignments, strict=True):
            counts.add(*row)
        if NORMALISING & {one, other}:
            assert counts.coverage >= 0.8 * counts.comparable, (one, other)
        else:
            assert counts.comparable == 1.0, (one, other)
            assert counts.coverage >= 0.999, (one, other)


def test_some_texts_are_not_in_nfc(encoders, texts):
    assert shared_texts(texts, *encoders.values()) != texts


def test_the_bytes_of_a_chunk_are_equal_on_both_sides(encoders, spans, texts):
    for one, other in itertools.permutations(encoders, 2):
        vocabs = encoders[one].byte_vocab, encoders[other].byte_vocab
        for text in shared_texts(texts[::23], encoders[one], encoders[other]):
            ours, theirs = spans[one][text], spans[other][text]
            alignment = align_batch([ours], [theirs], *vocabs)[0]
            num = alignment.num_chunks
            left = chunk_bytes(ours, alignment.source_chunk_ids, num, vocabs[0])
            assert left == chunk_bytes(theirs, alignment.target_chunk_ids, num, vocabs[1])
            if not NORMALISING & {one, other}:
                assert b"".join(left) == text.encode()


@pytest.mark.parametrize(
    ("one", "other", "count"),
    [("gpt2", "tinyllama", 18_207), ("gpt2", "mistral-7b-instruct-v0.2", 21_240)],
)
def test_known_overlaps(encoders, one, other, count):
    vocabs = encoders[one].byte_vocab, encoders[other].byte_vocab
    assert len(overlapping_tokens(*vocabs)) == len(overlapping_tokens(*vocabs[::-1])) == count
