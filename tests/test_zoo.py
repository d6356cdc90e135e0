"""The zoo and what measures its ensembles: their own functions, without data or training."""

import importlib
import json
import lzma
import math
import random
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.tiny import SENTENCES, tiny_tokenizer

ROOT = Path(__file__).parents[1]
MODULES = ("mixtures", "train", "ensembles", "ensembles_report", "common")


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """The scripts' folders are importable, as for somebody who runs them; nothing is left over."""
    monkeypatch.syspath_prepend(ROOT / "recipes" / "zoo")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


def test_a_mixture_has_the_shares_of_bytes_that_were_asked_for():
    mixtures = importlib.import_module("mixtures")
    domains = {"books": ["a" * 300, "b" * 100], "code": ["é" * 50] * 3, "sums": ["never"]}
    mixed = mixtures.mix(domains, {"books": 0.75, "code": 0.25, "sums": 0.0}, 400)
    of_code = sum(len(piece.encode()) for piece in mixed if "é" in piece)
    assert len(mixed) == 400
    assert of_code / sum(len(piece.encode()) for piece in mixed) == pytest.approx(0.25, abs=0.01)
    assert mixed.count("a" * 300) - mixed.count("b" * 100) in (0, 1)
    assert "never" not in mixed


def test_pieces_of_a_document_are_short_and_leave_out_only_scraps():
    mixtures = importlib.import_module("mixtures")
    text = "Some words of a document. " * 40
    pieces = list(mixtures.cut(text, 100))
    assert all(25 <= len(piece) <= 100 for piece in pieces)
    assert text.startswith("".join(pieces))
    assert len(text) - len("".join(pieces)) < 25


def test_sums_are_right_and_the_same_for_a_seed():
    mixtures = importlib.import_module("mixtures")
    text = mixtures.sums(random.Random(0))
    assert text == mixtures.sums(random.Random(0))
    lines = text.splitlines()
    assert len(lines) == 12
    for line in lines:
        left, sign, right, _, result = line.split()
        expected = int(left) + int(right) if sign == "+" else int(left) - int(right)
        assert int(result) == expected >= 0


def test_a_word_problem_loses_its_calculator_marks():
    mixtures = importlib.import_module("mixtures")
    row = {"question": "How many?", "answer": "2 + 2 = <<2+2=4>>4.\n#### 4"}
    assert mixtures.word_problem(row) == (
        "Question: How many?\nAnswer: 2 + 2 = 4. The answer is 4.\n"
    )


def test_a_member_is_trained_without_a_teacher(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    train = importlib.import_module("train")
    mixtures = importlib.import_module("mixtures")
    data, name = tmp_path / "data", "novelist"
    for domain, source in mixtures.SOURCES.items():
        (data / source.train).parent.mkdir(parents=True, exist_ok=True)
        row = {"text": " ".join(SENTENCES), "question": "How many?", "answer": "Two.\n#### 2"}
        lines = [json.dumps({**row, "path": f"{domain}{i}.py"}) + "\n" for i in range(20)]
        with lzma.open(data / source.train, "wt", encoding="utf-8") as file:
            file.writelines(lines)
    folder = data / "tokenizers" / train.MEMBERS[name].tokenizer
    tiny_tokenizer("spm_bpe").save_pretrained(folder)
    arguments = Namespace(data=data, output=tmp_path, steps=2, size="small")
    train.write_architecture(arguments, name)
    train.train_member(arguments, name, seed=0)
    assert (tmp_path / "models" / "novelist-0" / "model.safetensors").is_file()
    assert len((tmp_path / "data" / "novelist-0.jsonl").read_text().splitlines()) == 8


def test_members_have_different_tokenizers_and_mixtures_that_sum_to_one():
    train = importlib.import_module("train")
    assert len({member.tokenizer for member in train.MEMBERS.values()}) == len(train.MEMBERS)
    for member in train.MEMBERS.values():
        assert sum(member.shares.values()) == pytest.approx(1)


def test_every_row_of_the_ensembles_has_a_name_and_a_title_of_its_own():
    ensembles = importlib.import_module("ensembles")
    report = importlib.import_module("ensembles_report")
    train = importlib.import_module("train")
    rows = ensembles.rows()
    assert len({row.name for row in rows}) == len(rows)
    assert {row.group for row in rows} == set(report.TITLES)
    assert tuple(train.MEMBERS) == ensembles.MEMBERS


def test_the_report_compares_seed_by_seed_and_keeps_notes(tmp_path):
    ensembles = importlib.import_module("ensembles")
    report = importlib.import_module("ensembles_report")
    (tmp_path / "figures").mkdir()
    (tmp_path / "held_out.jsonl").write_text('{"domain": "code", "text": "x"}\n')
    worse = {"single": 1.0, "mined": 1.1, "tokens": 0.9, "bytes": 0.8}
    for row in ensembles.rows():
        for seed in (0, 1):
            bits = worse.get(row.group, 2.0) + (0.3 if (row.combine, seed) == ("probs", 1) else 0)
            nats = bits * 60 * math.log(2)
            figures = {"nats": [nats, 2 * nats], "bytes": [60, 120], "seconds": 1}
            written = dict.fromkeys(("wikipedia", "books", "code", "sums"), figures)
            (tmp_path / "figures" / f"{row.name}-{seed}.json").write_text(json.dumps(written))
    results = tmp_path / "results.md"
    results.write_text("Outdated.\n\n## Notes\n\nStays.\n")
    arguments = Namespace(output=tmp_path, seeds=[0, 1], bytes=1)
    importlib.import_module("common").write_results(
        results, report.report(arguments, ensembles.rows())
    )
    text = results.read_text()
    assert "| tokens: probs | +0.050 (+0.200) | -0.050 (+0.100) | does not beat both |" in text
    assert "| tokens: logprobs | -0.100 (-0.100) | -0.200 (-0.200) | beats both |" in text
    assert "| bytes-bayes | 0.800 ± 0.000 | 0.800 ± 0.000 |" in text
    assert text.endswith("\n## Notes\n\nStays.\n")
    assert "Outdated" not in text


def test_members_of_the_base_size_have_five_million_parameters_or_more():
    train = importlib.import_module("train")
    sizes = {"novelist": 8192, "engineer": 4096, "reader": 8192}
    assert sizes.keys() == train.MEMBERS.keys()
    for rows in sizes.values():
        config = LlamaConfig(vocab_size=rows, **train.SHAPES["base"], **train.COMMON)
        with torch.device("meta"):
            count = LlamaForCausalLM(config).num_parameters()
        assert 5_000_000 <= count <= 60_000_000
