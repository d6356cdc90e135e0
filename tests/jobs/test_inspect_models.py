"""The examination of a teacher and a student: from models and data to numbers and advice."""

import json
import re
from pathlib import Path

import pytest
import torch
from rich.console import Console

from crosstok.chats import ExampleEncoder
from crosstok.jobs.inspect_models import PairError, inspect_models
from crosstok.jobs.inspect_tokenizers import inspect_tokenizers
from crosstok.models import load_model
from crosstok.recipes import InspectModelsRecipe, RecipeError, load_inspect_recipe
from crosstok.reports import Advice, examination_page, print_examination, shared_teacher_ids
from crosstok.teachers import LocalTeacher, shared_mass
from crosstok.tokenizers import TextEncoder, load_tokenizer
from crosstok.training import AlignedCollator, batch_of
from tests.chats.chat_shapes import CHATML, LLAMA_3
from tests.tiny import SENTENCES, tiny_tokenizer, with_chat_template
from tests.tiny_models import tiny_model

CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")
LLAMA_TOKENS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
WIDE = {"hidden_size": 48, "head_dim": 12}


def save(folder: Path, tokenizer, rows: int | None = None, **sizes) -> str:
    tokenizer.save_pretrained(folder)
    if rows is not None:
        tiny_model("llama", rows, **sizes).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("doctor")
    bpe, spm = tiny_tokenizer("bytelevel_bpe"), tiny_tokenizer("spm_bpe")
    chatml = with_chat_template("bytelevel_bpe", CHATML, special_tokens=CHATML_TOKENS)
    llama = with_chat_template(
        "spm_bpe", LLAMA_3, special_tokens=LLAMA_TOKENS,
        bos_token="<|begin_of_text|>", eos_token="<|eot_id|>",
    )  # fmt: skip
    texts = [" ".join(SENTENCES[i % 14 :]) + f" {i}" for i in range(20)]
    chats = [
        [{"role": "user", "content": text[-80:]}, {"role": "assistant", "content": text[:60] + "."}]
        for text in texts
    ]
    data = {
        "texts": "".join(json.dumps({"text": text}) + "\n" for text in texts),
        "chats": "".join(json.dumps({"messages": chat}) + "\n" for chat in chats),
    }
    for name, content in data.items():
        (folder / f"{name}.jsonl").write_text(content)
    return {
        "teacher": save(folder / "teacher", bpe, len(bpe) + 8, **WIDE),
        "student": save(folder / "student", spm, len(spm)),
        "same": save(folder / "same", bpe, len(bpe)),
        "byte_level": save(folder / "byte_level", tiny_tokenizer("gapped")),
        "wordpiece": save(folder / "wordpiece", tiny_tokenizer("wordpiece")),
        "short": save(folder / "short", spm, len(spm) - 1),
        "chat_teacher": save(folder / "chat_teacher", chatml, len(chatml), **WIDE),
        "chat_student": save(folder / "chat_student", llama),
        **{name: str(folder / f"{name}.jsonl") for name in data},
    }


