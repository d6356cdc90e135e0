"""A user's own method in the jobs: from a recipe, and from the command line."""

import json
import re
import sys

import pytest
import yaml

from crosstok.jobs import transfer as transfer_job
from crosstok.jobs import transplant as transplant_job
from crosstok.jobs.transfer import transfer
from crosstok.jobs.transplant import transplant
from crosstok.recipes import RecipeError, TransferRecipe, TransplantRecipe, load_recipe
from tests.folders import save_model, weights
from tests.tiny import SENTENCES, tiny_tokenizer

NAME = "tests.transplants.neighbours:Neighbours"
PARTICULAR = "tests.transplants.neighbours:Particular"
DONATED = "tests.transplants.neighbours:Donated"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model with the byte-level tokenizer, another tokenizer, and texts."""
    folder = tmp_path_factory.mktemp("own")
    save_model(folder / "model")
    tiny_tokenizer("spm_bpe").save_pretrained(folder / "spm_bpe")
    rows = [json.dumps({"text": " ".join(SENTENCES[i % 14 :])}) + "\n" for i in range(12)]
    (folder / "texts.jsonl").write_text("".join(rows))
    return folder


@pytest.fixture
def asked(made, tmp_path):
    """The options that a recipe must have."""
    return {
        "model": str(made / "model"),
        "tokenizer": str(made / "spm_bpe"),
        "output": str(tmp_path / "out"),
    }


def flags(asked: dict[str, str], *more: object) -> list[object]:
    return [*(part for name, value in asked.items() for part in (f"--{name}", value)), *more]


def test_a_recipe_names_a_class_and_sets_its_options(asked):
    recipe = TransplantRecipe(**asked, method=NAME, method_options={"num_neighbours": 2})
    result = transplant(recipe)
    assert result.report.method == NAME
    saved = json.loads((result.folder / "transplant.json").read_text())
    assert saved["composed"] == result.report.composed > 50
    assert saved["labels"]["composed"] == "weighted from neighbours"
    card = (result.folder / "README.md").read_text()
    assert re.search(r"\d were copied, \d+ mapped by role, \d+ weighted from neighbours, ", card)
    again = load_recipe(TransplantRecipe, result.folder / "recipe.yaml", {"overwrite": True})
    assert again.method_options == {"num_neighbours": 2}
    first = weights(result.folder)
    assert all(
        first[name].equal(value) for name, value in weights(transplant(again).folder).items()
    )


def test_the_command_line_names_a_class_and_sets_its_options(crosstok, asked):
    options = ("--method", NAME, "--method-options", "num_neighbours=5")
    code, out, err = crosstok("transplant", *flags(asked, *options))
    assert code == 0, err
    assert "rows weighted from neighbours" in out
    assert NAME in out
    assert "num_neighbours: 5" in err


def test_a_file_of_the_working_folder_can_be_named(crosstok, asked, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))  # which the command adds the folder to
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_of_this_folder.py").write_text(
        "from crosstok.transplants import MethodNeeds, MethodRows, SourceRows\n"
        "class First:\n"
        "    needs, row_label = MethodNeeds(), 'set to the first row'\n"
        "    def __call__(self, inputs):\n"
        "        return MethodRows([SourceRows((0,))] * len(inputs.tokens))\n"
    )
    code, out, err = crosstok("transplant", *flags(asked, "--method", "mine_of_this_folder:First"))
    assert code == 0, err
    assert "rows set to the first row" in out


def test_a_transfer_starts_from_the_method_it_names(asked, made):
    few = {"max_steps": 1, "batch_size": 2, "max_length": 48, "num_workers": 0, "report_to": "none"}
    recipe = TransferRecipe(**asked, **few, data=str(made / "texts.jsonl"), method=NAME)
    result = transfer(recipe)
    assert result.report.method == NAME
    assert "weighted from neighbours" in (result.folder / "report.html").read_text()


BAD = [
    ({"method": "fvtt"}, "unknown transplant method 'fvtt': did you mean 'fvt'"),
    ({"method_options": {"num": 1}}, "'fvt' has no option 'num'. Its options are: none"),
    ({"method": NAME, "method_options": {"num": 1}}, "Its options are: num_neighbours"),
    ({"method": NAME, "method_options": {"num_neighbours": 0}}, "num_neighbours = 0"),
    ({"method": PARTICULAR}, "power is missing. Set them in method_options, as KEY=VALUE"),
    ({"method": PARTICULAR, "method_options": {"power": 1}}, "power must be even"),
    ({"method": DONATED, "method_options": {"donor": "d"}}, "needs vectors, the path of a file"),
    ({"method": DONATED}, "Give it in method_options, as donor=..."),
    ({"method_options": {"texts": "t"}}, "texts is 't', but transplant method 'fvt' does not use"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
@pytest.mark.parametrize("job", ["transplant", "transfer"])
def test_what_cannot_be_is_refused_before_anything_is_loaded(
    asked, made, monkeypatch, job, changes, message, tmp_path
):
    def loads(*args, **kwargs):
        pytest.fail("loaded something")

    for module in (transplant_job, transfer_job):
        monkeypatch.setattr(module, "load_to_change", loads)
    if job == "transplant":
        run, recipe_type, given = transplant, TransplantRecipe, asked
    else:
        run, recipe_type = transfer, TransferRecipe
        given = {**asked, "data": str(made / "texts.jsonl")}
    with pytest.raises(RecipeError, match=re.escape(message)):
        run(recipe_type(**given, **changes))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_the_command_line_refuses_it_before_it_prints_the_recipe(
    crosstok, asked, tmp_path, changes, message
):
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(changes))
    code, out, err = crosstok("transplant", *flags(asked, "--recipe", tmp_path / "r.yaml"))
    assert (code, out) == (2, "")
    assert message in err
    assert "overwrite:" not in err


def test_a_method_is_given_the_resources_that_the_recipe_names(asked, made, tmp_path):
    (tmp_path / "words.vec").write_text("dog 1 2\n")
    given = {"donor": str(made / "model"), "vectors": str(tmp_path / "words.vec")}
    result = transplant(TransplantRecipe(**asked, method=DONATED, method_options=given))
    assert result.report.labels["composed"] == "donated"
