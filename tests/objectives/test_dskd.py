"""DSKD: projectors, which term trains what, and equality with attention written out."""

import math
from dataclasses import replace

import pytest
import torch

from crosstok.objectives import DSKD
from crosstok.objectives.example_pairs import random_pair, same_pair
from crosstok.objectives.projectors import projector

VARIANTS = ("cma", "v2")
each_variant = pytest.mark.parametrize("variant", VARIANTS)


def mean(loss, name):
    total, count = loss.metrics[name]
    return float(total / count)


def rows(seed, number, width, *, grad=True):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(number, width, generator=generator, dtype=torch.float64)
    return values.requires_grad_(grad)


def test_one_model_on_both_sides_projects_by_the_identity():
    """Then the projected teacher is the teacher, and both KD terms are zero."""
    pair = same_pair(2)
    bound = pair.bind(DSKD(variant="v2"))
    for layer in (bound.teacher_to_student, bound.student_to_teacher):
        torch.testing.assert_close(layer.weight, torch.eye(6, dtype=torch.float64))
    loss = pair.loss(bound)
    assert mean(loss, "agreement") == 1
    assert mean(loss, "target_share") == 1
    assert mean(loss, "student_space_nats") == pytest.approx(0, abs=1e-12)
    assert mean(loss, "teacher_space_nats") == pytest.approx(0, abs=1e-12)


def test_a_projector_starts_from_least_squares_on_shared_tokens():
    pair = random_pair(0)
    layer = projector(pair.teacher, pair.student)
    shared = [
        (1, 1),
        (2, 5),
        (3, 3),
        (4, 2),
        (5, 9),
        (6, 6),
    ]  # student, teacher: eos a b " " ab " a"
    ours = [s for s, _ in shared]
    theirs = [pair.teacher.byte_vocab.ids_of(pair.student.byte_vocab.token_bytes[s])[0] if s > 1
              else s for s in ours]  # fmt: skip
    expected = torch.linalg.lstsq(
        pair.student.head.weight[ours], pair.teacher.head.weight[theirs]
    ).solution
    torch.testing.assert_close(layer.weight, expected.detach())


def slow_attention(pair, bound):
    """Both projected sequences of every text, one query after the other."""
    unit = lambda x: x / x.std(correction=0)  # noqa: E731
    batch, out = pair.batch, []
    for row in range(len(batch.student_ids)):
        own = [k for k in range(batch.student_ids.shape[1]) if batch.student_loss_mask[row, k]]
        others = [j for j in range(batch.teacher_ids.shape[1]) if batch.teacher_loss_mask[row, j]]
        embed_s = lambda k: pair.student.input_embeddings(batch.student_ids[row, k])  # noqa: B023, E731
        embed_t = lambda j: pair.teacher.input_embeddings(batch.teacher_ids[row, j])  # noqa: B023, E731
        hidden_t = torch.stack([pair.teacher_hidden[row, j - 1] for j in others])
        label_t = torch.stack([embed_t(j) for j in others])
        keys = unit(torch.stack([torch.cat([embed_t(j - 1), embed_t(j)]) for j in others]))
        values = bound.teacher_to_student(unit(hidden_t) + unit(label_t))
        queries = [bound.query(torch.cat([embed_s(k - 1), embed_s(k)])) for k in own]
        scores = torch.stack([keys @ q / math.sqrt(keys.shape[1]) for q in queries])
        t2s = [sum(w * v for w, v in zip(s.softmax(0), values, strict=True)) for s in scores]
        own_values = [bound.student_to_teacher(pair.student_hidden[row, k - 1]) for k in own]
        s2t = [sum(w * v for w, v in zip(s.softmax(0), own_values, strict=True)) for s in scores.T]
        out.append((own, t2s, hidden_t, s2t))
    return out


