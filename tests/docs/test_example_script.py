"""The examples train, and the one of one page gives the library's numbers."""

import sys
from importlib.util import module_from_spec, spec_from_file_location

import pytest
import torch

from crosstok.chats import ExampleEncoder
from crosstok.models import token_scores
from crosstok.objectives import ALM
from crosstok.teachers import LocalTeacher
from crosstok.training import AlignedCollator, batch_of
from tests.docs.pages import ROOT


def test_alm_on_one_page_gives_the_numbers_of_the_library():
    example = load_example("alm_from_scratch")
    teacher, student, source, target, texts = example.build()
    texts = texts[:3]
    rows = [{"text": text, "row": i, "is_end": False} for i, text in enumerate(texts)]
    collator = AlignedCollator(ExampleEncoder(target), (ExampleEncoder(source),), 400)
    batch = batch_of(collator(rows))
    ours = ALM(max_slope=None)
    library = LocalTeacher(student, target.byte_vocab), LocalTeacher(teacher, source.byte_vocab)
    scores = [
        token_scores(judge.model, judge.head, ids, mask, judge.boundary_mask)
        for judge, ids, mask in zip(
            library,
            (batch.student_ids, batch.teacher_ids),
            (batch.student_attention_mask, batch.teacher_attention_mask),
            strict=True,
        )
    ]
    loss = ours(batch, *scores)
    total, count = 0.0, 0
    spans = zip(source(texts, add_end=False), target(texts, add_end=False), strict=True)
    for one, other in spans:
        sides = (teacher, source.byte_vocab, one), (student, target.byte_vocab, other)
        part, number = example.alm(*sides)
        total, count = total + part.item(), count + number
    assert count == int(loss.count)
    assert total == pytest.approx(loss.total.item(), rel=1e-3)


def test_alm_on_one_page_brings_the_student_nearer_to_its_teacher(capsys):
    torch.manual_seed(0)
    teacher, before, after = load_example("alm_from_scratch").main(steps=12, texts_per_step=3)
    assert teacher < after < before
    assert "bits per byte" in capsys.readouterr().out


def test_a_plain_loop_lowers_the_loss(capsys):
    before, after = load_example("own_loop").main(steps=10)
    assert after < 0.9 * before
    assert "a chunk" in capsys.readouterr().out


def load_example(name):
    file = ROOT / "examples" / f"{name}.py"
    spec = spec_from_file_location(name, file)
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    assert len(file.read_text().splitlines()) < 150
    return module
