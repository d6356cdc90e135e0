from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from crosstok.ops import OutputHead, linear_logprobs

VOCAB, WIDTH, TOKENS = 97, 16, 23


def make_head(
    *, bias: bool = False, scale: float = 1.0, softcap: float | None = None, spread: float = 1.0
) -> OutputHead:
    generator = torch.Generator().manual_seed(1)
    weight = (torch.randn(VOCAB, WIDTH, generator=generator) * spread).requires_grad_()
    offsets = torch.randn(VOCAB, generator=generator).requires_grad_() if bias else None
    return OutputHead(weight, offsets, scale, softcap)


def make_rows(num_tokens: int = TOKENS) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(num_tokens, WIDTH, generator=generator).requires_grad_()
    labels = torch.randint(0, VOCAB, (num_tokens,), generator=generator)
    return hidden, labels, torch.rand(VOCAB, generator=generator) < 0.3


def dense_logprobs(
    hidden: Tensor,
    head: OutputHead,
    labels: Tensor,
    boundary_mask: Tensor,
    valid_ids: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The slow twin: full logits, autograd's own backward."""
    logits = hidden @ head.weight.T
    if head.bias is not None:
        logits = logits + head.bias
    logits = logits * head.scale
    if head.softcap is not None:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    if valid_ids is not None:
        logits = logits.masked_fill(~valid_ids, -torch.inf)
    logprobs = logits.log_softmax(-1)
    return logprobs.gather(1, labels[:, None]).squeeze(1), logprobs[:, boundary_mask].logsumexp(-1)


def outputs_and_grads(function, hidden, head, labels, mask, **options) -> list[Tensor]:
    """Both outputs and the gradients of a fixed random combination of them."""
    leaves = [hidden, head.weight] + ([] if head.bias is None else [head.bias])
    logprobs, log_mass = function(hidden, head, labels, mask, **options)
    generator = torch.Generator().manual_seed(3)
    factors = torch.randn(2, len(labels), generator=generator).to(logprobs.dtype)
    total = (factors[0] * logprobs).sum() + (factors[1] * log_mass).sum()
    return [logprobs, log_mass, *torch.autograd.grad(total, leaves)]


HEADS = {
    "plain": {},
    "bias": {"bias": True},
    "softcap": {"softcap": 3.0},
    "scale": {"scale": 0.25},
    "all of them": {"bias": True, "softcap": 5.0, "scale": 1.7},
}


@pytest.mark.parametrize("options", HEADS.values(), ids=HEADS.keys())
@pytest.mark.parametrize("tokens_per_block", [None, 1, 5, TOKENS, 1000])
def test_blocks_equal_the_dense_twin_forward_and_backward(options, tokens_per_block):
    head = make_head(**options)
    hidden, labels, mask = make_rows()
    expected = outputs_and_grads(dense_logprobs, hidden, head, labels, mask)
    actual = outputs_and_grads(
        linear_logprobs, hidden, head, labels, mask, tokens_per_block=tokens_per_block
    )
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_excluded_ids_have_no_probability_and_no_gradient(softcap):
    head = make_head(bias=True, softcap=softcap)
    hidden, labels, mask = make_rows()
    valid_ids = torch.ones(VOCAB, dtype=torch.bool)
    valid_ids[-20:] = False
    valid_ids[3] = False
    labels = torch.where(valid_ids[labels], labels, 0)
    expected = outputs_and_grads(
        dense_logprobs, hidden, head, labels, mask & valid_ids, valid_ids=valid_ids
    )
    actual = outputs_and_grads(
        linear_logprobs, hidden, head, labels, mask, valid_ids=valid_ids, tokens_per_block=4
    )
    # The twin's mass uses mask & valid_ids; ours is given the wider mask.
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-5, atol=1e-5)
    assert not actual[3][~valid_ids].any()


@pytest.mark.parametrize("options", HEADS.values(), ids=HEADS.keys())
def test_gradients_agree_with_finite_differences_in_float64(options):
    vocab, width = 11, 3
    head = make_head(**options)
    hidden, labels, mask = make_rows(4)
    labels, mask = labels % vocab, mask[:vocab]
    tensors = [hidden[:, :width], head.weight[:vocab, :width]]
    tensors += [] if head.bias is None else [head.bias[:vocab]]
    tensors = [t.detach().double().requires_grad_() for t in tensors]
    assert mask.any()

    def function(hidden: Tensor, weight: Tensor, bias: Tensor | None = None):
        doubled = replace(head, weight=weight, bias=bias)
        return linear_logprobs(hidden, doubled, labels, mask, tokens_per_block=3)

    assert function(*tensors)[0].dtype == torch.float64
    assert torch.autograd.gradcheck(function, tensors)