@pytest.fixture
def examine(made, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")

    def run(teacher: str, student: str, data: str = "texts", **changes):
        named = {"teacher": made[teacher], "student": made[student], "data": made[data]}
        small = {"batch_size": 2, "max_length": 64}
        return inspect_models(InspectModelsRecipe(**{**named, **small, **changes}))

    return run


def test_everything_is_measured_where_both_models_are_there(examine):
    found = examine("teacher", "student")
    assert found.kind == "text"
    assert found.template == ()
    assert found.models["teacher"].parameters > found.models["student"].parameters
    assert found.examples.coverage == 1.0
    assert 0 < found.examples.one_to_one_student_tokens < 1
    assert 0 < found.mass.everywhere < 1
    assert found.steps[0].objective == found.advice.objective
    for step in found.steps:
        assert step.seconds > 0
        assert step.examples == 2
        assert 64 < step.student_tokens <= 2 * 64
    assert [flag.name for flag in found.flags] == ["cut", "teacher_is_padded"]
    assert found.texts
    for text in found.texts:
        assert text.measures == ("gap",)
        assert text.num_compared > 10
        assert text.mean_gaps[0] > 0
    found.check()


@pytest.mark.parametrize("models", [True, False])
@pytest.mark.parametrize("pair", ["texts", "chats"])
def test_the_page_says_the_numbers_of_the_json(examine, pair, models):
    names = ("teacher", "student") if pair == "texts" else ("chat_teacher", "chat_student")
    numbers = json.loads(json.dumps(examine(*names, pair, models=models).as_json()))
    page = examination_page(numbers)
    examples = numbers["examples"]
    assert f"{examples['coverage']:.4%} of bytes" in page
    for key in ("chunks", "teacher_tokens", "student_tokens", "bytes"):
        assert f"{examples[key]:,}" in page, key
    assert f"--objective {numbers['advice']['objective']}" in page
    assert page.count('class="chunks"') == len(numbers["texts"]) > 0
    assert ("mean gap" in page) == all(numbers["models"].values())
    for flag in numbers["flags"]:
        assert f'<li class="{flag["level"]}">' in page


def test_the_sample_is_as_large_as_asked_for(examine):
    found = examine("teacher", "student", max_texts=5, models=False)
    assert found.examples.examples == 5
    assert found.num_rows > 20
    assert found.models == {"teacher": None, "student": None}


def test_mass_on_the_shared_vocabulary_is_that_of_a_plain_softmax(made):
    theirs, ours = (
        ExampleEncoder(TextEncoder(load_tokenizer(made[name]))) for name in ("teacher", "student")
    )
    model = load_model(made["teacher"])
    vocabs = theirs.encoder.byte_vocab, ours.encoder.byte_vocab
    shared = torch.from_numpy(shared_teacher_ids(*vocabs))
    rows = [{"text": text, "row": 0, "is_end": True} for text in SENTENCES[:4]]
    batch = batch_of(AlignedCollator(ours, (theirs,), 200)(rows))
    measured = shared_mass(LocalTeacher(model, vocabs[0]), shared, [batch])
    with torch.no_grad():
        logits = model(batch.teacher_ids).logits[..., : len(vocabs[0])]  # without padding rows
    mass = torch.softmax(logits, -1)[..., shared].sum(-1)[:, :-1]
    everywhere = mass[batch.teacher_loss_mask[:, 1:]]
    assert measured.num_tokens == len(everywhere)
    assert measured.everywhere == pytest.approx(float(everywhere.mean()), rel=1e-5)
    single = []
    for row, ids in enumerate(batch.teacher_chunk_ids.tolist()):
        others = batch.student_chunk_ids[row].tolist()
        single += [
            float(mass[row, token - 1])
            for token, chunk in enumerate(ids)
            if chunk >= 0 and ids.count(chunk) == others.count(chunk) == 1
        ]
    assert measured.num_one_to_one == len(single)
    assert measured.one_to_one == pytest.approx(sum(single) / len(single), rel=1e-5)


def test_one_tokenizer_gets_the_plain_divergence_and_byte_level_ones_are_alike(examine):
    same = examine("teacher", "same")
    assert same.vocabulary.is_same
    assert same.mass.everywhere == pytest.approx(1.0)
    assert (same.advice.objective, same.advice.options) == ("strict", {"strict.top_k": None})
    assert [step.objective for step in same.steps] == ["strict"]
    alike = examine("teacher", "byte_level")
    assert alike.examples.one_to_one_teacher_tokens > 0.828
    assert alike.vocabulary.jaccard > 0.9
    assert "shared vocabulary" in alike.advice.reason or alike.advice.objective == "strict"


def test_a_very_different_pair_gets_alm_and_warnings(examine):
    found = examine("teacher", "wordpiece")
    assert found.advice.objective == "alm"
    assert found.examples.changed_bytes > 0
    assert {flag.name for flag in found.flags} >= {"low_coverage", "no_end_matched"}


def test_tokenizers_alone_tell_less(examine):
    found = examine("byte_level", "student")
    assert (found.mass, found.steps, found.models["teacher"]) == (None, (), None)
    assert found.models["student"].parameters > 0
    found = examine("teacher", "byte_level")
    assert found.mass is not None
    assert (found.steps, found.models["student"]) == ((), None)


def test_chats_show_how_templates_match(examine):
    found = examine("chat_teacher", "chat_student", "chats", max_length=500)
    assert found.kind == "chat"
    pieces = {piece.piece: piece for piece in found.template}
    assert (pieces["end_of_turn"].left, pieces["end_of_turn"].right) == ("<|im_end|>", "<|eot_id|>")
    assert pieces["bos"].matching == "right only"
    assert found.examples.matched_ends == found.examples.student_ends == 20
    assert found.examples.template_tokens > 0
    shown = picture(found)
    assert "chat templates" in shown
    assert "student only" in shown


def test_a_vocabulary_larger_than_the_model_is_told_and_refused(examine):
    found = examine("teacher", "short")
    assert found.flags[0].name == "student_vocabulary_exceeds_rows"
    assert (found.mass, found.steps) == (None, ())
    with pytest.raises(PairError, match="need 600 rows, but its model has 599"):
        found.check()


def test_a_swapped_pair_is_noticed(examine):
    flags = [flag.name for flag in examine("student", "teacher").flags]
    assert "teacher_is_smaller" in flags


def picture(found) -> str:
    console = Console(width=100, force_terminal=False)
    with console.capture() as capture:
        print_examination(console, json.loads(json.dumps(found.as_json())))
    return capture.get()


def test_a_picture_of_all_of_it(examine):
    shown = picture(examine("teacher", "student"))
    assert re.search(r"(\d+) of \1 matched", shown)
    for words in (
        "teaches",
        "one-to-one",
        "Jaccard",
        "of its probability",
        "a step on",
        "recommended: --objective alm",
        "because",
        "note: 8 of",
    ):
        assert words in shown, words  # fmt: skip


def test_the_command_prints_and_writes_it(crosstok, made, tmp_path):
    flags = ["inspect", "--teacher", made["teacher"], "--student", made["short"],
             "--data", made["texts"], "--max-length", 64]  # fmt: skip
    code, out, err = crosstok(*flags, "--json", tmp_path / "pair.json")
    assert code == 1
    assert "this pair cannot be trained" in err
    assert "recommended: --objective alm" in out
    numbers = json.loads((tmp_path / "pair.json").read_text())
    assert numbers["flags"][0]["level"] == "error"
    assert numbers["advice"]["objective"] == "alm"
    assert numbers["examples"]["coverage"] == 1.0
    code, out, err = crosstok(*flags, "--no-models")
    assert (code, "tokenizer only" in out) == (0, True), err


PAIR = {"source": "a", "target": "b"}
MODELS = {"teacher": "a", "student": "b", "data": "d"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "missing: source and target"),
        ({**PAIR, **MODELS}, "not both"),
        ({"source": "a"}, "missing: target"),
        ({"teacher": "a"}, "missing: student, data"),
        ({**MODELS, "text": "t"}, "text can only be given with source and target"),
        ({**PAIR, "batch_size": 2}, "batch_size can only be given with teacher and student"),
    ],
)  # fmt: skip
def test_the_two_forms_exclude_each_other(values, said):
    with pytest.raises(RecipeError, match=said):
        load_inspect_recipe(None, values)


