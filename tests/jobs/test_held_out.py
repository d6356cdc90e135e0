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


def exam(folder: Path) -> str:
    """An exam of pairs: a sentence, and the same with its words in another order."""
    file = folder / "order.jsonl"
    rows = [{"good": text, "bad": " ".join(sorted(text.split()))} for text in SENTENCES]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


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
        recipe(
            output=str(tmp_path / "watched"), eval_data=wiki, eval_exam=exam(tmp_path),
            eval_every=1, **same,
        )
    )  # fmt: skip
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


@pytest.mark.parametrize(
    "changes", [{}, {"lora": True}, {"objective": "cross_entropy"}, {"precision": "bf16"}],
    ids=lambda changes: next(iter(changes), "teacher"),
)  # fmt: skip
def test_the_original_is_measured_under_its_own_tokenizer(recipe, wiki, changes):
    """Whether it runs as the teacher, shares the student's weights, or is not needed otherwise."""
    asked = recipe(eval_data=wiki, **changes)
    found = transfer(asked).metrics["eval_wiki_bits_per_byte_original"]
    near = 1e-5 if "precision" not in changes else 2e-2
    assert found == pytest.approx(judged(Path(asked.model), wiki, 48), rel=near)


def test_a_run_ends_in_the_share_of_the_gap_that_it_closed(recipe, wiki, tmp_path, crosstok):
    data = recipe(eval_data=wiki, data=wiki)
    known = transfer(
        recipe(
            data=wiki, objective="cross_entropy", max_steps=25, learning_rate=3e-3,
            tokenizer=recipe().model, output=str(tmp_path / "known"), save_every=100,
        )
    ).folder  # fmt: skip
    code, out, err = crosstok(
        "transfer", "--model", known, "--tokenizer", data.tokenizer, "--data", wiki,
        "--eval-data", wiki, "--objective", "cross_entropy", "--max-steps", 12,
        "--max-length", 48, "--learning-rate", "3e-3", "--num-workers", 0, "--report-to", "none",
        "--output", tmp_path / "moved", "--eval-every", 6,
    )  # fmt: skip
    assert code == 0, err
    figures = json.loads((tmp_path / "moved" / "training.json").read_text())
    name = "eval_wiki_bits_per_byte"
    start, now, original = (figures[name + end] for end in ("_start", "", "_original"))
    share = (start - now) / (start - original)
    assert start > original
    assert share > 0
    assert figures["eval_wiki_recovered"] == pytest.approx(share)
    steps = [
        line["step"] for line in log_lines(tmp_path / "moved") if "eval_wiki_recovered" in line
    ]
    assert steps == [6, 12]
    assert f"{share:.1%} of the gap in bits per byte between start and original" in out
    assert "eval_wiki_recovered" in (tmp_path / "moved" / "README.md").read_text()
    assert f"wiki {start:.4g} (original {original:.4g})" in err
    assert f"held-out recovered:  wiki {share:.1%}" in err


def test_without_a_gap_no_share_is_given(recipe, wiki, caplog):
    caplog.set_level("INFO")
    same = recipe(eval_data=wiki, tokenizer=recipe().model, objective="cross_entropy")
    metrics = transfer(same).metrics
    assert not [name for name in metrics if "recovered" in name]
    assert metrics["eval_wiki_bits_per_byte_start"] == metrics["eval_wiki_bits_per_byte_original"]
    assert "is not better than the student at the start" in caplog.text


