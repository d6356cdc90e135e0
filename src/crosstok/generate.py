"""Let a model, or several as one, continue texts and answer chats.

Prompts are read and checked before a model is loaded. One is answered as it comes, several
together. Without any, a chat is held line by line. Answers go to standard output, all else to
standard error.
"""

import contextlib
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crosstok.inference.answers import begun_character
from crosstok.inference.contract import LanguageModel, Prompt, Unit
from crosstok.inference.ensemble_file import MemberFile, read_ensemble_file
from crosstok.inference.language_model import load_language_model, place_and_dtype
from crosstok.inference.prompts import PromptReader
from crosstok.models import check_model_exists
from crosstok.recipes import GenerateRecipe
from crosstok.recipes.base import DTYPES
from crosstok.recipes.generation import unit_of
from crosstok.tokenizers import TextEncoder, load_tokenizer, resolve_chat_template

log = logging.getLogger("crosstok")

Message = Mapping[str, Any]
Write = Callable[[str], object]

_HELLO = "Chat with %s. /reset forgets what was said, /quit or the end of input ends it."
_CHAT_IS_TEXT = "A chat is text: repair it."
_READ_BYTES = (
    "A model that reads tokens takes text: repair it, or let models read the bytes as they are "
    "with --bytes, several with --combine bytes-mixture."
)


@dataclass(frozen=True)
class Answer:
    """What was asked, and what was answered.

    Attributes:
        prompt: The text that was continued, or the user's message; bytes where it is no UTF-8.
        text: The answer, without the prompt.
    """

    prompt: str | bytes
    text: str


def generate(
    recipe: GenerateRecipe,
    *,
    write: Write | None = None,
    lines: Iterator[str] | None = None,
) -> list[Answer]:
    """Answer the prompts of a recipe, or hold a chat where it has none.

    Args:
        recipe: Which models, what they are asked, and how they answer.
        write: Receives what is to be shown; by default standard output.
        lines: What the user says in a chat; by default lines of standard input.

    Returns:
        The answers, in the order of the prompts; those of a chat in the order of its turns.

    Raises:
        RecipeError: Options contradict each other.
        ValueError: A prompt cannot be read or leaves no room for an answer, a model or a template
            cannot be loaded; says which.
    """
    recipe.check()
    members, unit = read_members(recipe)
    recipe.check_unit(unit)
    prompts = read_prompts(recipe, takes_bytes=unit == "byte" and not recipe.chat)
    check_members(recipe, members, prompts)
    model = load(recipe, members)
    show = write or _to_standard_output
    if not prompts:
        return Chat(model, recipe, show).hold(standard_lines() if lines is None else lines)
    return answer(model, recipe, prompts, show)


def read_members(recipe: GenerateRecipe) -> tuple[list[MemberFile], Unit]:
    """The models that answer, and in what.

    Raises:
        ValueError: There is no such template, or the file that defines an ensemble is wrong.
    """
    if recipe.is_definition:
        read = read_ensemble_file(recipe.model[0])
        return list(read.members), unit_of(read.combine)
    members = []
    for number, name in enumerate(recipe.model):
        given = recipe.template_of(number)
        template = None if given is None else resolve_chat_template(given)
        members.append(MemberFile(name, chat_template=template))
    return members, "byte" if recipe.bytes else unit_of(recipe.combine)


def read_prompts(recipe: GenerateRecipe, *, takes_bytes: bool) -> list[str | bytes]:
    """The prompts: those given first, then those of files.

    Raises:
        ValueError: A file is missing; or a prompt is no UTF-8 and bytes are not taken.
    """
    given = [("--prompt", _bytes_of(text, "--prompt")) for text in recipe.prompt or ()]
    given += [(f"--prompt-file {name}", _file_bytes(name)) for name in recipe.prompt_file or ()]
    advice = _CHAT_IS_TEXT if recipe.chat else _READ_BYTES
    return [
        content if takes_bytes and not _is_text(content) else _text(content, where, advice)
        for where, content in given
    ]


