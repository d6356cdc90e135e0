"""Loops that are not ours: the same losses as the trainer."""

import copy
import gc
import pickle
import weakref

import datasets
import pytest
import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

from crosstok.chats import ExampleEncoder
from crosstok.models import expand_inputs, token_scores
from crosstok.objectives import ALM, DSKD, CrossEntropy, FixedWeights, GradientMagnitude, Strict
from crosstok.teachers import LocalTeacher
from crosstok.tokenizers import TextEncoder, byte_tokenizer
from crosstok.training import (
    AlignedCollator,
    DistillationCollator,
    DistillationLoss,
    DistillationTrainer,
    Student,
    alm_loss,
    batch_of,
)
from crosstok.training.collator import extra_of
from tests.folders import CHATS
from tests.pretend_gpu import pretend_gpu
from tests.tiny import SENTENCES
from tests.tiny_models import tiny_model
from tests.training.pairs import (
    QUIET,
    STUDENT_TOKENIZER,
    TEACHER_TOKENIZER,
    TEXTS,
    TOKENIZERS,
    pair,
    save_chat_models,
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return save_chat_models(tmp_path_factory.mktemp("models"))


def chats_of(folders):
    """A loss over the chat models, and chats as rows."""
    student, teacher = (AutoModelForCausalLM.from_pretrained(f) for f in folders.values())
    return DistillationLoss(student, teacher), [{"messages": chat} for chat in CHATS[:6]]


def test_a_plain_loop_lowers_the_loss():
    student, teacher = pair()
    loss_fn = DistillationLoss(student, teacher, **TOKENIZERS)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        loss = loss_fn(TEXTS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())


def test_the_sums_are_those_that_the_trainer_divides(tmp_path):
    student, teacher = pair()
    rows = [{"text": text, "row": i, "is_end": True} for i, text in enumerate(TEXTS)]
    own, other = (ExampleEncoder(TextEncoder(t)) for t in TOKENIZERS.values())
    trainer = DistillationTrainer(
        Student(student, own.encoder),
        [LocalTeacher(teacher, other.encoder.byte_vocab)],
        [ALM(), CrossEntropy()],
        FixedWeights(weights={"alm": 2.0}),
        TrainingArguments(str(tmp_path), max_steps=1, remove_unused_columns=False, **QUIET),
        train_dataset=rows,
        data_collator=AlignedCollator(own, (other,), 40),
    )
    (scored,), _ = trainer.get_batch_samples(
        iter([trainer.data_collator(rows)]), 1, torch.device("cpu")
    )
    wanted = trainer.compute_loss(student, scored)
    loss_fn = DistillationLoss(
        student,
        teacher,
        **TOKENIZERS,
        objective=[ALM(), CrossEntropy()],
        weighting=FixedWeights(weights={"alm": 2.0}),
        max_length=40,
    )
    counts = {name: part.count for name, part in loss_fn.sums(TEXTS).items()}
    assert counts == trainer._counts
    torch.testing.assert_close(loss_fn(TEXTS), wanted)


def test_alm_loss_is_the_objective_on_the_batch():
    student, teacher = pair()
    own, other = (ExampleEncoder(TextEncoder(t)) for t in TOKENIZERS.values())
    rows = [{"text": text, "row": i, "is_end": True} for i, text in enumerate(TEXTS)]
    batch = batch_of(AlignedCollator(own, (other,), 512)(rows))
    ours, theirs = (
        LocalTeacher(copy.deepcopy(model), side.encoder.byte_vocab)
        for model, side in ((student, own), (teacher, other))
    )
    scores = [
        token_scores(side.model, side.head, ids, mask, side.boundary_mask, valid_ids=side.valid_ids)
        for side, ids, mask in (
            (ours, batch.student_ids, batch.student_attention_mask),
            (theirs, batch.teacher_ids, batch.teacher_attention_mask),
        )
    ]
    wanted = ALM(temperature=5)(batch, *scores)
    found = alm_loss(student, teacher, TEXTS, **TOKENIZERS, temperature=5)
    torch.testing.assert_close(found, wanted.total / wanted.count)
    assert alm_loss(student, teacher, TEXTS, **TOKENIZERS) != found


def test_a_student_that_is_its_teacher_loses_nothing():
    teacher = tiny_model("llama", len(TEACHER_TOKENIZER)).double()
    student = copy.deepcopy(teacher)
    same = {"student_tokenizer": TEACHER_TOKENIZER, "teacher_tokenizer": TEACHER_TOKENIZER}
    loss = alm_loss(student, teacher, TEXTS, **same)
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
    assert max(float(p.grad.abs().max()) for p in student.parameters()) < 1e-10


def test_chats_are_taken_as_rows_as_messages_and_as_columns(folders):
    loss_fn, chats = chats_of(folders)
    loss = loss_fn(chats)
    assert loss.item() > 0
    assert loss_fn(CHATS[:6]) == loss
    assert loss_fn(datasets.Dataset.from_list(chats)[:6]) == loss
    prompts = [{"prompt": chat[:1], "completion": chat[1:]} for chat in CHATS[:6]]
    assert loss_fn(prompts) == loss  # the assistant's turn is the completion


def test_tokenizers_are_found_by_the_names_of_the_models(folders):
    loss_fn, chats = chats_of(folders)
    own, other = (AutoTokenizer.from_pretrained(folder) for folder in folders.values())
    collator = DistillationCollator(own, other)
    assert loss_fn(collator(chats)) == loss_fn(chats)


def test_two_half_batches_add_up():
    student, teacher = pair()
    loss_fn = DistillationLoss(student, teacher, **TOKENIZERS)
    whole, halves = loss_fn.sum(TEXTS), [loss_fn.sum(TEXTS[:3]), loss_fn.sum(TEXTS[3:])]
    assert sum(half.count for half in halves) == whole.count
    torch.testing.assert_close(sum(half.total for half in halves), whole.total)
    torch.testing.assert_close(whole.total / whole.count, loss_fn(TEXTS))


def test_objectives_that_tell_texts_from_chats_are_bound_to_both(folders):
    student, teacher = (AutoModelForCausalLM.from_pretrained(f) for f in folders.values())
    loss_fn = DistillationLoss(student, teacher, objective=Strict())
    assert loss_fn(TEXTS).item() > 0
    assert loss_fn([{"messages": chat} for chat in CHATS[:4]]).item() > 0


def test_the_teacher_is_scored_without_dropout_and_left_as_it_was():
    student, teacher = tiny_model("llama", len(STUDENT_TOKENIZER)), dropping_out()
    loss_fn = DistillationLoss(student, teacher, **TOKENIZERS)
    teacher.train()
    assert loss_fn(TEXTS) == loss_fn(TEXTS)
    assert teacher.training


def dropping_out():
    return tiny_model("gpt2", len(TEACHER_TOKENIZER), attn_pdrop=0.5, resid_pdrop=0.5)


def test_calls_in_a_loop_prepare_the_vocabularies_once(monkeypatch):
    student, teacher = pair()
    prepared = []
    build = DistillationLoss.__init__
    monkeypatch.setattr(
        DistillationLoss,
        "__init__",
        lambda self, *args, **kwargs: prepared.append(1) or build(self, *args, **kwargs),
    )
    for _ in range(3):
        alm_loss(student, teacher, TEXTS, **TOKENIZERS)
    assert len(prepared) == 1
    alm_loss(student, teacher, TEXTS, **TOKENIZERS, max_length=20)
    assert len(prepared) == 2


def test_what_is_prepared_goes_with_the_models_and_not_into_copies():
    student, teacher = pair()
    alm_loss(student, teacher, TEXTS, **TOKENIZERS)
    size = len(pickle.dumps(tiny_model("llama", len(STUDENT_TOKENIZER)).double()))
    assert len(pickle.dumps(student)) < 1.1 * size
    copied = copy.deepcopy(student)
    gone = [weakref.ref(student), weakref.ref(teacher)]
    del student, teacher
    gc.collect()
    assert [reference() for reference in gone] == [None, None]
    assert copied is not None


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ("one text", "must be a list"),
        ([], "the batch is empty"),
        ([SENTENCES[0], {"messages": CHATS[0]}], "texts and chats"),
        ([{"text": 3}], "must be a string"),
        ([7], "row 1 is a int"),
        ([{"question": "?"}], "row 1: no 'messages'"),
    ],
)
def test_a_batch_that_cannot_be_read_is_named(batch, message):
    collator = DistillationCollator(STUDENT_TOKENIZER, TEACHER_TOKENIZER)
    with pytest.raises(ValueError, match=message):
        collator(batch)