def test_a_tied_matrix_receives_both_gradients():
    head = make_head()
    labels, mask = make_rows()[1:]
    ids = torch.arange(TOKENS)

    def grad(function) -> Tensor:
        logprobs, log_mass = function(head.weight[ids], head, labels, mask)
        return torch.autograd.grad(logprobs.sum() + log_mass.sum(), head.weight)[0]

    torch.testing.assert_close(grad(linear_logprobs), grad(dense_logprobs), rtol=1e-5, atol=1e-5)


def test_the_graph_can_be_used_twice():
    head = make_head()
    hidden, labels, mask = make_rows()
    logprobs, log_mass = linear_logprobs(hidden, head, labels, mask)
    both = torch.autograd.grad((logprobs + log_mass).sum(), head.weight, retain_graph=True)[0]
    first = torch.autograd.grad(logprobs.sum(), head.weight, retain_graph=True)[0]
    second = torch.autograd.grad(log_mass.sum(), head.weight)[0]
    torch.testing.assert_close(both, first + second, rtol=1e-5, atol=1e-5)


def test_labels_alone_need_no_boundary_set():
    head = make_head()
    hidden, labels, mask = make_rows()
    logprobs, nothing = linear_logprobs(hidden, head, labels)
    assert nothing is None
    torch.testing.assert_close(logprobs, linear_logprobs(hidden, head, labels, mask)[0])


@settings(deadline=None, max_examples=30)
@given(
    num_tokens=st.integers(0, 9), tokens_per_block=st.integers(1, 12), seed=st.integers(0, 2**31)
)
def test_any_number_of_tokens_in_any_blocks(num_tokens, tokens_per_block, seed):
    head = make_head()
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(num_tokens, WIDTH, generator=generator).requires_grad_()
    labels = torch.randint(0, VOCAB, (num_tokens,), generator=generator)
    mask = torch.rand(VOCAB, generator=generator) < 0.1
    mask[seed % VOCAB] = True
    expected = outputs_and_grads(dense_logprobs, hidden, head, labels, mask)
    actual = outputs_and_grads(
        linear_logprobs, hidden, head, labels, mask, tokens_per_block=tokens_per_block
    )
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-4, atol=1e-4)


def one_hot_head(logits: list[float]) -> tuple[Tensor, OutputHead]:
    """A hidden state [1 1] and a head whose logits are exactly the given ones."""
    return torch.ones(1, 1).requires_grad_(), OutputHead(torch.tensor(logits)[:, None])


def test_a_boundary_set_of_almost_no_mass_keeps_its_logarithm_and_gradient():
    # log mass = log(2) - 138.155... = log(2e-60): far below the smallest fp32 number.
    low = -60 * torch.log(torch.tensor(10.0)).item()
    weight = torch.tensor([[0.0], [low], [low], [0.0]], requires_grad=True)
    mask = torch.tensor([False, True, True, False])
    _, log_mass = linear_logprobs(torch.ones(1, 1), OutputHead(weight), torch.tensor([0]), mask)
    assert log_mass.item() == pytest.approx(low + 0.0, abs=1e-4)  # 2 e^low / (2 e^0)
    log_mass.sum().backward()
    torch.testing.assert_close(weight.grad, torch.tensor([[-0.5], [0.5], [0.5], [-0.5]]))


@pytest.mark.parametrize("exponent", [-20, -29, -31, -37, -44, -300])
def test_log_mass_is_smooth_where_the_method_changes(exponent):
    low = exponent * torch.log(torch.tensor(10.0, dtype=torch.float64)).item()
    mask = torch.tensor([False, True, True])
    results = []
    for dtype in (torch.float32, torch.float64):
        weight = torch.tensor([[0.0], [low], [low - 1]], dtype=dtype, requires_grad=True)
        hidden = torch.ones(1, 1, dtype=dtype)
        _, log_mass = linear_logprobs(hidden, OutputHead(weight), torch.tensor([0]), mask)
        log_mass.sum().backward()
        results.append((log_mass.detach().double(), weight.grad.double()))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [1e2, 1e4])
