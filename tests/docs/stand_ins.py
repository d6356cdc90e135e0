"""Stand-ins for what the pages name: models of the hub, and the reader's own files and folders.

The models are random and tiny, with tokenizers and chat templates of the kinds that the real ones
have, in the layout of the hub's cache, so that their names load as printed.
"""

import json
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import datasets
from transformers import PreTrainedTokenizerFast

from tests.tiny import SENTENCES, tiny_tokenizer, with_chat_template
from tests.tiny_models import tiny_model

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant') }}{% endif %}"
    "{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %}{{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
_CHATML_MARKS = ("<|im_start|>", "<|im_end|>")
_LLAMA3_MARKS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")


def _qwen() -> PreTrainedTokenizerFast:
    return with_chat_template("gapped", CHATML, special_tokens=_CHATML_MARKS)


@cache
def _gpt2() -> PreTrainedTokenizerFast:
    """Byte-level as Qwen's, with other merges."""
    return tiny_tokenizer("bytelevel_bpe").train_new_from_iterator(SENTENCES[:7] * 3, 400)


def _smollm() -> PreTrainedTokenizerFast:
    return with_chat_template("bytelevel_bpe", CHATML, special_tokens=_CHATML_MARKS)


def _llama3() -> PreTrainedTokenizerFast:
    return with_chat_template("bytelevel_bpe", LLAMA3, special_tokens=_LLAMA3_MARKS)


def _mistral() -> PreTrainedTokenizerFast:
    return with_chat_template("spm_bpe", MISTRAL)


def _sentencepiece() -> PreTrainedTokenizerFast:
    return tiny_tokenizer("spm_bpe")


# name -> architecture, tokenizer, width. Teachers are wider than their students.
Parts = tuple[str, Callable[[], PreTrainedTokenizerFast], int]
HUB: dict[str, Parts] = {
    "Qwen/Qwen2.5-0.5B": ("qwen2", _qwen, 32),
    "Qwen/Qwen2.5-0.5B-Instruct": ("qwen2", _qwen, 32),
    "Qwen/Qwen2.5-7B-Instruct": ("qwen2", _qwen, 64),
    "gpt2": ("gpt2", _gpt2, 32),
    "EleutherAI/pythia-160m": ("gpt_neox", _gpt2, 32),
    "HuggingFaceTB/SmolLM2-360M-Instruct": ("llama", _smollm, 32),
    "meta-llama/Llama-3.2-1B-Instruct": ("llama", _llama3, 32),
    "mistralai/Mistral-7B-Instruct-v0.2": ("mistral", _mistral, 64),
}

# Folders that a reader has made before, by a page or by training of their own.
FOLDERS: dict[str, Parts] = {
    "big": ("llama", _llama3, 64),
    "small": ("llama", _smollm, 32),
    "large": ("llama", _smollm, 64),
    "small-tuned": ("llama", _smollm, 32),
    "out/small": ("llama", _smollm, 32),
    "out/other": ("llama", _sentencepiece, 32),
    "out/a": ("llama", _smollm, 32),
    "out/b": ("llama", _smollm, 64),
    "out/untrained": ("llama", _gpt2, 32),
    "out/qwen-gpt2": ("llama", _gpt2, 32),
    "out/demo/alm": ("llama", _sentencepiece, 32),
    "out/demo/cross_entropy": ("llama", _sentencepiece, 32),
    "models/small": ("llama", _smollm, 32),
    "models/other": ("llama", _sentencepiece, 32),
    "llama-6m-bpe4k": ("llama", lambda: tiny_tokenizer("bytelevel_bpe"), 64),
    "small-student": ("llama", _sentencepiece, 32),
    "spm-8k": ("llama", _sentencepiece, 32),
    "out/arithmetic/teacher": ("llama", _llama3, 64),
    "out/arithmetic/student": ("llama", _smollm, 32),
}


