"""Prompts as bytes and text: read from flags and files, and shown with their answers."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crosstok.inference.answers import begun_character
from crosstok.recipes import GenerateRecipe

Message = Mapping[str, Any]
Write = Callable[[str], object]

CHAT_IS_TEXT = "A chat is text: repair it."
_READ_BYTES = (
    "A model that reads tokens takes text: repair it, or let models read the bytes as they are "
    "with bytes, several with combine bytes-mixture."
)


@dataclass(frozen=True)
class Answer:
    """What was asked, and what was answered.

    Attributes:
        prompt: the text that was continued, or the user's message; bytes where it is not UTF-8.
        text: the answer, without the prompt.
    """

    prompt: str | bytes
    text: str


class Stream:
    """Shows an answer as it comes: its prompt first, a line break last."""

    def __init__(self, write: Write, opening: str = "") -> None:
        self._write, self._opening, self._has_begun = write, opening, False

    def __call__(self, piece: str) -> None:
        """Show the next piece of the answer."""
        if not self._has_begun:  # not before: what ends in an error shows nothing
            self._has_begun = True
            self._write(self._opening)
        self._write(piece)

    def end(self) -> None:
        """The answer is complete."""
        self("\n")

    def break_off(self) -> None:
        """The answer ends here."""
        if self._has_begun:
            self._write("\n")


def read_prompts(recipe: GenerateRecipe, *, takes_bytes: bool) -> list[str | bytes]:
    """The prompts: those given first, then those of files.

    Raises:
        ValueError: a file is missing; or a prompt is not UTF-8 and bytes are not taken.
    """
    given = [("prompt", bytes_of(text, "prompt")) for text in recipe.prompt or ()]
    given += [(f"prompt_file {name}", _file_bytes(name)) for name in recipe.prompt_file or ()]
    advice = CHAT_IS_TEXT if recipe.chat else _READ_BYTES
    return [
        content if takes_bytes and not _is_text(content) else text_of(content, where, advice)
        for where, content in given
    ]


def as_json(one: Answer) -> dict[str, str]:
    """A prompt and its answer; `prompt_hex` holds the bytes of a prompt that is not UTF-8."""
    if isinstance(one.prompt, str):
        return {"prompt": one.prompt, "answer": one.text}
    return {"prompt": shown(one.prompt), "prompt_hex": one.prompt.hex(), "answer": one.text}


def shown(prompt: str | bytes) -> str:
    """A prompt as text, U+FFFD for what is not UTF-8.

    A character that is begun at its end is left out, since the answer begins with the whole of it.
    """
    if isinstance(prompt, str):
        return prompt
    return prompt[: len(prompt) - len(begun_character(prompt))].decode(errors="replace")


def opening_of(recipe: GenerateRecipe) -> list[Message]:
    """The messages that every chat of a recipe begins with.

    Raises:
        ValueError: the system message holds half a character.
    """
    if recipe.system is None:
        return []
    content = text_of(bytes_of(recipe.system, "system"), "system", CHAT_IS_TEXT)
    return [{"role": "system", "content": content}]


def _file_bytes(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    path = Path(name).expanduser()
    if not path.is_file():
        raise ValueError(f"there is no prompt file {name!r}; give the path of a file.")
    return path.read_bytes()


def bytes_of(text: str, where: str) -> bytes:
    """The bytes of a text, also of one that a shell gave and that is not UTF-8."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where} holds the lone surrogate U+{ord(text[error.start]):04X} at character "
            f"{error.start}, which is half of a character and has no bytes; repair the text."
        ) from None


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def text_of(content: bytes, where: str, advice: str) -> str:
    """The text of some bytes.

    Raises:
        ValueError: they are not UTF-8; names the place and gives the advice.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where} is not UTF-8 at byte {error.start} (0x{content[error.start]:02X}). {advice}"
        ) from None
