"""MinED: the mapped target, positions, and equality with the method written out."""

import pytest
import torch

from crosstok.objectives import CrossEntropy, MinED
from crosstok.objectives.example_pairs import STUDENT_VOCAB, TEACHER_VOCAB, random_pair, same_pair
from crosstok.ops.row_divergences import row_divergence
from tests.objectives.batches import batch_of

SEEDS = range(3)


def pairs_of(batch):
    """(row, student position, teacher position) of chunks with one token on both sides."""
    found = []
    for row in range(len(batch.chunk_mask)):
        for chunk in batch.chunk_mask[row].nonzero().flatten().tolist():
            sides = [
                (ids[row] == chunk).nonzero().flatten().tolist()
                for ids in (batch.student_chunk_ids, batch.teacher_chunk_ids)
            ]
            if all(len(side) == 1 for side in sides):
                found.append((row, sides[0][0], sides[1][0]))
    return found


def slow_mined(pair, bound, temperature=1.0, top_k=None):
    """The method token by token, the target filled in one teacher token after the other."""
    total, batch = torch.zeros((), dtype=torch.float64), pair.batch
    pairs = {(row, k): j for row, k, j in pairs_of(batch)}
    for row, k in batch.student_loss_mask.nonzero().tolist():
        logits = pair.student.logits(pair.student_hidden[row, k - 1][None])[0]
        if (row, k) not in pairs:
            total = total - torch.log_softmax(logits, 0)[batch.student_ids[row, k]]
            continue
        hidden = pair.teacher_hidden[row, pairs[row, k] - 1][None]
        theirs = pair.teacher.logits(hidden)[0] / temperature
        kept = theirs.argsort(descending=True)[: top_k or len(TEACHER_VOCAB)].tolist()
        mass = theirs[kept].exp().sum()
        target = [0.0] * len(STUDENT_VOCAB)
        for index in kept:
            target[int(bound.partner[index])] += float((theirs[index].exp() / mass).detach())
        logprobs = torch.log_softmax(logits / temperature, 0)
        for probability, logprob in zip(target, logprobs, strict=True):
            if probability > 0:
                entropy = torch.tensor(probability, dtype=torch.float64).log()
                total = total + temperature**2 * probability * (entropy - logprob)
    return total


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("options", [{}, {"temperature": 2.0}, {"top_k": 3}], ids=str)
def test_equals_the_method_written_out(seed, options):
    pair = random_pair(seed)
    bound = pair.bind(MinED(**options))
    total = slow_mined(pair, bound, **options)
    torch.testing.assert_close(pair.loss(bound).total, total)
    slow = torch.autograd.grad(total, [pair.student_hidden, pair.student.head.weight])
    for grad, expected in zip(pair.gradients(bound), slow, strict=True):
        torch.testing.assert_close(grad, expected)


def test_for_one_tokenizer_it_is_the_kl_to_the_teacher():
    pair = same_pair(1)
    generator = torch.Generator().manual_seed(9)
    pair.teacher_hidden.copy_(torch.randn(pair.teacher_hidden.shape, generator=generator))
    bound = pair.bind(MinED())
    predicting = pair.batch.student_loss_mask.roll(-1, 1)
    expected = row_divergence(
        "forward_kl",
        pair.teacher.logits(pair.teacher_hidden[predicting]),
        pair.student.logits(pair.student_hidden[predicting]),
    ).sum()
    loss = pair.loss(bound)
    torch.testing.assert_close(loss.total, expected)
    assert loss.count == pair.batch.student_loss_mask.sum()
    assert loss.metrics["one_hot_share"][0] == 0


