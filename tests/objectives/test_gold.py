"""GOLD: worked numbers, and the behaviours in which TRL's loss goes wrong."""

from math import log

import pytest
import torch
from torch.nn.functional import pad

from crosstok.objectives import GOLD
from crosstok.objectives.example_pairs import random_pair, same_pair, vocab_of
from crosstok.objectives.gold import earlier_tokens, log_complement
from crosstok.objectives.token_pairs import chunk_ends
from tests.objectives.batches import Spelled, spelled_pair

XY = vocab_of(b"x", b"y")
MERGED = vocab_of(b"xy", b"z")
XYW = vocab_of(b"x", b"y", b"w")
YXZ = vocab_of(b"y", b"x", b"z")

# p(x) = .9, p(y | x) = .8, and a next row in which nothing is sure.
TWO_TOKENS = Spelled(XY, [0, 2, 3], [[0.0, 0.0, 0.9, 0.1], [0.0, 0.0, 0.2, 0.8], [0, 0, 0.5, 0.5]])


@torch.no_grad()
def losses(pair, objective):
    return pair.loss(pair.bind(objective))


def unmatched_pair(rest_of_student):
    """One token; w, without a partner, has this probability, z of the teacher .3."""
    left = (1 - rest_of_student) / 2
    student = Spelled(XYW, [0, 2], [[0.0, 0.0, left, left, rest_of_student]])
    teacher = Spelled(YXZ, [0, 3], [[0.0, 0.0, 0.3, 0.4, 0.3]])
    return spelled_pair(student, teacher)


def test_a_chunk_of_two_tokens_has_the_product_of_their_probabilities():
    """m(y) = .9 x .8 = .72, m(x) = .9 x .2 = .18; against (.6, .4): |.72 - .6| + |.18 - .4|."""
    teacher = Spelled(MERGED, [0, 2], [[0.0, 0.0, 0.6, 0.4]])
    loss = losses(spelled_pair(TWO_TOKENS, teacher), GOLD(hybrid=False))
    assert float(loss.total) == pytest.approx(0.12 + 0.22)
    assert loss.count == 1


def test_the_merged_probabilities_sum_to_that_of_the_earlier_tokens():
    """Against a teacher without any mass on its tokens the distance is the sum: .9."""
    teacher = Spelled(MERGED, [0, 2], [[1e-30, 1e-30, 1e-30, 1e-30]])
    pair = spelled_pair(TWO_TOKENS, teacher)
    bound = pair.bind(GOLD(hybrid=False))
    prefix = bound._prefixes(
        pair.student,
        pair.batch.student_ids,
        pair.batch.student_chunk_ids,
        chunk_ends(pair.batch),
        pair.student_scores(),
    )
    assert float(prefix.detach().exp()) == pytest.approx(0.9)


def test_rows_are_read_before_their_token_not_after_it():
    """TRL's default reads the rows one token late, and gets (.10, .40) for this chunk."""
    ours = Spelled(XY, TWO_TOKENS.ids, TWO_TOKENS.probs)
    teacher = Spelled(MERGED, [0, 2], [[0.0, 0.0, 0.72, 0.28]])
    pair = spelled_pair(ours, teacher)
    assert float(losses(pair, GOLD(hybrid=False)).total) == pytest.approx(0.28 - 0.18)
    (grad, _) = pair.gradients(pair.bind(GOLD(hybrid=False)))
    assert grad[0, :2].any(-1).all()
    assert not grad[0, 2].any()


def slow_extended(pair):
    """Sorted L1 of merged distributions, by its definition, a chunk at a time."""
    batch, total = pair.batch, 0.0
    sides = (
        (pair.student, pair.student_hidden, batch.student_ids, batch.student_chunk_ids),
        (pair.teacher, pair.teacher_hidden, batch.teacher_ids, batch.teacher_chunk_ids),
    )
    for row, chunk in batch.chunk_mask.nonzero().tolist():
        merged = []
        for view, hidden, ids, chunk_ids in sides:
            (places,) = (chunk_ids[row] == chunk).nonzero(as_tuple=True)
            probs = view.logits(hidden[row, places - 1]).softmax(-1)
            earlier = probs[:-1].gather(1, ids[row, places[:-1], None]).prod()
            merged.append((probs[-1] * earlier).sort(descending=True).values)
        size = max(map(len, merged))
        one, other = (pad(side, (0, size - len(side))) for side in merged)
        total = total + (one - other).abs().sum()
    return total


def test_the_extended_form_and_its_gradient_are_their_definition():
    pair = random_pair(1)
    slow = slow_extended(pair)
    bound = pair.bind(GOLD(hybrid=False))
    torch.testing.assert_close(pair.loss(bound).total, slow)
    slow_grads = torch.autograd.grad(slow, [pair.student_hidden, pair.student.head.weight])
    for grad, expected in zip(pair.gradients(bound), slow_grads, strict=True):
        torch.testing.assert_close(grad, expected)


def test_with_one_tokenizer_the_hybrid_form_is_the_jsd_of_full_distributions():
    pair = same_pair(2).scaled(0.7, 1.0)
    loss = losses(pair, GOLD())
    mask = pair.batch.student_loss_mask[:, 1:]
    q, p = (
        view.head.logits(hidden.detach()[:, :-1]).softmax(-1)[mask]
        for view, hidden in (
            (pair.student, pair.student_hidden),
            (pair.teacher, pair.teacher_hidden),
        )
    )
    m = (p + q) / 2
    expected = 0.5 * ((p * (p / m).log()).sum() + (q * (q / m).log()).sum())
    torch.testing.assert_close(loss.total, expected)
    assert float(loss.metrics["unmatched"][0]) == 0
    assert loss.count == mask.sum()


