"""Ctrl-C and SIGTERM: the step is finished, a checkpoint saved, and the run can be resumed."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from crosstok.jobs.stopping import Stopped, signals_ask
from crosstok.jobs.transfer import transfer
from crosstok.recipes import recipe_yaml
from crosstok.training.checkpoints import last_checkpoint
from tests.folders import weights

COMMAND = [sys.executable, "-m", "crosstok.cli", "transfer", "--recipe"]


def start(recipe, file: Path) -> subprocess.Popen:
    """The command with a recipe, in a group of processes of its own."""
    file.write_text(recipe_yaml(recipe))
    return subprocess.Popen(
        [*COMMAND, str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def wait_for(process: subprocess.Popen, text: str) -> None:
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"the process ended without {text!r}")


@pytest.fixture
def long(recipe, tmp_path):
    """A recipe of many steps, whose checkpoints are far apart."""
    return recipe(
        max_steps=90, save_every=1000, num_workers=1, output=str(tmp_path / "stopped"),
        eval_data=recipe().data, eval_texts=2, eval_every=1000, objective="alm+cross_entropy",
    )  # fmt: skip


def test_a_stopped_run_resumes_to_the_weights_of_one_that_was_left_alone(long, tmp_path):
    """Stopped by Ctrl-C, which every process of the group receives, then by SIGTERM likewise."""
    folder = Path(long.output)
    for number, resume in ((signal.SIGINT, False), (signal.SIGTERM, True)):
        process = start(replace(long, resume=resume), tmp_path / "recipe.yaml")
        wait_for(process, "step 30/" if resume else "step 3/")
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 128 + number, err
        assert "Traceback" not in err
        assert out == ""
        checkpoint = last_checkpoint(folder / "checkpoints")
        assert checkpoint is not None
        last = err.splitlines()[-1]
        assert last == (
            f"stopped by {number.name}: {checkpoint} is saved. To go on, repeat the command with "
            "--resume."
        )
        assert not (folder / "model.safetensors").exists()
    transfer(replace(long, resume=True))
    transfer(replace(long, output=str(tmp_path / "alone")))
    one, other = weights(tmp_path / "alone"), weights(folder)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_before_training_starts_the_command_ends_in_one_line(recipe, tmp_path):
    for number in (signal.SIGINT, signal.SIGTERM):
        process = start(recipe(), tmp_path / "recipe.yaml")
        wait_for(process, "trust_remote_code")  # the last line of the recipe
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 128 + number
        assert (out, err.strip()) == ("", f"stopped by {number.name}.")


class Sends:
    """An objective's loss that sends this process signals at its third step."""

    def __init__(self, monkeypatch, number: int, times: int) -> None:
        from crosstok.objectives import ALM

        plain, calls = ALM.__call__, []

        def loss(itself, *args):
            calls.append(1)
            for _ in range(times if len(calls) == 3 else 0):
                os.kill(os.getpid(), number)
            return plain(itself, *args)

        monkeypatch.setattr(ALM, "__call__", loss)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_python_the_interrupt_comes_after_the_step_and_its_checkpoint(
    recipe, monkeypatch, number, capfd
):
    held = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    Sends(monkeypatch, number, times=1)
    with pytest.raises(KeyboardInterrupt) as stop:
        transfer(recipe(save_every=100, max_steps=6))
    assert isinstance(stop.value, Stopped)
    assert stop.value.signal_number == number
    assert stop.value.checkpoint.name == "checkpoint-3"
    assert {number: signal.getsignal(number) for number in held} == held
    assert "stopping after this step" in capfd.readouterr().err
    monkeypatch.undo()
    assert transfer(recipe(save_every=100, max_steps=6, resume=True)).metrics["steps"] == 6


def test_a_second_signal_leaves_at_once(recipe, monkeypatch):
    Sends(monkeypatch, signal.SIGINT, times=2)
    with pytest.raises(Stopped) as stop:
        transfer(recipe(save_every=2, max_steps=6))
    assert stop.value.checkpoint.name == "checkpoint-2"


def test_tokens_seen_go_on_where_the_run_was_stopped(recipe, monkeypatch):
    asked = recipe(save_every=100, log_every=100, max_steps=6)
    Sends(monkeypatch, signal.SIGINT, times=1)
    with pytest.raises(Stopped):
        transfer(asked)
    monkeypatch.undo()

    def seen(asked) -> float:
        lines = (transfer(asked).folder / "log.jsonl").read_text().splitlines()
        return [line["tokens_seen"] for line in map(json.loads, lines) if "loss" in line][-1]

    assert seen(replace(asked, resume=True)) == seen(replace(asked, output=asked.output + "2"))


def test_outside_the_main_thread_signals_are_left_alone():
    held, seen = signal.getsignal(signal.SIGINT), []

    def body() -> None:
        with signals_ask(seen.append):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert seen == [held]


def test_the_message_names_the_signal(tmp_path):
    assert re.fullmatch(r"stopped by SIGTERM: no .*\.", str(Stopped(signal.SIGTERM, None)))