def test_what_a_loss_cannot_do_is_said_before_the_first_batch():
    student, teacher = pair()
    with pytest.raises(ValueError, match="student_tokenizer is None"):
        DistillationLoss(student, teacher)
    with pytest.raises(ValueError, match="same model"):
        DistillationLoss(student, student, **TOKENIZERS)
    with pytest.raises(ValueError, match="weights of its own"):
        DistillationLoss(student, teacher, **TOKENIZERS, objective=DSKD())
    both = [ALM(), CrossEntropy()]
    with pytest.raises(ValueError, match="must be FixedWeights"):
        DistillationLoss(
            student, teacher, **TOKENIZERS, objective=both, weighting=GradientMagnitude()
        )
    with pytest.raises(ValueError, match="a count each"):
        DistillationLoss(student, teacher, **TOKENIZERS, objective=both).sum(TEXTS)


def test_the_collator_works_in_the_workers_of_a_loader():
    student, teacher = pair()
    loss_fn = DistillationLoss(student, teacher, **TOKENIZERS)
    loader = DataLoader(TEXTS, batch_size=4, collate_fn=loss_fn.collator, num_workers=1)
    losses = [loss_fn(batch) for batch in loader]
    assert losses == [loss_fn(TEXTS[:4]), loss_fn(TEXTS[4:])]