def test_the_rest_is_one_class_of_the_divergence():
    """Forward KL of (.4, .3 | .3) to (.35, .35 | .3), nothing else."""
    loss = losses(unmatched_pair(0.3), GOLD(beta=0.0, matched_weight=1.0))
    assert float(loss.total) == pytest.approx(0.4 * log(0.4 / 0.35) + 0.3 * log(0.3 / 0.35))


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_ids_without_a_partner_are_not_pushed_down(beta):
    """TRL's forward KL pushes w with p_S(w) x the teacher's matched mass: .3 x .7 = .21.

    Here w is drawn towards .3, the teacher's rest, from either side; at .3 the forward KL gives it
    nothing, and the others the small rise that all ids have which are right where others are not.
    """
    objective = GOLD(beta=beta, matched_weight=1.0)
    slopes = []
    for rest in (0.2, 0.3, 0.4):
        pair = unmatched_pair(rest)
        slopes.append(float(pair.gradients(pair.bind(objective))[0][0, 0, 4]))
    assert slopes[0] < -1e-3
    assert -0.003 < slopes[1] < 1e-12
    assert beta > 0 or slopes[1] == pytest.approx(0.0, abs=1e-12)
    assert slopes[2] > 1e-3


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_the_divergence_is_never_below_0(beta):
    """TRL's, between parts of distributions, can be: all of the student's mass is on the rest."""
    loss = losses(unmatched_pair(0.999), GOLD(beta=beta, matched_weight=1.0))
    assert float(loss.total) > 0.1
    student = Spelled(XYW, [0, 2], [[0.0, 0.0, 0.45, 0.45, 0.1]])
    teacher = Spelled(YXZ, [0, 3], [[0.0, 0.0, 0.1, 0.1, 0.8]])
    loss = losses(spelled_pair(student, teacher), GOLD(beta=beta, matched_weight=1.0))
    assert float(loss.total) > 0.1


@pytest.mark.parametrize(
    ("matched_weight", "share"), [("mass", 0.7), ("vocabulary", 3 / 5), (0.25, 0.25)]
)
def test_the_weight_is_the_teachers_matched_mass_or_what_was_asked(matched_weight, share):
    loss = losses(unmatched_pair(0.1), GOLD(matched_weight=matched_weight))
    matched, unmatched = (float(loss.metrics[name][0]) for name in ("matched", "unmatched"))
    assert unmatched == pytest.approx(0.2)  # w has .1, z has .3
    assert float(loss.total) == pytest.approx(share * matched + (1 - share) * unmatched)
    assert float(loss.metrics["shared_mass_teacher"][0]) == pytest.approx(0.7)


def test_the_end_of_an_answer_is_kept():
    """TRL leaves out the last token on both sides: its student never learns to stop."""
    student = Spelled(XY, [0, 2, 1], [[0.25] * 4, [0.01, 0.01, 0.9, 0.08]])
    teacher = Spelled(XY, [0, 2, 1], [[0.25] * 4, [0.01, 0.9, 0.01, 0.08]])
    pair = spelled_pair(student, teacher)
    bound = pair.bind(GOLD())
    assert pair.loss(bound).count == 2
    assert float(pair.gradients(bound)[0][0, 1, 1]) < 0  # the probability of eos rises


def test_a_temperature_applies_to_earlier_tokens_too():
    """p(x) of logits halved: sqrt(.9) / (sqrt(.9) + sqrt(.1)) = .75."""
    teacher = Spelled(MERGED, [0, 2], [[0.0, 0.0, 1.0, 0.0]])
    loss = losses(spelled_pair(TWO_TOKENS, teacher), GOLD(hybrid=False, temperature=2.0))
    y = 0.75 * 0.8**0.5 / (0.8**0.5 + 0.2**0.5)
    assert float(loss.total) == pytest.approx(1 - y + 0.75 - y)


def test_earlier_tokens_are_all_but_the_last_of_each_chunk():
    chunk_ids = torch.tensor([[-1, 0, 0, 1, 2, 2, 2, -1]])
    assert earlier_tokens(chunk_ids, 3).int().tolist() == [[0, 1, 0, 0, 1, 1, 0, 0]]
    assert earlier_tokens(chunk_ids, 2).int().tolist() == [[0, 1, 0, 0, 0, 0, 0, 0]]
    assert not earlier_tokens(chunk_ids, 0).any()


def test_what_is_left_of_a_certain_chunk_is_next_to_nothing_and_has_no_slope():
    x = torch.tensor([0.0, -1e-7, log(0.25)], requires_grad=True)
    rest = log_complement(x)
    torch.testing.assert_close(rest.detach().exp(), torch.tensor([0.0, 1e-7, 0.75]))
    (grad,) = torch.autograd.grad(rest.sum(), x)
    assert grad[0] == 0
    assert grad.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 1.5}, r"beta is in \[0, 1\], got 1.5"),
        ({"matched_weight": -0.1}, r"matched_weight is in \[0, 1\], got -0.1"),
        ({"temperature": float("inf")}, "temperature must be above 0 and finite, got inf"),
    ],
)
def test_values_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GOLD(**options)