def test_the_recipe_of_the_distillation_is_that_of_the_flags():
    given = {"batch_size": 3, "max_length": 7, "loss_on": "last", "precision": "bf16",
             "chat_template": "plain", "teacher_chat_template": ["plain"]}  # fmt: skip
    run = InspectModelsRecipe(**MODELS, **given).distillation("out")
    assert (run.teacher, run.student, run.data, run.output) == (["a"], "b", ["d"], "out")
    assert {name: getattr(run, name) for name in given} == given


def test_a_student_without_weights_takes_its_step_with_random_ones(made, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "only_config"
    tiny_tokenizer("spm_bpe").save_pretrained(folder)
    load_model(made["student"]).config.save_pretrained(folder)
    pair = {"teacher": made["teacher"], "student": str(folder), "data": made["texts"]}
    found = inspect_models(InspectModelsRecipe(**pair, batch_size=2, max_length=64))
    assert found.models["student"].parameters == load_model(made["student"]).num_parameters()
    assert found.steps


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_objective_that_fits_is_measured(examine, monkeypatch, precision):
    both = Advice("strict", "of the test", {"strict.top_k": 4}, also=("alm",))
    monkeypatch.setattr("crosstok.jobs.inspect_models.recommend", lambda *_, **__: both)
    found = examine("teacher", "student", precision=precision)
    assert [step.objective for step in found.steps] == ["strict", "alm"]
    assert all(step.peak_memory_gib is None or step.peak_memory_gib > 0 for step in found.steps)


def test_a_step_that_does_not_fit_is_a_warning(examine, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("crosstok.jobs.inspect_models.step_cost", full)
    found = examine("teacher", "student")
    assert found.steps == ()
    assert found.flags[-1].name == "out_of_memory"
    assert "batch_size 2" in found.flags[-1].message
    assert "a step on" not in picture(found)


def test_results_hold_figures_and_can_be_read(examine, made, tmp_path):
    found = examine("teacher", "student", json=str(tmp_path / "pair.json"))
    assert found.folder is None
    assert found.metrics["coverage"] == found.examples.coverage
    assert found.metrics["step_seconds_alm"] == found.steps[0].seconds
    assert json.loads((tmp_path / "pair.json").read_text()) == json.loads(
        json.dumps(found.as_json())
    )
    assert len(repr(found)) < 1000
    cut = inspect_tokenizers(source=made["teacher"], target=made["student"], text="the café")
    assert cut.metrics["bytes"] == 9
    assert cut.metrics["coverage"] == 1.0
    assert repr(cut).startswith("InspectTokenizersResult: ")