class Taught(Trainer):
    """What a person writes."""

    loss_fn: DistillationLoss

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return self.loss_fn.compute_loss(model, inputs, return_outputs, num_items_in_batch)


def taught(folder, objective=None, **changes):
    student, teacher = pair()
    arguments = {
        "max_steps": 1,
        "per_device_train_batch_size": 8,
        "remove_unused_columns": False,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        **QUIET,
        **changes,
    }
    trainer = Taught(
        student,
        TrainingArguments(str(folder), **arguments),
        data_collator=DistillationCollator(STUDENT_TOKENIZER, TEACHER_TOKENIZER),
        train_dataset=[{"text": text} for text in TEXTS],
        eval_dataset=[{"text": text} for text in TEXTS],
    )
    trainer.loss_fn = DistillationLoss(student, teacher, **TOKENIZERS, objective=objective)
    return trainer


def test_a_subclass_of_transformers_trainer_trains_and_evaluates(tmp_path):
    trainer = taught(tmp_path, max_steps=8)
    before = trainer.evaluate()["eval_loss"]
    torch.testing.assert_close(
        torch.tensor(before, dtype=torch.float64), trainer.loss_fn(TEXTS).detach()
    )
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before


def test_accumulation_in_a_subclass_adds_up_to_the_mean_over_tokens(tmp_path):
    states = []
    for size, steps in ((8, 1), (2, 4)):
        trainer = taught(
            tmp_path,
            CrossEntropy(),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
        )
        trainer.train()
        states.append(trainer.model.state_dict())
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name])


def test_a_loss_follows_a_student_that_is_moved():
    student, teacher = pair()
    loss_fn = DistillationLoss(student, teacher, **TOKENIZERS, objective=[ALM(), Strict()])
    with torch.no_grad():
        wanted = loss_fn(TEXTS)
    with pretend_gpu():
        student.to("cuda:0")
        found = loss_fn(TEXTS)
        found.backward()
        assert found.device.type == teacher.device.type == "cuda"
        torch.testing.assert_close(found.detach().cpu(), wanted)


def test_a_student_with_input_expansion_gets_its_subwords():
    source = TextEncoder(TEACHER_TOKENIZER)
    tokenizer = byte_tokenizer(TEACHER_TOKENIZER)
    vocab = TextEncoder(tokenizer).byte_vocab
    teacher = tiny_model("llama", len(TEACHER_TOKENIZER))
    student = expand_inputs(
        tiny_model("llama", len(vocab.token_bytes), seed=1),
        teacher.get_input_embeddings().weight,
        source.byte_vocab,
        vocab,
    )
    both = {"student_tokenizer": tokenizer, "teacher_tokenizer": TEACHER_TOKENIZER}
    loss_fn = DistillationLoss(student, teacher, **both)
    batch = loss_fn.collator(TEXTS)
    assert extra_of(batch)
    without = DistillationCollator(tokenizer, TEACHER_TOKENIZER)(TEXTS)  # the model looks them up
    assert not extra_of(without)
    torch.testing.assert_close(loss_fn(batch), loss_fn(without))


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ([ALM(temperature=1), ALM(temperature=100)], r"called \['alm', 'alm'\]; give each a name"),
        (ALM, r"holds the class ALM; give an instance, ALM\(\)"),
        ([], "objectives is empty; give at least one"),
        ("almm", "unknown objective 'almm': did you mean 'alm'"),
        ("pathlib:Path", r"'pathlib:Path' is not an objective: it lacks name"),
    ],
)
def test_what_is_no_objective_is_named(objective, message):
    student = tiny_model("llama", len(STUDENT_TOKENIZER), seed=1)
    teacher = tiny_model("llama", len(TEACHER_TOKENIZER), seed=2)
    both = {"student_tokenizer": STUDENT_TOKENIZER, "teacher_tokenizer": TEACHER_TOKENIZER}
    with pytest.raises(ValueError, match=message):
        DistillationLoss(student, teacher, objective=objective, **both)
