import json
from pathlib import Path

import huggingface_hub.constants
import pytest
from huggingface_hub.errors import GatedRepoError
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from crosstok.tokenizers import load_tokenizer
from tests.tiny import tiny_tokenizer
from tests.tiny_models import tiny_model


def test_a_saved_tokenizer_loads_from_its_folder_and_from_its_file(tmp_path: Path):
    tiny_tokenizer("spm_bpe").save_pretrained(tmp_path)
    tokenizer = load_tokenizer(str(tmp_path))
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    assert tokenizer.eos_token == "</s>"
    assert len(load_tokenizer(str(tmp_path / "tokenizer.json"))) == len(tokenizer)


def test_a_folder_that_is_not_there(tmp_path: Path):
    with pytest.raises(
        ValueError, match=r"no tokenizer .*there is no file or folder.*Correct the path"
    ):
        load_tokenizer(str(tmp_path / "nowhere"))


def test_a_folder_without_a_tokenizer_says_what_it_holds(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(
        ValueError, match=r"holds no tokenizer \(it holds: config.json\).*tokenizer\.json"
    ):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize("name", ["", "tokenizer.json"])
def test_a_broken_tokenizer_file(tmp_path: Path, name: str):
    (tmp_path / "tokenizer.json").write_text('{"model": ')
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        load_tokenizer(str(tmp_path / name))


def test_a_slow_tokenizer_that_cannot_be_made_fast(tmp_path: Path):
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "ByT5Tokenizer"})
    )
    with pytest.raises(ValueError, match=r"slow tokenizer.*ByT5Tokenizer.*tokenizer.json"):
        load_tokenizer(str(tmp_path))


def test_a_vocabulary_that_is_missing(tmp_path: Path):
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "LlamaTokenizer"})
    )
    with pytest.raises(ValueError, match="empty vocabulary"):
        load_tokenizer(str(tmp_path))


def test_a_sentencepiece_file_that_cannot_be_read_names_what_to_install(tmp_path: Path):
    (tmp_path / "tokenizer.model").write_bytes(b"\x00not a model")
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "LlamaTokenizer"})
    )
    with pytest.raises(ValueError, match="pip install sentencepiece"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize("is_on_the_hub", [False, True])
def test_the_tokenizer_is_that_of_the_file_beside_a_model_of_any_family(
    tmp_path, caplog, monkeypatch, is_on_the_hub
):
    name, folder = str(tmp_path), tmp_path
    if is_on_the_hub:  # in its cache
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        name, commit = "someone/model", "a" * 40
        repository = tmp_path / "models--someone--model"
        folder = repository / "snapshots" / commit
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(commit)
    tokenizer = tiny_tokenizer("unigram")
    tokenizer.save_pretrained(folder)
    tiny_model("qwen2", len(tokenizer)).save_pretrained(folder)  # whose own is another kind
    text = "The quick brown fox, 猫は 12"
    assert load_tokenizer(name).tokenize(text) == tokenizer.tokenize(text)
    plain = AutoTokenizer.from_pretrained(name).tokenize(text)  # depends on its version
    assert ("crosstok uses the file" in caplog.text) == (plain != tokenizer.tokenize(text))


def test_a_gated_tokenizer_names_the_next_step(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise OSError("wrapped") from GatedRepoError.__new__(GatedRepoError)

    monkeypatch.setattr("crosstok.tokenizers.loading.why_not_fetched", lambda name: None)
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", refuse)
    with pytest.raises(ValueError, match=r"'meta-llama/Llama' is gated.*hf auth login"):
        load_tokenizer("meta-llama/Llama")
