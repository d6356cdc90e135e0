"""Tiny models as folders with their tokenizers, and chats for them."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.tiny import SENTENCES, tiny_tokenizer, with_chat_template
from tests.tiny_models import tiny_model

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TURNS = (
    "{{ bos_token }}{% for m in messages %}<turn>{{ m.role }}\n{{ m.content | trim }}</turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
)
CHATS = [
    [
        {"role": "user", "content": f"What is {i} and {i + 1}? {SENTENCES[i % 14]}"},
        {"role": "assistant", "content": f"{SENTENCES[(i + 3) % 14]} It is {2 * i + 1}."},
    ]
    for i in range(24)
]


def save_pair(folder: Path, kind: str, template: str, tokens: tuple[str, ...], **sizes) -> str:
    """A tiny model with a tokenizer of a kind, and a chat template."""
    tokenizer = with_chat_template(kind, template, special_tokens=tokens)
    model = tiny_model(sizes.pop("architecture", "llama"), len(tokenizer), **sizes)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def save_model(folder: Path, architecture: str = "llama", **overrides) -> Path:
    """A tiny model with the byte-level tokenizer."""
    tokenizer = tiny_tokenizer("bytelevel_bpe")
    model = tiny_model(architecture, len(tokenizer), **overrides)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def weights(folder: str | Path) -> dict[str, torch.Tensor]:
    """The weights of a folder by name."""
    return load_file(Path(folder) / "model.safetensors")
