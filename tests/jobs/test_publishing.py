"""Uploads to the hub: what is checked first, what is sent, and what is said when it fails."""

import json
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants

from crosstok.jobs.publishing import UploadError
from crosstok.jobs.transfer import transfer
from crosstok.jobs.transplant import transplant
from crosstok.recipes import RecipeError, TransplantRecipe
from crosstok.training import DistillationTrainer


class Repository:
    repo_id = "someone/new"


@pytest.fixture
def hub(monkeypatch) -> dict:
    """A hub that takes everything, and what it was sent."""
    sent: dict = {}

    def create_repo(self, name, **options):
        sent["created"] = (name, options)
        return Repository()

    def upload_folder(self, *, repo_id, folder_path, allow_patterns, **_):
        folder = Path(folder_path)
        assert not (folder / ".crosstok-lock").exists()
        sent["repository"] = repo_id
        sent["files"] = {
            str(file.relative_to(folder))
            for pattern in allow_patterns
            for file in folder.glob(pattern)
        }
        sent["texts"] = "".join(
            (folder / name).read_text() for name in sent["files"] if not name.endswith("tensors")
        )

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_pretend")
    return sent


MODEL = {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json",
         "tokenizer_config.json", "README.md"}  # fmt: skip


def test_model_tokenizer_and_card_are_sent_when_the_folder_is_complete(hub, recipe, tmp_path):
    folder = transfer(
        recipe(max_steps=1, push_to_hub="someone/new", hub_private=True, report_to="tensorboard")
    ).folder
    assert hub["created"] == ("someone/new", {"private": True, "exist_ok": True})
    assert (hub["repository"], hub["files"]) == ("someone/new", MODEL)
    assert str(tmp_path) not in hub["texts"]
    assert str(Path(recipe().model).parent) not in hub["texts"]
    assert 'from_pretrained("someone/new")' in (folder / "README.md").read_text()


def test_a_transplant_is_sent_too(hub, recipe, tmp_path):
    asked = TransplantRecipe(
        model=recipe().model, tokenizer=recipe().tokenizer, output=str(tmp_path / "only"),
        push_to_hub="new",
    )  # fmt: skip
    transplant(asked)
    assert hub["created"] == ("new", {"private": None, "exist_ok": True})
    assert hub["files"] == MODEL


def test_a_failed_upload_keeps_the_folder_and_gives_the_command(
    hub, crosstok, recipe, tmp_path, monkeypatch
):
    def down(self, **_):
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(HfApi, "upload_folder", down)
    output = tmp_path / "a b"
    asked = TransplantRecipe(
        model=recipe().model, tokenizer=recipe().tokenizer, output=str(output),
        push_to_hub="someone/new", hub_private=True,
    )  # fmt: skip
    with pytest.raises(UploadError, match=r"ConnectionError: no route\).*hf upload someone/new"):
        transplant(asked)
    assert (output / "model.safetensors").is_file()
    code, _, err = crosstok(
        "transplant", "--model", asked.model, "--tokenizer", asked.tokenizer, "--output", output,
        "--push-to-hub", "someone/new", "--hub-private", "--overwrite",
    )  # fmt: skip
    assert code == 1
    said = err.splitlines()[-1]
    assert f"hf upload someone/new '{output}' . --include README.md" in said
    assert said.endswith("--private")


@pytest.mark.parametrize(
    ("name", "said"), [("a/b/c", "cannot be the name"), ("a b", "cannot be the name")]
)
def test_a_wrong_name_is_refused_before_training(hub, recipe, monkeypatch, name, said):
    monkeypatch.setattr(DistillationTrainer, "train", None)
    with pytest.raises(RecipeError, match=said):
        transfer(recipe(push_to_hub=name))
    assert not Path(recipe().output).exists()


def test_a_missing_token_or_network_is_said_before_training(hub, recipe, monkeypatch):
    monkeypatch.setattr("crosstok.jobs.publishing.get_token", lambda: None)
    with pytest.raises(RecipeError, match=r"no token for the hub.*hf auth login"):
        transfer(recipe(push_to_hub="someone/new"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RecipeError, match="HF_HUB_OFFLINE is set"):
        transfer(recipe(push_to_hub="someone/new"))
    with pytest.raises(RecipeError, match="hub_private is given, and without push_to_hub"):
        recipe(hub_private=True)


def test_cards_and_settings_of_a_run_hold_no_path(recipe, tmp_path, texts_file):
    folder = transfer(recipe(max_steps=1, eval_data=str(texts_file), eval_texts=2)).folder
    card = (folder / "README.md").read_text()
    for path in (tmp_path, texts_file.parent, Path(recipe().model).parent):
        assert str(path) not in card
    assert "bits_per_byte" in card.split("---")[1]
    assert json.loads((folder / "training.json").read_text())["steps"] == 1
