"""Tiny models, tokenizers, texts and chats as folders and files, and recipes of a few steps."""

import json
from pathlib import Path

import pytest

from crosstok.recipes import TransferRecipe
from tests.folders import CHATML, CHATS, TURNS, save_model, save_pair
from tests.tiny import SENTENCES, tiny_tokenizer


@pytest.fixture(scope="session")
def texts_file(tmp_path_factory) -> Path:
    """Forty documents of a few sentences each."""
    file = tmp_path_factory.mktemp("data") / "texts.jsonl"
    rows = [" ".join(SENTENCES[i % 14 :] + SENTENCES[: i % 5]) + f" {i}" for i in range(40)]
    file.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    return file


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory) -> Path:
    """A SentencePiece-like tokenizer."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer("spm_bpe").save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def recipe(model_folder, tokenizer_folder, texts_file, tmp_path):
    """A recipe of a few small steps; keyword arguments change it."""

    def make(**changes) -> TransferRecipe:
        values = {
            "model": str(model_folder),
            "tokenizer": str(tokenizer_folder),
            "data": str(texts_file),
            "output": str(tmp_path / "out"),
            "max_steps": 4,
            "batch_size": 4,
            "max_length": 48,
            "learning_rate": 1e-3,
            "warmup_steps": 0,
            "num_workers": 0,
            "log_every": 1,
            "save_every": 2,
            "keep_checkpoints": True,
            "report_to": "none",
        }
        return TransferRecipe(**{**values, **changes})

    return make


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> dict[str, str]:
    """A student with a SentencePiece tokenizer, and two wider teachers with other tokenizers."""
    folder = tmp_path_factory.mktemp("models")
    chatml, turns = ("<|im_start|>", "<|im_end|>"), ("<turn>", "</turn>")
    wide = {"hidden_size": 48, "head_dim": 12}
    return {
        "student": save_pair(folder / "student", "spm_bpe", TURNS, turns),
        "teacher": save_pair(folder / "teacher", "bytelevel_bpe", CHATML, chatml, **wide),
        "other": save_pair(folder / "other", "unigram", CHATML, chatml, architecture="qwen2"),
    }


@pytest.fixture(scope="session")
def chats(tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("data") / "chat.jsonl"
    file.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in CHATS))
    return str(file)
