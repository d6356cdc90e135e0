"""Tensors with the vocabulary as an axis: found by shapes and lookups, moved, or refused."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, Qwen4ExpTextConfig

from crosstok.models.vocabulary_axes import vocabulary_axes
from crosstok.tokenizers import TextEncoder
from crosstok.transplants import plan_rows, transplant
from tests.permuted import TOLERANCE, permutation_gap, permuted_pair
from tests.tiny import tiny_tokenizer
from tests.tiny_forms import tiny_config, tiny_form
from tests.tiny_models import tiny_model

BPE, SPM = (TextEncoder(tiny_tokenizer(kind)) for kind in ("bytelevel_bpe", "spm_bpe"))
SIZE, NEW_SIZE = len(BPE.byte_vocab), len(SPM.byte_vocab)


def found(name: str, **overrides) -> dict[str, int]:
    """The axis of each tensor that is found."""
    model = tiny_form(name, SIZE, **overrides)
    return {name: t.axis for t in vocabulary_axes(model).tensors for name in t.names}


def test_tables_of_each_layer_biases_and_routes_are_found():
    assert "model.embed_tokens_per_layer.weight" in found("gemma4_text")
    assert "lm_head.bias" in found("gptj")
    assert any(name.endswith("tid2eid") for name in found("deepseek_v4"))
    assert set(found("llama")) == {"model.embed_tokens.weight", "lm_head.weight"}


def test_a_size_that_another_axis_has_too_is_no_vocabulary():
    model = tiny_model("llama", 32)  # as wide as it has ids
    assert {t.names[0]: t.axis for t in vocabulary_axes(model).tensors} == {
        "model.embed_tokens.weight": 0,
        "lm_head.weight": 0,
    }


@pytest.mark.parametrize(
    "name", ["gemma4_text", "gptj", "deepseek_v4", "inkling_text", "gemma3n_text"]
)
def test_everything_has_the_target_s_size_afterwards(name):
    model = tiny_form(name, SIZE)
    transplant(model, BPE, SPM)
    again = type(model)(model.config)
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }
    ids = torch.arange(NEW_SIZE - 8, NEW_SIZE)[None]
    assert model(input_ids=ids, use_cache=False).logits.shape == (1, 8, NEW_SIZE)


def test_rows_of_a_table_for_each_layer_are_made_as_those_of_the_input():
    model = tiny_form("gemma4_text", SIZE)
    before = model.model.embed_tokens_per_layer.weight.detach().clone()
    transplant(model, BPE, SPM)
    after, plan = model.model.embed_tokens_per_layer.weight, plan_rows(BPE, SPM)
    for id_ in range(0, NEW_SIZE, 7):
        rows = before[list(plan.input_rows[id_].ids)] if plan.input_rows[id_].ids else before
        torch.testing.assert_close(after[id_], rows.mean(0))


@pytest.mark.parametrize(
    ("name", "size"),
    [("gemma3n_text", SIZE // 2), ("gemma3n_text", SIZE + 8), ("gemma4_text", SIZE + 8)],
)
def test_a_table_of_another_size_is_read_as_the_model_reads_it(name, size, tmp_path):
    """Gemma 3n reads row 0 for an id past the end of its table."""
    encoder = permuted_pair()[0]
    model = tiny_form(name, SIZE, pad=encoder.tokenizer.pad_token_id)
    table = model.model.embed_tokens_per_layer
    with torch.no_grad():
        table.weight = nn.Parameter(torch.randn(size, table.weight.shape[1]))
    table.num_embeddings = model.config.vocab_size_per_layer_input = size
    if hasattr(model.model, "vocab_size_per_layer_input"):
        model.model.vocab_size_per_layer_input = size
    assert permutation_gap(model, tmp_path) <= TOLERANCE


def test_a_table_looked_up_by_a_hash_of_the_ids_is_refused_by_name():
    config = tiny_config("qwen4_exp_text", SIZE).to_dict()
    config |= {"ple_layer_ids": [1], "ngram_vocab_size_base": 64, "ngram_size": 2}
    config["eos_token_id"] = 0
    model = AutoModelForCausalLM.from_config(Qwen4ExpTextConfig(**config))
    with pytest.raises(ValueError, match=r"ngram_embedding\.weight by numbers that it computes"):
        transplant(model, BPE, SPM)


def test_a_model_with_several_output_matrices_is_refused_by_name():
    with pytest.raises(ValueError, match="MusicgenForCausalLM"):
        transplant(tiny_form("musicgen", SIZE), BPE, SPM)
