import pytest
import torch
from torch import Tensor, nn

from crosstok.models import Scores, hidden_states, output_head, token_scores
from tests.tiny_models import ARCHITECTURES, tiny_model

VOCAB, LENGTH = 120, 24


def make_batch() -> tuple[Tensor, Tensor, Tensor]:
    """Rows of full length, shorter, one token and empty; and a boundary set."""
    generator = torch.Generator().manual_seed(0)
    input_ids = torch.randint(0, VOCAB, (4, LENGTH), generator=generator)
    lengths = torch.tensor([LENGTH, 9, 1, 0])
    attention_mask = (torch.arange(LENGTH) < lengths[:, None]).long()
    return input_ids, attention_mask, torch.rand(VOCAB, generator=generator) < 0.3


def naive_scores(
    model: nn.Module, input_ids: Tensor, attention_mask: Tensor, boundary_mask: Tensor
) -> Scores:
    """The slow twin: the model's own logits."""
    logits = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
    logprobs = logits.float().log_softmax(-1)
    tokens = logprobs[:, :-1].gather(2, input_ids[:, 1:, None]).squeeze(2) * attention_mask[:, 1:]
    boundary = logprobs[:, :, boundary_mask].logsumexp(-1) * attention_mask
    return Scores(nn.functional.pad(tokens, (1, 0)), boundary)


def random_sum(scores: Scores) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    factors = torch.randn(2, *scores.token_logprobs.shape, generator=generator)
    return (factors[0] * scores.token_logprobs + factors[1] * scores.boundary_logprobs).sum()


def grads(model: nn.Module, scores: Scores) -> dict[str, Tensor]:
    model.zero_grad()
    random_sum(scores).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_grads(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, grad in expected.items():
        assert grad.isfinite().all()
        largest = max(float(grad.abs().max()), 1e-3)
        torch.testing.assert_close(actual[name], grad, rtol=0, atol=1e-4 * largest, msg=name)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_token_scores_equal_the_log_softmax_of_the_models_own_logits(architecture):
    model = tiny_model(architecture, VOCAB)
    batch = make_batch()
    with torch.no_grad():
        expected = naive_scores(model, *batch)
        actual = token_scores(model, output_head(model), *batch, tokens_per_block=7)
    torch.testing.assert_close(actual.token_logprobs, expected.token_logprobs)
    torch.testing.assert_close(actual.boundary_logprobs, expected.boundary_logprobs)
    assert not actual.token_logprobs[:, 0].any()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_in_training_equal_those_through_the_logits(architecture, checkpointing):
    model = tiny_model(architecture, VOCAB).train()
    head = output_head(model)
    batch = make_batch()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    expected = grads(model, naive_scores(model, *batch))
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert_same_grads(grads(model, token_scores(model, head, *batch)), expected)


def test_labels_alone_are_scored_without_a_boundary_set():
    model = tiny_model("llama", VOCAB)
    input_ids, attention_mask, boundary_mask = make_batch()
    head = output_head(model)
    alone = token_scores(model, head, input_ids, attention_mask)
    both = token_scores(model, head, input_ids, attention_mask, boundary_mask)
    assert alone.boundary_logprobs is None
    torch.testing.assert_close(alone.token_logprobs, both.token_logprobs)


def test_padding_changes_nothing():
    model = tiny_model("llama", VOCAB)
    head = output_head(model)
    input_ids, attention_mask, boundary_mask = make_batch()
    row, length = 1, int(attention_mask[1].sum())
    batched = token_scores(model, head, input_ids, attention_mask, boundary_mask)
    other = torch.where(attention_mask.bool(), input_ids, 5)
    assert torch.equal(
        token_scores(model, head, other, attention_mask, boundary_mask).token_logprobs,
        batched.token_logprobs,
    )
    short = slice(row, row + 1), slice(0, length)
    alone = token_scores(model, head, input_ids[short], attention_mask[short], boundary_mask)
    torch.testing.assert_close(alone.token_logprobs, batched.token_logprobs[short])
    torch.testing.assert_close(alone.boundary_logprobs, batched.boundary_logprobs[short])


def test_a_single_position_reaches_the_output_matrix():
    model = tiny_model("gpt2", VOCAB)
    input_ids, attention_mask, _ = make_batch()
    widths = []
    handle = model.get_output_embeddings().register_forward_hook(
        lambda _module, _args, logits: widths.append(tuple(logits.shape))
    )
    hidden = hidden_states(model, input_ids, attention_mask)
    handle.remove()
    assert widths == [(1, 1, VOCAB)]
    assert hidden.shape == (4, LENGTH, 32)
    logits = model(input_ids=input_ids, attention_mask=attention_mask).logits
    assert logits.shape == (4, LENGTH, VOCAB)  # the hook is gone


def test_wrappers_are_called_and_not_bypassed():
    class DataParallelLike(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module
            self.num_calls = 0

        def forward(self, *args, **kwargs):
            self.num_calls += 1
            return self.module(*args, **kwargs)

    model = tiny_model("llama", VOCAB)
    wrapped = DataParallelLike(model)
    batch = make_batch()
    head = output_head(wrapped)
    assert head.weight is model.get_output_embeddings().weight
    torch.testing.assert_close(
        token_scores(wrapped, head, *batch).token_logprobs,
        token_scores(model, head, *batch).token_logprobs,
    )
    assert wrapped.num_calls == 1


def test_adapters_apply_and_can_be_switched_off():
    peft = pytest.importorskip("peft")
    plain = tiny_model("llama", VOCAB)
    batch = make_batch()
    before = token_scores(plain, output_head(plain), *batch).token_logprobs
    config = peft.LoraConfig(
        target_modules=["q_proj", "v_proj"], modules_to_save=["embed_tokens", "lm_head"]
    )
    model = peft.get_peft_model(plain, config).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    head = output_head(model)
    assert head.weight.requires_grad
    with torch.no_grad():
        expected = naive_scores(model, *batch).token_logprobs
    adapted = token_scores(model, head, *batch).token_logprobs
    torch.testing.assert_close(adapted, expected)
    assert not torch.allclose(adapted, before)
    with model.disable_adapter():
        off = token_scores(model, output_head(model), *batch).token_logprobs
    torch.testing.assert_close(off, before)


def test_padding_on_the_left_is_refused():
    model = tiny_model("llama", VOCAB)
    input_ids = torch.zeros(2, 4, dtype=torch.long)
    attention_mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    with pytest.raises(ValueError, match="row 1 of attention_mask has a token after padding"):
        hidden_states(model, input_ids, attention_mask)
    with pytest.raises(ValueError, match="attention_mask has shape"):
        hidden_states(model, input_ids, attention_mask[:1])