def chat_bits(folder: str, chats: str, max_length: int) -> tuple[float, int]:
    """Bits and bytes of the assistant's turns, one chat at a time, from whole rows of logits."""
    from transformers import AutoModelForCausalLM

    from crosstok.chats import ExampleEncoder, parse_example
    from crosstok.tokenizers import TextEncoder, load_tokenizer

    side = ExampleEncoder(TextEncoder(load_tokenizer(folder)))
    model = AutoModelForCausalLM.from_pretrained(folder)
    bits, num_bytes = 0.0, 0
    for number, line in enumerate(Path(chats).read_text().splitlines()):
        spans = side([parse_example(json.loads(line), str(number))], loss_on="assistant")[0]
        ids = torch.tensor([spans.ids[:max_length].tolist()])
        with torch.no_grad():
            logprobs = model(ids).logits[0].double().log_softmax(-1)
        for place in range(1, ids.shape[1]):
            width = int(spans.ends[place] - spans.starts[place])
            if spans.loss_mask[place] and width:
                bits -= float(logprobs[place - 1, ids[0, place]]) / math.log(2)
                num_bytes += width
    return bits, num_bytes


def test_held_out_chats_are_measured_on_the_assistants_bytes(models, chats, tmp_path):
    asked = DistilRecipe(
        teacher=models["teacher"], student=models["student"], data=chats, eval_data=chats,
        output=str(tmp_path / "out"), max_steps=2, batch_size=2, max_length=120, num_workers=0,
        report_to="none",
    )  # fmt: skip
    folder = distil(asked).folder
    name = "eval_chat_bits_per_byte"
    first, *_, last = [line for line in log_lines(folder) if name in line]
    counted = {}
    for key, model in (("", models["student"]), ("_teacher", models["teacher"])):
        bits, counted[key] = chat_bits(model, chats, 120)
        assert first[name + key] == pytest.approx(bits / counted[key], rel=1e-4)
    bits, num_bytes = chat_bits(str(folder), chats, 120)
    assert last[name] == pytest.approx(bits / num_bytes, rel=1e-4)


def test_chats_that_the_window_cuts_before_their_answers_are_refused(models, chats, tmp_path):
    asked = DistilRecipe(
        teacher=models["teacher"], student=models["student"], data=chats, eval_data=chats,
        output=str(tmp_path / "out"), max_steps=2, max_length=4, report_to="none",
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"max_length 4"):
        distil(asked)
    assert not (tmp_path / "out").exists()


def test_exams_are_taken_while_the_model_trains(recipe, tmp_path):
    asked = recipe(eval_exam=exam(tmp_path), eval_every=2)
    result = transfer(asked)
    steps = [line["step"] for line in log_lines(result.folder) if "eval_order_accuracy" in line]
    assert steps == [0, 2, 4]
    for folder, key in ((result.folder, ""), (asked.model, "_original")):
        options = EvaluationOptions(max_length=asked.max_length)
        found = evaluate([str(folder)], [], [exam(tmp_path)], options=options, show_progress=False)
        expected = found["models"][0]["exams"]["order"]["accuracy"]
        assert result.metrics[f"eval_order_accuracy{key}"] == expected
    assert "eval_order_recovered" not in result.metrics


def test_an_exam_that_cannot_be_read_stops_the_run_before_anything_is_written(recipe, tmp_path):
    file = tmp_path / "odd.jsonl"
    file.write_text('{"text": "x"}\n')
    for given, said in ((file, r"eval_exam .*do not make a known form"), ("no.jsonl", "eval_exam")):
        with pytest.raises(ValueError, match=said):
            transfer(recipe(eval_exam=str(given)))
    assert not Path(recipe().output).exists()


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
            r"eval_data .*row 1.*no assistant turn",
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
    file.write_text(recipe_yaml(recipe()).replace("eval_data: null", "eval_data: one.jsonl"))
    assert load_recipe(TransferRecipe, file, {}).eval_data == ["one.jsonl"]


def test_a_log_that_cannot_be_written_costs_a_warning(recipe, monkeypatch, caplog):
    from crosstok.training import log_file

    plain = log_file.LogFile.__init__
    monkeypatch.setattr(
        log_file.LogFile, "__init__", lambda self, file: plain(self, file.parent / "no" / file.name)
    )
    assert (transfer(recipe()).folder / "model.safetensors").is_file()
    assert "is not written any further" in caplog.text
