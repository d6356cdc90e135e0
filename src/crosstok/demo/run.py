"""`crosstok demo`: the shipped model moved to another tokenizer, in four versions side by side.

It needs no network, no GPU and no data: the text is the source of the Python standard library. Both
training runs start from the same transplant and use the same windows of code in the same order.
"""

import json
import math
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub.constants
import transformers.utils.logging
from rich.console import Console

from crosstok.demo.corpus import Domain, SplitDocuments, load_domain
from crosstok.demo.figures import (
    ALM,
    CROSS_ENTROPY,
    DOMAINS,
    TEACHER,
    TRANSPLANT,
    continuation,
    recovered_shares,
    sentence,
    table,
    with_mean,
)
from crosstok.demo.target_tokenizer import NUM_TOKENS, build_target_tokenizer
from crosstok.evaluation import EvaluationOptions, evaluate
from crosstok.inference import Sampling, TokenModel
from crosstok.jobs.transfer import transfer
from crosstok.jobs.transplant import transplant
from crosstok.models import load_model
from crosstok.recipes import TransferRecipe, TransplantRecipe
from crosstok.tokenizers import load_tokenizer
from crosstok.training.outputs import check_output_folder, clear_output_folder, to_json

MODEL = Path(__file__).parent / "model"
"""The shipped model; its README says how it was trained."""

TOKENIZER = "target-tokenizer"
FOLDERS = {TRANSPLANT: "transplant", CROSS_ENTROPY: "cross_entropy", ALM: "alm"}
CONTENTS = {
    TOKENIZER: "the tokenizer that the model was moved to",
    "transplant": "the model with new embeddings, not trained",
    "cross_entropy": "the transplant, trained by cross-entropy on code",
    "alm": "the transplant, trained by ALM on code against the original model",
    "data": "code to train on, and code and prose held out",
    "results.json": "all figures and texts shown here",
}


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """Settings of the demo, with their defaults."""

    model: str = str(MODEL)
    num_tokens: int = NUM_TOKENS
    """Vocabulary size of the target tokenizer."""

    max_steps: int = 1200
    batch_size: int = 4
    """Windows of text per step."""

    max_length: int = 256
    """Tokens per window: all positions of the shipped model."""

    learning_rate: float = 1e-3
    """Learning rate of both runs; cross-entropy is not better with 2e-3."""

    temperature: float = math.inf
    """Temperature of ALM: the limit, since chunks of code are long; the default of 100 is close."""

    seed: int = 0

    num_train: int | None = None
    """Documents to train on; None for all."""

    num_held_out: int = 150
    """Held-out documents of each domain, evenly spaced."""

    prompts: tuple[str, ...] = (
        "def read_lines(path):\n    with open(path",
        "Return a list of the names of",
    )
    max_new_tokens: int = 40

    is_quick: bool = False
    """Whether figures are shown as those of a few steps."""


QUICK = DemoSettings(max_steps=60, num_held_out=30, max_new_tokens=24, is_quick=True)
"""The same story in a minute: a twentieth of the steps, and a fifth of the held-out documents."""


def run_demo(
    output: Path,
    *,
    overwrite: bool = False,
    console: Console | None = None,
    settings: DemoSettings | None = None,
) -> dict[str, Any]:
    """Run the demo: print results, report progress on standard error, save models to a folder.

    Args:
        output: folder for the tokenizer, the data, the models and `results.json`.
        overwrite: replace the contents of the folder.
        console: console for the results; by default standard output.
        settings: settings; by default those of the demo.

    Returns:
        The contents of `results.json`.

    Raises:
        ValueError: the folder is not empty and `overwrite` is not set, or this Python comes without
            the source of its standard library.
    """
    check_output_folder(output, overwrite=overwrite)
    settings, console = settings or DemoSettings(), console or Console()
    started = time.perf_counter()
    with _offline_and_quiet():
        progress = _Steps()
        progress("reading the Python standard library")
        domains = {name: load_domain(name) for name in DOMAINS}
        if overwrite:
            clear_output_folder(output)
        progress("training the target tokenizer")
        held_out = _prepare(output, domains, settings)
        models = _make_models(output, settings, progress)
        progress("evaluating four models")
        bits_per_byte = _bits_per_byte(models, held_out, settings)
        progress("writing text")
        texts = _continuations(models, settings)
    shares = recovered_shares(bits_per_byte)
    results = {
        "bits_per_byte": bits_per_byte,
        "recovered": shares,
        "texts": texts,
        "seconds": {**progress.seconds(), "all": round(time.perf_counter() - started, 1)},
        "settings": {**asdict(settings), "temperature": str(settings.temperature)},
        "versions": _versions(),
    }
    (output / "results.json").write_text(to_json(results), encoding="utf-8")
    _show(console, output, results, settings)
    return results


