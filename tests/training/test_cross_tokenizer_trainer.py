"""The trainer of two models and a data set: the steps of the job, and plain folders."""

import json

import datasets
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainingArguments

from crosstok.jobs.distil import distil
from crosstok.recipes import DistilRecipe
from crosstok.training import CrossTokenizerTrainer, DistillationLoss
from crosstok.training.terms import MODULES
from tests.folders import CHATS, weights
from tests.tiny import SENTENCES
from tests.training.pairs import QUIET, save_chat_models


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return save_chat_models(tmp_path_factory.mktemp("models"))


ARGUMENTS = {
    "max_steps": 3,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0,
    "adam_beta2": 0.95,
    "seed": 0,
    "data_seed": 0,
    "logging_steps": 1,
    **QUIET,
}


def arguments(folder, **changes):
    return TrainingArguments(str(folder), **{**ARGUMENTS, **changes})


@pytest.mark.parametrize("data", ["chats", "texts"])
@pytest.mark.parametrize("objective", ["alm", "dskd+cross_entropy"])
def test_the_trainer_takes_the_steps_of_the_job(folders, tmp_path, data, objective):
    rows = [{"messages": chat} for chat in CHATS]
    if data == "texts":
        rows = [{"text": " ".join(SENTENCES[i : i + 9])} for i in range(12)]
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = DistilRecipe(
        teacher=[folders["teacher_model"]],
        student=folders["model"],
        data=str(file),
        output=str(tmp_path / "job"),
        objective=objective,
        max_steps=3,
        batch_size=4,
        max_length=64,
        learning_rate=1e-3,
        warmup_steps=0,
        num_workers=0,
        log_every=1,
        report_to="none",
    )
    result = distil(recipe)
    log = [json.loads(line) for line in (result.folder / "log.jsonl").read_text().splitlines()]
    trainer = CrossTokenizerTrainer(
        **folders,
        train_dataset=datasets.Dataset.from_list(rows),
        args=arguments(tmp_path / "trainer"),
        objectives=objective,
        max_length=64,
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses == [entry["loss"] for entry in log if "loss" in entry]
    trainer.save_model(str(tmp_path / "saved"))
    wanted, found = weights(result.folder), weights(tmp_path / "saved")
    assert wanted.keys() == found.keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in wanted.items())
    for name in ("config.json", "generation_config.json"):
        assert (tmp_path / "saved" / name).read_text() == (result.folder / name).read_text()


def test_a_saved_model_loads_with_transformers_alone(folders, tmp_path):
    trainer = CrossTokenizerTrainer(
        **folders, train_dataset=CHATS, args=arguments(tmp_path / "run"), objectives="dskd"
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    assert not list((tmp_path / "saved").glob("*.bin"))
    assert hasattr(trainer.model, MODULES)  # training can go on
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    ids = AutoTokenizer.from_pretrained(tmp_path / "saved")(SENTENCES[0], return_tensors="pt")
    torch.testing.assert_close(model(**ids).logits, trainer.model.eval()(**ids).logits)


def test_lists_data_sets_and_streams_give_the_same_rows(folders, tmp_path):
    rows = [{"text": text} for text in SENTENCES]
    table = datasets.Dataset.from_list(rows)
    given = [list(SENTENCES), rows, table, table.to_iterable_dataset()]
    trainers = [
        CrossTokenizerTrainer(**folders, train_dataset=data, args=arguments(tmp_path))
        for data in given
    ]
    found = [[row["text"] for row in trainer.train_dataset] for trainer in trainers]
    assert found == [list(SENTENCES)] * 4
    trainers[-1].train()
    assert trainers[-1].state.global_step == 3


def test_the_trainer_evaluates_on_several_sets_by_name(folders, tmp_path):
    trainer = CrossTokenizerTrainer(
        **folders,
        train_dataset=CHATS,
        args=arguments(tmp_path, eval_strategy="steps", eval_steps=3, max_steps=12),
        eval_dataset={"chats": CHATS[:5], "texts": list(SENTENCES[:3])},
    )
    before = trainer.evaluate()
    assert {"eval_chats_loss", "eval_texts_bits_per_byte", "eval_texts_coverage"} <= before.keys()
    loss_fn = DistillationLoss(trainer.model, trainer.teachers[0].model)
    torch.testing.assert_close(
        torch.tensor(before["eval_chats_loss"]), loss_fn(CHATS[:5]).detach(), check_dtype=False
    )
    trainer.train()
    after = trainer.state.log_history
    last = [entry["eval_chats_loss"] for entry in after if "eval_chats_loss" in entry][-1]
    assert last < before["eval_chats_loss"]


def test_arguments_of_a_person_stay_as_they_are_and_what_is_not_read_is_said(
    folders, tmp_path, caplog
):
    args = arguments(tmp_path, label_smoothing_factor=0.1)
    with caplog.at_level("INFO", logger="crosstok"):
        trainer = CrossTokenizerTrainer(**folders, train_dataset=CHATS, args=args)
    assert args.remove_unused_columns
    assert not trainer.args.remove_unused_columns
    assert "label_smoothing_factor" in caplog.text
    assert "remove_unused_columns" in caplog.text


def test_two_models_and_a_data_set_are_enough(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = CrossTokenizerTrainer(**folders, train_dataset=CHATS)
    assert trainer.args.max_steps == 1000
    assert trainer.args.output_dir == "student-distilled"
    assert trainer.args.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train_dataset": [{"question": "?"}]},
            "train_dataset has no field 'text'. Its fields are: 'question'",
        ),
        ({"train_dataset": []}, "train_dataset is empty"),
        ({"train_dataset": "chats.jsonl"}, "train_dataset is a str"),
        ({"train_dataset": CHATS, "objectives": "alm+alm"}, "give each a name of its own"),
        ({"train_dataset": CHATS, "objectives": "gould"}, "unknown objective 'gould'"),
        ({"train_dataset": CHATS, "max_length": 3}, "max_length 3"),
        ({"train_dataset": CHATS, "compute_metrics": print}, "compute_metrics is not taken"),
        ({"train_dataset": [[{"role": "user", "content": "?"}]]}, "train_dataset, row 1"),
    ],
)
def test_what_the_trainer_cannot_use_is_named(folders, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        CrossTokenizerTrainer(**folders, args=arguments(tmp_path), **changes)


def test_a_peft_student_trains_its_adapters_and_is_saved_merged(folders, tmp_path):
    peft = pytest.importorskip("peft")
    model = AutoModelForCausalLM.from_pretrained(folders["model"])
    config = peft.LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM")
    student = peft.get_peft_model(model, config)
    trainer = CrossTokenizerTrainer(
        model=student,
        teacher_model=folders["teacher_model"],
        processing_class=AutoTokenizer.from_pretrained(folders["model"]),
        train_dataset=CHATS,
        args=arguments(tmp_path / "run"),
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    before, after = weights(folders["model"]), weights(tmp_path / "saved")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("proj" in name for name in changed)


def test_training_goes_on_from_a_checkpoint_to_the_same_weights(folders, tmp_path):
    whole, first, second = (
        CrossTokenizerTrainer(
            **folders,
            train_dataset=CHATS,
            args=arguments(tmp_path / name, save_strategy="steps", save_steps=2, max_steps=steps),
        )
        for name, steps in (("whole", 4), ("halves", 2), ("halves", 4))
    )
    for trainer in (whole, first, second):
        trainer.args.lr_scheduler_type = "constant"
    whole.train()
    first.train()
    second.train(resume_from_checkpoint=True)
    assert second.state.global_step == 4
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name])
