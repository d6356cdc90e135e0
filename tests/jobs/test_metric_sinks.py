"""Where metrics go: a place that cannot be reported to is refused before anything is loaded."""

from pathlib import Path

import pytest
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
)

from crosstok.jobs.arguments import check_metric_sinks
from crosstok.jobs.transfer import transfer
from crosstok.recipes import RecipeError

MISSING = sorted(set(INTEGRATION_TO_CALLBACK) - set(get_available_reporting_integrations()))


@pytest.mark.parametrize("name", MISSING)
def test_a_tracker_that_is_not_installed_is_refused_with_the_command_that_installs_it(recipe, name):
    asked = recipe(report_to=f"tensorboard,{name}", data="is not read")
    with pytest.raises(RecipeError, match=rf"{name} is not installed\. Run `pip install [\w-]+`"):
        transfer(asked)
    assert not Path(asked.output).exists()


def test_an_unknown_tracker_is_refused_with_the_nearest(recipe):
    with pytest.raises(RecipeError, match=r"nothing called 'wandbb': did you mean 'wandb'\?"):
        transfer(recipe(report_to="wandbb", data="is not read"))


@pytest.mark.parametrize("given", ["none", "tensorboard", "all", "tensorboard, none"])
def test_what_is_there_is_let_through(recipe, given):
    check_metric_sinks(recipe(report_to=given))


@pytest.mark.skipif("wandb" not in MISSING, reason="wandb is installed")
def test_on_the_command_line_it_is_one_line_and_status_2(crosstok, recipe):
    asked = recipe()
    code, out, err = crosstok(
        "transfer", "--model", asked.model, "--tokenizer", asked.tokenizer, "--data", asked.data,
        "--output", asked.output, "--report-to", "wandb",
    )  # fmt: skip
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == (
        "error: report_to is 'wandb', and wandb is not installed. Run `pip install wandb`, or "
        "report to tensorboard (the default) or none."
    )
