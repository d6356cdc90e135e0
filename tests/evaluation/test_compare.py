import json

import datasets
import pytest

from crosstok.evaluation import EvaluationError, EvaluationOptions, Scorer, evaluate
from crosstok.models import load_model
from crosstok.tokenizers import load_tokenizer
from tests.evaluation.tables import EXAM, lines, table_text
from tests.tiny import SENTENCES


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def models(make_scorer, tmp_path):
    """Two folders with a model and its tokenizer."""
    folders = []
    for kind in ("bytelevel_bpe", "unigram"):
        scorer = make_scorer(kind)
        scorer.model.save_pretrained(tmp_path / kind)
        scorer.encoder.tokenizer.save_pretrained(tmp_path / kind)
        folders.append(str(tmp_path / kind))
    return folders


def test_the_result_has_the_promised_keys(tmp_path, models, capsys):
    data = [
        lines(tmp_path / folder / "test.jsonl", [{"text": text} for text in SENTENCES])
        for folder in "ab"
    ]
    exam = lines(tmp_path / "pairs.jsonl", EXAM)
    result = evaluate(models, [*data, ("mine", ["Some text."])], [exam], teacher=models[0])
    assert json.loads(json.dumps(result)) == result
    assert list(result) == ["models"]
    assert [entry["model"] for entry in result["models"]] == models
    first, second = result["models"]
    assert list(first) == ["model", "data", "exams"]
    assert list(second) == ["model", "data", "exams", "fidelity"]
    assert list(first["data"]) == list(second["fidelity"]) == ["a/test", "b/test", "mine"]
    assert list(first["exams"]) == ["pairs"]
    assert {"bits_per_byte", "bytes", "tokens"} <= set(first["data"]["a/test"])
    assert {"accuracy", "stderr", "items"} <= set(first["exams"]["pairs"])
    assert {"chunk_divergence", "agreement", "coverage"} <= set(second["fidelity"]["mine"])
    assert capsys.readouterr().out == ""


def test_the_table_shows_the_best_in_bold(tmp_path, models):
    result = evaluate(models, [("mine", ["Some text."])], show_progress=False)
    figures = [entry["data"]["mine"]["bits_per_byte"] for entry in result["models"]]
    text = table_text(result)
    assert f"\x1b[1m{min(figures):.3f}" in text
    assert f"\x1b[1m{max(figures):.3f}" not in text
    assert "mine: bits per byte" in text


def test_limits_shorten_data_and_exams(tmp_path, models):
    data = lines(tmp_path / "t.jsonl", [{"text": text} for text in SENTENCES])
    exam = lines(tmp_path / "e.jsonl", EXAM)
    options = EvaluationOptions(max_texts=2, limit=2, max_length=16)
    (entry,) = evaluate(models[:1], [data], [exam], options=options)["models"]
    assert entry["data"]["t"]["texts"] == 2
    assert entry["exams"]["e"]["items"] == 2
    with pytest.raises(ValueError, match="limit is 0; it must be at least 1"):
        EvaluationOptions(limit=0)


def test_items_of_an_exam_are_logged_with_the_scores_that_make_the_figures(tmp_path, models):
    exam = lines(tmp_path / "pairs.jsonl", EXAM)
    options = EvaluationOptions(log_samples=str(tmp_path / "samples"))
    found = evaluate(models, [], [exam], options=options)["models"]
    folders = sorted((tmp_path / "samples").iterdir())
    assert len(folders) == len(models)
    for entry in found:
        (folder,) = (f for f in folders if f.name.endswith(entry["model"].rpartition("/")[2]))
        text = (folder / "samples_pairs.jsonl").read_text()
        samples = [json.loads(line) for line in text.splitlines()]
        assert len(samples) == len(EXAM)
        right = [sample["logprobs"][0] > sample["logprobs"][1] for sample in samples]
        assert right == [sample["is_right"] for sample in samples]
        assert sum(right) / len(right) == entry["exams"]["pairs"]["accuracy"]
        assert samples[0]["options"] == [["", row] for row in EXAM[0].values()]


def test_a_batch_size_limits_the_rows_and_changes_no_figure(tmp_path, models, monkeypatch):
    exam = lines(tmp_path / "pairs.jsonl", [*EXAM, {"good": "a b c", "bad": "c b a"}])
    texts = [("mine", list(SENTENCES))]
    whole = evaluate(models[:1], texts, [exam])["models"]
    rows: list[int] = []
    score = Scorer._score_batch
    monkeypatch.setattr(
        Scorer,
        "_score_batch",
        lambda self, batch, g: (rows.append(len(batch)), score(self, batch, g))[1],
    )
    again = evaluate(models[:1], texts, [exam], options=EvaluationOptions(batch_size=1))["models"]
    assert set(rows) == {1}
    for section, name, figure in (
        ("data", "mine", "bits_per_byte"),
        ("exams", "pairs", "accuracy"),
    ):
        assert again[0][section][name][figure] == pytest.approx(whole[0][section][name][figure])


def test_bad_inputs_are_found_before_any_model_is_loaded(tmp_path, models, monkeypatch):
    monkeypatch.setattr("crosstok.evaluation.contenders.load_language_model", None)
    with pytest.raises(ValueError, match="is empty"):
        evaluate(models, [("fine", ["text"]), lines(tmp_path / "no.jsonl", [])])
    with pytest.raises(ValueError, match="do not make a known form of exam"):
        evaluate(models, [], [lines(tmp_path / "e.jsonl", [{"a": 1}])])
    file = EvaluationOptions(log_samples=lines(tmp_path / "samples", []))
    with pytest.raises(ValueError, match=r"log_samples is .*, a file; give a folder"):
        evaluate(models, [("fine", ["text"])], options=file)
    with pytest.raises(ValueError, match="needs a model and something to evaluate it on"):
        evaluate(models)


def test_a_failure_loses_nothing_that_was_computed(models, monkeypatch):
    model, tokenizer = load_model(models[0]), load_tokenizer(models[0])
    score = Scorer.score

    def fail_for_this_model(scorer, *arguments, **options):
        if scorer.model is model:
            raise RuntimeError("broken matrix")
        return score(scorer, *arguments, **options)

    monkeypatch.setattr(Scorer, "score", fail_for_this_model)
    compared = [models[0], ("broken", model, tokenizer), models[1]]
    with pytest.raises(EvaluationError, match=r"broken, data mine: .*broken matrix") as caught:
        evaluate(compared, [("mine", ["Some text."])], show_progress=False)
    entries = caught.value.result["models"]
    assert ["mine" in entry["data"] for entry in entries] == [True, False, True]
    assert "–" in table_text(caught.value.result)
