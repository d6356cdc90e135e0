"""Objectives from outside the package: typed, in recipes, from packages, and as instances."""

import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import ClassVar

import pytest
import torch
import yaml

from crosstok import plugins
from crosstok.jobs.distil import distil
from crosstok.jobs.transfer import transfer
from crosstok.objectives import ALM, CrossEntropy
from crosstok.recipes import DistilRecipe, RecipeError, TransferRecipe, load_recipe
from tests.folders import weights
from tests.objectives.outside import SOURCE, SquaredGap

SQUARED_GAP = "tests.objectives.outside:SquaredGap"


def test_an_instance_wins_over_the_recipe_and_the_saved_recipe_repeats_the_run(recipe, tmp_path):
    result = transfer(recipe(objective="strict"), objectives=[SquaredGap(scale=0.5), ALM()])
    assert {"loss_squared_gap", "loss_alm"} <= result.metrics.keys()
    assert "loss_strict" not in result.metrics
    saved = result.folder / "recipe.yaml"
    values = yaml.safe_load(saved.read_text())
    assert values["objective"] == f"{SQUARED_GAP}+alm"
    assert values["options"]["squared_gap"] == {"scale": 0.5}
    again = transfer(load_recipe(TransferRecipe, saved, {"output": str(tmp_path / "again")}))
    one, other = weights(result.folder), weights(again.folder)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert f"by {SQUARED_GAP}+alm on" in (result.folder / "README.md").read_text()


def test_what_an_objective_calls_its_figures_is_in_table_and_page(crosstok, recipe, tmp_path):
    file = tmp_path / "recipe.yaml"
    values = {**vars(recipe(max_steps=2)), "objective": f"alm+{SQUARED_GAP}"}
    file.write_text(yaml.safe_dump(values))
    status, out, err = crosstok("transfer", "--recipe", file, "--options", "squared_gap.scale=2")
    assert status == 0, err
    page = (tmp_path / "out" / "report.html").read_text()
    for text in (out, page):
        assert "squared gap" in text
        assert "square nats per chunk" in text
        assert "ALM loss" in text
        assert "likelihood gap to teacher" in text


def test_several_teachers_each_have_a_term_of_an_instance(models, chats, tmp_path):
    recipe = DistilRecipe(
        teacher=[models["teacher"], models["other"]], student=models["student"], data=chats,
        output=str(tmp_path / "out"), max_steps=1, batch_size=2, max_length=96, num_workers=0,
        report_to="none", weighting="fixed", weights={"squared_gap": 0.1},
    )  # fmt: skip
    result = distil(recipe, objectives=[SquaredGap(), CrossEntropy()])
    losses = {name for name in result.metrics if name.startswith("loss_")}
    assert losses == {"loss_squared_gap@teacher", "loss_squared_gap@other", "loss_cross_entropy"}


def test_a_class_that_nothing_can_import_trains_as_an_instance(recipe):
    class Local(SquaredGap):
        name: ClassVar[str] = "local"

        def __init__(self, function):
            super().__init__()
            object.__setattr__(self, "function", function)

        def of_chunks(self, batch, student, teacher):
            return self.function(super().of_chunks(batch, student, teacher))

    result = transfer(recipe(max_steps=1), objectives=[Local(torch.sqrt)])
    values = yaml.safe_load((result.folder / "recipe.yaml").read_text())
    assert values["objective"].endswith("<locals>.Local")


