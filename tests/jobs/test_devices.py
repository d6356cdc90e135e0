"""Everything runs where its model is: on a pretend accelerator as on the CPU, to equal numbers."""

import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import TrainingArguments

from crosstok.chats import ExampleEncoder
from crosstok.evaluation import (
    EvaluationOptions,
    Scorer,
    bits_per_byte,
    evaluate,
    fidelity,
    read_exam,
    take_exam,
)
from crosstok.inference import (
    ByteEnsemble,
    ByteMember,
    ByteView,
    MinedEnsemble,
    Sampling,
    TokenEnsemble,
    TokenModel,
)
from crosstok.jobs.inspect_models import inspect_models
from crosstok.jobs.transfer import transfer
from crosstok.models import expand_inputs
from crosstok.models.forward import scores_from_hidden
from crosstok.objectives import AlignedBatch, GradientMagnitude, ModelView
from crosstok.objectives.example_pairs import Pair, random_pair
from crosstok.recipes import OBJECTIVES, InspectModelsRecipe
from crosstok.recipes.objectives import make_objective
from crosstok.teachers import LocalTeacher
from crosstok.tokenizers import TextEncoder, byte_tokenizer
from crosstok.training import AlignedCollator, DistillationTrainer, Student
from crosstok.training.chunk_gaps import chunk_gaps
from crosstok.training.step_cost import step_cost
from crosstok.transplants import transplant
from tests.laws.objectives import OBJECTIVES as EVERY_OBJECTIVE
from tests.laws.objectives import name_of
from tests.pretend_gpu import GPU, pretend_gpu
from tests.tiny import SENTENCES, tiny_tokenizer
from tests.tiny_models import tiny_model

CPU = torch.device("cpu")
SOURCE, TARGET = (TextEncoder(tiny_tokenizer(kind)) for kind in ("bytelevel_bpe", "spm_bpe"))
ROWS = [{"text": text, "row": i, "is_end": True} for i, text in enumerate(SENTENCES[:2])]
TEXTS = list(SENTENCES[:2])
GREEDY = Sampling(max_new_tokens=2)
DRAWN = Sampling(max_new_tokens=2, temperature=1.0, top_k=20, top_p=0.9, min_p=0.01)


@pytest.fixture
def gpu():
    with pretend_gpu() as device:
        yield device


def test_the_pretend_device_is_as_strict_as_a_real_one(gpu):
    there, here = torch.arange(3.0).to(gpu), torch.ones(3)
    assert (there.device, there.cpu().device) == (GPU, CPU)
    assert (there + torch.tensor(1.0))[torch.tensor([0, 2])].tolist() == [1.0, 3.0]
    mixed = [
        lambda: there + here,
        lambda: torch.stack([there[0], torch.tensor(1.0)]),
        lambda: here[there.long()],
        lambda: here.add_(there[0]),
        lambda: torch.rand(2, device=gpu, generator=torch.Generator()),
        lambda: there.long()[None] @ there.long()[:, None],
    ]
    for operation in mixed:
        with pytest.raises(RuntimeError):
            operation()
    with pytest.raises(TypeError, match="numpy"):
        there.numpy()


def test_layers_on_the_pretend_device_learn_and_stay_tied(gpu):
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    layers = nn.Sequential(first, second).to(gpu)
    assert first.weight is second.weight
    layers(torch.ones(2, 3, device=gpu)).sum().backward()
    torch.optim.AdamW(layers.parameters()).step()
    assert first.weight.grad.device == gpu


def moved(pair: Pair, device: torch.device) -> Pair:
    """Every tensor of a pair brought to a device."""

    def view(one: ModelView) -> ModelView:
        weight = one.head.weight.detach().to(device).requires_grad_()
        rows = one.input_embeddings.weight.detach().to(device)
        return replace(
            one,
            head=one.head.of(weight),
            valid_ids=None if one.valid_ids is None else one.valid_ids.to(device),
            input_embeddings=nn.Embedding.from_pretrained(rows, freeze=False),
        )

    named = ((field.name, getattr(pair.batch, field.name)) for field in fields(AlignedBatch))
    return Pair(
        view(pair.student),
        view(pair.teacher),
        AlignedBatch(**{name: tensor.to(device) for name, tensor in named}),
        pair.student_hidden.detach().to(device).requires_grad_(),
        pair.teacher_hidden.to(device),
    )


