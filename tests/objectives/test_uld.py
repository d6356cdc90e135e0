"""ULD: worked numbers, positions, and what the definition cannot see."""

from dataclasses import replace

import pytest
import torch

from crosstok.objectives import GOLD, ULD
from crosstok.objectives.example_pairs import random_pair, same_pair, vocab_of
from tests.objectives.batches import Spelled, spelled_pair

XY = vocab_of(b"x", b"y")  # ids 2 and 3 behind bos and eos
XYZ = vocab_of(b"z", b"x", b"y")


@torch.no_grad()
def losses(pair, objective):
    return pair.loss(pair.bind(objective))


def test_the_worked_numbers():
    """(.7, .2, .1) against (.5, .4, .1, 0) is .4."""
    student = Spelled(XY, [0, 2], [[0.0, 0.1, 0.2, 0.7]])
    teacher = Spelled(XYZ, [0, 3], [[0.0, 0.0, 0.1, 0.4, 0.5]])
    loss = losses(spelled_pair(student, teacher), ULD())
    assert float(loss.total) == pytest.approx(0.4)
    assert loss.count == 1


def test_a_student_that_is_sure_of_the_wrong_token_has_no_loss():
    """What the method cannot see, and so what it must not be used for."""
    student = Spelled(XY, [0, 2], [[0.0, 0.0, 0.1, 0.9]])
    teacher = Spelled(XY, [0, 2], [[0.0, 0.0, 0.9, 0.1]])
    assert float(losses(spelled_pair(student, teacher), ULD()).total) == pytest.approx(0.0)


def test_each_position_is_between_0_and_2():
    pair = random_pair(1).scaled(30.0, 0.01)
    for objective in (ULD(), ULD(alignment="bytes")):
        loss = losses(pair, objective)
        assert 0 < float(loss.total) <= 2 * float(loss.count)


def test_padding_rows_of_the_teachers_output_matrix_add_nothing():
    pair = random_pair(2)
    head = pair.teacher.head
    kept = replace(
        pair.teacher, head=head.of(head.weight[: len(pair.teacher.byte_vocab)]), valid_ids=None
    )
    trimmed = replace(pair, teacher=kept)
    torch.testing.assert_close(losses(pair, ULD()).total, losses(trimmed, ULD()).total)


def test_answers_meet_at_their_first_trained_token_however_long_the_prompts_are():
    """Not at equal absolute positions: the two prompts differ in length."""
    row, even = [0.0, 0.1, 0.2, 0.7], [0.25] * 4
    student = Spelled(XY, [0, 2, 2, 3], [even, even, row])
    teacher = Spelled(XY, [0, 2, 3], [even, row])
    pair = spelled_pair(student, teacher)
    batch = replace(
        pair.batch,
        student_loss_mask=torch.tensor([[False, False, False, True]]),
        teacher_loss_mask=torch.tensor([[False, False, True]]),
    )
    loss = losses(replace(pair, batch=batch), ULD())
    assert loss.count == 1
    assert float(loss.total) == pytest.approx(0.0)


def test_the_shorter_answer_sets_the_number_of_positions():
    pair = random_pair(3)
    masks = pair.batch.student_loss_mask.sum(1), pair.batch.teacher_loss_mask.sum(1)
    assert losses(pair, ULD()).count == torch.minimum(*masks).sum()


def test_a_row_of_hidden_states_is_read_for_the_token_after_it():
    """The last row predicts nothing, and neither labels nor logits are rolled around."""
    pair = random_pair(3)
    (grad, _) = pair.gradients(pair.bind(ULD()))
    predicts = pair.batch.student_loss_mask.roll(-1, dims=1)
    predicts[:, -1] = False
    assert not grad[~predicts].any()
    assert grad[predicts].any()


def test_nothing_that_was_given_is_changed():
    pair = random_pair(3)
    given = [*vars(pair.batch).values(), pair.student_hidden, pair.teacher_hidden]
    before = [tensor.detach().clone() for tensor in given]
    for objective in (ULD(), ULD(alignment="bytes"), GOLD(), GOLD(hybrid=False)):
        pair.gradients(pair.bind(objective))
    assert all((now == then).all() for now, then in zip(given, before, strict=True))


def test_by_bytes_only_positions_with_the_same_text_before_them_meet():
    pair = random_pair(4)
    by_index, by_bytes = losses(pair, ULD()), losses(pair, ULD(alignment="bytes"))
    share = lambda loss: float(loss.metrics["same_text_share"][0] / loss.count)  # noqa: E731
    assert share(by_bytes) == 1
    assert share(by_index) < 0.9
    assert by_bytes.count == pair.batch.chunk_mask.sum()


def test_with_one_tokenizer_both_alignments_and_extended_gold_agree():
    pair = same_pair(5).scaled(0.5, 1.0)
    totals = [losses(pair, o).total for o in (ULD(), ULD(alignment="bytes"), GOLD(hybrid=False))]
    assert float(totals[0]) > 0.1
    torch.testing.assert_close(totals[0], totals[1])
    torch.testing.assert_close(totals[0], totals[2])


def test_a_temperature_must_be_above_0():
    with pytest.raises(ValueError, match=r"temperature must be above 0 and finite, got 0\.0"):
        ULD(temperature=0.0)