def slow_cma(pair, bound, tau):
    """The three terms, a row of logits at a time."""
    total = torch.zeros((), dtype=torch.float64)
    head, teacher_head = pair.student.head.weight, pair.teacher.head.weight
    real = len(pair.teacher.byte_vocab)
    kl = lambda p, q: (p.softmax(0) * (p.log_softmax(0) - q.log_softmax(0))).sum()  # noqa: E731
    for row, (own, t2s, hidden_t, s2t) in enumerate(slow_attention(pair, bound)):
        for k, projected in zip(own, t2s, strict=True):
            label = pair.batch.student_ids[row, k]
            logits = head.detach() @ projected
            total = total - logits.log_softmax(0)[label]
            if logits.argmax() == label:
                student = head @ pair.student_hidden[row, k - 1]
                total = total + kl(logits.detach() / tau, student / tau)
        for hidden, projected in zip(hidden_t, s2t, strict=True):
            teacher, student = (teacher_head.detach()[:real] @ h for h in (hidden, projected))
            total = total + kl(teacher / tau, student / tau)
    return total


@pytest.mark.parametrize("seed", range(3))
def test_attention_equals_the_method_written_out(seed):
    pair = random_pair(seed, rows=2, num_bytes=8)
    bound = pair.bind(DSKD())
    inputs = [pair.student_hidden, pair.student.head.weight, *bound.parameters()]
    fast, slow = pair.loss(bound).total, slow_cma(pair, bound, 2.0)
    torch.testing.assert_close(fast, slow)
    for grad, expected in zip(
        torch.autograd.grad(fast, inputs), torch.autograd.grad(slow, inputs), strict=True
    ):
        torch.testing.assert_close(grad, expected)


def test_attention_over_a_single_token_is_plain_projection():
    pair = random_pair(1, rows=1)
    masks = {}
    for side in ("student", "teacher"):
        mask = torch.zeros_like(getattr(pair.batch, f"{side}_loss_mask"))
        mask[0, 2] = True
        masks[f"{side}_loss_mask"] = mask
    pair = replace(pair, batch=replace(pair.batch, **masks))
    bound = pair.bind(DSKD())
    before = pair.loss(bound).total
    with torch.no_grad():  # where there is nothing to choose from, the query does not matter
        bound.query.weight.normal_()
    torch.testing.assert_close(pair.loss(bound).total, before)


@each_variant
def test_the_student_is_not_trained_by_the_projectors_cross_entropy(variant):
    pair = random_pair(0)
    bound = pair.bind(DSKD(variant=variant))
    t2s, student_rows, head = rows(1, 9, 6), rows(2, 9, 6), pair.student.head.weight
    terms = bound.student_space(t2s, student_rows, torch.arange(9) % 3, head)
    grads = torch.autograd.grad(terms[1], [t2s, student_rows, head])
    assert grads[0].any()
    assert not grads[1].any()
    assert not grads[2].any()


@each_variant
def test_the_projector_is_not_trained_by_the_students_divergence(variant):
    pair = random_pair(0)
    bound = pair.bind(DSKD(variant=variant))
    t2s, student_rows, head = rows(1, 9, 6), rows(2, 9, 6), pair.student.head.weight
    target = pair.student.logits(t2s).argmax(-1)
    terms = bound.student_space(t2s, student_rows, target, head)
    grads = torch.autograd.grad(terms[2], [t2s, student_rows, head])
    assert not grads[0].any()
    assert grads[1].any()
    assert grads[2].any()
    assert terms[3] == 9


def test_only_agreeing_positions_are_distilled():
    pair = random_pair(0)
    bound = pair.bind(DSKD())
    t2s, student_rows, head = rows(1, 9, 6), rows(2, 9, 6), pair.student.head.weight
    best = pair.student.logits(t2s).argmax(-1)
    target = torch.where(torch.arange(9) < 4, best, (best + 1) % head.shape[0])
    terms = bound.student_space(t2s, student_rows, target, head)
    grad = torch.autograd.grad(terms[0], student_rows)[0]
    assert terms[3] == 4
    assert grad[:4].any(-1).all()
    assert not grad[4:].any()