def loss_and_slope(objective, device):
    pair = moved(random_pair(0), device)

    def scores(view, hidden, side):
        ids, mask = (getattr(pair.batch, f"{side}_{x}") for x in ("ids", "attention_mask"))
        ends = torch.from_numpy(view.byte_vocab.boundary_mask(view.head.weight.shape[0]))
        found = scores_from_hidden(
            hidden, view.head, ids, mask, ends.to(device), valid_ids=view.valid_ids
        )
        return replace(found, hidden=hidden)

    bound = pair.bind(objective)
    ours = scores(pair.student, pair.student_hidden, "student")
    with torch.no_grad():
        theirs = scores(pair.teacher, pair.teacher_hidden, "teacher")
    total = bound(pair.batch, ours, theirs).total
    (slope,) = torch.autograd.grad(total, [pair.student_hidden])
    assert {total.device, slope.device} == {device}
    return total.item(), slope.norm().item()


@pytest.mark.parametrize("objective", EVERY_OBJECTIVE, ids=name_of)
def test_objectives_run_where_their_batch_is(objective):
    expected = loss_and_slope(objective, CPU)
    with pretend_gpu():
        assert loss_and_slope(objective, GPU) == pytest.approx(expected, rel=1e-9)


def made(device, kind="bytelevel_bpe", architecture="llama", seed=0):
    """A tiny model on a device and its tokenizer."""
    tokenizer = tiny_tokenizer(kind)
    size = max(tokenizer.get_vocab().values()) + 1
    return tiny_model(architecture, size, seed=seed).to(device), tokenizer


def said(model, *samplings):
    """Answers, and scores of continuations, of a language model."""
    answers = [model.generate(["The quick"], sampling) for sampling in samplings]
    scores = model.logprob([("The", " brown"), ("", "A")], greedy=True)
    return answers, [(round(score.logprob, 2), score.is_greedy) for score in scores]


def token_model(device):
    penalized = replace(DRAWN, repetition_penalty=1.5)
    return said(TokenModel(*made(device)), GREEDY, DRAWN, penalized)


def gapped_token_model(device):
    return said(TokenModel(*made(device, "gapped", "gpt2")), GREEDY)


def token_ensemble(device):
    members = [TokenModel(*made(device)), TokenModel(*made(device, "gapped", "gpt2", 1))]
    return said(TokenEnsemble(members, "probs"), GREEDY, DRAWN)


def token_ensemble_of_two_devices(device):
    members = [TokenModel(*made(CPU)), TokenModel(*made(device, "gapped", "gpt2", 1))]
    return said(TokenEnsemble(members, "logprobs"), GREEDY)


def mined_ensemble_of_two_devices(device):
    members = [TokenModel(*made(device)), TokenModel(*made(CPU, "spm_bpe", "gpt2", 1))]
    return said(MinedEnsemble(members), GREEDY)


def byte_view(device):
    return said(ByteView(*made(device)), GREEDY, DRAWN)


def byte_ensemble_of_two_devices(device):
    members = [ByteMember(*made(device)), ByteMember(*made(CPU, "spm_bpe", "gpt2", 1))]
    return ByteEnsemble(members, "bytes-mixture").generate(["The"], GREEDY)


def scorers(device):
    model, other = TokenModel(*made(device), name="a"), Scorer(*made(device, "spm_bpe"), name="b")
    one = model.scorer
    choice = {"query": "He walked to the", "choices": ["market", "cheese"], "gold": 0}
    cloze = {"context": "It was", "continuation": "times"}
    figures = [fidelity(one, other, TEXTS).as_json()]
    figures += [take_exam(model, read_exam([row], "exam")).as_json() for row in (choice, cloze)]
    numbers = [v for row in figures for v in row.values() if not isinstance(v, str)]
    return [round(v, 4) for v in (bits_per_byte(one, TEXTS).bits_per_byte, *numbers)]


def transplanted(device):
    norms = []
    for architecture in ("llama", "qwen2"):  # with two matrices and with one
        model, _ = made(device, architecture=architecture)
        transplant(model, SOURCE, TARGET)
        norms.append(_norm_of_logits(model, device))
    return norms


def expanded(device):
    encoder = TextEncoder(byte_tokenizer(tiny_tokenizer("bytelevel_bpe")))
    model = tiny_model("llama", len(encoder.tokenizer)).to(device)
    original = torch.linspace(-1, 1, 512 * 32).view(512, 32)  # on the CPU
    model = expand_inputs(model, original, SOURCE.byte_vocab, encoder.byte_vocab)
    scorer = Scorer(model, encoder.tokenizer, name="expanded")
    answers = said(TokenModel(model, encoder.tokenizer), GREEDY)
    return (
        _norm_of_logits(model, device),
        answers,
        round(bits_per_byte(scorer, TEXTS).bits_per_byte, 4),
    )


