"""The page's subclass of TRL's trainer, where TRL is installed."""

import pytest
import torch
from transformers import AutoModelForCausalLM

import crosstok
from tests.docs import stand_ins
from tests.docs.pages import ROOT, blocks


def test_the_trl_trainer_of_the_page_takes_its_steps(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    pytest.importorskip("trl")
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("small", "big")):
        stand_ins.save_model(tmp_path / name, stand_ins.FOLDERS[name], seed)
    (tmp_path / "chat.jsonl").write_text(stand_ins.CHATS)
    student, teacher = (AutoModelForCausalLM.from_pretrained(name) for name in ("small", "big"))
    names = {
        "torch": torch,
        "student": student,
        "loss_fn": crosstok.DistillationLoss(student, teacher),
        "load_dataset": datasets.load_dataset,
    }
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    (block,) = (
        piece
        for piece in blocks(ROOT / "docs" / "guides" / "own_loop.md")
        if piece.content.startswith("from trl import")
    )
    exec(compile(block.content, block.place, "exec"), names)
    assert names["trainer"].state.global_step == 2
    assert any((tensor != before[name]).any() for name, tensor in student.state_dict().items())