def _lines(rows: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


TEXTS = _lines({"text": " ".join(SENTENCES[i : i + 4]) + f" {i}"} for i in range(10))
CHATS = _lines(
    {
        "messages": [
            {"role": "user", "content": f"What is {i} and {i}?"},
            {"role": "assistant", "content": f"{SENTENCES[i % 6]} So it is {i + i}."},
        ]
    }
    for i in range(12)
)
_BLIMP = _lines({"good": text, "bad": " ".join(reversed(text.split()))} for text in SENTENCES[:4])
_CODE = _lines({"text": text} for text in SENTENCES[6:8])
_QUESTIONS = _lines(
    {"query": "for i in range(10):\n", "choices": [" print(i)", " the of"], "gold": 0}
    for _ in range(4)
)
_ALPACA = _lines(
    {"instruction": f"Add {i} and {i}.", "input": "", "output": f"{SENTENCES[i % 6]} {i + i}"}
    for i in range(8)
)
_ARTICLES = "title,body\n" + "".join(f'"On {i}","{SENTENCES[i % 6]}"\n' for i in range(8))
_PAIR = "combine: bytes-mixture\nmembers: [{model: gpt2}, {model: Qwen/Qwen2.5-0.5B}]\n"
_RECIPE = "model: gpt2\ntokenizer: bytes\ndata: texts.jsonl\noutput: out/mine\n"

FILES = {
    "texts.jsonl": TEXTS,
    "held-out.jsonl": TEXTS,
    "wikipedia.jsonl": TEXTS,
    "out/demo/data/held_out_prose.jsonl": TEXTS,
    "code.jsonl": _CODE,
    "chat.jsonl": CHATS,
    "alpaca.jsonl": _ALPACA,
    "articles.csv": _ARTICLES,
    "chats.jsonl": CHATS,
    "gsm8k.jsonl": CHATS,
    "out/arithmetic/data/student-0.jsonl": CHATS,
    "blimp.jsonl": _BLIMP,
    "questions.jsonl": _QUESTIONS,
    "letter.txt": "Dear reader,\nthe dog",
    "my.yaml": _RECIPE,
    "pair.yaml": _PAIR,
    "both.yaml": _PAIR,
    "other.jinja": CHATML.replace("im_", "turn_"),
}

# Data sets of lm-eval's tasks: what a row of them holds, and the field that is another in each.
_ARC = {
    "id": "1",
    "question": "What does the dog mind?",
    "choices": {"text": ["nothing", "the fox"], "label": ["A", "B"]},
    "answerKey": "A",
}
_PIQA = {"goal": "To buy bread", "sol1": "walk to the market", "sol2": "sleep", "label": 0}
DATA_SETS = {"allenai/ai2_arc": (_ARC, "question"), "baber/piqa": (_PIQA, "goal")}
TASKS = ("arc", "piqa")
"""lm-eval's folders of those tasks."""


def save_model(folder: Path, parts: Parts, seed: int = 0) -> None:
    """A tiny model with its tokenizer, as a plain folder."""
    architecture, make_tokenizer, width = parts
    tokenizer = make_tokenizer()
    num_ids = max(tokenizer.get_vocab().values()) + 1
    wide = {"hidden_size": width} if architecture != "gpt2" else {}
    roles = {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("bos", "eos")}
    model = tiny_model(architecture, num_ids, seed=seed, **wide, **roles)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def fill_hub(cache_folder: Path) -> None:
    """Write every model of `HUB` in the layout of the hub's cache."""
    for seed, (name, parts) in enumerate(HUB.items()):
        repository = cache_folder / f"models--{name.replace('/', '--')}"
        commit = f"{seed:040x}"
        save_model(repository / "snapshots" / commit, parts, seed)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(commit)


def lay_out(folder: Path, is_named: Callable[[str], bool]) -> None:
    """Write the files and folders that a page names into the reader's folder."""
    for seed, (name, parts) in enumerate(FOLDERS.items()):
        if is_named(name):
            save_model(folder / name, parts, seed)
    for name, content in FILES.items():
        if is_named(name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content, encoding="utf-8")


def load_dataset(path: str, *args: Any, **kwargs: Any) -> Any:
    """What `datasets.load_dataset` gives, with rows of our own for the data sets of lm-eval."""
    if path not in DATA_SETS:
        return _load_dataset(path, *args, **kwargs)
    row, varied = DATA_SETS[path]
    rows = datasets.Dataset.from_list([row | {varied: f"{row[varied]} {i}"} for i in range(8)])
    return datasets.DatasetDict(dict.fromkeys(("train", "validation", "test"), rows))


_load_dataset = datasets.load_dataset
