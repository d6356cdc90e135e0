"""What `crosstok env` shows, and what it must not show."""

import json

from crosstok.cli.environment import PACKAGES


def test_a_block_to_paste_names_versions_and_devices(crosstok):
    code, out, err = crosstok("env")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert (lines[0], lines[-1]) == ("```", "```")
    shown = {line.split()[0] for line in lines[1:-1]}
    assert {"python", "platform", "devices", "threads", "variables", *PACKAGES} <= shown


def test_values_of_variables_and_paths_are_left_out(crosstok, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    code, out, _ = crosstok("env", "--json")
    assert code == 0
    found = json.loads(out)
    assert {"HF_TOKEN", "HF_HOME"} <= set(found["variables"])
    assert "hf_secret" not in out
    assert str(tmp_path) not in out


def test_a_package_that_is_missing_is_no_error(crosstok, monkeypatch):
    monkeypatch.setattr("crosstok.cli.environment.PACKAGES", ("torch", "no-such-package"))
    packages = json.loads(crosstok("env", "--json")[1])["packages"]
    assert packages["no-such-package"] == "not installed"
    assert packages["torch"].startswith("2.")
