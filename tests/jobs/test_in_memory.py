"""Models, tokenizers and data that are in memory go where names go, and come out unchanged."""

import datasets
import pytest
import torch
import yaml
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaModel

import crosstok
from crosstok.inference import load_language_model
from crosstok.recipes import RecipeError, TransferRecipe, load_recipe
from tests.folders import CHATS, weights
from tests.tiny import SENTENCES

ROWS = [{"text": " ".join(SENTENCES[i % 14 :]) + f" {i}"} for i in range(24)]
STEPS = {
    "max_steps": 2,
    "batch_size": 4,
    "max_length": 48,
    "learning_rate": 1e-3,
    "num_workers": 0,
    "report_to": "none",
}


@pytest.fixture
def model(model_folder):
    return AutoModelForCausalLM.from_pretrained(model_folder)


@pytest.fixture
def target(tokenizer_folder):
    return AutoTokenizer.from_pretrained(tokenizer_folder)


def state(model):
    """Everything about a model that a job might change."""
    values = {name: value.clone() for name, value in model.state_dict().items()}
    needs = {name: p.requires_grad for name, p in model.named_parameters()}
    return values, needs, model.training, model.config.to_dict(), model.dtype


def assert_same(before, after):
    assert before[0].keys() == after[0].keys()
    assert all(torch.equal(value, after[0][name]) for name, value in before[0].items())
    assert before[1:] == after[1:]


@pytest.fixture
def unchanged(model, target):
    """Checks at the end that neither was changed."""
    model.train()
    before, text = state(model), target.backend_tokenizer.to_str()
    template = target.chat_template
    yield
    assert_same(before, state(model))
    assert target.backend_tokenizer.to_str() == text
    assert target.chat_template == template


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("options", [{}, {"lora": True}, {"objective": "cross_entropy"}])
def test_a_transfer_of_objects_is_that_of_their_names(
    model, target, model_folder, tokenizer_folder, tmp_path, options
):
    if options.get("lora"):
        pytest.importorskip("peft")
    data = datasets.Dataset.from_list(ROWS)
    given = {**STEPS, **options, "data": data}
    names = {"model": str(model_folder), "tokenizer": str(tokenizer_folder)}
    objects = {"model": model, "tokenizer": target}
    one = crosstok.transfer(**objects, **given, output=tmp_path / "one")
    two = crosstok.transfer(**names, **given, output=tmp_path / "two")
    first, second = weights(one.folder), weights(two.folder)
    assert all(torch.equal(first[name], second[name]) for name in second)
    saved = yaml.safe_load((one.folder / "recipe.yaml").read_text())
    assert saved["model"] == str(model_folder)
    assert saved["tokenizer"] == str(tokenizer_folder)
    assert saved["data"] == ["<in memory>"]


@pytest.mark.usefixtures("unchanged")
def test_a_transfer_to_bytes_and_a_transplant_take_objects(model, target, tmp_path):
    result = crosstok.transplant(model=model, tokenizer="bytes", output=tmp_path / "bytes")
    assert (result.folder / "tokenizer.json").is_file()
    raw = Tokenizer.from_str(target.backend_tokenizer.to_str())
    result = crosstok.transplant(model=model, tokenizer=raw, output=tmp_path / "raw")
    saved = yaml.safe_load((result.folder / "recipe.yaml").read_text())
    assert saved["tokenizer"] == "<in memory>"


@pytest.mark.parametrize("kind", ["rows", "conversations", "splits", "generator", "stream"])
def test_a_distillation_takes_objects(models, tmp_path, kind):
    parts = {
        name: (AutoModelForCausalLM.from_pretrained(place), AutoTokenizer.from_pretrained(place))
        for name, place in models.items()
    }
    before = {name: state(model) for name, (model, _) in parts.items()}
    rows = [{"messages": chat} for chat in CHATS]
    table = datasets.Dataset.from_list(rows)
    data = {
        "rows": rows,
        "conversations": CHATS,
        "splits": datasets.DatasetDict({"train": table, "rest": table.select([0])}),
        "generator": (row for row in rows),
        "stream": table.to_iterable_dataset(),
    }[kind]
    result = crosstok.distil(
        student=parts["student"],
        teacher=[parts["teacher"], ("the other", *parts["other"])],
        data=data,
        output=tmp_path / "out",
        eval_data=ROWS[:4],
        streaming=kind == "stream",
        **{**STEPS, "max_length": 128},
    )
    saved = yaml.safe_load((result.folder / "recipe.yaml").read_text())
    assert saved["teacher"] == [models["teacher"], "the other"]
    assert result.metrics["eval_data_bits_per_byte"] > 0
    for name, (model, _) in parts.items():
        assert_same(before[name], state(model))


def test_objects_and_names_of_data_are_mixed(model, target, texts_file, tmp_path):
    data = [datasets.Dataset.from_list(ROWS[:4]), str(texts_file), ROWS[4:6]]
    result = crosstok.transfer(
        model=model, tokenizer=target, data=data, data_weight=[1, 1, 2], output=tmp_path / "o",
        **STEPS,
    )  # fmt: skip
    saved = yaml.safe_load((result.folder / "recipe.yaml").read_text())
    assert saved["data"] == ["<in memory>", str(texts_file), "<in memory>"]


