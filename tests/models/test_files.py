"""Model folders as downloads, copies and disks leave them, and the line that says what to do."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import BertConfig, CLIPConfig, T5Config

from crosstok import local_files
from crosstok.models import load_model
from crosstok.tokenizers import load_tokenizer
from tests.folders import save_model

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 12345\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def model(whole, tmp_path) -> Path:
    """A model to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "model"))


class Attack:
    def __reduce__(self):
        return print, ("executed",)


def cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def put(name: str, content: str):
    return lambda folder: (folder / name).write_text(content)


def poison(value: float):
    def change(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        weights["model.norm.weight"][3] = value
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return change


def shard(folder: Path) -> None:
    weights = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "b.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(weights))
    (folder / "model.safetensors").rename(folder / "b.safetensors")


def pickle(content: object):
    def change(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        torch.save(content, folder / "pytorch_model.bin")

    return change


def configure(**changes: object):
    def change(folder: Path) -> None:
        values = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**values, **changes}))

    return change


DAMAGED_MODELS = {
    "weights cut short": (cut, r"model\.safetensors' is damaged or cut short .* Fetch it again"),
    "empty weights": (put("model.safetensors", ""), "is damaged or cut short"),
    "weights left to git-lfs": (put("model.safetensors", LFS), "pointer of git-lfs.*git lfs pull"),
    "config left to git-lfs": (put("config.json", LFS), r"config\.json' is a pointer of git-lfs"),
    "NaN": (poison(float("nan")), r"weight model\.norm\.weight holds values that are NaN"),
    "infinity": (poison(float("-inf")), r"weight model\.norm\.weight holds values that are NaN"),
    "a missing shard": (shard, r"1 of the 2 files .* is missing: model-00001-of-00002"),
    "a broken index": (put("model.safetensors.index.json", "{"), "index.json' is not JSON"),
    "an index of nothing": (put("model.safetensors.index.json", "{}"), "has no weight_map"),
    "a broken config": (put("config.json", '{"a": '), r"config\.json' is not JSON .*again"),
    "an empty config": (put("config.json", ""), r"config\.json' is not JSON"),
    "a list as config": (put("config.json", "[]"), "must hold a JSON object.* holds a list"),
    "a config of nothing": (put("config.json", "{}"), "does not describe a model"),
    "heads that do not divide": (configure(num_attention_heads=5), "does not fit its architecture"),
    "a size in words": (configure(hidden_size="many"), "does not fit its architecture.*'many'"),
    "other shapes": (configure(hidden_size=64), "shapes are not those of its config"),
    "code in a pickle": (pickle({"x": Attack()}), "more than tensors, which could run code"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGED_MODELS)
def test_a_damaged_model_is_named_in_one_line(model, capsys, kind):
    damage, said = DAMAGED_MODELS[kind]
    damage(model)
    with pytest.raises(ValueError, match=said) as error:
        load_model(str(model))
    assert "\n" not in str(error.value)
    assert str(model) in str(error.value)
    assert "executed" not in capsys.readouterr().out


DAMAGED_TOKENIZERS = {
    "left to git-lfs": (LFS, "pointer of git-lfs.*git lfs pull"),
    "cut short": ('{"version": "1.0", "model": {', r"tokenizer\.json' is not JSON .*again"),
    "empty": ("", r"tokenizer\.json' is not JSON"),
    "of something else": ("{}", "cannot be loaded"),
}


@pytest.mark.parametrize("kind", DAMAGED_TOKENIZERS)
def test_a_damaged_tokenizer_is_named_in_one_line(model, kind):
    content, said = DAMAGED_TOKENIZERS[kind]
    (model / "tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match=said) as error:
        load_tokenizer(str(model))
    assert "\n" not in str(error.value)
    assert str(model) in str(error.value)


def test_weights_in_a_pickle_of_tensors_load(model):
    weights = load_file(model / "model.safetensors")
    pickle(weights)(model)
    assert torch.equal(load_model(str(model)).lm_head.weight, weights["lm_head.weight"])


@pytest.mark.parametrize(
    "config", [CLIPConfig(), T5Config(), BertConfig(architectures=["BertForMaskedLM"])]
)
def test_models_of_other_kinds_are_refused_by_their_config(model, config):
    config.save_pretrained(model)
    with pytest.raises(ValueError, match="is not a causal language model"):
        load_model(str(model))


def test_an_adapter_names_its_base_model(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    with pytest.raises(ValueError, match="an adapter only, without its base model 'org/base'"):
        load_model(str(tmp_path))


def test_gguf_and_other_files_are_no_models(tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    for load in (load_model, load_tokenizer):
        with pytest.raises(ValueError, match=r"GGUF file, for llama\.cpp"):
            load(str(file))
    with pytest.raises(ValueError, match=r"it holds model\.gguf.*GGUF files are for llama\.cpp"):
        load_model(str(tmp_path))
    file = tmp_path / "weights.txt"
    file.write_text("x")
    with pytest.raises(ValueError, match="is a file, and a model is a folder"):
        load_model(str(file))


@pytest.fixture
def no_hub(monkeypatch):
    """Asking the hub is an error of the test."""

    def refuse(*_args, **_kwargs):
        raise AssertionError("asked the hub")

    monkeypatch.setattr(local_files, "_try_to_connect", refuse)


@pytest.mark.parametrize("load", [load_model, load_tokenizer])
def test_a_typo_in_a_path_never_asks_the_hub(model, monkeypatch, no_hub, load):
    monkeypatch.chdir(model.parent)
    for name in ("./modle", str(model.parent / "modle"), "model/../modle", "a b", "x/y/z"):
        with pytest.raises(ValueError, match="there is no file or folder") as error:
            load(name)
        assert name in str(error.value)
    with pytest.raises(ValueError, match=r"'\.' has 'model'. Correct the path."):
        load("./modle")
    (model / "checkpoint-500").mkdir()
    with pytest.raises(ValueError, match="'model' has 'checkpoint-500'"):
        load("model/checkpoint-50")


@pytest.mark.parametrize("load", [load_model, load_tokenizer])
def test_without_network_a_name_on_the_hub_fails_at_once_with_the_next_step(monkeypatch, load):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(local_files, "_try_to_connect", lambda endpoint: "no route to host")
    with pytest.raises(
        ValueError, match=r"'no-one/nothing'.* cannot be reached \(no route to host"
    ):
        load("no-one/nothing")
    with pytest.raises(
        ValueError, match="`hf download gpt-x`; without network set HF_HUB_OFFLINE=1"
    ):
        load("gpt-x")


def test_what_the_cache_has_needs_no_network(monkeypatch, model, tmp_path):
    snapshot = tmp_path / "hub" / "models--org--name" / "snapshots" / "abc"
    snapshot.parent.mkdir(parents=True)
    shutil.copytree(model, snapshot)
    refs = tmp_path / "hub" / "models--org--name" / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(local_files, "_try_to_connect", lambda endpoint: "no network")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert local_files.why_not_fetched("org/name") is None
    assert local_files.why_not_fetched("org/other") is not None
