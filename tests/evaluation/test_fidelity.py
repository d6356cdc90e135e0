import numpy as np
import pytest
import torch

from crosstok.alignment import align
from crosstok.evaluation import fidelity
from crosstok.ops.divergences import binary_kl
from tests.tiny import KINDS, SENTENCES

TEXTS = [*SENTENCES, ""]


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_faithful_to_itself(make_scorer, kind):
    scorer = make_scorer(kind, max_length=24)
    figures = fidelity(scorer, make_scorer(kind, tokens_per_batch=50, max_length=24), TEXTS)
    assert figures.as_json()["agreement"] == 1.0
    assert figures.total_divergence == pytest.approx(0, abs=1e-6)
    assert figures.as_json()["logprob_gap_per_byte"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("student_kind", "teacher_kind"),
    [("bytelevel_bpe", "spm_bpe"), ("unigram", "gapped"), ("gapped", "bytelevel_bpe")],
)
def test_it_equals_the_sum_over_chunks(make_scorer, naive_logprobs, student_kind, teacher_kind):
    student, teacher = make_scorer(student_kind), make_scorer(teacher_kind, seed=1)
    divergence, agreeing, gap, chunks = 0.0, 0, 0.0, 0
    for text in SENTENCES:
        spans = [scorer.encode([text])[0] for scorer in (student, teacher)]
        found = align(*spans, student.byte_vocab, teacher.byte_vocab)
        chunk_ids = found.source_chunk_ids, found.target_chunk_ids
        sums = []
        for scorer, side, ids in zip((student, teacher), spans, chunk_ids, strict=True):
            row = [scorer.start, *side.ids]
            table = naive_logprobs(scorer, row)
            tokens = table[np.arange(len(side.ids)), side.ids]
            sums.append([tokens[ids == chunk].sum() for chunk in range(found.num_chunks)])
        q, p = (torch.tensor(side) for side in sums)
        divergence += binary_kl(p, q).sum().item()
        agreeing += int(((p.exp() > 0.5) == (q.exp() > 0.5)).sum())
        gap += (p - q).abs().sum().item()
        chunks += found.num_chunks
    figures = fidelity(student, teacher, TEXTS)
    assert figures.num_chunks == chunks
    assert figures.num_agreeing == agreeing
    assert figures.total_divergence == pytest.approx(divergence, rel=1e-4)
    assert figures.total_gap == pytest.approx(gap, rel=1e-5)


def test_windows_of_both_sides_lose_no_byte(make_scorer):
    text = " ".join(SENTENCES)
    for student_length, teacher_length in [(16, 64), (64, 16), (33, 20)]:
        figures = fidelity(
            make_scorer("bytelevel_bpe", max_length=student_length),
            make_scorer("gapped", max_length=teacher_length),
            [text],
        ).as_json()
        assert figures["coverage"] == 1.0
        assert figures["bytes"] == len(text.encode())


def test_chunks_longer_than_a_window_lower_the_coverage(make_scorer):
    student = make_scorer("bytelevel_bpe", max_length=4)
    teacher = make_scorer("unigram", max_length=4)
    figures = fidelity(student, teacher, [" ".join(SENTENCES)]).as_json()
    assert 0 < figures["coverage"] <= 1.0


def test_without_a_start_token_the_first_chunk_is_left_out(make_scorer):
    text = "the dog sat and the user waited"
    figures = fidelity(make_scorer("bytelevel_bpe"), make_scorer("wordpiece", seed=1), [text])
    assert 0 < figures.num_chunk_bytes < figures.num_bytes == len(text)
    assert figures.total_divergence > 0


def test_texts_without_a_chunk_are_an_error(make_scorer):
    with pytest.raises(ValueError, match=r"no chunk of the texts .* `crosstok inspect`"):
        fidelity(make_scorer(), make_scorer("gapped"), [""])
