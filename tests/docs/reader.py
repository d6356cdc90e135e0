"""A reader who types what a page prints, from top to bottom, in one folder and one process."""

import argparse
import contextlib
import io
import json
import logging
import re
import runpy
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import yaml

from crosstok import cli
from crosstok.inference import load_language_model
from crosstok.inference.language_model import Sampling
from crosstok.jobs import run
from crosstok.recipes import (
    DistilRecipe,
    EvaluateRecipe,
    GenerateRecipe,
    TransferRecipe,
    load_recipe,
)
from crosstok.training import cross_tokenizer_trainer
from tests.docs.pages import ROOT, Piece, lines_of

TYPED = b"Why does the dog not mind?\n"  # where a command asks
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
ENVIRONMENT = re.compile(r"(?:[A-Z_]+=\S* )*")
_LENGTH = 6  # tokens or bytes of an answer
# What a recipe must have, for those of which a page shows a part.
_REQUIRED: dict[Any, dict[str, Any]] = {
    TransferRecipe: {"model": "m", "tokenizer": "t", "data": "d", "output": "o"},
    DistilRecipe: {"teacher": ["t"], "student": "s", "data": "d", "output": "o"},
    EvaluateRecipe: {"model": ["m"]},
    GenerateRecipe: {"model": ["m"]},
}


class Reader:
    """Runs the pieces of one page; names, files and outputs are there for those below.

    Attributes:
        printed: Standard output of what was run last.
        excused: Beginning of a command or of a block of Python -> why it is not run.
    """

    def __init__(self, excused: dict[str, str]) -> None:
        self.printed = ""
        self.excused = excused
        self._names: dict[str, object] = {"__name__": "__main__"}
        self._typed: set[str] = set()

    def read(self, piece: Piece) -> None:
        """Run or check a piece; a failure names the place and shows the output."""
        if piece.mark == "prints":
            self._expect(self.printed == piece.content, piece.place, f"prints\n{self.printed}")
        elif piece.language in ("sh", "command"):
            printed = [self._type(piece, line, command) for line, command in lines_of(piece)]
            self.printed = "".join(printed)
        elif piece.language == "python" and piece.file_name is not None:
            compile(piece.content, piece.file_name, "exec")  # a file, which others import
        elif piece.language == "python" and self._is_excused(piece.content):
            self.printed = ""
        elif piece.language == "python":
            self.printed = self._run(piece.place, lambda: self._python(piece), piece.mark == "run")
        elif piece.language in ("yaml", "yml"):
            self._run(piece.place, lambda: self._yaml(piece))
        elif piece.language == "json":
            json.loads(piece.content)
        else:
            known = piece.language in ("text", "bibtex", "mermaid")
            self._expect(known, piece.place, f"a block in {piece.language!r} is not understood")

    def _type(self, piece: Piece, line: int, command: str) -> str:
        command = ENVIRONMENT.sub("", command, count=1)
        place = f"{replace(piece, line=line).place}: {command}"
        if self._is_excused(command):
            return ""
        if command in self._typed:  # what a page shows twice is typed once
            return ""
        self._typed.add(command)
        program, *words = shlex.split(command)
        if program == "crosstok":
            return self._run(place, lambda: self._main(cli.main, ["crosstok", *words]))
        if program == "python" and words[0] == "-m":
            start = partial(run_module, words[1])
            return self._run(place, lambda: self._main(start, words[1:]))
        if program == "python" and words[0] == "-c":
            return self._run(place, lambda: exec(words[1], {}))
        if program == "python":
            return self._run(place, lambda: parse_only(ROOT / words[0], words[1:]))
        if program == "make":
            self._expect(set(words) <= set(TARGETS), place, f"targets are {TARGETS}")
        else:
            paths = [word for word in words if "/" in word]
            self._expect(program == ".venv/bin/pytest", place, "a command that no test runs")
            self._expect(all((ROOT / path).exists() for path in paths), place, "no such path")
        return ""

    def _is_excused(self, shown: str) -> bool:
        return any(shown.startswith(beginning) for beginning in self.excused)

    def _main(self, main: Callable[[], object], words: list[str]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", words)
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TYPED)))
            main()

    def _python(self, piece: Piece) -> None:
        # Line numbers of the page in tracebacks.
        code = compile("\n" * (piece.line - 1) + piece.content, str(piece.page), "exec")
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(Path.cwd())  # as for a script in the reader's folder
            exec(code, self._names)

    def _yaml(self, piece: Piece) -> None:
        values = yaml.safe_load(piece.content)
        if "members" in values:
            file = Path(piece.file_name or "shown.yaml")
            file.write_text(piece.content, encoding="utf-8")
            load_language_model([str(file)])
        elif "task" not in values:  # a task of lm-eval is loaded by the command that names it
            check_recipe(values)

    def _run(self, place: str, action: Callable[[], object], is_uncut: bool = False) -> str:
        """What an action prints; without cuts where the page says what that is."""
        out, err = _stream(), _stream()
        cuts = contextlib.nullcontext() if is_uncut else cut_short()
        handlers, failure = logging.getLogger().handlers[:], ""
        logging.getLogger().handlers.clear()
        try:
            with cuts, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                action()
        except SystemExit as end:
            failure = f"exit status {end.code}" if end.code else ""
        except Exception as error:
            failure = _own_part(error)
        finally:
            logging.getLogger().handlers[:] = handlers
        self._expect(not failure, place, f"{_said(out)}\n{_said(err)}\n{failure}")
        return _said(out)

    @staticmethod
    def _expect(is_so: bool, place: str, otherwise: str) -> None:
        if not is_so:
            pytest.fail(f"{place}\n{otherwise}", pytrace=False)


