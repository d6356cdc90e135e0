"""Strict: worked numbers, what gets no gradient, and what must not matter."""

from dataclasses import replace
from math import log

import pytest
import torch
from torch.nn.functional import pad

from crosstok.objectives import Strict
from crosstok.objectives.example_pairs import (
    STUDENT_VOCAB,
    TEACHER_VOCAB,
    random_pair,
    same_pair,
    view_of,
    vocab_of,
)
from crosstok.objectives.shared_ids import SharedIds
from crosstok.objectives.token_pairs import one_to_one
from tests.objectives.batches import Spelled, spelled_pair

XYW = vocab_of(b"x", b"y", b"w")
YXZ = vocab_of(b"y", b"x", b"z")


@torch.no_grad()
def losses(pair, objective):
    return pair.loss(pair.bind(objective))


def one_token_pair():
    """Shared ids are eos, x and y; w and z have no partner."""
    student = Spelled(XYW, [0, 2], [[0.0, 0.1, 0.5, 0.3, 0.1]])
    teacher = Spelled(YXZ, [0, 3], [[0.0, 0.3, 0.2, 0.2, 0.3]])
    return spelled_pair(student, teacher)


def test_the_support_is_the_students_most_likely_shared_ids():
    loss = losses(one_token_pair(), Strict(top_k=2))
    expected = 0.625 * log(0.625 / 0.5) + 0.375 * log(0.375 / 0.5)
    assert float(loss.total) == pytest.approx(expected)
    assert loss.count == 1


@pytest.mark.parametrize(
    ("divergence", "expected"),
    [
        ("reverse_kl", sum(q * log(q / p) for q, p in ((1/9, 3/7), (5/9, 2/7), (3/9, 2/7)))),
        ("forward_kl", sum(p * log(p / q) for q, p in ((1/9, 3/7), (5/9, 2/7), (3/9, 2/7)))),
    ],
)  # fmt: skip
def test_on_the_whole_shared_vocabulary_both_sides_are_renormalised(divergence, expected):
    loss = losses(one_token_pair(), Strict(top_k=None, divergence=divergence))
    assert float(loss.total) == pytest.approx(expected)


def test_a_support_as_large_as_the_shared_vocabulary_is_the_whole_of_it():
    pair = random_pair(1)
    for divergence in ("reverse_kl", "forward_kl", "jensen_shannon"):
        options = {"divergence": divergence, "temperature": 1.5}
        one, other = Strict(top_k=99, **options), Strict(top_k=None, **options)
        torch.testing.assert_close(losses(pair, one).total, losses(pair, other).total)
        grads = zip(pair.gradients(pair.bind(one)), pair.gradients(pair.bind(other)), strict=True)
        for grad, expected in grads:
            torch.testing.assert_close(grad, expected)


def test_with_one_tokenizer_it_is_the_kl_of_full_distributions():
    pair = same_pair(2).scaled(0.7, 1.0)
    logits = [
        view.head.logits(hidden.detach())
        for view, hidden in (
            (pair.student, pair.student_hidden[:, :-1]),
            (pair.teacher, pair.teacher_hidden[:, :-1]),
        )
    ]
    q, p = (side.log_softmax(-1) for side in logits)
    full = (q.exp() * (q - p)).sum(-1)[pair.batch.student_loss_mask[:, 1:]].sum()
    loss = losses(pair, Strict(top_k=None))
    torch.testing.assert_close(loss.total, full, rtol=1e-6, atol=0)
    assert loss.metrics["one_to_one_share"][0] == loss.metrics["one_to_one_share"][1]


@pytest.mark.parametrize("top_k", [3, 16, None])
def test_ids_outside_the_shared_vocabulary_get_no_gradient_at_all(top_k):
    """Exactly 0: nothing pushes the probability of w up or down (GOLD of TRL does)."""
    pair = one_token_pair()
    (grad, _) = pair.gradients(pair.bind(Strict(top_k=top_k)))
    assert grad[0, 0, [1, 2, 3]].all()
    assert not grad[0, 0, [0, 4]].any()


def test_a_row_gets_as_many_logits_gradients_as_the_support_has_ids():
    pair = one_token_pair()
    (grad, _) = pair.gradients(pair.bind(Strict(top_k=2)))
    assert (grad[0, 0] != 0).tolist() == [False, False, True, True, False]


def test_a_token_that_one_side_alone_has_changes_nothing():
    """Such as a bos: it is in no chunk, and the rest moves on by one."""
    pair = random_pair(3)
    moved = {}
    for name, value in vars(pair.batch).items():
        if name.startswith("teacher"):
            value = pad(value, (1, 0), value=-1 if name.endswith("chunk_ids") else 0)
        moved[name] = value
    moved["teacher_attention_mask"][:, 0] = 1
    hidden = pad(pair.teacher_hidden, (0, 0, 1, 0), value=3.0)
    later = replace(pair, batch=replace(pair.batch, **moved), teacher_hidden=hidden)
    one, other = losses(pair, Strict()), losses(later, Strict())
    torch.testing.assert_close(one.total, other.total)
    assert one.count == other.count


def test_only_one_to_one_tokens_count():
    pair = random_pair(4)
    pairs = one_to_one(pair.batch)
    assert losses(pair, Strict()).count == len(pairs)
    (grad, _) = pair.gradients(pair.bind(Strict()))
    touched = torch.zeros_like(pair.batch.student_loss_mask)
    touched[pairs.row, pairs.student - 1] = True
    assert not grad[~touched].any()


def test_the_end_of_a_document_is_distilled():
    student = Spelled(XYW, [0, 2, 1], [[0.2] * 5, [0.01, 0.01, 0.6, 0.3, 0.08]])
    teacher = Spelled(YXZ, [0, 3, 1], [[0.2] * 5, [0.01, 0.9, 0.03, 0.03, 0.03]])
    pair = spelled_pair(student, teacher)
    (grad, _) = pair.gradients(pair.bind(Strict(divergence="forward_kl")))
    assert float(grad[0, 1, 1]) < -0.5  # down the slope, the probability of eos rises


def test_tokens_are_shared_by_their_bytes_and_ends_by_their_role():
    shared = SharedIds.of(view_of(STUDENT_VOCAB, 2, 0), view_of(TEACHER_VOCAB, 2, 0, 2))
    pairs = {
        (STUDENT_VOCAB.token_bytes[i], TEACHER_VOCAB.token_bytes[j])
        for i, j in zip(shared.student.tolist(), shared.teacher.tolist(), strict=True)
    }
    assert pairs == {(None, None), *((t, t) for t in (b"a", b"b", b" ", b"ab", b" a"))}
    assert sorted([*shared.student.tolist(), *shared.student_others.tolist()]) == list(range(9))
    assert sorted([*shared.teacher.tolist(), *shared.teacher_others.tolist()]) == list(range(12))


def test_the_metrics_are_the_share_of_tokens_and_of_the_teachers_mass():
    loss = losses(one_token_pair(), Strict())
    metrics = {name: float(total / count) for name, (total, count) in loss.metrics.items()}
    assert metrics == {"one_to_one_share": 1.0, "shared_mass_teacher": pytest.approx(0.7)}


def test_vocabularies_without_a_common_token_are_refused():
    no_ends = replace(vocab_of(b"x"), roles={})
    student, teacher = view_of(no_ends, 2, 0), view_of(vocab_of(b"y"), 2, 0)
    with pytest.raises(ValueError, match="share no token"):
        Strict().bind(student, teacher)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"top_k": 1}, "top_k must be at least 2"), ({"temperature": -1.0}, "temperature must be")],
)
def test_values_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Strict(**options)
