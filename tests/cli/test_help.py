"""What `--help` shows of each command."""

import re

import pytest


@pytest.mark.parametrize("command", ["transfer", "transplant", "evaluate", "inspect", "generate"])
def test_help_shows_every_flag_in_full_with_its_default(crosstok, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = crosstok(command, "--help")
    assert code == 0
    assert "--[no-]trust-remote-code" in out
    assert "[required]" in out
    assert "[default: no]" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80


OF_TRAINING = ("Data:", "Objective:", "Teacher:", "LoRA:", "Training:", "Held-out data:")


@pytest.mark.parametrize(
    ("command", "headings"),
    [
        ("transfer", OF_TRAINING),
        ("distil", OF_TRAINING),
        ("generate", ("Prompts:", "Chat:", "Answers:")),
        ("evaluate", ("Data:", "Tasks and exams:", "Comparison:")),
    ],
)
def test_help_fits_on_two_screens_under_headings(crosstok, command, headings, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    _, out, _ = crosstok(command, "--help")
    lines = out.splitlines()
    assert len(lines) <= 100
    found = [line for line in lines if re.fullmatch(r"\w[\w -]*:", line)]
    assert found == ["Options:", "Model:", *headings, "Output and run:"]


def test_flags_of_earlier_versions_are_not_in_the_help(crosstok):
    assert "--temperature" not in crosstok("distil", "--help")[1]


def test_a_kind_of_teacher_is_not_taken_for_a_module(crosstok, tmp_path):
    flags = ("--student", "s", "--data", "d", "--output", tmp_path / "out")
    code, _, err = crosstok("distil", "--teacher", f"model:{tmp_path}", *flags)
    assert code != 0
    assert "importing" not in err
    code, _, err = crosstok("distil", "--teacher", "no_such_module:Teacher:x", *flags)
    assert code == 2
    assert "importing 'no_such_module' failed" in err
