"""Train the zoo: small base models, each with another tokenizer and another mixture of domains.

    python recipes/zoo/train.py --jobs 2      # all members by three seeds; what is there is kept
    python recipes/zoo/train.py --size base --output out/zoo_base --seeds 0   # 5 to 6M parameters

A member is a Llama of random weights trained by `crosstok distil`'s own machinery on next-token
cross-entropy alone, without a teacher (recipes/distil/zoo.yaml). The seed draws the weights, the
texts of the mixture and their order. In --output (out/zoo): architectures/NAME (configuration and
tokenizer), data/NAME-SEED.jsonl, models/NAME-SEED (the model, with recipe.yaml and training.json),
logs/ (loss and rates along the way). To do one by hand: --one NAME SEED. To add a member: one entry
of MEMBERS.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixtures import DOMAINS, mix, pieces_of, write_texts

RECIPE = Path("recipes/distil/zoo.yaml")
LITTLE = 0.05  # of the bytes, of each domain that is not a member's own


@dataclass(frozen=True)
class Member:
    """A base model of the zoo."""

    tokenizer: str  # folder under data/tokenizers
    shares: dict[str, float]  # of the bytes, by domain


def mostly(**shares: float) -> dict[str, float]:
    """Shares of all domains: those given, and a little of each other."""
    return {name: shares.get(name, LITTLE) for name in DOMAINS}


# The first member's tokenizer is the one that ensembles of tokens share.
MEMBERS = {
    "novelist": Member("small-spm-bpe-bytefallback-8k", mostly(books=0.85)),
    "engineer": Member("small-bytelevel-bpe-4k", mostly(code=0.50, sums=0.40)),
    "reader": Member("small-unigram-bytefallback-8k", mostly(wikipedia=0.85)),
}
SHAPES = {
    "small": {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3},
    "base": {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 5},
}
"""Sizes: 1.2 to 1.7 million parameters, and 5.3 to 6.4."""
COMMON = {
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,  # trained to 256; other spellings of a text may be longer
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--output", type=Path, default=Path("out/zoo"))
    parser.add_argument("--members", nargs="+", default=list(MEMBERS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--size", default="small", choices=SHAPES)
    parser.add_argument("--steps", type=int, help="other than the recipe's")
    parser.add_argument("--jobs", type=int, default=2, help="models at a time, one thread each")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "SEED"))
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        parser.error(
            f"there is no folder {str(arguments.data)!r}. The members are trained on corpora that "
            "are not part of the repository; name the folder that holds them."
        )
    if arguments.one:
        name, seed = arguments.one
        train_member(arguments, name, int(seed))
    else:
        train_zoo(arguments)


def train_zoo(arguments: argparse.Namespace) -> None:
    """Every model that is not there yet, in a process of its own."""
    for name in arguments.members:
        write_architecture(arguments, name)
    runs = [(name, seed) for seed in arguments.seeds for name in arguments.members]
    in_processes(
        [["--one", name, str(seed)] for name, seed in runs], arguments.jobs, arguments.output
    )


def in_processes(runs: Sequence[Sequence[str]], jobs: int, output: Path) -> None:
    """This command with each of these ends, so many at a time, on one thread each.

    What they print goes to OUTPUT/logs, one file each; the last line of it is shown. Where some
    fail, the others are still run, and then it is over.
    """
    logs = output / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }

    def one(run: Sequence[str]) -> bool:
        file = logs / f"{'-'.join(run).lstrip('-')}.log"
        with file.open("a") as log:
            command = [sys.executable, *sys.argv, *run]
            done = subprocess.run(command, env=environment, stdout=log, stderr=log)
        lines = file.read_text().splitlines() or [""]
        told = f"failed, see {file}:" if done.returncode else ""
        print(*run[1:], told, lines[-1], flush=True)
        return done.returncode == 0

    with ThreadPoolExecutor(jobs) as pool:
        if not all(list(pool.map(one, runs))):
            raise SystemExit(1)


def write_architecture(arguments: argparse.Namespace, name: str) -> Path:
    """Configuration and tokenizer of a member: all that its random weights need."""
    from transformers import AutoTokenizer, LlamaConfig

    folder: Path = arguments.output / "architectures" / name
    tokenizer = AutoTokenizer.from_pretrained(
        arguments.data / "tokenizers" / MEMBERS[name].tokenizer
    )
    tokenizer.save_pretrained(folder)
    ids: dict[str, Any] = {
        f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("bos", "eos", "pad")
    }
    config = LlamaConfig(vocab_size=len(tokenizer), **SHAPES[arguments.size], **COMMON, **ids)
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    return folder


def train_member(arguments: argparse.Namespace, name: str, seed: int) -> None:
    """Write the mixture, train on it once, and save model and log."""
    import torch

    from crosstok.jobs.distil import distil
    from crosstok.recipes import DistilRecipe, load_recipe

    folder: Path = arguments.output / "models" / f"{name}-{seed}"
    if (folder / "model.safetensors").is_file():
        print("is there already")
        return
    torch.set_num_threads(1)
    data = arguments.output / "data" / f"{name}-{seed}.jsonl"
    steps = {"max_steps": arguments.steps} if arguments.steps else {}
    recipe = load_recipe(
        DistilRecipe,
        RECIPE,
        {
            "student": str(arguments.output / "architectures" / name),
            "data": str(data),
            "output": str(folder),
            "overwrite": True,
            "seed": seed,
            **steps,
        },
    )
    write_mixture(arguments.data, data, MEMBERS[name].shares, recipe.max_steps * recipe.batch_size,
                  seed)  # fmt: skip
    metrics = distil(recipe).metrics
    print(json.dumps({key: round(value, 3) for key, value in metrics.items()}))


def write_mixture(
    data: Path, file: Path, shares: dict[str, float], num_pieces: int, seed: int
) -> None:
    """A training file: pieces of all domains by their shares of the bytes."""
    domains = {
        name: pieces_of(data, name, held_out=False, seed=seed)
        for name, share in shares.items()
        if share > 0
    }
    write_texts(file, mix(domains, shares, num_pieces))


if __name__ == "__main__":
    main()
