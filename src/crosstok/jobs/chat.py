"""A conversation on the terminal, line by line."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from dataclasses import replace

from crosstok.inference.language_model import LanguageModel
from crosstok.jobs.prompts import (
    CHAT_IS_TEXT,
    Answer,
    Message,
    Stream,
    Write,
    bytes_of,
    opening_of,
    text_of,
)
from crosstok.recipes import GenerateRecipe

log = logging.getLogger("crosstok")

_HELLO = "Chat with %s. /reset forgets what was said, /quit or the end of input ends it."


class Chat:
    """A conversation, line by line: every answer is shown as it comes and is remembered."""

    def __init__(self, model: LanguageModel, recipe: GenerateRecipe, write: Write) -> None:
        """Begin.

        Raises:
            ValueError: the system message holds half a character.
        """
        self._model, self._sampling, self._write = model, recipe.sampling(), write
        self._opening = opening_of(recipe)
        self._said: list[Message] = []
        self._answers: list[Answer] = []

    def hold(self, lines: Iterator[str]) -> list[Answer]:
        """Answer until /quit, the end of the lines, or an interrupt."""
        log.info(_HELLO, self._model.name)
        try:
            while True:
                try:
                    if self._is_over(next(lines)):
                        break
                except ValueError as error:
                    log.error("%s", error)
        except (KeyboardInterrupt, StopIteration):
            if sys.stdin.isatty():
                self._write("\n")  # the prompt of the terminal stays on its line
        return self._answers

    def _is_over(self, line: str) -> bool:
        word = line.strip()
        if word == "/quit":
            return True
        if word == "/reset":
            self._said = []
            log.info("forgotten")
        elif word.startswith("/") and word[1:].isalpha() and not line.startswith(" "):
            log.error(
                "there is no %s: use /reset or /quit (a space before it sends it as text)", word
            )
        elif word:
            self._answer(line)
        return False

    def _answer(self, line: str) -> None:
        """One turn; where it fails, it is as if it had not been."""
        content = text_of(bytes_of(line, "the line"), "the line", CHAT_IS_TEXT)
        said = [*self._said, {"role": "user", "content": content}]
        # As the turns of a chat go on, so do the draws.
        sampling = replace(self._sampling, seed=self._sampling.seed + len(self._answers))
        stream = Stream(self._write)
        try:
            [text] = self._model.generate([[*self._opening, *said]], sampling, on_text=stream)
        except ValueError as error:
            stream.break_off()
            hint = " (/reset forgets what was said.)" if self._said else ""
            raise ValueError(f"{error}{hint}") from error
        stream.end()
        self._said = [*said, {"role": "assistant", "content": text}]
        self._answers.append(Answer(content, text))


def standard_lines() -> Iterator[str]:
    """Lines of standard input; on a terminal, asked for with ``> ``.

    A line that is not UTF-8 holds lone surrogates for its bytes, as Python has them.
    """
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 (input() then has a history and edits lines)
    while True:
        if is_terminal:
            try:
                yield input("> ")
            except EOFError:
                return
        else:
            line = sys.stdin.buffer.readline()
            if not line:
                return
            yield line.decode("utf-8", "surrogateescape").rstrip("\r\n")
