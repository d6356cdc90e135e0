"""A loss that diverges: noticed, named with its step, saved and marked, and status 1."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from crosstok.jobs.stopping import Stopped
from crosstok.jobs.transfer import transfer
from crosstok.training import DivergedError, NonFiniteLossError
from crosstok.training.divergence import FACTOR, LossWatch


@pytest.mark.parametrize("objective", ["alm", "cross_entropy", "alm+cross_entropy"])
def test_a_rate_that_is_far_too_high_is_noticed(recipe, objective, caplog):
    asked = recipe(objective=objective, learning_rate=3.0, max_steps=12, log_every=2)
    with pytest.raises(DivergedError, match=r"since step \d+.*lower learning_rate") as error:
        transfer(asked)
    folder = Path(asked.output)
    assert error.value.folder == folder
    figures = json.loads((folder / "training.json").read_text())
    assert figures == error.value.metrics
    assert 2 <= figures["diverged_since_step"] <= 12
    assert "Do not use this model" in (folder / "README.md").read_text()
    assert (folder / "model.safetensors").is_file()
    assert list((folder / "checkpoints").glob("checkpoint-*"))
    assert "may be diverging" in caplog.text


def test_a_run_that_learns_slowly_or_not_at_all_has_not_diverged(recipe):
    for rate in (0.0, 1e-4):
        metrics = transfer(recipe(learning_rate=rate, overwrite=True)).metrics
        assert "diverged_since_step" not in metrics


def test_on_the_command_line_it_is_status_1(crosstok, recipe):
    asked = recipe()
    code, out, err = crosstok(
        "transfer", "--model", asked.model, "--tokenizer", asked.tokenizer, "--data", *asked.data,
        "--output", asked.output, "--max-steps", 8, "--max-length", 48, "--batch-size", 4,
        "--learning-rate", 3, "--warmup-steps", 0, "--num-workers", 0, "--report-to", "none",
    )  # fmt: skip
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("error: the loss diverged: ")


def test_a_resumed_run_remembers_where_it_started(recipe, monkeypatch):
    from crosstok.training import DistillationTrainer

    asked = recipe(learning_rate=3.0, max_steps=12, save_every=100)
    plain, steps = DistillationTrainer.training_step, []

    def step(self, *args, **kwargs):
        steps.append(1)
        if len(steps) == 6:
            self.stopping.ask(2)
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(DistillationTrainer, "training_step", step)
    with pytest.raises(Stopped):
        transfer(asked)
    with pytest.raises(DivergedError) as error:
        transfer(replace(asked, resume=True))
    monkeypatch.undo()
    with pytest.raises(DivergedError) as whole:
        transfer(replace(asked, output=f"{asked.output}-whole"))
    assert str(error.value).split(" The model")[0] == str(whole.value).split(" The model")[0]


def test_a_nan_says_that_no_checkpoint_was_saved_before_it(recipe, monkeypatch):
    from crosstok.objectives import ALM

    plain = ALM.__call__

    def broken(self, *args):
        loss = plain(self, *args)
        return replace(loss, total=loss.total * float("nan"))

    monkeypatch.setattr(ALM, "__call__", broken)
    with pytest.raises(NonFiniteLossError, match=r"no checkpoint was saved before it\. Start anew"):
        transfer(recipe())


def test_one_loss_may_rise_where_another_falls():
    watch = LossWatch(dict)
    watch.start = {"loss_alm": 1.0, "loss_cross_entropy": 1.0, "bits_per_byte": 2.0}
    lines = [{"step": 1, "bits_per_byte": 2.0}, {"step": 2, "bits_per_byte": 9.0}]
    high = {"loss_alm": 3.0, "loss_cross_entropy": 4.5, "bits_per_byte": 9.0}
    found = watch.verdict(high, lines)
    assert (found.start, found.end, found.since) == (2.0, 9.0, 2)
    assert watch.verdict({**high, "loss_alm": 0.5}, lines) is None
    assert watch.verdict({**high, "bits_per_byte": FACTOR * 2.0}, lines) is None
