"""Check the pages in a real browser: axe, light and dark, desktop and phone, size, pictures.

    python benchmarks/report_check.py --output out/report-check
    python benchmarks/report_check.py --output out/report-check --page some/report.html

Needs node with npm, and a Chromium (``--chromium``, or chromium, google-chrome on the path).
axe-core and puppeteer-core are installed into the output folder, once. Without ``--page`` it makes
pages of all three kinds from the demo's model, and one of a run of 10,000 steps. The exit
status is 1 if axe finds a violation, or a page loads something, is wider than its window, or is
larger than 2 MB.
"""

import argparse
import json
import math
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

MAX_BYTES = 2_000_000
STEPS = 10_000
TEXTS = (
    "The cook said: “Whoever wakes early finds the kitchen warm.” Nobody answered him.\n",
    "def add(left, right):\n\treturn left + right  # <b>no</b> & never\n",
    "Größer als 3,14? Кошка спит на диване. 猫はソファで寝ています。 قطة 🙂\n",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--page", type=Path, nargs="*", help="pages that there are already")
    parser.add_argument("--chromium", default=find_chromium())
    arguments = parser.parse_args()
    if arguments.chromium is None or shutil.which("npm") is None:
        print("needs a Chromium (--chromium PATH) and npm", file=sys.stderr)
        return 2
    folder = arguments.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    pages = arguments.page or make_pages(folder)
    checked = check(pages, folder, arguments.chromium)
    return tell(checked, pages)


def find_chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next(filter(None, map(shutil.which, names)), None)


def check(pages: list[Path], folder: Path, chromium: str) -> dict[str, Any]:
    """Run ``report_check.mjs`` on the pages."""
    if not (folder / "node_modules" / "axe-core").is_dir():
        wanted = ("axe-core@4", "puppeteer-core@24")
        subprocess.run(
            ["npm", "install", "--silent", "--prefix", ".", *wanted], cwd=folder, check=True
        )
    script = Path(__file__).with_suffix(".mjs").resolve()
    command = ["node", script, chromium, folder, *(page.resolve() for page in pages)]
    done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def tell(checked: dict[str, Any], pages: list[Path]) -> int:
    """Print a line per check and the problems found; returns the exit status."""
    print(f"axe-core {checked['axe']}, {checked['browser']}")
    is_bad = False
    for look in checked["found"]:
        undecided = f", undecided: {', '.join(look['undecided'])}" if look["undecided"] else ""
        print(
            f"{look['page']:12} {look['width']:5} {look['scheme']:5} {look['passes']} rules "
            f"passed, {len(look['violations'])} violated{undecided}; {look['wider']} px too wide; "
            f"{len(look['requests'])} requests"
        )
        for rule in look["violations"]:
            print(f"    {rule['impact']}: {rule['id']} x {rule['count']}: {rule['help']}")
            print(f"    {rule['example']}\n    {rule['why']}")
        is_bad |= bool(look["violations"] or look["requests"] or look["wider"] > 0)
    for page in pages:
        size = page.stat().st_size
        print(f"{page.name:12} {size:,} bytes")
        is_bad |= size >= MAX_BYTES
    return int(is_bad)


def make_pages(folder: Path) -> list[Path]:
    """Make pages of all kinds."""
    from crosstok.demo.target_tokenizer import build_target_tokenizer
    from crosstok.jobs.inspect_models import inspect_models
    from crosstok.jobs.inspect_tokenizers import inspect_tokenizers
    from crosstok.recipes import InspectModelsRecipe, InspectTokenizersRecipe
    from crosstok.reports import examination_page, pair_page, write_page

    model = str(files("crosstok.demo") / "model")
    tokenizer, data = folder / "tokenizer", folder / "texts.txt"
    build_target_tokenizer(list(TEXTS) * 9).save_pretrained(tokenizer)
    data.write_text("".join(TEXTS) * 9, encoding="utf-8")
    asked = InspectTokenizersRecipe(source=model, target=str(tokenizer), data=str(data))
    look = inspect_tokenizers(asked)
    pair = pair_page(look.report.as_json(), *look.names, look.views())
    write_page(folder / "pair.html", pair)
    named = {"teacher": model, "student": str(tokenizer), "data": str(data)}
    found = inspect_models(InspectModelsRecipe(**named, max_length=128, batch_size=2))
    write_page(folder / "examination.html", examination_page(found.as_json()))
    return [folder / "pair.html", folder / "examination.html", *make_runs(folder, model)]


def make_runs(folder: Path, model: str) -> list[Path]:
    """Make the page of a short run, and the same page with a log of 10,000 steps."""
    from crosstok.jobs import report
    from crosstok.jobs.transfer import transfer
    from crosstok.recipes import TransferRecipe
    from crosstok.reports import RunNumbers, run_curves, run_page, write_page

    seen: list[RunNumbers] = []
    report.run_page = lambda run: seen.append(run) or run_page(run)
    recipe = TransferRecipe(
        model=model, tokenizer=str(folder / "tokenizer"), data=str(folder / "texts.txt"),
        output=str(folder / "run"), max_steps=12, batch_size=2, max_length=96, num_workers=0,
        log_every=1, report_to="none", overwrite=True, objective="alm+cross_entropy",
    )  # fmt: skip
    transfer(recipe)
    shutil.copy(folder / "run" / "report.html", folder / "short_run.html")
    run = replace(seen[0], curves=run_curves(long_log(seen[0])))
    write_page(folder / "long_run.html", run_page(run))
    return [folder / "short_run.html", folder / "long_run.html"]


def long_log(run: Any) -> list[dict[str, float]]:
    """A line for each of 10,000 steps, by the names of the run; the numbers are made up."""
    rng = random.Random(0)
    names = [curve.name for curve in run.curves.curves]
    return [
        {
            "step": step,
            "tokens_seen": 4096.0 * step,
            "bytes_seen": 16384.0 * step,
            **{name: (0.1 + math.exp(-step / 2000)) * rng.lognormvariate(0, 0.2) for name in names},
        }
        for step in range(1, STEPS + 1)
    ]


if __name__ == "__main__":
    sys.exit(main())