def test_unmapped_teacher_tokens_are_left_out_and_not_called_end_of_sequence():
    """Public code asks a GPT-2 tokenizer for the id of an unknown string: 50256, which is eos."""
    pair = random_pair(3)
    bound = pair.bind(DSKD(variant="v2"))
    vocab, others = pair.student.byte_vocab, pair.teacher.byte_vocab
    for index, token in enumerate(others.token_bytes):
        mapped = int(bound.partner[index])
        if index in others.special_ids:
            assert mapped == (1 if index == 1 else -1)  # eos by its role; bos has none to share
        else:
            assert mapped == next(iter(vocab.ids_of(token)), -1)
    assert (bound.partner[len(others) :] == -1).all()
    unknown = others.ids_of(b"bb")[0]
    favourite = pair.teacher.head.weight[unknown].detach()
    pair.teacher_hidden.copy_(100 * favourite / favourite.norm())
    assert int(pair.teacher.logits(pair.teacher_hidden[0, :1]).argmax()) == unknown
    loss = pair.loss(bound)
    assert loss.metrics["target_share"][0] == 0
    torch.testing.assert_close(loss.total, loss.metrics["teacher_space_nats"][0])


@each_variant
def test_projectors_learn(variant):
    pair = random_pair(5)
    config = DSKD(variant=variant, learning_rate=0.02)
    bound = pair.bind(config)
    optimizer = torch.optim.Adam(bound.parameters(), lr=bound.learning_rate)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = pair.loss(bound)
        loss.total.backward()
        assert all(parameter.grad.any() for parameter in bound.parameters())
        optimizer.step()
        losses.append(mean(loss, "projection_nats") + mean(loss, "teacher_space_nats"))
    assert losses[-1] < 0.8 * losses[0]


@each_variant
def test_only_projectors_are_parameters_and_none_is_a_model(variant):
    bound = random_pair(0).bind(DSKD(variant=variant))
    names = {name.split(".")[0] for name, _ in bound.named_parameters()}
    expected = {"teacher_to_student", "student_to_teacher"}
    assert names == (expected | {"query"} if variant == "cma" else expected)
    assert set(bound.state_dict()) == {name for name, _ in bound.named_parameters()}


@each_variant
def test_half_precision_models_have_projectors_in_single(variant):
    pair = random_pair(6).in_single_precision()
    halves = [
        replace(
            view,
            head=view.head.of(view.head.weight.detach().bfloat16().requires_grad_()),
            input_embeddings=view.input_embeddings.bfloat16(),
        )
        for view in (pair.student, pair.teacher)
    ]
    pair = replace(
        pair,
        student=halves[0],
        teacher=halves[1],
        student_hidden=pair.student_hidden.detach().bfloat16().requires_grad_(),
        teacher_hidden=pair.teacher_hidden.bfloat16(),
    )
    bound = pair.bind(DSKD(variant=variant))
    assert {parameter.dtype for parameter in bound.parameters()} == {torch.float32}
    loss = pair.loss(bound)
    loss.total.backward()
    assert loss.total.isfinite()
    assert all(parameter.grad.any() for parameter in bound.parameters())


def test_a_text_without_teacher_tokens_does_not_count():
    pair = random_pair(2, rows=2)
    pair.batch.teacher_loss_mask[0] = False
    bound = pair.bind(DSKD())
    whole, second = pair.loss(bound), pair.of_rows([1]).loss(bound)
    torch.testing.assert_close(whole.total, second.total)
    assert whole.count == second.count


def test_attention_needs_embeddings_as_wide_as_hidden_states():
    pair = random_pair(0)
    narrow = replace(pair.teacher, input_embeddings=torch.nn.Embedding(20, 3))
    with pytest.raises(ValueError, match="variant 'v2'"):
        DSKD().bind(pair.student, narrow)
    DSKD(variant="v2").bind(pair.student, narrow)


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"learning_rate": -1.0}], ids=str)
def test_impossible_settings_are_refused(options):
    with pytest.raises(ValueError, match="must be above 0"):
        DSKD(**options)
