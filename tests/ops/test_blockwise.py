"""Sums over rows a block at a time, against the same function of all rows at once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crosstok.ops import blockwise_sum


def entropies(hidden, labels, weight, bias):
    """A loss and two metrics of a block: sums over rows."""
    logprobs = (hidden @ weight.T + bias).log_softmax(-1)
    loss = -logprobs.gather(1, labels[:, None]).sum() + (logprobs.exp() * logprobs).sum()
    hits = (logprobs.argmax(1) == labels).sum().to(loss.dtype)
    return torch.stack([loss, hits, logprobs.sum()])


def tensors(num_rows, width=3, vocab_size=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    labels = torch.randint(vocab_size, (num_rows,), generator=generator)
    leaves = [draw(num_rows, width), draw(vocab_size, width), draw(vocab_size)]
    hidden, weight, bias = (leaf.requires_grad_() for leaf in leaves)
    return hidden, labels, weight, bias


@settings(deadline=None, max_examples=60)
@given(
    num_rows=st.integers(1, 9),
    width=st.integers(1, 4),
    vocab_size=st.integers(1, 6),
    step=st.integers(1, 12) | st.none(),
    seed=st.integers(0, 99),
)
def test_blocks_of_any_size_equal_plain_autograd(num_rows, width, vocab_size, step, seed):
    hidden, labels, weight, bias = tensors(num_rows, width, vocab_size, seed)
    outputs = blockwise_sum(
        entropies, (hidden, labels), (weight, bias), vocab_size=vocab_size, rows_per_block=step
    )
    plain = entropies(hidden, labels, weight, bias)
    torch.testing.assert_close(outputs, plain)
    inputs = (hidden, weight, bias)
    grads = torch.autograd.grad(3.0 * outputs[0], inputs)
    for grad, expected in zip(grads, torch.autograd.grad(3.0 * plain[0], inputs), strict=True):
        torch.testing.assert_close(grad, expected)


def test_only_the_first_output_is_differentiated():
    hidden, labels, weight, bias = tensors(4)
    outputs = blockwise_sum(entropies, (hidden, labels), (weight, bias), vocab_size=5)
    (grad,) = torch.autograd.grad(outputs[2], hidden)
    assert not grad.any()


def test_what_needs_no_gradient_gets_none():
    hidden, labels, weight, bias = tensors(4)
    outputs = blockwise_sum(
        entropies, (hidden, labels), (weight.detach(), bias.detach()), vocab_size=5
    )
    outputs[0].backward()
    assert hidden.grad.any()
    assert weight.grad is None


def test_without_gradients_the_function_runs_without_them():
    hidden, labels, weight, bias = tensors(4)
    modes = []

    def watched(*arguments):
        modes.append(torch.is_grad_enabled())
        return entropies(*arguments)

    with torch.no_grad():
        outputs = blockwise_sum(watched, (hidden, labels), (weight, bias), vocab_size=5)
    assert not outputs.requires_grad
    assert not any(modes)


def test_gradients_through_rows_taken_out_of_a_matrix_reach_the_matrix():
    hidden, labels, weight, bias = tensors(4)
    ids = torch.tensor([4, 0, 2])
    labels = labels % 3
    outputs = blockwise_sum(entropies, (hidden, labels), (weight[ids], bias[ids]), vocab_size=3)
    (grad,) = torch.autograd.grad(outputs[0], weight)
    plain = entropies(hidden, labels, weight[ids], bias[ids])
    torch.testing.assert_close(grad, torch.autograd.grad(plain[0], weight)[0])
    assert not grad[[1, 3]].any()


def test_the_work_of_both_passes_is_linear_in_the_rows():
    """Each row is in one block, and the backward pass calls nothing again."""
    hidden, labels, weight, bias = tensors(9)
    seen = []

    def counted(block, *others):
        seen.append(len(block))
        return entropies(block, *others)

    outputs = blockwise_sum(
        counted, (hidden, labels), (weight, bias), vocab_size=5, rows_per_block=2
    )
    outputs[0].backward()
    assert seen == [2, 2, 2, 2, 1]


def test_no_rows_sum_to_zero():
    hidden, labels, weight, bias = tensors(0)
    outputs = blockwise_sum(entropies, (hidden, labels), (weight, bias), vocab_size=5)
    assert outputs.tolist() == [0.0]
    outputs[0].backward()
    assert hidden.grad.shape == (0, 3)
    assert not weight.grad.any()


def test_rows_of_different_lengths_are_refused():
    hidden, labels, weight, bias = tensors(4)
    with pytest.raises(ValueError, match=r"different lengths \[3, 4\]"):
        blockwise_sum(entropies, (hidden, labels[:3]), (weight, bias), vocab_size=5)
