"""The documentation: examples run and print what they say, commands parse, links lead somewhere."""

import contextlib
import importlib
import io
import re
import shlex
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
import typer.main
import yaml

import crosstok
from crosstok.cli import app
from crosstok.models import token_scores
from crosstok.objectives import ALM
from crosstok.recipes import TransferRecipe, load_recipe
from crosstok.runs import default_learning_rate
from crosstok.teachers import LocalTeacher
from crosstok.tokenizers import ExampleEncoder
from crosstok.training import AlignedCollator, batch_of

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    + list((ROOT / "docs").rglob("*.md"))
)
_BLOCK = re.compile(r"(<!-- (?:run|prints) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """(mark, language, content) of every fenced block; mark is "run", "prints" or ""."""
    found = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [(mark.strip("<!->\n "), language, content) for mark, language, content in found]


def commands(page: Path) -> list[str]:
    """Every crosstok command line in shell blocks, and in code spans with options."""
    text = page.read_text(encoding="utf-8")
    shell = "\n".join(content for _, language, content in blocks(page) if language == "sh")
    lines = shell.replace("\\\n", " ").splitlines()
    spans = [span for span in re.findall(r"`(crosstok [^`\n]*)`", text) if "..." not in span]
    return [line.strip() for line in (*lines, *spans) if line.startswith("crosstok ")]


PAGES_THAT_RUN = [page for page in PAGES if any(mark == "run" for mark, _, _ in blocks(page))]


@pytest.mark.parametrize("page", PAGES_THAT_RUN, ids=lambda p: str(p.relative_to(ROOT)))
def test_examples_run_and_print_what_the_page_says(page, tmp_path, monkeypatch):
    """Blocks of a page share their names, as in a session from top to bottom."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    printed: str | None = None
    for mark, language, content in blocks(page):
        if mark == "run":
            assert language == "python"
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile(content, str(page), "exec"), names)
            printed = output.getvalue()
        elif mark == "prints":
            assert printed == content, f"{page.name} prints:\n{printed}"


@each_page
def test_python_blocks_are_python_and_import_what_exists(page):
    for _, language, content in blocks(page):
        if language != "python":
            continue
        compile(content, str(page), "exec")
        for module, imported in re.findall(
            r"^from (crosstok[\w.]*) import (.+)$", content, re.MULTILINE
        ):
            for name in imported.split(", "):
                assert hasattr(importlib.import_module(module), name), f"{module}.{name}"


@each_page
def test_command_lines_parse(page):
    group = typer.main.get_command(app)
    for line in commands(page):
        _, *words = shlex.split(line, comments=True)
        if not words or words[0].startswith("-"):
            continue
        assert words[0] in group.commands, line
        rest = words[1:]
        if not rest or rest == ["--help"]:
            continue
        try:
            group.commands[words[0]].make_context(words[0], list(rest))
        except Exception as error:
            pytest.fail(f"{line}\n{error}")


@each_page
def test_flags_exist(page):
    text = page.read_text(encoding="utf-8")
    options = {
        name
        for command in typer.main.get_command(app).commands.values()
        for option in command.params
        for name in (*option.opts, *option.secondary_opts)
    }
    assert set(re.findall(r"(?<=`)--[a-z][a-z-]*", text)) <= options


def test_settings_of_alm_are_those_of_the_recipe():
    page = ROOT / "docs" / "methods" / "alm.md"
    rows = re.findall(r"^\| `--([a-z-]+)` \| (\S+) \|", page.read_text(), re.MULTILINE)
    assert len(rows) == 5
    for flag, shown in rows:
        default = getattr(TransferRecipe, flag.replace("-", "_"))
        assert shown == spelled(default), flag


def spelled(default: object) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_the_table_of_learning_rates_is_that_of_the_code():
    text = (ROOT / "docs" / "guides" / "transfer.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\d.]+) (million|billion)[\w ]* \| (\S+) \|", text, re.MULTILINE)
    assert len(rows) == 4
    for number, unit, rate in rows:
        size = float(number) * {"million": 1e6, "billion": 1e9}[unit]
        assert default_learning_rate(int(size)) == pytest.approx(float(rate), rel=0.02)


def test_there_are_command_lines_to_parse():
    assert sum(len(commands(page)) for page in PAGES) > 15