def run_module(name: str) -> None:
    """What `python -m` does, in a process that may have imported the module already."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crosstok.* found in sys.modules", RuntimeWarning)
        runpy.run_module(name, run_name="__main__", alter_sys=True)


def parse_only(script: Path, words: list[str]) -> None:
    """Start a script of the repository up to where it has read its command line.

    Raises:
        ValueError: there is no such script, or it reads no options and is given some.
    """
    if not script.is_file():
        raise ValueError(f"there is no {script}")
    if "parse_args" not in script.read_text(encoding="utf-8"):
        if words:
            raise ValueError(f"{script} takes no options")
        return
    parse = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser, *given: Any) -> None:
        parse(parser, *given)
        raise SystemExit(0)

    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        patch.setattr(sys, "argv", [str(script), *words])
        patch.syspath_prepend(script.parent)
        try:
            runpy.run_path(str(script), run_name="__main__")
        finally:
            for name in set(sys.modules) - before:  # those beside the script: names are not unique
                if (
                    Path(getattr(sys.modules[name], "__file__", None) or "/").parent
                    == script.parent
                ):
                    del sys.modules[name]


def check_recipe(values: dict[str, Any]) -> None:
    """Keys and values are those of a recipe; what a part of one lacks is filled in.

    Raises:
        ValueError: they fit no job.
    """
    fitting = [job for job in _REQUIRED if values.keys() <= {f.name for f in fields(job)}]
    job = fitting[0] if fitting else TransferRecipe
    recipe: Any = load_recipe(job, None, _REQUIRED[job] | values)
    if isinstance(recipe, TransferRecipe | DistilRecipe):
        recipe.objectives()
        recipe.combination()


def _stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)


def _said(stream: io.TextIOWrapper) -> str:
    return stream.buffer.getvalue().decode()  # type: ignore[attr-defined]


def _own_part(error: BaseException) -> str:
    """The traceback from the page's own code on, or from the library's."""
    trace: TracebackType | None = error.__traceback__
    while trace and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace, chain=False))


@contextlib.contextmanager
def cut_short() -> Iterator[None]:
    """Two optimizer steps on two rows each, saved at the end, and answers of a few tokens."""
    arguments_of, limit_of = run.training_arguments, Sampling.__post_init__
    usable = cross_tokenizer_trainer.usable_arguments

    def arguments(recipe: Any, model: Any) -> Any:
        short = {"max_steps": 2, "save_every": 2, "batch_size": 2, "num_workers": 0, "epochs": None}
        return arguments_of(replace(recipe, **short), model)

    def few_steps(args: Any) -> Any:
        short = usable(args)
        short.max_steps, short.per_device_train_batch_size = 2, 2
        return short

    def limit(sampling: Sampling) -> None:
        limit_of(sampling)
        for name in ("max_new_tokens", "max_new_bytes"):
            if (getattr(sampling, name) or 0) > _LENGTH:
                object.__setattr__(sampling, name, _LENGTH)

    with pytest.MonkeyPatch.context() as within:
        within.setattr(run, "training_arguments", arguments)
        within.setattr(cross_tokenizer_trainer, "usable_arguments", few_steps)
        within.setattr(Sampling, "__post_init__", limit)
        yield
