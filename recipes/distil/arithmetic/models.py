"""The two models: Llamas of other widths and depths, trained from nothing on one CPU core."""

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)

Example = dict[str, list[int]]
CONTEXT = 192
IGNORED = -100


@dataclass(frozen=True)
class Shape:
    """Size of a Llama."""

    width: int
    layers: int
    heads: int
    inner: int


TEACHER = Shape(width=224, layers=4, heads=7, inner=640)
STUDENT = Shape(width=128, layers=3, heads=4, inner=320)


@dataclass(frozen=True)
class Schedule:
    """How long to train, and how fast."""

    steps: int
    batch_size: int
    learning_rate: float
    seed: int = 0


def new_model(tokenizer: PreTrainedTokenizerFast, shape: Shape, seed: int) -> LlamaForCausalLM:
    """Random weights."""
    set_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape.width,
            intermediate_size=shape.inner,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads,
            max_position_embeddings=CONTEXT,
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def encode_chats(
    tokenizer: PreTrainedTokenizerFast, rows: Sequence[dict[str, Any]]
) -> list[Example]:
    """Ids of question and answer; labels on the answer and its end of turn."""
    examples = []
    for row in rows:
        prompt = chat_ids(tokenizer, row["messages"][:-1], add_generation_prompt=True)
        ids = chat_ids(tokenizer, row["messages"])
        if len(ids) <= CONTEXT:
            labels = [IGNORED] * len(prompt) + ids[len(prompt) :]
            examples.append({"input_ids": ids, "labels": labels})
    return examples


def chat_ids(
    tokenizer: PreTrainedTokenizerFast, messages: Sequence[dict[str, str]], **options: Any
) -> list[int]:
    """Ids as the tokenizer's own chat template gives them."""
    return list(tokenizer.apply_chat_template(messages, return_dict=False, **options))


def train(
    model: LlamaForCausalLM, examples: Sequence[Example], schedule: Schedule, *, bf16: bool = False
) -> float:
    """Train with a cosine schedule; returns the seconds it took."""
    model.set_attn_implementation("eager")  # as fast as the fused form, or faster, on one CPU core
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            max_steps=schedule.steps,
            per_device_train_batch_size=schedule.batch_size,
            learning_rate=schedule.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=schedule.steps // 20,
            weight_decay=0.01,
            adam_beta2=0.98,
            bf16=bf16,
            use_cpu=True,
            seed=schedule.seed,
            train_sampling_strategy="sequential",
            logging_steps=max(1, schedule.steps // 20),
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        ordered = in_batches(examples, schedule)
        trainer = Trainer(model, arguments, train_dataset=ordered, data_collator=pad)
        outcome = trainer.train()
    return float(outcome.metrics["train_runtime"])


def in_batches(examples: Sequence[Example], schedule: Schedule) -> list[Example]:
    """The order to train in: batches of about one length, so that little is padding, shuffled.

    Examples are drawn in pools of 20 batches; every example comes once before any comes again.
    """
    draw, size = random.Random(schedule.seed), schedule.batch_size
    num = schedule.steps * size
    drawn: list[Example] = []
    while len(drawn) < num:
        drawn += draw.sample(examples, len(examples))
    ordered = []
    for start in range(0, num, 20 * size):
        pool = sorted(drawn[start : start + 20 * size], key=lambda e: len(e["input_ids"]))
        batches = [pool[i : i + size] for i in range(0, len(pool), size)]
        ordered += [example for batch in draw.sample(batches, len(batches)) for example in batch]
    return ordered[:num]


def pad(examples: Sequence[Example]) -> dict[str, torch.Tensor]:
    """Stack, padded on the right."""
    width = max(len(example["input_ids"]) for example in examples)

    def stacked(name: str, fill: int) -> torch.Tensor:
        rows = [example[name] + [fill] * (width - len(example[name])) for example in examples]
        return torch.tensor(rows)

    ids = stacked("input_ids", -1)
    return {
        "input_ids": ids.clamp(min=0),
        "attention_mask": (ids >= 0).long(),
        "labels": stacked("labels", IGNORED),
    }


def save(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    end_of_turn: str,
) -> None:
    """Write model and tokenizer; `generate` will stop at the end of a turn."""
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(end_of_turn)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
