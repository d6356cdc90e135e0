"""Bits per byte of held-out texts while a model trains: the numbers, when, where; what stops."""

import json
import math
from pathlib import Path

import pytest
import torch

from crosstok.evaluation import EvaluationOptions, evaluate
from crosstok.jobs.distil import distil
from crosstok.jobs.transfer import transfer
from crosstok.recipes import DistilRecipe, TransferRecipe, load_recipe, recipe_yaml
from crosstok.training.log_file import LOG
from tests.folders import save_model, weights
from tests.tiny import SENTENCES

TEXTS = [" ".join(SENTENCES[i:]) for i in range(6)]


def write(file: Path, texts: list[str], field: str = "text") -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps({field: text}) + "\n" for text in texts))
    return str(file)


@pytest.fixture
def wiki(tmp_path) -> str:
    return write(tmp_path / "wiki.jsonl", TEXTS)


def log_lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def curve(folder: Path, name: str = "wiki") -> list[tuple[int, float]]:
    key = f"eval_{name}_bits_per_byte"
    return [(line["step"], line[key]) for line in log_lines(folder) if key in line]


def judged(folder: Path, data: str, max_length: int, **more) -> float:
    """What ``crosstok evaluate`` says of a saved model."""
    options = EvaluationOptions(max_length=max_length, trust_remote_code=True, **more)
    result = evaluate([str(folder)], [data], options=options, show_progress=False)
    return next(iter(result["models"][0]["data"].values()))["bits_per_byte"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tokenizer": "bytes", "max_length": 96},
        {"tokenizer": "bytes", "max_length": 96, "input_expansion": True, "lora": True},
    ],
    ids=["whole", "bytes", "expanded by lora"],
)
def test_the_last_number_is_that_of_evaluate(recipe, wiki, changes):
    asked = recipe(eval_data=wiki, eval_texts=4, **changes)
    result = transfer(asked)
    found = curve(result.folder)
    assert [step for step, _ in found] == [0, 4]
    expected = judged(result.folder, wiki, asked.max_length, max_texts=4)
    assert found[-1][1] == pytest.approx(expected, rel=1e-5)
    assert found[0][1] != found[-1][1]
    assert result.metrics["eval_wiki_bits_per_byte"] == found[-1][1]


def test_the_first_number_is_that_of_the_student_before_training(model_folder, texts_file, wiki):
    def run(name: str, student: Path) -> list[tuple[int, float]]:
        asked = DistilRecipe(
            teacher=str(model_folder), student=str(student), data=str(texts_file),
            output=str(Path(wiki).parent / name), max_steps=2, batch_size=2, max_length=48,
            num_workers=0, report_to="none", eval_data=wiki,
        )  # fmt: skip
        return curve(distil(asked).folder)

    student = save_model(Path(wiki).parent / "student", "gemma2")
    assert run("out", student)[0][1] == pytest.approx(judged(student, wiki, 48), rel=1e-5)


def test_measuring_changes_nothing_of_the_run(recipe, wiki, tmp_path):
    model = save_model(tmp_path / "dropout", attention_dropout=0.3)
    same = {"model": str(model), "objective": "alm+cross_entropy", "log_every": 2}
    plain = transfer(recipe(output=str(tmp_path / "plain"), **same))
    watched = transfer(
        recipe(output=str(tmp_path / "watched"), eval_data=wiki, eval_every=1, **same)
    )
    one, other = weights(plain.folder), weights(watched.folder)
    assert all(torch.equal(one[name], other[name]) for name in one)

    def trained(folder: Path) -> list[dict[str, float]]:
        lines = [line for line in log_lines(folder) if "loss" in line]
        return [{k: v for k, v in line.items() if "second" not in k} for line in lines]

    assert trained(plain.folder) == trained(watched.folder)


def test_numbers_stand_where_people_look(recipe, wiki, tmp_path, capsys):
    books = write(tmp_path / "books.jsonl", TEXTS[::-1])
    asked = recipe(eval_data=[wiki, books], eval_every=3, log_every=2, report_to="tensorboard")
    folder = transfer(asked).folder
    names = ("eval_wiki_bits_per_byte", "eval_books_bits_per_byte")
    lines = [line for line in log_lines(folder) if names[0] in line]
    assert [line["step"] for line in lines] == [0, 3, 4]
    assert all(names[1] in line for line in lines)
    trained = {line["step"]: line for line in log_lines(folder) if "loss" in line}
    assert list(trained) == [2, 4]
    for seen in ("tokens_seen", "bytes_seen"):
        values = [line[seen] for line in lines]
        assert values[0] == 0
        assert trained[2][seen] < values[1] < values[2] == trained[4][seen]
    last = lines[-1]
    figures = json.loads((folder / "training.json").read_text())
    assert [figures[name] for name in names] == [last[name] for name in names]
    assert names[0] in (folder / "README.md").read_text()
    state = folder / "checkpoints" / "checkpoint-4" / "trainer_state.json"
    history = json.loads(state.read_text())["log_history"]
    assert log_lines(folder)[: len(history)] == history
    page = (folder / "report.html").read_text()
    assert f"bits per byte on books, steps 0 to 4: from {lines[0][names[1]]:.4f}" in page
    assert "2 log lines" in " ".join(page.split())
    events = b"".join(file.read_bytes() for file in folder.rglob("events.out.tfevents*"))
    assert b"eval/wiki_bits_per_byte" in events
    said = capsys.readouterr().err
    assert f"step 0/4  held-out bits per byte:  wiki {lines[0][names[0]]:.4g}" in said


