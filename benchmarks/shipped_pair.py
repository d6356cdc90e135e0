"""Transfers that need only a checkout: the shipped model, and the source of the standard library.

A Llama of 2.4 million parameters is moved from its byte-level BPE to a SentencePiece-style BPE by
training on code only; code and prose are held out, and the demo's own held-out texts are not used.
"""

import json
import time
from pathlib import Path
from typing import Any

from common import write_rows

DOMAINS = ("code", "prose")
NUM_HELD_OUT = 120
"""Documents of each domain that are scored."""

COMMON = {
    "batch_size": 4,
    "max_length": 256,
    "learning_rate": 1e-3,
    "num_workers": 0,
    "save_every": 100_000,
    "report_to": "none",
    "precision": "bf16",
    "overwrite": True,
}


def prepare(output: Path) -> None:
    """Make the tokenizer, training text, held-out text, and the transplant without training."""
    from crosstok.demo.corpus import load_domain
    from crosstok.demo.run import MODEL
    from crosstok.demo.target_tokenizer import build_target_tokenizer
    from crosstok.jobs.transplant import transplant
    from crosstok.recipes import TransplantRecipe

    if (output / "transplant-0" / "figures.json").is_file():
        return
    domains = {name: load_domain(name) for name in DOMAINS}
    both = [text for documents in domains.values() for text in documents.train]
    build_target_tokenizer(both).save_pretrained(str(output / "tokenizer"))
    write_rows(output / "train.jsonl", [{"text": text} for text in domains["code"].train])
    for name, documents in domains.items():
        unseen = documents.held_out[1 :: max(2, len(documents.held_out) // NUM_HELD_OUT)]
        write_rows(output / f"{name}.jsonl", [{"text": text} for text in unseen])
    folder = output / "transplant-0"
    transplant(
        TransplantRecipe(
            model=str(MODEL),
            tokenizer=str(output / "tokenizer"),
            output=str(folder),
            overwrite=True,
        )
    )
    save_figures(folder, measure(output, folder))
    save_figures(output / "teacher-0", measure(output, MODEL))


def run_transfer(output: Path, folder: Path, values: dict[str, Any], *, keep: bool = False) -> None:
    """Train one model and measure it, unless its figures exist.

    Args:
        output: the folder that :func:`prepare` filled.
        folder: the run's own, for `figures.json`.
        values: options of the recipe, in addition to ``COMMON``.
        keep: whether to keep the model.
    """
    from crosstok.demo.run import MODEL
    from crosstok.jobs.transfer import transfer
    from crosstok.recipes import TransferRecipe, load_recipe

    if (folder / "figures.json").is_file():
        return
    paths = {
        "model": str(MODEL),
        "tokenizer": str(output / "tokenizer"),
        "data": str(output / "train.jsonl"),
        "output": str(folder),
    }
    start = time.process_time()
    metrics = transfer(load_recipe(TransferRecipe, None, {**COMMON, **paths, **values})).metrics
    cpu_seconds = time.process_time() - start
    figures = {**measure(output, folder), "cpu_seconds": cpu_seconds, "training": metrics}
    save_figures(folder, figures)
    if not keep:
        (folder / "model.safetensors").unlink()


def measure(output: Path, model: Path) -> dict[str, Any]:
    """Measure bits per byte of each domain."""
    from crosstok.evaluation import EvaluationOptions, evaluate

    result = evaluate(
        [str(model)],
        [str(output / f"{name}.jsonl") for name in DOMAINS],
        options=EvaluationOptions(max_length=256),
        show_progress=False,
    )["models"][0]["data"]
    return {name: result[name]["bits_per_byte"] for name in DOMAINS}


def save_figures(folder: Path, figures: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")


def read_figures(output: Path, name: str, seeds: list[int]) -> dict[str, list[float]]:
    """Values over the seeds that were run: bits per byte of each domain, and CPU seconds."""
    found = [
        json.loads((output / f"{name}-{seed}" / "figures.json").read_text())
        for seed in seeds
        if (output / f"{name}-{seed}" / "figures.json").is_file()
    ]
    columns = {name: [figures[name] for figures in found] for name in DOMAINS}
    columns["cpu_seconds"] = [f["cpu_seconds"] for f in found if "cpu_seconds" in f]
    return columns