@pytest.mark.usefixtures("unchanged")
def test_models_in_memory_are_evaluated_where_they_are(model, target, model_folder, tmp_path):
    other = AutoModelForCausalLM.from_pretrained(model_folder)
    with torch.no_grad():
        other.get_input_embeddings().weight.mul_(1.5)
    named = crosstok.evaluate(model=str(model_folder), data=ROWS[:4]).models[0]
    result = crosstok.evaluate(
        model=[model, other, ("mine", model, AutoTokenizer.from_pretrained(model_folder))],
        data=ROWS[:4],
        teacher=model,
        json=tmp_path / "figures.json",
    )
    first, second, third = result.models
    names = [str(model_folder), f"{model_folder}-2", "mine"]
    assert [one["model"] for one in result.models] == names
    assert first["data"] == third["data"] == named["data"]
    assert second["data"] != first["data"]
    assert "fidelity" not in first
    assert second["fidelity"]["data"]


@pytest.mark.usefixtures("unchanged")
def test_generating_and_inspecting_take_objects(model, target, model_folder):
    by_name = crosstok.generate(model=str(model_folder), prompt="The dog", max_new_tokens=6)
    answers = crosstok.generate(model=model, prompt="The dog", max_new_tokens=6)
    assert [one.text for one in answers] == [one.text for one in by_name]
    pair = crosstok.inspect_tokenizers(source=model, target=target, data=ROWS)
    assert pair.metrics["coverage"] > 0.9
    found = crosstok.inspect_models(
        teacher=model, student=target, data=ROWS, max_length=48, batch_size=2
    )
    assert found.models["teacher"] is not None
    assert found.models["student"] is None


@pytest.mark.usefixtures("unchanged")
def test_a_language_model_is_made_of_a_name_or_an_object(model, model_folder):
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    listed = load_language_model([str(model_folder)])
    texts = [one.generate(["The dog"]) for one in (
        listed,
        load_language_model(str(model_folder)),
        load_language_model(model),
        load_language_model((model, tokenizer)),
        load_language_model([("mine", model, tokenizer)]),
    )]  # fmt: skip
    assert texts == [texts[0]] * 5
    assert listed.scorer.model.dtype == torch.float32


def test_a_loaded_model_keeps_its_precision_unless_another_is_asked_for(model_folder):
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.bfloat16)
    own = load_language_model(model).scorer.model
    assert own.dtype == torch.bfloat16
    assert own.get_input_embeddings().weight.data_ptr() == (
        model.get_input_embeddings().weight.data_ptr()
    )
    assert load_language_model(model, dtype="float32").scorer.model.dtype == torch.float32
    assert load_language_model(str(model_folder)).scorer.model.dtype == torch.float32
    assert model.dtype == torch.bfloat16


def test_resuming_a_run_of_objects_says_what_it_needs(model, target, tmp_path, recipe):
    model.name_or_path = ""
    tokenizer = AutoTokenizer.from_pretrained(recipe().model)
    given = {"tokenizer": target, "data": ROWS, **STEPS, "save_every": 1, "keep_checkpoints": True}
    folder = tmp_path / "out"
    with pytest.raises(ValueError, match=r"no name_or_path; give \(model, tokenizer\)"):
        crosstok.transfer(model=model, output=folder, **given)
    crosstok.transfer(model=(model, tokenizer), output=folder, **given)
    with pytest.raises(RecipeError, match=r"model, data was in memory.*--model NAME.*resume=True"):
        load_recipe(TransferRecipe, folder / "recipe.yaml", {"resume": True})
    named = {"model": "gpt2", "data": "x", "output": str(folder), "resume": True}
    with pytest.raises(ValueError, match=r"model was <in memory>, is gpt2.*same objects for model"):
        crosstok.transfer(load_recipe(TransferRecipe, folder / "recipe.yaml", named))
    result = crosstok.transfer(model=(model, tokenizer), output=folder, resume=True, **given)
    assert result.folder == folder


def test_what_is_not_a_model_a_tokenizer_or_data_is_refused(model, target, recipe, tmp_path):
    asked = {"tokenizer": target, "data": ROWS, "output": tmp_path / "o", **STEPS}
    with pytest.raises(ValueError, match="no output matrix"):
        crosstok.transfer(model=LlamaModel(model.config), **asked)
    with pytest.raises(ValueError, match="neither a name nor a model of transformers"):
        crosstok.transfer(model=torch.nn.Linear(1, 1), **asked)
    with pytest.raises(ValueError, match="is a tokenizer, and a model is needed"):
        crosstok.transfer(model=target, **asked)
    with pytest.raises(ValueError, match="are for from_pretrained, and"):
        crosstok.transfer(model=model, model_options={"attn_implementation": "eager"}, **asked)
    with pytest.raises(ValueError, match="teacher_cache needs a teacher by name"):
        crosstok.transfer(model=model, teacher_cache=tmp_path / "said", **asked)
    for data, message in (
        ({"text": ["a"]}, "it is one mapping; give a list of rows"),
        (datasets.DatasetDict({"a": datasets.Dataset.from_list(ROWS)}), "its splits are: a"),
        (datasets.Dataset.from_list(ROWS).to_iterable_dataset(), "Add streaming"),
        ([], "empty list"),
        (object(), "it must be a name, a Dataset"),
        ([{"body": "x"}], "--columns text=body"),
        (5, "data = 5"),
    ):
        with pytest.raises(ValueError, match=message):
            crosstok.transfer(model=model, **{**asked, "data": data})
    assert not (tmp_path / "o").exists()
