"""Answer accuracy: greedy answers to held-out questions, by transformers' own `generate`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from models import chat_ids
from problems import ANSWER
from transformers import PreTrainedModel, PreTrainedTokenizerFast

MAX_NEW_TOKENS = 110
BATCH_SIZE = 128


@dataclass(frozen=True)
class Result:
    """Shares of the questions, in [0, 1]: answered right, right by kind, stopped by the model."""

    accuracy: float
    by_kind: dict[str, float]
    stopped: float
    answers: list[str]


@torch.no_grad()
def take_exam(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, rows: Sequence[dict[str, Any]]
) -> Result:
    """Ask every question in the model's own chat template and read the number it answers."""
    model.eval()
    prompts = [chat_ids(tokenizer, row["messages"][:1], add_generation_prompt=True) for row in rows]
    by_length = sorted(range(len(rows)), key=lambda i: len(prompts[i]))
    answers, stopped = [""] * len(rows), 0
    for start in range(0, len(rows), BATCH_SIZE):
        chosen = by_length[start : start + BATCH_SIZE]
        texts, num_stopped = _answer(model, tokenizer, [prompts[i] for i in chosen])
        stopped += num_stopped
        for i, text in zip(chosen, texts, strict=True):
            answers[i] = text
    right = [number_in(a) == row["number"] for a, row in zip(answers, rows, strict=True)]
    kinds = sorted({row["kind"] for row in rows})
    by_kind = {
        kind: _mean([r for r, row in zip(right, rows, strict=True) if row["kind"] == kind])
        for kind in kinds
    }
    return Result(_mean(right), by_kind, stopped / len(rows), answers)


def number_in(answer: str) -> int | None:
    """The number after the first "The answer is"."""
    found = re.search(rf"{ANSWER} (-?\d+)", answer)
    return int(found[1]) if found else None


def _answer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompts: list[list[int]]
) -> tuple[list[str], int]:
    """Greedy answers to prompts padded on the left, and how many the model ended itself."""
    width = max(map(len, prompts))
    ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    output = model.generate(
        ids, attention_mask=mask, max_new_tokens=MAX_NEW_TOKENS, do_sample=False
    )[:, width:]
    stops = model.generation_config.eos_token_id
    ends = torch.isin(output, torch.tensor(stops)).any(dim=1)
    return tokenizer.batch_decode(output, skip_special_tokens=True), int(ends.sum())


def _mean(values: Sequence[bool]) -> float:
    return sum(values) / len(values)