@dataclass(frozen=True)
class NoLoss:
    """Has a name, and no more."""

    name: ClassVar[str] = "no_loss"


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        ([], "objectives is empty"),
        ([SquaredGap], r"holds the class SquaredGap; give an instance, SquaredGap\(\)"),
        ([SquaredGap(), SquaredGap(scale=2.0)], "give each a name of its own"),
        (
            [NoLoss()],
            r"not an objective: it lacks needs, .*; bind\(student, teacher\)\. docs/guides",
        ),
        (["alm"], "'alm' is not an objective: it lacks name"),
    ],
)
def test_what_is_no_objective_is_refused_before_anything_is_written(
    recipe, tmp_path, objectives, message
):
    with pytest.raises(RecipeError, match=message):
        transfer(recipe(), objectives=objectives)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"objective": "tests.objectives.outside:SquareGap"}, "did you mean 'SquaredGap'"),
        (
            {"objective": "tests.objectives.outsite:X"},
            "importing .*outsite' failed",
        ),
        ({"objective": f"{SQUARED_GAP}+{SQUARED_GAP}"}, "names 'squared_gap' twice"),
        ({"objective": f"{__name__}:NoLoss"}, "is not an objective: it lacks needs"),
        ({"objective": "decimal:Decimal"}, "'decimal:Decimal' is not an objective: it lacks name"),
        ({"options": {"squared_gap": {"scal": 1}}}, "no option 'scal': did you mean 'scale'"),
        ({"options": {"squared_gap": {"scale": "x"}}}, "squared_gap.scale = 'x'"),
        ({"options": {"alm": {"temperature": 1}}}, r"options are given for \['alm'\]"),
    ],
)
def test_a_name_or_option_that_cannot_be_says_why(recipe, values, message):
    with pytest.raises(RecipeError, match=message):
        recipe(**{"objective": SQUARED_GAP, **values}).objectives()


def test_weights_of_one_from_outside_are_by_its_short_name(recipe):
    both = recipe(objective=f"alm+{SQUARED_GAP}", weighting="fixed", weights={"squared_gap": 0.25})
    assert both.combination()({"alm": 1.0, "squared_gap": 1.0}) == {"alm": 1.0, "squared_gap": 0.25}


def test_an_installed_package_announces_one_by_name(recipe, monkeypatch):
    point = EntryPoint("gap_of_a_package", SQUARED_GAP, "crosstok.objectives")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point])
    assert recipe(objective="gap_of_a_package").objectives() == [SquaredGap()]


@pytest.fixture
def command(recipe, tmp_path):
    """`crosstok transfer` as installed, typed in a folder that holds half.py."""
    (tmp_path / "half.py").write_text(SOURCE)
    values = {**vars(recipe(max_steps=1)), "output": "out"}
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(values))

    def run(*flags: str) -> subprocess.CompletedProcess[str]:
        # -P: as for an installed command, the current folder is not on the path.
        words = [sys.executable, "-P", "-m", "crosstok.cli", "transfer", "--recipe", str(file)]
        path = os.pathsep.join(entry for entry in sys.path if entry)
        return subprocess.run(
            [*words, *flags], cwd=tmp_path, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    return run


def test_a_file_in_the_current_folder_is_found_where_its_name_is_typed(command, tmp_path):
    done = command("--objective", "half:Half", "--options", "half.factor=0.25")
    assert done.returncode == 0, done.stderr
    assert "half nats per token" in done.stdout
    saved = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())
    assert (saved["objective"], saved["options"]) == ("half:Half", {"half": {"factor": 0.25}})


def test_a_file_in_the_current_folder_is_not_run_because_a_recipe_names_it(command, tmp_path):
    file = tmp_path / "recipe.yaml"
    values = {**yaml.safe_load(file.read_text()), "objective": "half:Half"}
    file.write_text(yaml.safe_dump(values))
    (tmp_path / "half.py").write_text("open('was_run', 'w')\n")
    done = command()
    assert done.returncode == 2
    assert "searched only for names typed on the command line" in " ".join(done.stderr.split())
    assert not (tmp_path / "was_run").exists()


def test_an_option_that_its_class_refuses_is_named(command):
    done = command("--objective", "half:Half", "--options", "half.factor=-1")
    assert done.returncode == 2
    assert "factor is -1" in done.stderr


def test_a_teacher_cache_that_no_instance_looks_at_is_remarked_upon(recipe, tmp_path, caplog):
    with caplog.at_level("WARNING", logger="crosstok"):
        transfer(
            recipe(max_steps=1, teacher_cache=str(tmp_path / "cache")), objectives=[CrossEntropy()]
        )
    assert "objective cross_entropy needs no teacher" in caplog.text