def check_members(
    recipe: GenerateRecipe, members: Sequence[MemberFile], prompts: Sequence[str | bytes]
) -> None:
    """Find what is wrong with models and prompts as far as it can be told from small files.

    Raises:
        ValueError: There is no such model; it has no chat template, or its template cannot write
            the messages; or a prompt is empty where nothing starts a text.
    """
    for member in members:
        check_model_exists(member.model)
    if recipe.chat or not all(prompts):
        for member in members:
            _check_reads(recipe, member, prompts)


def load(recipe: GenerateRecipe, members: Sequence[MemberFile]) -> LanguageModel:
    """The object that answers.

    Raises:
        ValueError: It cannot be loaded.
    """
    precision = None if recipe.precision is None else DTYPES[recipe.precision]
    device, dtype = place_and_dtype(recipe.device, precision)
    templates = [member.chat_template for member in members]
    return load_language_model(
        recipe.model,
        combine=recipe.combine,
        bytes_view=recipe.bytes and recipe.combine is None,
        weights=recipe.weight,
        alpha=1.0 if recipe.alpha is None else recipe.alpha,
        target=recipe.target,
        chat_templates=None if recipe.is_definition else templates,
        dtype=dtype,
        device=device,
        trust_remote_code=recipe.trust_remote_code,
    )


def answer(
    model: LanguageModel, recipe: GenerateRecipe, prompts: Sequence[str | bytes], write: Write
) -> list[Answer]:
    """Answer prompts: a single one as it comes, several together."""
    times = recipe.num_return_sequences
    asked = [prompt for prompt in prompts for _ in range(times)]
    given = [_prompt(recipe, prompt) for prompt in asked]
    if len(asked) == 1 and not recipe.json:
        opening = "" if recipe.chat else shown(asked[0])
        stream = _Stream(write, opening)
        [text] = model.generate(given, recipe.sampling(), on_text=stream)
        stream.end()
        return [Answer(asked[0], text)]
    texts = model.generate(given, recipe.sampling())
    answers = [Answer(prompt, text) for prompt, text in zip(asked, texts, strict=True)]
    for number, one in enumerate(answers):
        if recipe.json:
            write(json.dumps(as_json(one), ensure_ascii=False) + "\n")
        else:
            label = f"{number // times + 1}" + (f", answer {number % times + 1}" * (times > 1))
            opening = "" if recipe.chat else shown(one.prompt)
            write(f"--- {label} ---\n{opening}{one.text}\n")
    return answers


class Chat:
    """A conversation, line by line: every answer is shown as it comes and is remembered."""

    def __init__(self, model: LanguageModel, recipe: GenerateRecipe, write: Write) -> None:
        """Begin.

        Raises:
            ValueError: The system message holds half a character.
        """
        self._model, self._sampling, self._write = model, recipe.sampling(), write
        self._opening = _opening(recipe)
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
                self._write("\n")  # the terminal is behind what it asked
        return self._answers

    def _is_over(self, line: str) -> bool:
        word = line.strip()
        if word == "/quit":
            return True
        if word == "/reset":
            self._said = []
            log.info("forgotten")
        elif word.startswith("/") and word[1:].isalpha() and not line.startswith(" "):
            log.error("there is no %s; there are /reset and /quit (a space in front says it)", word)
        elif word:
            self._answer(line)
        return False

    def _answer(self, line: str) -> None:
        """One turn; where it fails, it is as if it had not been."""
        content = _text(_bytes_of(line, "the line"), "the line", _CHAT_IS_TEXT)
        said = [*self._said, {"role": "user", "content": content}]
        # As the turns of a chat go on, so do the draws.
        sampling = replace(self._sampling, seed=self._sampling.seed + len(self._answers))
        stream = _Stream(self._write)
        try:
            [text] = self._model.generate([[*self._opening, *said]], sampling, on_text=stream)
        except ValueError as error:
            stream.break_off()
            hint = " (/reset forgets what was said.)" if self._said else ""
            raise ValueError(f"{error}{hint}") from error
        stream.end()
        self._said = [*said, {"role": "assistant", "content": text}]
        self._answers.append(Answer(content, text))


