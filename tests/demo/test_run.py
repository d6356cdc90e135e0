"""The demo from end to end, very small, and what it says."""

from __future__ import annotations

import io
import json
import os
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import transformers.utils.logging
import yaml
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from crosstok.corpora import read_rows
from crosstok.demo import figures, run
from crosstok.demo.corpus import Domain, SplitDocuments
from crosstok.demo.run import CONTENTS, DemoSettings, run_demo

SMALL = DemoSettings(
    num_tokens=1000,
    max_steps=3,
    batch_size=2,
    max_length=64,
    num_train=600,
    num_held_out=3,
    max_new_tokens=5,
)
BITS = {
    "teacher": {"code": 1.0, "prose": 2.0},
    "transplant": {"code": 2.0, "prose": 4.0},
    "cross-entropy": {"code": 1.5, "prose": 4.5},
    "ALM": {"code": 1.125, "prose": 2.5},
}


@dataclass(frozen=True)
class Ran:
    folder: Path
    results: dict[str, Any]
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, domains: dict[Domain, SplitDocuments]) -> Ran:
    """A small run, on text that is read once for all tests of the demo."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(run, "load_domain", domains.__getitem__)
        results = run_demo(folder, console=Console(width=80), settings=SMALL)
    return Ran(folder, results, out.getvalue(), err.getvalue())


def test_results_go_to_standard_output_and_progress_to_standard_error(ran: Ran) -> None:
    for model in figures.with_mean(BITS):
        assert model in ran.stdout
    assert figures.sentence(ran.results["recovered"]) in " ".join(ran.stdout.split())
    for prompt in SMALL.prompts:
        assert prompt in ran.stdout
    assert f"crosstok generate --model {ran.folder}/alm" in ran.stdout
    assert "demo:" not in ran.stdout
    assert "demo: ALM: 3 steps on code" in ran.stderr
    assert "recovers" not in ran.stderr


def test_the_folder_holds_what_the_demo_says_and_the_figures_it_showed(ran: Ran) -> None:
    assert {entry.name for entry in ran.folder.iterdir()} == set(CONTENTS)
    assert json.loads((ran.folder / "results.json").read_text()) == json.loads(
        json.dumps(ran.results)
    )
    bits = ran.results["bits_per_byte"]
    assert bits["teacher"]["code"] < 3
    for name in ("code", "prose", "both"):
        assert bits["transplant"][name] > bits["teacher"][name]
        assert f"{bits['ALM'][name]:.3f}" in ran.stdout
    assert bits["ALM"]["code"] != bits["cross-entropy"]["code"] != bits["transplant"]["code"]


def test_the_models_load_with_plain_transformers_and_share_the_target_tokenizer(ran: Ran) -> None:
    target = AutoTokenizer.from_pretrained(ran.folder / "target-tokenizer")
    for name in ("transplant", "cross_entropy", "alm"):
        model = AutoModelForCausalLM.from_pretrained(ran.folder / name)
        tokenizer = AutoTokenizer.from_pretrained(ran.folder / name)
        assert tokenizer.get_vocab() == target.get_vocab()
        assert model.get_input_embeddings().weight.shape[0] == len(target)


def test_documents_keep_their_line_ends_and_only_code_is_trained_on(ran: Ran) -> None:
    data = ran.folder / "data"
    files = {"train_code.jsonl", "held_out_code.jsonl", "held_out_prose.jsonl"}
    assert {file.name for file in data.iterdir()} == files
    train = [row["text"] for row in read_rows(str(data / "train_code.jsonl"))]
    assert len(train) == SMALL.num_train
    assert any("\n" in text for text in train)
    held_out = {row["text"] for row in read_rows(str(data / "held_out_code.jsonl"))}
    assert not held_out & set(train)


def test_both_trainings_differ_in_the_objective_and_its_option_alone(ran: Ran) -> None:
    recipes = [
        yaml.safe_load((ran.folder / name / "recipe.yaml").read_text())
        for name in ("cross_entropy", "alm")
    ]
    differing = {key for key in recipes[0] if recipes[0][key] != recipes[1][key]}
    assert differing == {"objective", "options", "output"}


def test_settings_of_the_process_are_as_they_were(ran: Ran) -> None:
    assert "HF_HUB_OFFLINE" not in os.environ or os.environ["HF_HUB_OFFLINE"] == OFFLINE
    assert transformers.utils.logging.is_progress_bar_enabled() == BARS


OFFLINE = os.environ.get("HF_HUB_OFFLINE")
BARS = transformers.utils.logging.is_progress_bar_enabled()


def test_a_folder_that_holds_something_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(ValueError, match=r"already holds mine.txt.*overwrite"):
        run_demo(tmp_path, settings=SMALL)
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.txt"]


def test_recovered_is_the_share_of_the_transplants_loss_that_is_won_back() -> None:
    shares = figures.recovered_shares(figures.with_mean(BITS))
    assert shares["ALM"] == {"code": 0.875, "prose": 0.75, "both": pytest.approx(19 / 24)}
    assert shares["cross-entropy"] == {"code": 0.5, "prose": -0.25, "both": 0.0}
    assert figures.sentence(shares) == (
        "ALM recovers 87.5% of the bits per byte that the transplant lost on code, which it was "
        "trained on, and 75.0% on prose, which it never saw (79.2% over both); cross-entropy "
        "recovers 50.0% on code and -25.0% on prose (0.0% over both)."
    )


def test_nothing_lost_is_an_error_that_says_what_to_do() -> None:
    bits = {**BITS, "transplant": BITS["teacher"]}
    with pytest.raises(ValueError, match=r"Nothing was lost.*tokenizer that is not its own"):
        figures.recovered_shares(bits)


def test_text_that_looks_like_markup_is_shown_as_it_is() -> None:
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(figures.continuation("ALM", "\n    x[bold] = y[0]\n\tz"))
    assert "x[bold] = y[0]" in console.export_text()


def test_a_quick_run_says_that_its_figures_are_of_few_steps(
    crosstok, monkeypatch, tmp_path
) -> None:
    asked = []
    monkeypatch.setattr(run, "run_demo", lambda folder, **options: asked.append(options))
    assert crosstok("demo", "--output", tmp_path / "a")[0] == 0
    assert crosstok("demo", "--quick", "--output", tmp_path / "b")[0] == 0
    full, quick = (options["settings"] for options in asked)
    assert full == DemoSettings()
    assert quick.is_quick
    assert 10 * quick.max_steps < full.max_steps
    note = run._quick_note(quick)
    assert f"after {quick.max_steps} steps" in note
    assert "without --quick trains for 1,200 steps" in note
