import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertLMHeadModel,
    RecurrentGemmaConfig,
    RecurrentGemmaForCausalLM,
    xLSTMConfig,
    xLSTMForCausalLM,
)

from crosstok.models import output_head, unwrap_model
from tests.tiny_models import ARCHITECTURES, tiny_model


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_head_is_the_models_own(architecture, dtype):
    model = tiny_model(architecture, 120).to(dtype)
    head = output_head(model)
    assert head.weight is model.get_output_embeddings().weight
    assert head.softcap == (30.0 if architecture == "gemma2" else None)
    assert head.scale == (0.25 if architecture in ("granite", "cohere") else 1.0)


_RECURRENT = {"num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}


@pytest.mark.parametrize(
    "model",
    [
        lambda: RecurrentGemmaForCausalLM(
            RecurrentGemmaConfig(vocab_size=300, hidden_size=32, lru_width=32, **_RECURRENT)
        ),
        lambda: xLSTMForCausalLM(
            xLSTMConfig(vocab_size=300, hidden_size=64, num_hidden_layers=1, num_heads=4)
        ),
    ],
    ids=["logits_soft_cap", "output_logit_soft_cap"],
)
@pytest.mark.parametrize("std", [1.0, 1e-3])
def test_a_soft_cap_is_found_under_any_name(model, std):
    torch.manual_seed(0)
    made = model().eval()
    with torch.no_grad():
        made.get_output_embeddings().weight.normal_(std=std)
    head = output_head(made)
    assert (head.scale, head.softcap) == (1.0, 30.0)


@pytest.mark.parametrize("scale", [0.37, 6.0])
@pytest.mark.parametrize("softcap", [None, 12.5, 60.0])
def test_what_a_forward_pass_does_to_the_logits_is_measured(scale, softcap):
    """No field of the configuration names it."""
    model = tiny_model("llama", 120)
    forward = type(model).forward

    def own_way(*args, **kwargs):
        outputs = forward(model, *args, **kwargs)
        outputs.logits = outputs.logits * scale
        if softcap is not None:
            outputs.logits = softcap * torch.tanh(outputs.logits / softcap)
        return outputs

    model.forward = own_way
    head = output_head(model)
    assert head.scale == pytest.approx(scale, rel=1e-4)
    assert head.softcap == (softcap and pytest.approx(softcap, rel=1e-4))


def test_a_number_that_only_looks_like_a_soft_cap_is_none():
    model = tiny_model("llama", 120)
    model.config.gate_soft_cap = model.config.softcap = 15.0
    assert output_head(model).softcap is None


def test_a_bias_of_the_output_matrix_is_found():
    model = tiny_model("llama", 120)
    layer = nn.Linear(32, 120, bias=True)
    model.set_output_embeddings(layer)
    assert output_head(model).bias is layer.bias


def test_the_probe_leaves_the_training_mode_of_every_module_alone():
    model = tiny_model("gpt2", 120).train()
    model.transformer.h[0].eval()
    modes = [module.training for module in model.modules()]
    output_head(model)
    assert [module.training for module in model.modules()] == modes
    assert not model.get_output_embeddings()._forward_pre_hooks


def test_logits_that_the_head_does_not_explain_are_refused():
    model = tiny_model("llama", 120)
    forward = type(model).forward

    def shifted(*args, **kwargs):
        outputs = forward(model, *args, **kwargs)
        outputs.logits = outputs.logits * 1.1 + 0.3
        return outputs

    model.forward = shifted
    with pytest.raises(ValueError, match="are not reproduced by its output matrix"):
        output_head(model)


def test_a_model_that_looks_ahead_is_refused():
    config = BertConfig(
        vocab_size=120,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="is not causal"):
        output_head(BertLMHeadModel(config).eval())


def test_an_adapter_on_the_head_is_refused():
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(target_modules=["q_proj", "lm_head"])
    model = peft.get_peft_model(tiny_model("llama", 120), config)
    with pytest.raises(ValueError, match="carry an adapter"):
        output_head(model)


def test_a_model_without_output_embeddings_is_refused():
    with pytest.raises(ValueError, match="has no output embeddings"):
        output_head(tiny_model("llama", 120).model)


def test_unwrapping_reaches_the_transformers_model():
    model = tiny_model("llama", 120)
    assert unwrap_model(model) is model
    assert unwrap_model(nn.DataParallel(model)) is model
