"""What a run says that it reads before it starts, and what it warns of."""

import json
import math
from pathlib import Path

import pytest

from crosstok.jobs.distil import distil
from crosstok.jobs.transfer import transfer
from crosstok.recipes import DistilRecipe
from tests.tiny import SENTENCES, tiny_tokenizer


def write(file: Path, texts: list[str]) -> str:
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(file)


@pytest.fixture
def said(caplog):
    """Run a job; the lines that it logs, and its warnings."""
    caplog.set_level("INFO", "crosstok")

    def run(job, recipe) -> tuple[list[str], str]:
        caplog.clear()
        job(recipe)
        lines = [r.message for r in caplog.records if r.levelname == "INFO"]
        warnings = " ".join(r.message for r in caplog.records if r.levelname == "WARNING")
        return lines, warnings

    return run


def line(lines: list[str], start: str) -> str:
    return next(text.removeprefix(start).strip() for text in lines if text.startswith(start))


def test_rows_bytes_steps_passes_files_device_and_precision_are_said(recipe, said, texts_file):
    asked = recipe(max_steps=5, gradient_accumulation_steps=2, batch_size=3)
    lines, warnings = said(transfer, asked)
    texts = [json.loads(row)["text"] for row in texts_file.read_text().splitlines()]
    size = sum(len(text.encode()) for text in texts)
    read = line(lines, "reads ")
    assert read.startswith(f"{texts_file}: ")
    assert read.endswith(f"windows of up to 48 tokens, {size / 1000:.3g} kB")
    windows = int(read.removeprefix(f"{texts_file}: ").split()[0].replace(",", ""))
    passes = 5 / math.ceil(math.ceil(windows / 3) / 2)
    trained = line(lines, "trains ")
    assert trained == f"5 steps of 6 windows each: {passes:.3g} passes over the data"
    assert line(lines, "runs on ").endswith(", fp32, 1 process")
    assert "of the bytes lie beyond max_length, in windows" in warnings


def test_of_epochs_the_steps_are_said(recipe, said, tmp_path):
    data = write(tmp_path / "ten.jsonl", list(SENTENCES[:10]))
    asked = recipe(data=data, max_steps=None, epochs=1.5, batch_size=4, max_length=64)
    lines, _ = said(transfer, asked)
    assert line(lines, "trains ").startswith("5 steps of 4 windows each: 1.5 passes")


def test_of_a_stream_what_is_unknown_is_said_to_be(recipe, said):
    lines, _ = said(transfer, recipe(streaming=True))
    assert "streamed: their number and bytes are not known" in line(lines, "reads ")
    assert line(lines, "trains ") == "4 steps of 4 windows each; passes over the data: not known"


def test_files_of_a_folder_are_counted_and_chats_are_examples(models, chats, said, tmp_path):
    folder = tmp_path / "chats"
    folder.mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        (folder / name).write_text(Path(chats).read_text())
    asked = DistilRecipe(
        teacher=models["teacher"], student=models["student"], data=str(folder), max_steps=1,
        output=str(tmp_path / "out"), batch_size=2, max_length=120, num_workers=0,
        report_to="none",
    )  # fmt: skip
    lines, _ = said(distil, asked)
    assert line(lines, "reads ").startswith(f"{folder} (2 files): 48 examples of up to 120 tokens")


def test_a_single_row_too_few_rows_and_many_passes_are_warned_of(recipe, said, tmp_path):
    one = write(tmp_path / "one.jsonl", [SENTENCES[0]])
    few = write(tmp_path / "few.jsonl", list(SENTENCES[:3]))
    _, of_one = said(transfer, recipe(data=one, output=str(tmp_path / "1"), max_length=64))
    assert "the data is a single window" in of_one
    _, of_few = said(
        transfer, recipe(data=few, output=str(tmp_path / "3"), max_length=64, max_steps=20)
    )
    assert "has 3 windows, fewer than the 4 of a step" in of_few
    assert "the data is read 20 times" in of_few


def test_text_that_the_target_tokenizer_cannot_spell_is_warned_of(recipe, said, tmp_path):
    target = tmp_path / "wordpiece"
    tiny_tokenizer("wordpiece").save_pretrained(target)
    data = write(tmp_path / "odd.jsonl", [f"{text} \N{SNOWMAN}" for text in SENTENCES])
    _, warnings = said(
        transfer, recipe(data=data, tokenizer=str(target), max_length=64, objective="cross_entropy")
    )
    assert "the student's tokenizer does not spell" in warnings


def test_bytes_beyond_the_window_of_a_chat_are_warned_of(models, chats, said, tmp_path):
    asked = DistilRecipe(
        teacher=models["teacher"], student=models["student"], data=chats, max_steps=1,
        output=str(tmp_path / "out"), batch_size=2, max_length=60, num_workers=0,
        report_to="none",
    )  # fmt: skip
    _, warnings = said(distil, asked)
    assert "of the bytes lie beyond max_length" in warnings


def test_a_lossless_target_and_enough_data_are_not_warned_of(recipe, said):
    _, warnings = said(transfer, recipe(max_length=192))
    assert not warnings
