"""A run's page: gaps before and after, curves of all its steps, and never a lost model."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from crosstok.chats import ExampleEncoder
from crosstok.jobs import report
from crosstok.jobs.report import BEFORE, REPORT
from crosstok.jobs.transfer import transfer
from crosstok.models import load_model
from crosstok.teachers import LocalTeacher
from crosstok.tokenizers import TextEncoder, load_tokenizer
from crosstok.training import AlignedCollator, Student, chunk_gaps, chunk_views, telling_rows
from tests.tiny import SENTENCES


def means(page: str) -> list[str]:
    """What the page says of each text: ``1.234 nats before → 0.567 after``."""
    plain = " ".join(re.sub("<[^>]+>", " ", page).split())
    return re.findall(r"mean gap (.*?) · ", plain)


def test_gaps_are_those_of_a_plain_softmax(model_folder, tokenizer_folder):
    own, other = (
        ExampleEncoder(TextEncoder(load_tokenizer(str(folder))))
        for folder in (tokenizer_folder, model_folder)
    )
    model = load_model(str(model_folder))
    teacher = LocalTeacher(model, other.encoder.byte_vocab)
    pupil = load_model(str(model_folder))
    pupil.resize_token_embeddings(len(own.encoder.byte_vocab), mean_resizing=False)
    student = Student(pupil, own.encoder)
    rows = [{"text": text, "row": i, "is_end": True} for i, text in enumerate(SENTENCES[:3])]
    gaps = chunk_gaps(student, teacher, AlignedCollator(own, (other,), 200), rows)
    views = chunk_views(rows, (other, own), "all", {"gap": gaps})
    num_whole = 0
    for row, gap, view in zip(rows, gaps, views, strict=True):
        spans = [side.encoder([row["text"]])[0] for side in (other, own)]
        logprobs = [
            judge(torch.tensor(span.ids)[None]).logits[0, :, : len(side.encoder.byte_vocab)]
            .log_softmax(-1)[:-1].gather(-1, torch.tensor(span.ids)[1:, None]).sum()
            for judge, span, side in zip((model, pupil), spans, (other, own), strict=True)
        ]  # fmt: skip
        shown = [cell.gaps[0] for cell in view.cells]
        compared = gap[np.isfinite(gap)]
        assert [g for g in shown if g is not None] == pytest.approx(compared.tolist(), abs=6e-4)
        if all(g is not None for g in shown[1:]) and shown[0] is None:  # all but the start
            difference = (logprobs[0] - logprobs[1]).item()
            assert compared.sum() == pytest.approx(difference, abs=1e-3)
            num_whole += 1
    assert num_whole
    assert any(view.cells[0].gaps == (None,) for view in views)


@pytest.mark.parametrize("lora", [False, True])
def test_a_run_leaves_a_page_with_gaps_before_and_after(
    recipe, model_folder, tokenizer_folder, lora
):
    result = transfer(recipe(objective="alm+cross_entropy", lora=lora, log_every=1))
    page = (result.folder / REPORT).read_text(encoding="utf-8")
    assert f"<h1>{Path(model_folder).name} → {Path(tokenizer_folder).name}</h1>" in page
    assert page.index("Chunks of the data") < page.index("Curves")
    assert means(page)
    assert all(re.fullmatch(r"[\d.]+ nats before → [\d.]+ after", mean) for mean in means(page))
    assert len({tuple(mean.split(" nats before → ")) for mean in means(page)}) == len(means(page))
    assert f"{result.metrics['bits_per_byte']:.4f}" in page
    assert f"{result.report.copied:,}" in page
    for said in ("alm+cross_entropy", "transformers", "likelihood gap to teacher", "<svg"):
        assert said in page


def test_a_resumed_run_tells_of_all_its_steps_and_of_the_gaps_before_them(recipe, caplog):
    whole = transfer(recipe(max_steps=4, log_every=1, save_every=2))
    first = (whole.folder / REPORT).read_text(encoding="utf-8")
    (whole.folder / REPORT).unlink()
    for checkpoint in (whole.folder / "checkpoints").glob("checkpoint-4"):
        checkpoint.rename(whole.folder / "gone")
    assert (whole.folder / "checkpoints" / BEFORE).is_file()
    again = transfer(recipe(max_steps=4, log_every=1, save_every=2, resume=True))
    second = (again.folder / REPORT).read_text(encoding="utf-8")
    assert means(first) == means(second)
    assert "4 log lines" in " ".join(second.split())
    history = json.loads(
        (again.folder / "checkpoints" / "checkpoint-4" / "trainer_state.json").read_text()
    )["log_history"]
    seen = [line["bytes_seen"] for line in history if "bytes_seen" in line]
    assert len(seen) == 4
    assert seen == sorted(seen)
    assert seen[0] > 0
    assert seen[3] > seen[2]


def test_a_run_without_a_teacher_shows_the_cuts_alone(recipe):
    result = transfer(recipe(objective="cross_entropy"))
    page = (result.folder / REPORT).read_text(encoding="utf-8")
    assert "gaps in likelihood need a teacher" in page
    assert not means(page)
    assert 'class="chunks"' in page


@pytest.mark.parametrize("broken", ["run_page", "chunk_gaps", "telling_rows"])
def test_a_page_that_fails_costs_a_warning_and_no_model(recipe, monkeypatch, caplog, broken):
    def fail(*arguments, **named):
        raise RuntimeError("no page today")

    monkeypatch.setattr(report, broken, fail)
    result = transfer(recipe())
    assert (result.folder / "model.safetensors").is_file()
    assert "could not be made (RuntimeError: no page today)" in caplog.text
    assert (result.folder / REPORT).is_file() == (broken != "run_page")


def test_the_rows_that_are_shown_are_long_and_from_all_over_the_data():
    rows = [{"text": "x" * (300 if i % 8 == 5 else 20), "row": i} for i in range(64)]
    chosen = [row["row"] for row in telling_rows(rows)]
    assert len(chosen) == 4
    assert chosen == sorted(chosen)
    assert chosen[-1] > 40
    assert telling_rows(iter(rows))
    assert [row["row"] for row in telling_rows(rows[:2])] == [0, 1]
    assert telling_rows([]) == []


def test_measuring_leaves_the_run_as_it_was(recipe, monkeypatch):
    with_page = transfer(recipe(max_steps=2))
    monkeypatch.setattr(report, "telling_rows", lambda rows: [])
    other = recipe(max_steps=2)
    without = transfer(replace(other, output=other.output + "-without"))
    assert {k: v for k, v in with_page.metrics.items() if k.startswith("loss")} == {
        k: v for k, v in without.metrics.items() if k.startswith("loss")
    }
