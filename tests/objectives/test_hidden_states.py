"""Hidden states at chunk ends: positions, scale, projection."""

from dataclasses import replace

import pytest
import torch

from crosstok.models import Scores
from crosstok.objectives import HiddenStates
from crosstok.objectives.example_pairs import random_pair, same_pair
from crosstok.objectives.hidden_states import PRIOR
from tests.objectives.batches import batch_of


def scores_with(hidden):
    silence = torch.zeros(hidden.shape[:2], dtype=hidden.dtype)
    return Scores(silence, None, hidden)


def test_a_worked_number():
    """Chunks end at tokens 1 and 3; the teacher's squares there are (1, 4) and (9, 0)."""
    batch = batch_of([[-1, 0, 1, 1]], [[-1, 0, 1, 1]], 2)
    teacher = torch.tensor([[[7.0, 7], [1, 2], [7, 7], [3, 0]]])
    student = torch.tensor([[[5.0, 5], [0, 2], [5, 5], [3, 1]]])
    loss = same_pair(0).bind(HiddenStates())(batch, scores_with(student), scores_with(teacher))
    prior = (1 + 4 + 9 + 0) / 4
    scale = [(10 + PRIOR * prior) / (2 + PRIOR), (4 + PRIOR * prior) / (2 + PRIOR)]
    assert float(loss.total) == pytest.approx((1 / scale[0] + 1 / scale[1]) / 2)
    assert float(loss.count) == 2


def test_the_state_after_the_last_token_of_a_chunk_counts():
    pair = random_pair(1)
    bound = pair.bind(HiddenStates())
    grad = torch.autograd.grad(pair.loss(bound).total, pair.student_hidden)[0]
    ends = set()
    for row, mask in enumerate(pair.batch.chunk_mask):
        for chunk in mask.nonzero().flatten().tolist():
            ends.add((row, int((pair.batch.student_chunk_ids[row] == chunk).nonzero().max())))
    assert {tuple(place) for place in grad.any(-1).nonzero().tolist()} == ends


def test_the_unit_of_the_teachers_states_does_not_matter():
    pair = same_pair(4)
    with torch.no_grad():
        pair.student_hidden.add_(0.3)
    bound = pair.bind(HiddenStates())
    before = pair.loss(bound).total
    torch.testing.assert_close(pair.scaled(50.0, 50.0).loss(bound).total, before)


def test_a_loud_channel_does_not_drown_the_others():
    pair = same_pair(4, rows=1, num_bytes=400)
    loud = torch.tensor([1000.0, 1, 1, 1, 1, 1]).double()
    teacher = pair.teacher_hidden * loud
    student = teacher.clone().requires_grad_()
    pair = replace(pair, teacher_hidden=teacher, student_hidden=student)
    bound = pair.bind(HiddenStates())

    def off_by_a_tenth(channel):
        moved = student.detach().clone()
        moved[..., channel] *= 1.1
        return float(replace(pair, student_hidden=moved).loss(bound).total)

    # By plain squared error the loud channel would be a million times as heavy as another.
    assert off_by_a_tenth(0) > off_by_a_tenth(1)
    assert off_by_a_tenth(0) < 1e5 * off_by_a_tenth(1)


def test_a_state_of_zero_costs_about_one():
    pair = random_pair(3, rows=8, num_bytes=60)
    nothing = replace(pair, student_hidden=torch.zeros_like(pair.student_hidden))
    loss = nothing.loss(nothing.bind(HiddenStates()))
    assert float(loss.total.detach() / loss.count) == pytest.approx(1, abs=0.2)


def test_equal_widths_need_no_projector():
    assert not list(same_pair(0).bind(HiddenStates()).parameters())


def test_a_projector_can_be_asked_for_and_starts_as_the_identity_for_one_model():
    bound = same_pair(0).bind(HiddenStates(project="always"))
    torch.testing.assert_close(bound.projector.weight, torch.eye(6, dtype=torch.float64))
    assert bound.learning_rate == 1e-3


def test_another_width_is_projected_to_the_teachers():
    pair = random_pair(0)
    bound = pair.bind(HiddenStates(learning_rate=0.02))
    assert bound.projector.weight.shape == (8, 6)
    optimizer = torch.optim.Adam(bound.parameters(), lr=bound.learning_rate)
    before = float(pair.loss(bound).total.detach())
    for _ in range(30):
        optimizer.zero_grad()
        pair.loss(bound).total.backward()
        optimizer.step()
    assert float(pair.loss(bound).total.detach()) < 0.9 * before


def test_vocabularies_without_a_common_token_cannot_start_a_projector():
    pair = random_pair(0)
    vocab = replace(
        pair.teacher.byte_vocab,
        token_bytes=(None, None, *(b"z%d" % i for i in range(10))),
        roles={"bos": (0,)},
    )
    with pytest.raises(ValueError, match="share no token"):
        HiddenStates().bind(pair.student, replace(pair.teacher, byte_vocab=vocab))


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="learning_rate must be above 0"):
        HiddenStates(learning_rate=0.0)
