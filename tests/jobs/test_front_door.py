"""`import crosstok`: what it gives, and what it costs."""

import ast
import importlib
import inspect
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import crosstok
from crosstok.jobs.result import JobResult
from crosstok.recipes import RecipeError, TransplantRecipe

SOURCE = Path(crosstok.__file__)
JOBS = ("distil", "distill", "evaluate", "inspect_models", "inspect_tokenizers", "transfer",
        "transplant")  # fmt: skip


def test_importing_it_loads_nothing_heavy():
    code = (
        "import sys, crosstok, crosstok.recipes\n"
        "loaded = {'torch', 'transformers', 'datasets', 'numpy'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        "dir(crosstok)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", sorted(set(crosstok.__all__)))
def test_every_name_is_there_and_stays_what_it_is(name):
    first = getattr(crosstok, name)
    home, colon, renamed = crosstok._HOMES.get(name, "").partition(":")
    if home:
        module = importlib.import_module(f"crosstok.{home}")
        assert first is (module if colon and not renamed else getattr(module, renamed or name))
    assert getattr(crosstok, name) is first  # no submodule took its place


def test_names_for_type_checkers_are_those_that_are_there():
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    named = {alias.asname or alias.name for node in block.body for alias in node.names}
    assert named | {"__version__"} == set(crosstok.__all__)
    assert (SOURCE.parent / "py.typed").is_file()


def test_help_and_completion_show_them():
    assert set(crosstok.__all__) <= set(dir(crosstok))
    shown = pydoc.render_doc(crosstok, renderer=pydoc.plaintext)
    for name in ("transfer", "distil", "align"):
        assert f"\n    {name}(" in shown


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'transform'"):
        crosstok.transform  # noqa: B018


@pytest.mark.parametrize("name", JOBS)
def test_a_job_shows_its_options_in_its_signature(name):
    signature = inspect.signature(getattr(crosstok, name))
    first, *options = signature.parameters.values()
    assert first.kind is inspect.Parameter.POSITIONAL_ONLY
    assert len(options) > 5
    assert all(option.kind is inspect.Parameter.KEYWORD_ONLY for option in options)


def test_options_and_a_recipe_do_the_same(recipe, tmp_path):
    asked = recipe()
    options = {"model": asked.model, "tokenizer": asked.tokenizer}
    one = crosstok.transplant(**options, output=tmp_path / "one")
    two = crosstok.transplant(TransplantRecipe(**options, output=str(tmp_path / "two")))
    assert one.folder == tmp_path / "one"
    assert one.metrics == two.metrics
    weights = [(result.folder / "model.safetensors").read_bytes() for result in (one, two)]
    assert weights[0] == weights[1]


def test_a_result_can_be_read(recipe, tmp_path):
    asked = recipe()
    result = crosstok.transplant(
        model=asked.model, tokenizer=asked.tokenizer, output=tmp_path / "out"
    )
    assert isinstance(result, JobResult)
    lines = repr(result).splitlines()
    assert lines[0] == f"TransplantResult: folder {str(tmp_path / 'out')!r}"
    assert any(line.split() == ["copied", f"{result.report.copied:g}"] for line in lines)


def test_an_evaluation_gives_figures_by_name_and_a_table(model_folder, texts_file, tmp_path):
    file = tmp_path / "figures.json"
    result = crosstok.evaluate(model=model_folder, data=texts_file, max_texts=2, json=file)
    assert result.folder == tmp_path
    name = f"{model_folder}/data/texts/bits_per_byte"
    assert result.metrics[name] == result.models[0]["data"]["texts"]["bits_per_byte"]
    assert "texts: bits per byte" in repr(result)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ([], {"model": "m"}, "missing: tokenizer, output"),
        ([], {"model": "m", "tokeniser": "t", "output": "o"}, "did you mean 'tokenizer'"),
        (["out"], {}, "takes a TransplantRecipe or its options as keywords"),
        ([TransplantRecipe(model="m", tokenizer="t", output="o")], {"untie": True}, "also untie"),
    ],
)
def test_a_wrong_call_is_answered_before_anything_is_loaded(arguments, options, message):
    with pytest.raises(RecipeError, match=message):
        crosstok.transplant(*arguments, **options)