def _norm_of_logits(model, device):
    tensors = [*model.parameters(), *model.buffers()]
    assert {tensor.device for tensor in tensors} == {device}
    logits = model(input_ids=torch.tensor([[65, 66, 67]], device=device)).logits
    return round(logits.double().norm().item(), 3)


CASES: list[Callable[[torch.device], Any]] = [
    token_model,
    gapped_token_model,
    token_ensemble,
    token_ensemble_of_two_devices,
    mined_ensemble_of_two_devices,
    byte_view,
    byte_ensemble_of_two_devices,
    scorers,
    transplanted,
    expanded,
]


@torch.no_grad()
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_it_runs_where_its_model_is(case):
    expected = case(CPU)
    with pretend_gpu():
        assert case(GPU) == expected


def trainer_on(device, folder) -> DistillationTrainer:
    """Every objective at once, weighted by the norms of their gradients."""
    torch.manual_seed(0)
    model, _ = made(CPU)  # the trainer moves it
    transplant(model, SOURCE, TARGET)
    teacher = LocalTeacher(made(device)[0], SOURCE.byte_vocab)
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=1, report_to=[], disable_tqdm=True, label_names=[],
        use_cpu=device == CPU, dataloader_pin_memory=False, remove_unused_columns=False,
    )  # fmt: skip
    return DistillationTrainer(
        Student(model, TARGET),
        [teacher],
        [make_objective(name, {}) for name in OBJECTIVES],
        GradientMagnitude(),
        arguments,
        train_dataset=ROWS,
        data_collator=AlignedCollator(ExampleEncoder(TARGET), (ExampleEncoder(SOURCE),), 24),
    )


def test_a_step_by_every_objective_its_norms_meters_and_gaps(tmp_path):
    found = []
    for device in (CPU, GPU):
        with pretend_gpu() if device == GPU else torch.enable_grad():
            trainer = trainer_on(device, tmp_path)
            collator = trainer.data_collator
            gaps = chunk_gaps(trainer.student, trainer.teachers[0], collator, ROWS)
            inputs = collator(ROWS)
            (scored,), count = trainer.get_batch_samples(iter([inputs]), 1, device)
            trainer.create_optimizer()
            trainer.training_step(trainer.model, scored, count)
            logs = trainer.meters.drain(trainer._over_ranks)
            assert {p.grad.device for p in trainer.model.parameters() if p.grad is not None} == {
                device
            }
            losses = {name: logs[name] for name in logs if name.startswith("loss_")}
            found.append((losses | trainer.norms.values, float(np.nansum(gaps[0]))))
            if device == GPU:
                assert step_cost(trainer, inputs).device == str(GPU)
    (expected, gap), (numbers, its_gap) = found
    # Equal rows of embeddings may be sorted in any order, which is all that ULD's slope sees.
    del expected["uld"], numbers["uld"]
    assert numbers == pytest.approx(expected, rel=1e-2)
    assert its_gap == pytest.approx(gap, rel=1e-3)


def test_a_whole_transfer(recipe, texts_file, tmp_path, gpu, monkeypatch):
    """To bytes, with expanded inputs, adapters, the shared teacher, its cache, held-out texts."""
    places = set()
    step = DistillationTrainer.training_step
    monkeypatch.setattr(
        DistillationTrainer,
        "training_step",
        lambda self, model, *args: (
            places.update(p.device for p in model.parameters()),
            step(self, model, *args),
        )[1],
    )
    asked = recipe(
        tokenizer="bytes", input_expansion=True, lora=True, objective="alm+cross_entropy",
        teacher_cache=str(tmp_path / "cache"), max_length=64, max_steps=2, batch_size=2,
        eval_data=str(texts_file), eval_texts=1,
    )  # fmt: skip
    metrics = transfer(asked).metrics
    assert places == {GPU}
    assert math.isfinite(metrics["loss"])
    options = EvaluationOptions(device=str(GPU), max_length=64)
    again = evaluate([asked.model], [str(texts_file)], options=options, show_progress=False)
    assert again["models"]


def test_an_examination_of_a_pair(model_folder, texts_file, gpu):
    model = str(model_folder)
    asked = InspectModelsRecipe(
        teacher=model, student=model, data=str(texts_file), batch_size=2, max_length=24, max_texts=4
    )
    assert {step.device for step in inspect_models(asked).steps} == {str(GPU)}
