"""What tells one teacher from another."""

import huggingface_hub.constants
import pytest

from crosstok.teachers.fingerprint import fingerprint
from crosstok.tokenizers import ByteVocab
from tests.tiny import tiny_tokenizer
from tests.tiny_models import tiny_model

VOCAB = ByteVocab.from_tokenizer(tiny_tokenizer("bytelevel_bpe"))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that cannot be reached, with a cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def publish(hub, commit: str) -> None:
    repository = hub / "models--someone--teacher"
    tiny_model("llama", 512).config.save_pretrained(repository / "snapshots" / commit)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(commit)


def test_a_model_of_the_hub_is_known_by_its_commit(hub, tmp_path):
    found = []
    for commit in ("a" * 40, "b" * 40):
        publish(hub, commit)
        found.append(fingerprint("someone/teacher", VOCAB, "float32", tmp_path / "notes.json"))
        assert commit in str(found[-1].weights)
    assert found[0].key != found[1].key


def test_a_model_that_the_hub_does_not_give_has_no_weights(hub, tmp_path):
    found = fingerprint("someone/teacher", VOCAB, "float32", tmp_path / "notes.json")
    assert found.weights is None