def test_extreme_logits_stay_finite_forward_and_backward(size):
    head = make_head(spread=size)
    hidden, labels, mask = make_rows()
    doubled = OutputHead(head.weight.detach().double().requires_grad_())
    hidden64 = hidden.detach().double().requires_grad_()
    actual = outputs_and_grads(linear_logprobs, hidden, head, labels, mask)
    expected = outputs_and_grads(dense_logprobs, hidden64, doubled, labels, mask)
    assert all(tensor.isfinite().all() for tensor in actual)
    assert (actual[0] <= 0).all()
    assert (actual[1] <= 0).all()
    for a, e in zip(actual[:2], expected[:2], strict=True):
        torch.testing.assert_close(a.double(), e.clamp(max=0), rtol=1e-5, atol=size * 1e-5)


def test_a_certain_label_has_logprob_zero_and_never_above():
    hidden, head = one_hot_head([1e4, -1e4, 0.0])
    logprobs, log_mass = linear_logprobs(
        hidden, head, torch.tensor([0]), torch.tensor([True, True, False])
    )
    assert logprobs.item() == 0
    assert log_mass.item() == 0


def bf16_errors(function) -> list[float]:
    """Largest error of outputs and gradients for bf16 operands, against float64 of the same."""
    head = make_head(spread=0.5)
    hidden, labels, mask = make_rows(64)
    hidden = hidden.detach().bfloat16().requires_grad_()
    weight = head.weight.detach().bfloat16().requires_grad_()
    hidden64, weight64 = (t.detach().double().requires_grad_() for t in (hidden, weight))
    exact = outputs_and_grads(dense_logprobs, hidden64, OutputHead(weight64), labels, mask)
    rounded = outputs_and_grads(function, hidden, OutputHead(weight), labels, mask)
    return [
        float((r.double() - e).detach().abs().max() / e.detach().abs().max())
        for r, e in zip(rounded, exact, strict=True)
    ]


def test_bf16_loses_only_what_rounding_the_gradients_loses():
    def plain(hidden, head, labels, mask):
        logprobs = (hidden @ head.weight.T).float().log_softmax(-1)
        mass = logprobs[:, mask].logsumexp(-1)
        return logprobs.gather(1, labels[:, None]).squeeze(1), mass

    ours, theirs = bf16_errors(linear_logprobs), bf16_errors(plain)
    assert max(ours[:2]) < 1e-5  # fp32 sums of bf16 operands
    assert min(theirs[:2]) > 1e-4  # what plain bf16 logits lose
    assert max(ours[2:]) < 2**-8  # one rounding of the returned gradient
    assert all(o <= 1.05 * t for o, t in zip(ours, theirs, strict=True))


def test_outputs_are_fp32_and_gradients_have_the_dtype_of_their_tensors():
    hidden, labels, mask = make_rows()
    hidden = hidden.detach().bfloat16().requires_grad_()
    weight = make_head().weight.detach().requires_grad_()
    logprobs, log_mass = linear_logprobs(hidden, OutputHead(weight), labels, mask)
    (logprobs.sum() + log_mass.sum()).backward()
    assert logprobs.dtype == log_mass.dtype == torch.float32
    assert hidden.grad.dtype == torch.bfloat16
    assert weight.grad.dtype == torch.float32


def test_autocast_rounds_the_operands_and_nothing_else():
    head = make_head()
    hidden, labels, mask = make_rows()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = outputs_and_grads(linear_logprobs, hidden, head, labels, mask)
    rounded = OutputHead(head.weight.bfloat16().float())
    outside = outputs_and_grads(linear_logprobs, hidden.bfloat16().float(), rounded, labels, mask)
    assert all(tensor.dtype == torch.float32 for tensor in inside)
    torch.testing.assert_close(inside[:2], outside[:2], rtol=0, atol=0)
    plain = outputs_and_grads(linear_logprobs, hidden, head, labels, mask)
    for a, e in zip(inside, plain, strict=True):
        torch.testing.assert_close(a, e, rtol=0.05, atol=0.05)
    assert not torch.equal(inside[0], plain[0])