def _prepare(
    output: Path, domains: dict[Domain, SplitDocuments], settings: DemoSettings
) -> dict[str, Sequence[str]]:
    """Write tokenizer and data; return the held-out documents of each domain to evaluate on."""
    train = domains["code"].train[: settings.num_train]
    both = [text for documents in domains.values() for text in documents.train]
    tokenizer = build_target_tokenizer(both, settings.num_tokens)
    tokenizer.save_pretrained(str(output / TOKENIZER))
    _write_documents(output / "data" / "train_code.jsonl", train)
    used: dict[str, Sequence[str]] = {}
    for name, documents in domains.items():
        _write_documents(output / "data" / f"held_out_{name}.jsonl", documents.held_out)
        used[name] = documents.held_out[:: max(1, len(documents.held_out) // settings.num_held_out)]
    return used


def _make_models(output: Path, settings: DemoSettings, progress: "_Steps") -> dict[str, str]:
    """Transplant, and train twice; return the folder of every model, the teacher's first."""
    tokenizer = str(output / TOKENIZER)
    folders = {name: str(output / folder) for name, folder in FOLDERS.items()}
    progress("transplanting embeddings")
    transplant(
        TransplantRecipe(model=settings.model, tokenizer=tokenizer, output=folders[TRANSPLANT])
    )
    common = TransferRecipe(
        model=settings.model,
        tokenizer=tokenizer,
        output=folders[ALM],
        data=[str(output / "data" / "train_code.jsonl")],
        max_steps=settings.max_steps,
        batch_size=settings.batch_size,
        max_length=settings.max_length,
        learning_rate=settings.learning_rate,
        seed=settings.seed,
        num_workers=0,
        save_every=settings.max_steps + 1,
        log_every=max(1, settings.max_steps // 10),
        report_to="none",
    )
    progress(f"cross-entropy: {settings.max_steps} steps on code")
    transfer(replace(common, objective="cross_entropy", output=folders[CROSS_ENTROPY]))
    progress(f"ALM: {settings.max_steps} steps on code")
    transfer(replace(common, options={"alm": {"temperature": settings.temperature}}))
    return {TEACHER: settings.model, **folders}


def _bits_per_byte(
    models: dict[str, str], held_out: dict[str, Sequence[str]], settings: DemoSettings
) -> dict[str, dict[str, float]]:
    """Bits per byte of every model, on every domain and on both."""
    loaded = [
        (name, load_model(folder, dtype="float32"), load_tokenizer(folder))
        for name, folder in models.items()
    ]
    options = EvaluationOptions(max_length=settings.max_length)
    result = evaluate(loaded, list(held_out.items()), options=options)
    return with_mean(
        {
            entry["model"]: {name: entry["data"][name]["bits_per_byte"] for name in held_out}
            for entry in result["models"]
        }
    )


def _continuations(models: dict[str, str], settings: DemoSettings) -> list[dict[str, Any]]:
    """What every model writes after every prompt, by greedy decoding."""
    texts: list[dict[str, Any]] = [{"prompt": prompt} for prompt in settings.prompts]
    for name, folder in models.items():
        model = TokenModel(load_model(folder, dtype="float32"), load_tokenizer(folder))
        for entry in texts:
            sampling = Sampling(max_new_tokens=settings.max_new_tokens)
            [entry[name]] = model.generate([entry["prompt"]], sampling)
    return texts


def _show(console: Console, output: Path, results: dict[str, Any], settings: DemoSettings) -> None:
    shares = results["recovered"]
    console.print(table(results["bits_per_byte"], shares))
    console.print(f"\n{sentence(shares)}\n", highlight=False)
    if settings.is_quick:
        console.print(f"{_quick_note(settings)}\n", highlight=False)
    for entry in results["texts"]:
        console.rule("[bold]continued by each model[/bold]", align="left")
        console.print(f"{entry['prompt']}\n", style="cyan", markup=False, highlight=False)
        for name in results["bits_per_byte"]:
            console.print(continuation(name, entry[name]))
    console.rule(align="left")
    console.print(f"In {output}, after {results['seconds']['all']:.0f} seconds:\n", highlight=False)
    width = max(map(len, CONTENTS))
    for name, what in CONTENTS.items():
        console.print(f"  {name:{width}}  {what}", highlight=False, soft_wrap=True)
    commands = (
        f'crosstok generate --model {output}/alm --prompt "class Reader" --temperature 0.7',
        f"crosstok inspect --source {settings.model} --target {output}/alm "
        '--text "def read_lines(path):"',
    )
    console.print("\nGo on with:\n")
    for command in commands:
        console.print(f"  {command}", markup=False, highlight=False, soft_wrap=True)


def _quick_note(settings: DemoSettings) -> str:
    full = DemoSettings()
    return (
        f"These are figures after {settings.max_steps} steps and on {settings.num_held_out} "
        f"documents of each domain. `crosstok demo` without --quick trains for {full.max_steps:,} "
        f"steps, measures on {full.num_held_out} and recovers more."
    )


def _write_documents(file: Path, documents: Sequence[str]) -> None:
    """Write one JSON object per line, as documents contain line breaks."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in documents)
    file.write_text("".join(lines), encoding="utf-8")


def _versions() -> dict[str, str]:
    packages = ("crosstok", "torch", "transformers", "tokenizers")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


class _Steps:
    """Reports each step on standard error, and measures how long it takes."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._started: list[tuple[str, float]] = []

    def __call__(self, what: str) -> None:
        self._started.append((what, time.perf_counter()))
        self._console.print(f"[bold]demo:[/bold] {what}", highlight=False)

    def seconds(self) -> dict[str, float]:
        """Seconds of each step, up to the start of the next, or until now."""
        ends = [start for _, start in self._started[1:]] + [time.perf_counter()]
        pairs = zip(self._started, ends, strict=True)
        return {what: round(end - start, 1) for (what, start), end in pairs}


@contextmanager
def _offline_and_quiet() -> Iterator[None]:
    """Switch network access and other progress bars off while the demo runs, then restore them."""
    constants: Any = huggingface_hub.constants
    offline, variable = constants.HF_HUB_OFFLINE, os.environ.get("HF_HUB_OFFLINE")
    bars = (
        transformers.utils.logging.is_progress_bar_enabled(),
        datasets.utils.are_progress_bars_disabled(),
    )
    constants.HF_HUB_OFFLINE, os.environ["HF_HUB_OFFLINE"] = True, "1"
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline
        if variable is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = variable
        if bars[0]:
            transformers.utils.logging.enable_progress_bar()
        if not bars[1]:
            datasets.enable_progress_bars()