def test_recipes_in_the_pages_and_in_the_repository_load():
    for page in PAGES:
        for _, language, content in blocks(page):
            if language == "yaml":
                load_values(yaml.safe_load(content))
    for file in (ROOT / "recipes" / "transfer").glob("*.yaml"):
        load_recipe(TransferRecipe, file, {})


def load_values(values: dict) -> TransferRecipe:
    required = {"model": "m", "tokenizer": "t", "data": "d", "output": "o"}
    recipe = load_recipe(TransferRecipe, None, required | values)
    recipe.combination()
    return recipe


@each_page
def test_links_inside_the_repository_lead_somewhere(page):
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_no_page_names_a_path_of_a_machine(page):
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"(?<![\w./])/(?:home|root|work|tmp|Users|mnt|data|usr|opt|var)/\S*", text)
    assert not found


def test_the_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == crosstok.__version__
    assert citation["license"] == "Apache-2.0"


def test_every_page_can_be_reached_from_the_index():
    reached, open_pages = set(), [ROOT / "docs" / "index.md"]
    while open_pages:
        page = open_pages.pop()
        if page in reached:
            continue
        reached.add(page)
        for link in _LINK.findall(page.read_text(encoding="utf-8")):
            target = (page.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target.is_file():
                open_pages.append(target)
    assert set((ROOT / "docs").rglob("*.md")) <= reached


@pytest.mark.parametrize(
    "package",
    [
        "tokenizers",
        "corpora",
        "alignment",
        "ops",
        "models",
        "objectives",
        "transplant",
        "reports",
        "teachers",
        "inference",
        "training",
        "evaluation",
    ],
)
def test_the_reference_lists_every_public_name(package):
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    section = re.search(rf"^## crosstok\.{package}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert section is not None
    listed = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.*?) \|", section[1], re.M))))
    assert listed == set(importlib.import_module(f"crosstok.{package}").__all__)


def test_alm_on_one_page_gives_the_numbers_of_the_library():
    example = load_example()
    teacher, student, source, target, texts = example.build()
    texts = texts[:3]
    rows = [{"text": text, "row": i, "is_end": False} for i, text in enumerate(texts)]
    collator = AlignedCollator(ExampleEncoder(target), (ExampleEncoder(source),), 400)
    batch = batch_of(collator(rows))
    ours = ALM(max_slope=None)
    library = LocalTeacher(student, target.byte_vocab), LocalTeacher(teacher, source.byte_vocab)
    scores = [
        token_scores(judge.model, judge.head, ids, mask, judge.boundary_mask)
        for judge, ids, mask in zip(
            library,
            (batch.student_ids, batch.teacher_ids),
            (batch.student_attention_mask, batch.teacher_attention_mask),
            strict=True,
        )
    ]
    loss = ours(batch, *scores)
    total, count = 0.0, 0
    spans = zip(source(texts, add_end=False), target(texts, add_end=False), strict=True)
    for one, other in spans:
        sides = (teacher, source.byte_vocab, one), (student, target.byte_vocab, other)
        part, number = example.alm(*sides)
        total, count = total + part.item(), count + number
    assert count == int(loss.count)
    assert total == pytest.approx(loss.total.item(), rel=1e-3)


def test_alm_on_one_page_brings_the_student_nearer_to_its_teacher(capsys):
    torch.manual_seed(0)
    teacher, before, after = load_example().main(steps=12, texts_per_step=3)
    assert teacher < after < before
    assert "bits per byte" in capsys.readouterr().out


def load_example():
    file = ROOT / "examples" / "alm_from_scratch.py"
    spec = spec_from_file_location("alm_from_scratch", file)
    module = module_from_spec(spec)
    sys.modules["alm_from_scratch"] = module
    spec.loader.exec_module(module)
    assert len(file.read_text().splitlines()) < 150
    return module


def test_figures_in_the_pages_are_those_of_the_results_files():
    """Rows with a spread over seeds stand word for word in a file that a script wrote."""
    written = {
        line
        for file in (ROOT / "benchmarks").glob("*.md")
        for line in file.read_text().splitlines()
    }
    shown = [
        line
        for page in PAGES
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("|") and "±" in line
    ]
    assert shown
    assert [line for line in shown if line not in written] == []
