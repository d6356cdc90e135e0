import pytest

from crosstok.alignment import align
from crosstok.reports import PairCounts, compare_tokenizers
from crosstok.tokenizers import TextEncoder, shared_texts
from tests.texts import SAMPLE
from tests.tiny import LOSSLESS_KINDS, tiny_tokenizer

ENCODERS = {kind: TextEncoder(tiny_tokenizer(kind)) for kind in (*LOSSLESS_KINDS, "wordpiece")}
FILES = {"one": ["Hello world", "the café", ""], "two": [SAMPLE]}


@pytest.mark.parametrize("other", ["spm_bpe", "wordpiece"])
def test_the_numbers_are_those_of_a_plain_count(other):
    source, target = ENCODERS["bytelevel_bpe"], ENCODERS[other]
    numbers = compare_tokenizers(source, target, FILES).as_json()
    num_bytes = covered = chunks = one_to_one = comparable = 0
    for text in shared_texts([*FILES["one"], *FILES["two"]], source, target):
        ours = source([text], add_start=False, add_end=False)[0]
        theirs = target([text], add_start=False, add_end=False)[0]
        alignment = align(ours, theirs, source.byte_vocab, target.byte_vocab)
        num_bytes += len(text.encode())
        chunks += alignment.num_chunks
        for chunk in range(alignment.num_chunks):
            covered += alignment.chunk_ends[chunk] - alignment.chunk_starts[chunk]
            sizes = [
                int((ids == chunk).sum())
                for ids in (alignment.source_chunk_ids, alignment.target_chunk_ids)
            ]
            one_to_one += sizes == [1, 1]
        for byte in range(len(text.encode())):
            comparable += all(
                spans.exact[(spans.starts <= byte) & (byte < spans.ends)].all()
                for spans in (ours, theirs)
            )
    assert numbers["bytes"] == num_bytes
    assert numbers["coverage"] == pytest.approx(covered / num_bytes)
    assert numbers["comparable"] == pytest.approx(comparable / num_bytes)
    assert numbers["chunks"] == chunks
    assert numbers["one_to_one_share"] == pytest.approx(one_to_one / chunks)


def test_one_tokenizer_with_itself_is_one_to_one():
    encoder = ENCODERS["unigram"]
    numbers = compare_tokenizers(encoder, encoder, FILES).as_json()
    assert numbers["coverage"] == numbers["one_to_one_share"] == 1.0
    assert numbers["source_tokens"] == numbers["target_tokens"] == numbers["chunks"]


def test_files_are_counted_apart_and_together():
    source, target = ENCODERS["bytelevel_bpe"], ENCODERS["spm_bpe"]
    report = compare_tokenizers(source, target, FILES)
    assert list(report.as_json()["coverage_by_file"]) == ["one", "two"]
    assert report.total == PairCounts.sum(report.by_file.values())
    assert report.total.num_bytes == sum(len(t.encode()) for f in FILES.values() for t in f)


def test_nothing_counts_as_covered():
    report = compare_tokenizers(ENCODERS["unigram"], ENCODERS["spm_bpe"], {"empty": [""]})
    assert (report.total.coverage, report.total.one_to_one_share) == (1.0, 0.0)
