import json

import pytest
import torch
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
)

from crosstok.models import check_model_exists, check_vocabulary_fits, load_model, new_model
from crosstok.models.loading import _why_not_found
from tests.tiny_models import CORE_ARCHITECTURES, tiny_model

TINY = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.mark.parametrize("architecture", CORE_ARCHITECTURES)
def test_a_saved_model_comes_back(architecture, tmp_path):
    model = tiny_model(architecture, 120)
    model.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path))
    assert not loaded.training
    assert loaded.dtype == torch.float32
    ids = torch.arange(6)[None]
    torch.testing.assert_close(loaded(input_ids=ids).logits, model(input_ids=ids).logits)


def test_the_dtype_can_be_chosen(tmp_path):
    tiny_model("llama", 120).save_pretrained(tmp_path)
    assert load_model(str(tmp_path), dtype=torch.bfloat16, device="cpu").dtype == torch.bfloat16


def test_options_go_on_to_from_pretrained(tmp_path):
    tiny_model("llama", 120).save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), options={"attn_implementation": "eager"})
    assert loaded.config._attn_implementation == "eager"
    options = {"dtype": "bfloat16", "device_map": {"": "cpu"}}
    loaded = load_model(str(tmp_path), dtype="float32", device="cpu", options=options)
    assert loaded.dtype == torch.bfloat16
    assert (
        new_model(
            str(tmp_path), options={"attn_implementation": "eager"}
        ).config._attn_implementation
        == "eager"
    )


@pytest.mark.parametrize(
    "options", [{"attn_implementatio": "eager"}, {"quantization_config": {"load_in_4bit": True}}]
)
def test_options_that_cannot_be_are_named(tmp_path, options):
    tiny_model("llama", 120).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=f"cannot be loaded with the options .*{next(iter(options))}"
    ):
        load_model(str(tmp_path), options=options)


def test_a_folder_without_a_model_is_named_with_what_it_holds(tmp_path):
    with pytest.raises(
        ValueError, match=r"holds no model: there is no config\.json in it.*nothing"
    ):
        load_model(str(tmp_path))
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"it holds notes\.txt"):
        load_model(str(tmp_path))


def test_a_folder_is_looked_at_without_loading(tmp_path):
    check_model_exists("some/name-on-the-hub")
    with pytest.raises(ValueError, match="it holds nothing"):
        check_model_exists(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    check_model_exists(str(tmp_path))


def test_a_configuration_without_weights_is_an_error(tmp_path):
    tiny_model("llama", 120).config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no weights that load"):
        load_model(str(tmp_path))


def test_a_configuration_of_no_known_model_is_an_error(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no_such_model"}))
    with pytest.raises(ValueError, match="does not describe a model that transformers knows"):
        load_model(str(tmp_path))


def test_models_for_other_tasks_are_refused(tmp_path):
    bert = BertForMaskedLM(BertConfig(vocab_size=120, intermediate_size=32, **TINY))
    bert.save_pretrained(tmp_path / "bert")
    config = T5Config(vocab_size=120, d_model=32, d_ff=32, num_layers=1, num_heads=2, d_kv=16)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    for name in ("bert", "t5"):
        with pytest.raises(ValueError, match="is not a causal language model"):
            load_model(str(tmp_path / name))


def test_missing_weights_are_never_filled_with_random_ones(tmp_path):
    model = tiny_model("llama", 120)
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"is incomplete: 1 weights would be random.*norm"):
        load_model(str(tmp_path))
    model.model.save_pretrained(tmp_path)  # the model without its output
    with pytest.raises(ValueError, match=r"is incomplete: 1 weights would be random.*lm_head"):
        load_model(str(tmp_path))


def test_a_name_that_cannot_be_fetched_names_the_next_step(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"'no-one/nothing' is not a folder here.*hf download"):
        load_model("no-one/nothing")


@pytest.mark.parametrize(
    ("kind", "message"),
    [(GatedRepoError, "is gated.*hf auth login"), (RepositoryNotFoundError, "neither a folder")],
)
def test_gated_and_unknown_repositories_name_the_next_step(kind, message):
    cause = kind.__new__(kind)
    error = OSError("wrapped")
    error.__cause__ = cause
    with pytest.raises(ValueError, match=message):
        raise ValueError(_why_not_found("someone/model", error))


def test_code_of_a_model_folder_is_not_executed_unasked(tmp_path):
    config = {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text("raise SystemExit('executed')")
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        load_model(str(tmp_path))


def test_a_tokenizer_larger_than_the_embedding_matrix_is_refused():
    model = tiny_model("llama", 120)
    check_vocabulary_fits(model, 120, "fits")
    with pytest.raises(
        ValueError,
        match=r"'large' has ids up to 120, which need 121 rows.*LlamaForCausalLM has 120",
    ):
        check_vocabulary_fits(model, 121, "large")