def test_a_resumed_run_measures_no_step_twice(recipe, wiki):
    asked = {"eval_data": wiki, "eval_every": 1, "log_every": 2}
    folder = transfer(recipe(**asked)).folder
    whole = curve(folder)
    (folder / "checkpoints" / "checkpoint-4").rename(folder / "gone")
    transfer(recipe(**asked, resume=True))
    assert curve(folder) == whole
    assert [step for step, _ in whole] == [0, 1, 2, 3, 4]


def test_held_out_texts_may_join_a_run_that_is_resumed(recipe, wiki, tmp_path):
    folder = transfer(recipe(eval_data=wiki)).folder
    (folder / "checkpoints" / "checkpoint-4").rename(folder / "gone")
    more = write(tmp_path / "books.jsonl", TEXTS)
    transfer(recipe(eval_data=[wiki, more], eval_every=2, resume=True))
    assert [step for step, _ in curve(folder)] == [0, 2, 4]
    assert [step for step, _ in curve(folder, "books")] == [2, 4]


def test_sources_of_one_name_are_told_apart(recipe, tmp_path):
    given = [write(tmp_path / f"{i}" / "wiki.jsonl", TEXTS[i:]) for i in range(3)]
    folder = transfer(recipe(eval_data=given, max_steps=1)).folder
    values = [curve(folder, name)[-1][1] for name in ("wiki", "wiki-2", "wiki-3")]
    assert len(set(values)) == 3
    assert all(map(math.isfinite, values))


def test_folders_give_their_validation_split(recipe, tmp_path):
    folder = tmp_path / "both"
    write(folder / "train.jsonl", ["never looked at"])
    held_out = write(folder / "validation.jsonl", TEXTS)
    asked = recipe(eval_data=str(folder), max_steps=1)
    found = transfer(asked).metrics["eval_both_bits_per_byte"]
    assert found == pytest.approx(judged(Path(asked.output), held_out, 48), rel=1e-5)
    with pytest.raises(ValueError, match=r"split 'test'; eval_split sets another.*its splits are"):
        transfer(recipe(eval_data=str(folder), eval_split="test", output=str(tmp_path / "new")))


@pytest.mark.parametrize(
    ("rows", "changes", "said"),
    [
        (None, {}, r"eval_data .*There is no file or folder"),
        ([], {}, r"eval_data .*is empty"),
        ([{"text": "  "}], {}, r"eval_data .*none of its 1 rows holds text"),
        (
            [{"messages": [{"role": "user", "content": "Hi"}]}],
            {},
            r"has no field 'text'.*Chats have no bits per byte.*crosstok evaluate",
        ),
        ([{"text": "Some."}], {"eval_every": 0}, r"eval_every is 0; it must be at least 1"),
        ([{"text": "Some."}], {"eval_texts": 0}, r"eval_texts is 0"),
        ([{"text": "Some."}], {"max_length": 4096}, r"4096, but the student has \d+ positions"),
    ],
)
def test_what_cannot_be_measured_is_told_before_anything_is_written(
    recipe, tmp_path, rows, changes, said
):
    file = tmp_path / "held.jsonl"
    if rows is not None:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=said):
        transfer(recipe(eval_data=str(file), **changes))
    assert not Path(recipe().output).exists()


def test_recipes_take_one_source_or_several(recipe, tmp_path):
    assert recipe(eval_data="one.jsonl").eval_data == ["one.jsonl"]
    file = tmp_path / "recipe.yaml"
    for given in ("one.jsonl", ["one.jsonl", "two.jsonl"]):
        file.write_text(recipe_yaml(recipe(eval_data=given)))
        assert load_recipe(TransferRecipe, file, {}) == recipe(eval_data=given)
    file.write_text(recipe_yaml(recipe()) + "eval_data: one.jsonl\n")
    assert load_recipe(TransferRecipe, file, {}).eval_data == ["one.jsonl"]


def test_a_log_that_cannot_be_written_costs_a_warning(recipe, monkeypatch, caplog):
    from crosstok.training import log_file

    plain = log_file.LogFile.__init__
    monkeypatch.setattr(
        log_file.LogFile, "__init__", lambda self, file: plain(self, file.parent / "no" / file.name)
    )
    assert (transfer(recipe()).folder / "model.safetensors").is_file()
    assert "is not written any further" in caplog.text
