"""Do models with different tokenizers and mixtures predict better together? Three seeds.

The three models of recipes/zoo/train.py, each trained mostly on another domain, are combined in
three ways: the second and third moved to the first one's tokenizer by ALM and averaged per token;
all as they are, averaged per byte; and mapped by MinED. Measured are bits per byte on pieces of
held-out documents of four domains. A piece fits a window of every tokenizer, so that all models
read the same bytes; each is read alone, after the start of a document.

    python benchmarks/ensembles.py --jobs 2      # everything; finished parts are skipped
    python benchmarks/ensembles.py --report      # only write the tables again

Stages, all cached in --output (out/zoo):

1. models: `python recipes/zoo/train.py`;
2. transferred/NAME-SEED: `crosstok transfer` as recipes/transfer/zoo.yaml says;
3. figures/ROW-SEED.json: nats and bytes of every piece, seconds by domain, of each of `rows()`;
4. benchmarks/ensembles_cpu_202611.md, from those files alone (ensembles_report.py).

To run one alone: --transfer NAME SEED, --measure SEED. To add a row: one line of `rows()`.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from common import SHARED, check_folder, write_results

sys.path.insert(0, "recipes/zoo")  # the zoo's own modules

RECIPE = Path("recipes/transfer/zoo.yaml")
RESULTS = Path("benchmarks/ensembles_cpu_202611.md")
MEMBERS = ("novelist", "engineer", "reader")  # the first one's tokenizer is shared
WINDOW = 254  # tokens of a piece, at most, for each tokenizer


@dataclass(frozen=True)
class Row:
    """A model, or several combined."""

    group: str
    members: tuple[str, ...]  # folders under the output folder, without the seed
    combine: str | None = None
    bytes_view: bool = False

    @property
    def name(self) -> str:
        """Name of its files."""
        how = self.combine or ("bytes" if self.bytes_view else "alone")
        return " ".join((*(member.replace("/", "-") for member in self.members), how))


def rows() -> list[Row]:
    """Everything that is measured, cheap ones first."""
    own = tuple(f"models/{name}" for name in MEMBERS)
    moved = (own[0], *(f"transferred/{name}" for name in MEMBERS[1:]))
    found = [Row("single", (model,)) for model in own]
    found += [Row("transferred", (model,)) for model in moved[1:]]
    found += [Row("tokens", moved, combine) for combine in ("probs", "logprobs")]
    found += [Row("mined", _with_first(own, pivot), "mined") for pivot in own]
    found += [Row("token pairs", pair, "probs") for pair in combinations(moved, 2)]
    found += [Row("byte view", (model,), bytes_view=True) for model in own]
    byte_rules = ("bytes-mixture", "bytes-bayes", "bytes-product")
    return [*found, *(Row("bytes", own, combine) for combine in byte_rules)]


def _with_first(members: tuple[str, ...], first: str) -> tuple[str, ...]:
    return (first, *(member for member in members if member != first))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=SHARED / "data")
    parser.add_argument("--output", type=Path, default=Path("out/zoo"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--bytes", type=int, default=10_000, help="held out, of each domain")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time, one thread each")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--transfer", nargs=2, metavar=("NAME", "SEED"))
    parser.add_argument("--measure", type=int, metavar="SEED")
    arguments = parser.parse_args()
    check_folder(parser, "--data", arguments.data)
    if arguments.transfer:
        name, seed = arguments.transfer
        transfer_member(arguments, name, int(seed))
    elif arguments.measure is not None:
        measure(arguments, arguments.measure)
    else:
        if not arguments.report:
            run_everything(arguments)
        from ensembles_report import report

        write_results(RESULTS, report(arguments, rows()))


def run_everything(arguments: argparse.Namespace) -> None:
    """Make the models, transfers and figures that are missing."""
    from train import in_processes

    seeds = [str(seed) for seed in arguments.seeds]
    given = ["--data", arguments.data, "--output", arguments.output, "--jobs", arguments.jobs]
    command = [sys.executable, "recipes/zoo/train.py", *map(str, given), "--seeds", *seeds]
    subprocess.run(command, check=True)
    moves = [["--transfer", name, seed] for seed in seeds for name in MEMBERS[1:]]
    in_processes(moves, arguments.jobs, arguments.output)
    write_held_out(arguments)
    in_processes([["--measure", seed] for seed in seeds], arguments.jobs, arguments.output)


def transfer_member(arguments: argparse.Namespace, name: str, seed: int) -> None:
    """Move one model to the tokenizer of the first, on all domains alike."""
    import torch
    from train import write_mixture

    from crosstok.jobs.transfer import transfer
    from crosstok.recipes import TransferRecipe, load_recipe

    folder = arguments.output / "transferred" / f"{name}-{seed}"
    if (folder / "model.safetensors").is_file():
        print("is there already")
        return
    torch.set_num_threads(1)
    data = arguments.output / "data" / f"mixed-{seed}-{name}.jsonl"
    recipe = load_recipe(
        TransferRecipe,
        RECIPE,
        {
            "model": str(arguments.output / "models" / f"{name}-{seed}"),
            "tokenizer": str(arguments.output / "models" / f"{MEMBERS[0]}-{seed}"),
            "data": str(data),
            "output": str(folder),
            "overwrite": True,
            "seed": seed,
        },
    )
    from mixtures import DOMAINS

    alike = dict.fromkeys(DOMAINS, 1 / len(DOMAINS))
    num_pieces = recipe.max_steps * recipe.batch_size
    write_mixture(arguments.data, data, alike, num_pieces, seed=1000 + seed)
    metrics = transfer(recipe).metrics
    print(json.dumps({key: round(value, 3) for key, value in metrics.items()}))


def write_held_out(arguments: argparse.Namespace) -> None:
    """Write equal numbers of bytes from every domain, from documents that no model has seen."""
    from mixtures import DOMAINS, first_bytes, pieces_of
    from train import MEMBERS as ZOO
    from transformers import AutoTokenizer

    tokenizers = [
        AutoTokenizer.from_pretrained(arguments.data / "tokenizers" / ZOO[name].tokenizer)
        for name in MEMBERS
    ]
    with (arguments.output / "held_out.jsonl").open("w", encoding="utf-8") as file:
        for domain in DOMAINS:
            pieces = pieces_of(arguments.data, domain, held_out=True, seed=0)
            fitting = (piece for piece in pieces if fits(piece, tokenizers))
            for piece in first_bytes(fitting, arguments.bytes):
                file.write(json.dumps({"domain": domain, "text": piece}) + "\n")


def fits(text: str, tokenizers: Iterable[Any]) -> bool:
    """Whether a text fits the window of every one of these tokenizers."""
    return all(
        len(tokenizer(text, add_special_tokens=False)["input_ids"]) <= WINDOW
        for tokenizer in tokenizers
    )


def measure(arguments: argparse.Namespace, seed: int) -> None:
    """Measure every row of one seed that has no figures yet."""
    import torch
    from ensembles_report import columns_of

    torch.set_num_threads(1)
    texts: dict[str, list[str]] = {}
    for line in (arguments.output / "held_out.jsonl").read_text(encoding="utf-8").splitlines():
        piece = json.loads(line)
        texts.setdefault(piece["domain"], []).append(piece["text"])
    for row in rows():
        file = arguments.output / "figures" / f"{row.name}-{seed}.json"
        if file.is_file():
            continue
        file.parent.mkdir(exist_ok=True)
        figures = figures_of(arguments, row, seed, texts)
        file.write_text(json.dumps(figures, indent=1) + "\n")
        print(row.name, f"{columns_of(figures)['mixed']:.4f}", flush=True)


def figures_of(
    arguments: argparse.Namespace, row: Row, seed: int, texts: dict[str, list[str]]
) -> dict[str, dict[str, Any]]:
    """By domain: nats and bytes of each piece, and CPU seconds."""
    from crosstok.inference import load_language_model

    folders = [str(arguments.output / f"{member}-{seed}") for member in row.members]
    model = load_language_model(folders, combine=row.combine, bytes_view=row.bytes_view)
    model.text_logprobs([next(iter(texts.values()))[0][:100]])  # the extra cost of the first call
    figures = {}
    for domain, pieces in texts.items():
        started = time.process_time()
        scores = model.text_logprobs(pieces)
        figures[domain] = {
            "nats": [-score.logprob for score in scores],
            "bytes": [score.num_bytes for score in scores],
            "seconds": time.process_time() - started,
        }
        if figures[domain]["bytes"] != [len(piece.encode()) for piece in pieces]:
            raise RuntimeError(f"{row.name}: not all bytes of {domain} were scored")
    return figures


if __name__ == "__main__":
    main()
