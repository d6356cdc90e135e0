"""The model that the demo ships."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import crosstok.demo
from crosstok.demo.corpus import SplitDocuments
from crosstok.tokenizers import ByteVocab

FOLDER = Path(crosstok.demo.__file__).parent / "model"
MOST_BITS_PER_BYTE = {"code": 1.3, "prose": 1.8}


def test_the_folder_is_small_and_holds_no_pickle() -> None:
    sizes = {path.name: path.stat().st_size for path in FOLDER.rglob("*")}
    assert sum(sizes.values()) <= 6_000_000
    assert {"model.safetensors", "tokenizer.json", "config.json", "training.json"} <= set(sizes)
    assert not [name for name in sizes if name.endswith((".bin", ".pt", ".pkl"))]


@pytest.mark.parametrize("domain", ["code", "prose"])
@torch.no_grad()
def test_it_knows_both_domains(domain: str, domains: dict[str, SplitDocuments]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    model = AutoModelForCausalLM.from_pretrained(FOLDER)
    assert model.dtype == torch.float32
    start = ByteVocab.from_tokenizer(tokenizer).document_start
    assert start == tokenizer.bos_token_id == tokenizer.eos_token_id
    nats, num_bytes = 0.0, 0
    for text in domains[domain].held_out[::15]:
        ids = tokenizer(text, add_special_tokens=False).input_ids[:255]
        assert text.startswith(tokenizer.decode(ids))
        row = torch.tensor([[start, *ids]])
        nats += float(model(row, labels=row).loss) * len(ids)
        num_bytes += len(tokenizer.decode(ids).encode())
    assert nats / math.log(2) / num_bytes < MOST_BITS_PER_BYTE[domain]


def test_the_record_says_how_it_was_made() -> None:
    record = json.loads((FOLDER / "training.json").read_text())
    assert record["parameters"] * 2 <= (FOLDER / "model.safetensors").stat().st_size
    for domain, most in MOST_BITS_PER_BYTE.items():
        assert record["held_out_bits_per_byte"][domain] < most
    assert {"seed", "steps", "tokens", "seconds", "versions"} <= set(record)