class _Stream:
    """Shows an answer as it comes, in front of it its prompt, and at last a line break."""

    def __init__(self, write: Write, opening: str = "") -> None:
        self._write, self._opening, self._has_begun = write, opening, False

    def __call__(self, piece: str) -> None:
        if not self._has_begun:  # not before: what ends in an error shows nothing
            self._has_begun = True
            self._write(self._opening)
        self._write(piece)

    def end(self) -> None:
        """The answer is complete."""
        self("\n")

    def break_off(self) -> None:
        """There is no more of the answer."""
        if self._has_begun:
            self._write("\n")


def standard_lines() -> Iterator[str]:
    """Lines of standard input; on a terminal, asked for with ``> ``.

    A line that is no UTF-8 holds lone surrogates for its bytes, as Python has them.
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


def as_json(one: Answer) -> dict[str, str]:
    """A prompt and its answer; `prompt_hex` holds the bytes of a prompt that is no UTF-8."""
    if isinstance(one.prompt, str):
        return {"prompt": one.prompt, "answer": one.text}
    return {"prompt": shown(one.prompt), "prompt_hex": one.prompt.hex(), "answer": one.text}


def shown(prompt: str | bytes) -> str:
    """A prompt as text, U+FFFD for what is no UTF-8.

    A character that is begun at its end is left out, since the answer begins with the whole of it.
    """
    if isinstance(prompt, str):
        return prompt
    return prompt[: len(prompt) - len(begun_character(prompt))].decode(errors="replace")


def _prompt(recipe: GenerateRecipe, prompt: str | bytes) -> Prompt:
    if not recipe.chat:
        return prompt
    return [*_opening(recipe), {"role": "user", "content": str(prompt)}]


def _opening(recipe: GenerateRecipe) -> list[Message]:
    if recipe.system is None:
        return []
    content = _text(_bytes_of(recipe.system, "--system"), "--system", _CHAT_IS_TEXT)
    return [{"role": "system", "content": content}]


def _check_reads(
    recipe: GenerateRecipe, member: MemberFile, prompts: Sequence[str | bytes]
) -> None:
    """Let a model's tokenizer read the prompts that may be refused."""
    tokenizer = load_tokenizer(member.model, trust_remote_code=recipe.trust_remote_code)
    if recipe.chat and member.chat_template is None and not tokenizer.chat_template:
        advice = "Pass --chat-template FILE (Jinja), or --chat-template plain"
        if recipe.is_definition:
            advice = f"Give it chat_template in {recipe.model[0]}: a file (Jinja), or plain"
        raise ValueError(
            f"model {member.model!r} has no chat template, and --chat needs one. {advice}, which "
            "writes 'User: ...' and 'Assistant: ...'."
        )
    reader = PromptReader(TextEncoder(tokenizer), member.chat_template)
    asked = prompts or ["Hello"]  # the first turn of a conversation
    try:
        for prompt in asked if recipe.chat else [prompt for prompt in asked if not prompt]:
            reader.prompt_ids(_prompt(recipe, prompt))
    except ValueError as error:
        raise ValueError(f"model {member.model!r}: {error}") from error


def _file_bytes(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    path = Path(name).expanduser()
    if not path.is_file():
        raise ValueError(f"there is no prompt file {name!r}; give the path of a file.")
    return path.read_bytes()


def _bytes_of(text: str, where: str) -> bytes:
    """The bytes of a text, also of one that a shell gave and that is no UTF-8."""
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


def _text(content: bytes, where: str, advice: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where} is no UTF-8 at byte {error.start} (0x{content[error.start]:02X}). {advice}"
        ) from None


def _to_standard_output(text: str) -> None:
    out = sys.stdout
    try:
        out.write(text)
    except UnicodeEncodeError:  # a terminal that does not know all characters
        out.write(text.encode(out.encoding, "backslashreplace").decode(out.encoding))
    out.flush()
