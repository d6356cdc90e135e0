"""Byte views and ensembles in the columns of a comparison."""

import math

import pytest
import torch
import yaml

from crosstok.evaluation import EvaluationError, EvaluationOptions, evaluate, render_table
from crosstok.evaluation.contenders import contenders, drop_folders
from crosstok.inference.loading import load_language_model
from crosstok.recipes import EvaluateRecipe
from tests.evaluation.tables import EXAM, lines, table_text
from tests.tiny import SENTENCES, tiny_tokenizer
from tests.tiny_models import tiny_model

TEXTS = ("mine", list(SENTENCES[:4]))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models of one tokenizer and one of another."""
    folders = []
    for seed, kind in enumerate(("bytelevel_bpe", "bytelevel_bpe", "unigram")):
        folder = tmp_path_factory.mktemp("models") / f"m{seed}"
        size = max(tiny_tokenizer(kind).get_vocab().values()) + 1
        tiny_model("llama", size, seed=seed).save_pretrained(folder)
        tiny_tokenizer(kind).save_pretrained(folder)
        folders.append(str(folder))
    return folders


@pytest.fixture
def ensemble_file(models, tmp_path):
    file = tmp_path / "both.yaml"
    members = [{"model": model} for model in models[:2]]
    file.write_text(yaml.safe_dump({"combine": "probs", "members": members}))
    return str(file)


def run(models, data=(TEXTS,), exams=(), **options):
    made = EvaluationOptions(**options)
    return evaluate(models, data, exams, options=made, show_progress=False)


def figures(result, name="mine"):
    return [entry["data"][name]["bits_per_byte"] for entry in result["models"]]


def test_a_table_holds_models_byte_views_and_ensembles(models, ensemble_file, tmp_path):
    exam = lines(tmp_path / "pairs.jsonl", EXAM)
    names = [models[0], f"bytes:{models[0]}", ensemble_file]
    result = run(names, exams=[exam])
    assert [entry["model"] for entry in result["models"]] == names
    for name, bits in zip(names, figures(result), strict=True):
        plain = name.removeprefix("bytes:")
        model = load_language_model([plain], bytes_view=plain != name)
        scores = model.text_logprobs(TEXTS[1])
        nats = -sum(score.logprob for score in scores)
        assert bits == pytest.approx(nats / math.log(2) / sum(s.num_bytes for s in scores))
    view = result["models"][1]
    assert view["data"]["mine"]["tokens"] == view["data"]["mine"]["bytes"]
    accuracies = [entry["exams"]["pairs"]["accuracy"] for entry in result["models"]]
    assert all(0 <= accuracy <= 1 for accuracy in accuracies)
    text = table_text(result)
    assert "m0 (bytes)" in text
    assert "both.yaml" in text


def test_models_that_are_combined_are_one_column(models, ensemble_file):
    result = run(models[:2], combine="probs")
    (entry,) = result["models"]
    assert entry["model"] == f"{models[0]} + {models[1]} (probs)"
    assert figures(result) == pytest.approx(figures(run([ensemble_file])))
    assert drop_folders(entry["model"]) == "m0 + m1 (probs)"
    (weighted,) = figures(run(models[:2], combine="probs", weights=[1e9, 1.0]))
    (alone,) = figures(run(models[:1]))
    assert weighted == pytest.approx(alone, rel=1e-3)  # an ensemble never says <|pad|>


def test_models_of_different_tokenizers_are_combined_byte_by_byte(models):
    data = (("mine", list(SENTENCES[:1])),)
    result = run([models[0], models[2]], data, combine="bytes-mixture")
    assert len(result["models"]) == 1
    assert figures(result)[0] > 0


def test_bytes_reads_every_model_byte_by_byte(models):
    given = EvaluationOptions(bytes_view=True)
    loaded = ("mine", tiny_model("llama", 600), tiny_tokenizer("bytelevel_bpe"))
    columns = contenders([models[0], f"bytes:{models[2]}", loaded], given)
    assert [column.name for column in columns] == [
        f"bytes:{models[0]}", f"bytes:{models[2]}", "bytes:mine"
    ]  # fmt: skip
    assert not any(column.is_plain for column in columns)
    assert columns[2].load(given).unit == "byte"


def test_windows_fit_the_model_with_the_fewest_positions(tmp_path):
    folders = [str(tmp_path / name) for name in ("short", "long")]
    for folder, positions in zip(folders, (40, 512), strict=True):
        tiny_model("llama", 512, max_position_embeddings=positions).save_pretrained(folder)
        tiny_tokenizer("bytelevel_bpe").save_pretrained(folder)
    text = "".join(SENTENCES).replace(" ", "")[:300]  # a few bytes a token
    result = run([f"bytes:{folder}" for folder in folders], (("long", [text]),))
    windows = [entry["data"]["long"]["texts"] for entry in result["models"]]
    assert windows[0] == windows[1] >= len(text.encode()) / 38


def test_texts_are_cut_into_the_same_bytes_for_all(models):
    text = " ".join(SENTENCES)
    result = run([models[0], f"bytes:{models[0]}"], (("long", [text]),), window_bytes=80)
    first, second = (entry["data"]["long"] for entry in result["models"])
    assert first["bytes"] == second["bytes"] == len(text.encode())
    assert first["texts"] == second["texts"] > len(text.encode()) // 80
    assert second["bits_per_byte"] <= first["bits_per_byte"]
    with pytest.raises(EvaluationError, match="bytes fit"):
        run([f"bytes:{models[0]}"], (("long", [text * 4]),), window_bytes=10_000)


def test_fidelity_is_of_plain_models(models):
    options = EvaluationOptions()
    names = [models[0], f"bytes:{models[1]}"]
    result = evaluate(names, [TEXTS], teacher=models[2], options=options, show_progress=False)
    first, second = result["models"]
    assert first["fidelity"]["mine"]
    assert "fidelity" not in second
    assert render_table(result).row_count == 3
    with pytest.raises(ValueError, match="only byte views and ensembles"):
        evaluate(names[1:], [TEXTS], teacher=models[2])
    with pytest.raises(ValueError, match=r"teacher is bytes:.*must be a plain model"):
        evaluate(models[:1], [TEXTS], teacher=names[1])


def test_what_cannot_be_is_said_before_a_model_is_loaded(models, ensemble_file, monkeypatch):
    monkeypatch.setattr("crosstok.evaluation.contenders.load_language_model", None)
    with pytest.raises(ValueError, match="combine is 'sum'; it must be one of probs, "):
        run(models, combine="sum")
    with pytest.raises(ValueError, match="a single model takes no weights"):
        run(models, weights=[1.0, 2.0])
    with pytest.raises(ValueError, match="only combine proxy takes one"):
        run(models, combine="probs", alpha=2.0)
    with pytest.raises(ValueError, match="there must be one for each of the 2 models"):
        run(models[:2], combine="probs", weights=[1.0])
    with pytest.raises(ValueError, match=r"combine is 'probs', .* leave bytes_view out"):
        run(models, combine="probs", bytes_view=True)
    with pytest.raises(ValueError, match="is the byte view of a single model; several take"):
        run([models[0], f"bytes:{models[1]}"], combine="probs")
    with pytest.raises(ValueError, match=r"both.yaml defines an ensemble .* leave bytes_view out"):
        run([ensemble_file], bytes_view=True)
    with pytest.raises(ValueError, match=r"nowhere.yaml' is not there"):
        run(["nowhere.yaml"])
    with pytest.raises(ValueError, match=r"max_length is 64 tokens, .* give window_bytes"):
        run([ensemble_file], max_length=64)


def test_models_go_where_they_are_told_in_the_precision_they_are_told(models, ensemble_file):
    recipe = EvaluateRecipe(model=models[:1], device="cpu", precision="bf16")
    for name in (models[0], f"bytes:{models[0]}", ensemble_file):
        [column] = contenders([name], recipe.options())
        loaded = column.load(recipe.options())
        member = loaded.members[0] if hasattr(loaded, "members") else loaded
        head = member.model._reader.head if "bytes:" in name else member.model.lm_head
        assert head.weight.dtype == torch.bfloat16
    with pytest.raises(ValueError, match="device 'gpu' cannot be used"):
        run(models[:1], device="gpu")
