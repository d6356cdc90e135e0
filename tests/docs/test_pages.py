"""The pages: flags and options exist, links lead somewhere, settings are those of the code."""

import importlib
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
import typer.main
import yaml

import crosstok
from crosstok.cli import app
from crosstok.objectives import ALM
from crosstok.recipes import DistilRecipe, TransferRecipe, load_recipe
from crosstok.training.arguments import default_learning_rate
from tests.docs.pages import LINK, ROOT, each_page, prose
from tests.public_names import PUBLIC


@each_page
def test_commands_in_code_spans_parse(page):
    """Also those that lack something and so cannot run."""
    group = typer.main.get_command(app)
    for line in re.findall(r"`(crosstok [^`\n]*)`", prose(page)):
        if "..." in line:
            continue
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
        if not getattr(option, "hidden", False)
        for name in (*option.opts, *option.secondary_opts)
    }
    assert set(re.findall(r"(?<=`)--[a-z][a-z-]*", text)) <= options


def test_settings_of_alm_are_those_of_the_objective():
    page = ROOT / "docs" / "methods" / "alm.md"
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (\S+) \| .* \|$", page.read_text(), re.MULTILINE))
    options = {f.name: f.default for f in fields(ALM) if f.name != "kind"}
    assert {name: rows.get(name) for name in options} == {
        name: spelled(default) for name, default in options.items()
    }


def spelled(default: object) -> str:
    if isinstance(default, bool):
        return "true" if default else "false"
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_the_table_of_learning_rates_is_that_of_the_code():
    text = (ROOT / "docs" / "guides" / "transfer.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\d.]+) (million|billion)[\w ]* \| (\S+) \|", text, re.MULTILINE)
    assert len(rows) == 4
    for number, unit, rate in rows:
        size = float(number) * {"million": 1e6, "billion": 1e9}[unit]
        assert default_learning_rate(int(size)) == pytest.approx(float(rate), rel=0.02)


@pytest.mark.parametrize("job", [TransferRecipe, DistilRecipe])
def test_recipes_in_the_repository_load(job):
    folder = ROOT / "recipes" / job.__name__.removesuffix("Recipe").lower()
    files = list(folder.glob("*.yaml"))
    assert files
    for file in files:
        recipe = load_recipe(job, file, {})
        recipe.objectives()
        recipe.combination()


@each_page
def test_links_inside_the_repository_lead_somewhere(page):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
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
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            target = (page.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target.is_file():
                open_pages.append(target)
    assert set((ROOT / "docs").rglob("*.md")) <= reached


@pytest.mark.parametrize("package", sorted(PUBLIC))
def test_the_reference_lists_every_public_name(package):
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    section = re.search(rf"^## crosstok\.{package}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert section is not None
    listed = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.*?) \|", section[1], re.M))))
    assert listed == set(importlib.import_module(f"crosstok.{package}").__all__)
