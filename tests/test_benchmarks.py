"""What the benchmarks write from figures that lie there, without any run."""

import importlib
import json
import sys
from argparse import Namespace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def scripts(monkeypatch):
    """The scripts' folder is importable, as for somebody who runs them; nothing is left over."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if "benchmarks" in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


def test_notes_of_a_results_file_are_kept(scripts, tmp_path):
    common, file = scripts("common"), tmp_path / "results.md"
    file.write_text("# Old\n\n| a |\n\n## Notes\n\nBy hand.\n")
    common.write_results(file, "# New\n")
    assert file.read_text() == "# New\n\n## Notes\n\nBy hand.\n"


def test_a_heading_names_command_commit_versions_and_hardware(scripts):
    heading = scripts("common").made_by("python x.py")
    for part in ("`python x.py`", "Commit ", "torch ", "transformers ", "Python ", "CPU"):
        assert part in heading


@pytest.mark.parametrize(
    "script",
    ["chat_encoding", "collation", "ensembles", "step", "transfer_bytes", "transfer_methods"],
)
def test_a_table_that_needs_other_data_says_so_at_once(scripts, script, monkeypatch, capsys):
    flag = "--data" if script == "ensembles" else "--shared"
    monkeypatch.setattr(sys, "argv", [f"{script}.py", flag, "nowhere/at-all"])
    with pytest.raises(SystemExit, match="2"):
        scripts(script).main()
    error = capsys.readouterr().err
    assert f"argument {flag}: there is no folder 'nowhere/at-all'" in error
    assert "docs/results.md" in error


def test_the_transfer_table_has_a_row_a_method_and_leaves_out_what_was_not_measured(
    scripts, tmp_path
):
    methods = scripts("transfer_methods")
    for seed, bits in enumerate((1.0, 3.0)):
        figures = {
            "data": {name: {"bits_per_byte": bits} for name in methods.DOMAINS},
            "exams": {"blimp": {"accuracy": 0.5}, "lambada": {"accuracy": 0, "bits_per_byte": 2}},
        }
        folder = tmp_path / f"bytes-alm-{seed}"
        folder.mkdir()
        (folder / "figures.json").write_text(json.dumps(figures))
    text = methods.report(Namespace(output=tmp_path, seeds=[0, 1, 2], targets=["bytes"]))
    spread = "2.000 ± 1.414"
    assert "| alm | 2 | " + " | ".join([spread] * 5) + " | 50.0 ± 0.0 | 2.000 ± 0.000 |" in text
    assert "| gold | 0 |" in text
    assert "ARC easy |" not in text


def test_learning_curves_are_read_from_logs_and_drawn(scripts, tmp_path, monkeypatch):
    curves = scripts("learning_curves")
    for seed in (0, 1):
        lines = [{"step": 10, "loss": 1.0, "tokens_seen": 999}]
        lines += [
            {
                "step": step,
                "tokens_seen": 1000 * step,
                "eval_code_bits_per_byte": 3.0 - step / 100 + seed,
                "eval_prose_bits_per_byte": 3.0,
            }
            for step in (0, 50, 100)
        ]
        (tmp_path / f"alm-{seed}").mkdir()
        (tmp_path / f"alm-{seed}" / "log.jsonl").write_text(
            "".join(json.dumps(line) + "\n" for line in lines)
        )
    found = {name: curves.read_curve(tmp_path, name) for name in curves.OBJECTIVES}
    assert found["alm"]["code"] == [(0, [3.0, 4.0]), (50_000, [2.5, 3.5]), (100_000, [2.0, 3.0])]
    assert found["gold"]["code"] == []
    original = {"code": 1.2, "prose": 1.6}
    text = curves.report(found, original)
    assert "| | 0k | 100k |" in text
    assert "| alm | 3.500 ± 0.707 | 2.500 ± 0.707 |" in text
    monkeypatch.setattr(curves, "PICTURE", tmp_path / "curves")
    curves.draw(found, original)
    assert (tmp_path / "curves.svg").read_text().startswith("<?xml")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_ablations_report_the_share_of_the_loss_that_was_recovered(scripts, tmp_path):
    ablations = scripts("ablations")
    name = ablations.folder_name("temperature 5")
    for folder, code in (("teacher-0", 1.0), ("transplant-0", 2.0), (f"{name}-0", 1.25)):
        (tmp_path / folder).mkdir()
        figures = {"code": code, "prose": code, "cpu_seconds": 7.4}
        (tmp_path / folder / "figures.json").write_text(json.dumps(figures))
    text = ablations.report(Namespace(output=tmp_path, seeds=[0]))
    assert "| temperature 5 | 1 | 1.250 | 1.250 | 75.0 | 75.0 | 7 |" in text
