"""Checkpoints whose tensors have several dtypes are saved with the dtypes and bits they had."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    Ernie4_5_MoeConfig,
    Ernie4_5_MoeForCausalLM,
    MambaConfig,
    MambaForCausalLM,
)

from crosstok.jobs.distil import distil
from crosstok.jobs.transfer import transfer
from crosstok.jobs.transplant import transplant
from crosstok.models import load_to_change
from crosstok.models.saved_dtypes import read_dtypes
from crosstok.recipes import DistilRecipe, TransferRecipe, TransplantRecipe
from tests.folders import save_model
from tests.tiny import SENTENCES, tiny_tokenizer
from tests.tiny_models import tiny_model

SIZE = len(tiny_tokenizer("bytelevel_bpe"))
COMMON = {
    "vocab_size": SIZE,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
DEEPSEEK = {
    "num_key_value_heads": 4,
    "moe_intermediate_size": 16,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "first_k_dense_replace": 1,
}
ERNIE = {"moe_intermediate_size": 16, "moe_num_experts": 4, "moe_k": 2, "moe_layer_start_index": 1}
MAMBA = {"state_size": 4, "time_step_rank": 4}
# what is fp32 in the file, by a part of its name
MODELS = {
    "deepseek_v3": (
        lambda: DeepseekV3ForCausalLM(DeepseekV3Config(**COMMON, **DEEPSEEK)),
        "e_score_correction_bias",
    ),
    "ernie4_5_moe": (
        lambda: Ernie4_5_MoeForCausalLM(Ernie4_5_MoeConfig(**COMMON, **ERNIE)),
        "mlp.gate.weight",
    ),
    "mamba": (lambda: MambaForCausalLM(MambaConfig(**COMMON, **MAMBA)), "A_log"),
    "llama": (lambda: tiny_model("llama", SIZE), "norm"),
}


def mixed_folder(folder: Path, architecture: str) -> dict[str, torch.Tensor]:
    """A bf16 checkpoint with some tensors in fp32; what its file holds."""
    make, wide = MODELS[architecture]
    model = make().bfloat16()
    model.save_pretrained(folder)
    tiny_tokenizer("bytelevel_bpe").save_pretrained(folder)
    file = folder / "model.safetensors"
    state = load_file(file)
    chosen = [name for name in state if wide in name]
    assert chosen
    for name in chosen:
        state[name] = torch.rand(state[name].shape) / 3 + 0.3
    save_file(state, file, metadata={"format": "pt"})
    return state


def few(folder: Path, **options) -> dict:
    (folder / "texts.txt").write_text("\n".join(SENTENCES * 3))
    return {
        "data": str(folder / "texts.txt"),
        "output": str(folder / "out"),
        "max_steps": 1,
        "batch_size": 2,
        "max_length": 32,
        "num_workers": 0,
        "report_to": "none",
        **options,
    }


def assert_kept(folder: Path, before: dict[str, torch.Tensor], *, moved=(), trained=False):
    after = load_file(folder / "model.safetensors")
    assert set(before) == set(after)
    for name, tensor in after.items():
        assert tensor.dtype == before[name].dtype, name
        if name not in moved and not trained:
            assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("architecture", MODELS)
def test_a_transplant_changes_no_dtype_and_no_bit_of_what_it_leaves(tmp_path, architecture):
    before = mixed_folder(tmp_path / "m", architecture)
    tiny_tokenizer("spm_bpe").save_pretrained(tmp_path / "spm")
    transplant(
        TransplantRecipe(
            model=str(tmp_path / "m"), tokenizer=str(tmp_path / "spm"), output=str(tmp_path / "out")
        )
    )
    moved = {name for name, tensor in before.items() if tensor.shape[:1] == (SIZE,)}
    assert 1 <= len(moved) <= 2
    assert_kept(tmp_path / "out", before, moved=moved)


@pytest.mark.parametrize("architecture", ["deepseek_v3", "llama"])
def test_training_keeps_every_dtype_and_what_is_not_trained(tmp_path, architecture):
    before = mixed_folder(tmp_path / "m", architecture)
    model = str(tmp_path / "m")
    frozen = {"learning_rate": 1e-30}
    distil(DistilRecipe(student=model, teacher=[model], **few(tmp_path, **frozen)))
    assert_kept(tmp_path / "out", before)
    spm = tiny_tokenizer("spm_bpe")
    spm.save_pretrained(tmp_path / "spm")
    transfer(
        TransferRecipe(
            model=model,
            tokenizer=str(tmp_path / "spm"),
            overwrite=True,
            **few(tmp_path, **frozen),
        )
    )
    moved = {name for name, tensor in before.items() if tensor.shape[:1] == (SIZE,)}
    assert_kept(tmp_path / "out", before, moved=moved)


def test_a_checkpoint_of_several_dtypes_is_loaded_without_rounding(tmp_path):
    before = mixed_folder(tmp_path / "m", "llama")
    model, dtypes = load_to_change(str(tmp_path / "m"))
    assert (dtypes.main, dtypes.widest) == (torch.bfloat16, torch.float32)
    state = model.state_dict()
    assert all(torch.equal(state[name], tensor.float()) for name, tensor in before.items())


def test_a_checkpoint_of_one_dtype_is_loaded_in_it(tmp_path):
    tiny_model("llama", SIZE).bfloat16().save_pretrained(tmp_path)
    model, dtypes = load_to_change(str(tmp_path))
    assert model.dtype == dtypes.main == torch.bfloat16
    assert not dtypes.others


def test_dtypes_are_read_from_every_shard(tmp_path):
    model = tiny_model("llama", SIZE)
    model.model.norm.half()
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    dtypes = read_dtypes(str(tmp_path))
    assert dtypes.main == torch.float32
    assert dtypes.others == {"model.norm.weight": torch.float16}
    assert read_dtypes(str(save_model(tmp_path / "other"))).others == {}
