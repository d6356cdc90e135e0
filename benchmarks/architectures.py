"""The laws of a transplant over every causal architecture of the installed transformers.

    python benchmarks/architectures.py --output benchmarks/architectures_202611.md

For each model type that AutoModelForCausalLM knows, a tiny random form is made from its
configuration class (tests/tiny_forms.py). Two laws are tried on it:

- permuted ids: moved to the same tokenizer with its ids in another order, the model gives every
  text the same log-probabilities, at once and made again from its configuration and weights;
- two spellings: the same weights under another spelling of config.json (tied or not, a list of
  ends, torch_dtype, rope_theta) give the same weights after the move.
"""

import argparse
import logging
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

import torch
import transformers

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from common import made_by, write_results  # noqa: E402

from tests.permuted import (  # noqa: E402
    TOLERANCE,
    permutation_gap,
    permuted_pair,
    spellings_differ,
)
from tests.tiny_forms import EVERY_ARCHITECTURE, tiny_form  # noqa: E402


def examine(name: str) -> tuple[str, str, str]:
    """Whether it was built, and what became of each law."""
    encoder = permuted_pair()[0]
    pad, size = encoder.tokenizer.pad_token_id, len(encoder.byte_vocab)

    def make():
        return tiny_form(name, size, pad=pad)

    try:
        with torch.no_grad():
            make()(input_ids=torch.arange(4, 14)[None], use_cache=False)
    except Exception as error:
        return f"no: {shown(error)}", "", ""
    laws = []
    for law in (permutation, spelling):
        with tempfile.TemporaryDirectory() as folder:
            try:
                laws.append(law(make(), Path(folder)))
            except ValueError as error:
                laws.append(f"refused: {shown(error, folder)}")
            except Exception as error:
                traceback.print_exc()
                laws.append(f"failed: {shown(error, folder)}")
    return "yes", *laws


def permutation(model, folder: Path) -> str:
    gap = permutation_gap(model, folder)
    return "passed" if gap <= TOLERANCE else f"failed: {gap:.1e} nats"


def spelling(model, folder: Path) -> str:
    difference = spellings_differ(model, folder)
    return f"failed: {difference}" if difference else "passed"


def shown(error: BaseException, folder: str = "\0") -> str:
    text = " ".join(f"{error}".replace("|", "/").replace(folder, "folder").split())
    return text if len(text) <= 200 else text[:200] + "…"


def report(rows: dict[str, tuple[str, str, str]]) -> str:
    first = [
        Counter(row[i].split(":")[0] or "not tried" for row in rows.values()) for i in range(3)
    ]
    counts = "; ".join(
        f"{what}: " + ", ".join(f"{number} {outcome}" for outcome, number in found.items())
        for what, found in zip(("built", "permuted ids", "two spellings"), first, strict=True)
    )
    lines = [
        "# The laws of a transplant over the architectures of transformers",
        "",
        made_by("python " + " ".join(sys.argv)),
        "",
        f"{len(rows)} model types. {counts}.",
        "",
        "| model type | built | permuted ids | two spellings |",
        "|---|---|---|---|",
        *(f"| {name} | {' | '.join(row)} |" for name, row in rows.items()),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architectures", nargs="+", default=list(EVERY_ARCHITECTURE))
    parser.add_argument("--output", type=Path, default=None)
    options = parser.parse_args()
    logging.getLogger("crosstok").setLevel(logging.ERROR)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    rows = {}
    for name in options.architectures:
        rows[name] = examine(name)
        print(name, *rows[name], sep=" | ", flush=True)
    if options.output:
        write_results(options.output, report(rows))


if __name__ == "__main__":
    main()