@pytest.mark.parametrize("top_k", [None, 1, 4])
def test_no_mass_of_the_teacher_is_lost_or_counted_twice(top_k):
    """Public code gathers the teacher's probability for every student token mapped to it."""
    pair = random_pair(0)
    bound = pair.bind(MinED(top_k=top_k))
    logits = pair.teacher.logits(torch.randn(50, 8, dtype=torch.float64))
    target, exact = bound._targets(logits)
    torch.testing.assert_close(target.sum(-1), torch.ones(50, dtype=torch.float64))
    assert (exact <= target.sum(-1) + 1e-12).all()
    if top_k is None:
        probs = logits.softmax(-1)
        for index in range(len(STUDENT_VOCAB)):
            sources = (bound.partner == index).nonzero().flatten()
            torch.testing.assert_close(target[:, index], probs[:, sources].sum(-1))


def test_several_teacher_tokens_meet_in_one_student_token():
    bound = random_pair(0).bind(MinED())
    # "aa" is as near to "a" as to "ab" and " a", and "a" has the lowest id of the three.
    ids = [TEACHER_VOCAB.ids_of(token)[0] for token in (b"a", b"aa")]
    assert bound.partner[ids].tolist() == [STUDENT_VOCAB.ids_of(b"a")[0]] * 2
    assert bound.is_exact[ids].tolist() == [True, False]


def test_padding_columns_are_never_one_to_one():
    """`x == 1 & y` of public code marks [T, T, F, F] here, which shrinks its loss."""
    batch = batch_of([[-1, 0, 1, 1], [-1, 0, -1, -1]], [[-1, 0, 1, 1], [-1, 0, -1, -1]], 2)
    assert batch.chunk_mask.tolist() == [[True, True], [True, False]]
    assert float(MinED(one_hot=False).bind(*models()).count(batch, None)) == 2


def models():
    pair = random_pair(0)
    return pair.student, pair.teacher


def test_the_target_is_what_predicts_the_token_not_what_follows_it():
    """Public code takes the teacher's row *at* the token, which predicts the next one."""
    pair = random_pair(2)
    bound = pair.bind(MinED(one_hot=False))
    row, k, j = pairs_of(pair.batch)[0]
    grad = torch.autograd.grad(pair.loss(bound).total, pair.student_hidden)[0]
    assert grad[row, k - 1].any()
    wanted = {(row, k - 1) for row, k, _ in pairs_of(pair.batch)}
    assert {tuple(place) for place in grad.any(-1).nonzero().tolist()} == wanted
    before = pair.loss(bound).total
    used = {(row, j - 1) for row, _, j in pairs_of(pair.batch)}
    with torch.no_grad():
        for place in pair.batch.teacher_attention_mask.nonzero().tolist():
            if tuple(place) not in used:
                pair.teacher_hidden[tuple(place)] += 1.0
    torch.testing.assert_close(pair.loss(bound).total, before)
    pair.teacher_hidden[row, j - 1] += 1.0
    assert not torch.isclose(pair.loss(bound).total, before)


def test_without_one_to_one_tokens_it_is_cross_entropy():
    pair = random_pair(3)
    pair.batch.teacher_chunk_ids.fill_(-1)
    scores = pair.student_scores()
    loss = pair.bind(MinED())(pair.batch, scores, pair.teacher_scores())
    expected = CrossEntropy()(pair.batch, scores, None)
    torch.testing.assert_close(loss.total, expected.total)
    assert loss.count == expected.count
    alone, count = loss.metrics["one_hot_share"]
    assert alone == count


def test_the_most_likely_token_alone_is_its_cross_entropy():
    pair = random_pair(4)
    bound = pair.bind(MinED(top_k=1, one_hot=False))
    row, k, j = torch.tensor(pairs_of(pair.batch)).T
    target = bound.partner[pair.teacher.logits(pair.teacher_hidden[row, j - 1]).argmax(-1)]
    expected = torch.nn.functional.cross_entropy(
        pair.student.logits(pair.student_hidden[row, k - 1]), target, reduction="sum"
    )
    torch.testing.assert_close(pair.loss(bound).total, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"temperature": 0.0}, "temperature must be above 0"), ({"top_k": 0}, "top_k must be at")],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MinED(**options)
