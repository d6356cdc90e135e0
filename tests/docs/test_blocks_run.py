"""Every command and every block of the pages runs as printed, page by page, from top to bottom.

What the pages name is there in small (`stand_ins`). Blocks whose output a page claims are marked
`<!-- run -->` and run in full; the others make two optimizer steps and answer in a few tokens.
"""

import gc
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import datasets
import huggingface_hub.constants
import lm_eval.tasks
import pytest
import yaml
from lm_eval.tasks._index import TaskIndex

from tests.docs import stand_ins
from tests.docs.pages import PAGES, ROOT, Piece, lines_of, pieces
from tests.docs.reader import Reader

NOT_RUN = {
    "pip install": "tests do not reach a package index",
    "source .venv/bin/activate": "changes nothing but the reader's shell",
    "crosstok demo": "takes minutes; tests/demo runs it in small",
}
PAGES_WITH_PIECES = [page for page in PAGES if page.name != "CHANGELOG.md" and pieces(page)]


@pytest.fixture(scope="session")
def hub(tmp_path_factory) -> Path:
    """A cache of the hub that holds every model that the pages name."""
    folder = tmp_path_factory.mktemp("hub")
    stand_ins.fill_hub(folder)
    gc.freeze()  # trainers collect garbage: they need not walk through all that was imported
    return folder


@pytest.fixture
def offline(hub, tmp_path, monkeypatch) -> None:
    """Names of models and data sets lead to stand-ins, and nowhere else."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets, "load_dataset", stand_ins.load_dataset)
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)  # seconds
    monkeypatch.setattr(TaskIndex, "_iter_yaml_files", few_tasks)


def few_tasks(folder: Path) -> Iterator[Path]:
    """Of lm-eval's own tasks, thousands of files, those with stand-ins for their data."""
    own = Path(lm_eval.tasks.__file__).parent
    for part in [own / name for name in stand_ins.TASKS] if folder == own else [folder]:
        yield from _task_files(part)


_task_files = TaskIndex._iter_yaml_files


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("page", PAGES_WITH_PIECES, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_a_page_prints_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    folder = tmp_path / "reader"
    folder.mkdir()
    monkeypatch.chdir(folder)
    shown = pieces(page)
    stand_ins.lay_out(folder, lambda name: is_expected(name, shown))
    for piece in shown:
        if piece.file_name is not None:
            Path(piece.file_name).parent.mkdir(parents=True, exist_ok=True)
            Path(piece.file_name).write_text(piece.content, encoding="utf-8")
    reader = Reader(NOT_RUN)
    try:
        for piece in shown:
            reader.read(piece)
    finally:
        for file in folder.glob("*.py"):  # the next page may show another of that name
            sys.modules.pop(file.stem, None)


def is_expected(name: str, shown: list[Piece]) -> bool:
    """Whether a page names something that it does not make itself."""
    text = "\n".join(piece.content for piece in shown)
    word = rf"{re.escape(name)}(?![\w-]|[./]\w)"
    is_named = re.search(rf"(?<![\w./-]){word}", text)
    return bool(is_named) and not re.search(rf"(?:--output |\boutput(?:=\"|: )){word}", text)


def test_pieces_of_every_kind_are_found():
    kinds = [piece.language for page in PAGES for piece in pieces(page)]
    for language, number in (("sh", 30), ("python", 25), ("yaml", 2), ("command", 4)):
        assert kinds.count(language) >= number, language


def test_files_that_pages_show_are_given_to_a_command():
    """A block that is a whole file says its name first, and a command of the page reads it."""
    for page in PAGES:
        shown = pieces(page)
        commands = " ".join(p.content for p in shown if p.language in ("sh", "command"))
        for piece in shown:
            values = yaml.safe_load(piece.content) if piece.language == "yaml" else {}
            if not {"output", "task"} & values.keys():
                continue
            assert piece.file_name is not None, piece.place
            task = f"--task {values.get('task')}"
            assert f"--recipe {piece.file_name}" in commands or task in commands, piece.place


def test_nothing_is_excused_or_stood_in_for_that_no_page_names():
    shown = [piece for page in PAGES_WITH_PIECES for piece in pieces(page)]
    shell = [piece for piece in shown if piece.language in ("sh", "command")]
    typed = [command for piece in shell for _, command in lines_of(piece)]
    for beginning in NOT_RUN:
        assert any(command.startswith(beginning) for command in typed), beginning
    text = "\n".join(piece.content for piece in shown)
    for name in (*stand_ins.HUB, *stand_ins.FOLDERS, *stand_ins.FILES):
        assert re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w-])", text), name