class LargestTensor(TorchDispatchMode):
    """Remembers the largest number of elements of any tensor that an operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.num_elements = 0
        self.operations: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.operations.append(str(func))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self.num_elements = max(self.num_elements, tensor.numel())
        return result


def test_no_tensor_has_tokens_times_vocabulary_elements():
    tokens, vocab, width, block = 400, 1000, 8, 16
    hidden = torch.randn(tokens, width, requires_grad=True)
    weight = torch.randn(vocab, width, requires_grad=True)
    labels = torch.randint(0, vocab, (tokens,))
    mask = torch.arange(vocab) < 500
    with LargestTensor() as watch:
        logprobs, log_mass = linear_logprobs(
            hidden, OutputHead(weight), labels, mask, tokens_per_block=block
        )
        (logprobs.sum() + log_mass.sum()).backward()
    assert watch.num_elements == block * vocab
    assert weight.grad is not None


def matrix_products(*, weight_grad: bool) -> int:
    hidden, labels, _ = make_rows()
    head = OutputHead(make_head().weight.detach().requires_grad_(weight_grad))
    with LargestTensor() as watch:
        outputs = linear_logprobs(hidden, head, labels, tokens_per_block=len(hidden))
        outputs[0].sum().backward()
    return sum("mm" in operation for operation in watch.operations)


def test_a_frozen_matrix_costs_no_product():
    assert matrix_products(weight_grad=False) == 3  # logits, logits again, gradient of hidden
    assert matrix_products(weight_grad=True) == 4


def test_without_gradients_nothing_is_saved():
    saved = []
    hidden, labels, mask = make_rows()
    with (
        torch.no_grad(),
        torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t),
    ):
        logprobs, log_mass = linear_logprobs(hidden, make_head(), labels, mask)
    assert logprobs.grad_fn is None
    assert log_mass.grad_fn is None
    assert saved == []


def test_no_rows_give_no_logprobs_and_zero_gradients():
    head = make_head(bias=True)
    hidden, labels, mask = make_rows(0)
    logprobs, log_mass, *grads = outputs_and_grads(linear_logprobs, hidden, head, labels, mask)
    assert logprobs.shape == log_mass.shape == (0,)
    assert not any(grad.any() for grad in grads)


def test_works_on_a_linear_layer_in_a_training_step():
    layer = nn.Linear(WIDTH, VOCAB)
    hidden, labels, _ = make_rows()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    losses = []
    for _ in range(20):
        logprobs, _ = linear_logprobs(hidden, OutputHead(layer.weight, layer.bias), labels)
        optimizer.zero_grad()
        (-logprobs.mean()).backward()
        optimizer.step()
        losses.append(-logprobs.mean().item())
    assert losses[-1] < 0.5 * losses[0]


def test_errors_name_the_value_and_the_rule():
    head = make_head()
    hidden, labels, mask = make_rows()
    none = torch.zeros(VOCAB, dtype=torch.bool)
    with pytest.raises(ValueError, match="empty set"):
        linear_logprobs(hidden, head, labels, none)
    only_label = torch.arange(VOCAB) == labels[0]
    with pytest.raises(ValueError, match="marks no valid id"):
        linear_logprobs(hidden[:1], head, labels[:1], ~only_label, valid_ids=only_label)
    with pytest.raises(ValueError, match=r"labels\[3\] is -100; labels must be in 0\.\.96"):
        linear_logprobs(hidden, head, labels.index_fill(0, torch.tensor([3]), -100))
    with pytest.raises(ValueError, match=r"labels\[0\] is 97"):
        linear_logprobs(hidden, head, labels.index_fill(0, torch.tensor([0]), VOCAB))
    with pytest.raises(ValueError, match=r"which valid_ids excludes"):
        linear_logprobs(hidden, head, labels, valid_ids=none)
    with pytest.raises(ValueError, match=r"must be torch\.bool of shape \[97\]"):
        linear_logprobs(hidden, head, labels, mask[:-1])
    with pytest.raises(ValueError, match=r"hidden has shape \(1, 23, 16\)"):
        linear_logprobs(hidden[None], head, labels)
    with pytest.raises(ValueError, match="one label for each of the 23 rows"):
        linear_logprobs(hidden, head, labels[1:])
    with pytest.raises(ValueError, match="tokens_per_block is 0"):
        linear_logprobs(hidden, head, labels, tokens_per_block=0)
    with pytest.raises(ValueError, match="softcap is 0"):
        OutputHead(head.weight, softcap=0.0)
    with pytest.raises(ValueError, match="bias has shape"):
        OutputHead(head.weight, bias=torch.zeros(3))
