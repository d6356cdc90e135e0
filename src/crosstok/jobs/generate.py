"""Let a model, or several as one, continue texts and answer chats.

Prompts are read and checked before a model is loaded. One is answered as it comes, several
together. Without any, a chat is held line by line. Answers go to standard output, all else to
standard error.
"""

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from crosstok.inference.ensemble import Ensemble, Member, is_ensemble_file
from crosstok.inference.language_model import LanguageModel, Prompt
from crosstok.inference.loading import load_language_model
from crosstok.inference.prompts import PromptReader
from crosstok.jobs.chat import Chat, standard_lines
from crosstok.jobs.prompts import Answer, Stream, Write, as_json, opening_of, read_prompts, shown
from crosstok.jobs.result import JobResult
from crosstok.models import check_model_exists
from crosstok.recipes import GenerateRecipe, takes
from crosstok.tokenizers import TextEncoder, load_tokenizer

log = logging.getLogger("crosstok")


@dataclass(frozen=True, kw_only=True, repr=False)
class GenerateResult(JobResult):
    """What was answered; nothing is written, so that it has no folder.

    Attributes:
        answers: in the order of the prompts; those of a chat in the order of its turns.
    """

    folder: None = None
    answers: tuple[Answer, ...] = ()

    def __len__(self) -> int:
        return len(self.answers)

    def __iter__(self) -> Iterator[Answer]:
        return iter(self.answers)

    def __getitem__(self, number: int) -> Answer:
        return self.answers[number]

    def __repr__(self) -> str:
        return "\n".join(f"{one.prompt!r} -> {one.text!r}" for one in self.answers)


@takes(GenerateRecipe)
def generate(
    recipe: GenerateRecipe,
    *,
    write: Write | None = None,
    lines: Iterator[str] | None = None,
) -> GenerateResult:
    """Answer the prompts of a recipe, or hold a chat where it has none.

    Args:
        recipe: which models, what they are asked, and how they answer.
        write: receives answers as they come, with their prompts. By default nothing is shown of
            answers to prompts, and a chat goes to standard output.
        lines: what the user says in a chat; by default lines of standard input.

    Raises:
        RecipeError: options contradict each other.
        ValueError: a prompt cannot be read or leaves no room for an answer, a model or a template
            cannot be loaded; says which.
    """
    recipe.check()
    recipe.check_device()
    ensemble = recipe.ensemble()
    prompts = read_prompts(recipe, takes_bytes=ensemble.unit == "byte" and not recipe.chat)
    check_members(recipe, ensemble.members, prompts)
    model = load(recipe, ensemble)
    if prompts:
        answers = answer(model, recipe, prompts, write or _show_nothing)
    else:
        chat = Chat(model, recipe, write or write_to_standard_output)
        answers = chat.hold(standard_lines() if lines is None else lines)
    figures = {
        "answers": float(len(answers)),
        "bytes": float(sum(len(one.text.encode()) for one in answers)),
    }
    return GenerateResult(metrics=figures, answers=tuple(answers))


def check_members(
    recipe: GenerateRecipe, members: Sequence[Member], prompts: Sequence[str | bytes]
) -> None:
    """Find what is wrong with models and prompts as far as small files show it.

    Raises:
        ValueError: there is no such model; it has no chat template, or its template cannot write
            the messages; or a prompt is empty where nothing starts a text.
    """
    for member in members:
        check_model_exists(member.model)
    if recipe.chat or not all(prompts):
        for member in members:
            _check_reads(recipe, member, prompts)


def load(recipe: GenerateRecipe, ensemble: Ensemble) -> LanguageModel:
    """The object that answers.

    Raises:
        ValueError: it cannot be loaded.
    """
    return load_language_model(
        ensemble,
        dtype=recipe.precision,
        device=recipe.device,
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
        stream = Stream(write, opening)
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


def _prompt(recipe: GenerateRecipe, prompt: str | bytes) -> Prompt:
    if not recipe.chat:
        return prompt
    return [*opening_of(recipe), {"role": "user", "content": str(prompt)}]


def _check_reads(recipe: GenerateRecipe, member: Member, prompts: Sequence[str | bytes]) -> None:
    """Let a model's tokenizer read the prompts that may be refused."""
    tokenizer = load_tokenizer(member.model, trust_remote_code=recipe.trust_remote_code)
    if recipe.chat and member.chat_template is None and not tokenizer.chat_template:
        advice = "Give chat_template: a file (Jinja), or plain"
        if is_ensemble_file(recipe.model[0]):
            advice = f"Give it chat_template in {recipe.model[0]}: a file (Jinja), or plain"
        raise ValueError(
            f"model {member.model!r} has no chat template, and chat needs one. {advice}, which "
            "writes 'User: ...' and 'Assistant: ...'."
        )
    reader = PromptReader(TextEncoder(tokenizer), member.chat_template)
    asked = prompts or ["Hello"]  # the first turn of a conversation
    try:
        for prompt in asked if recipe.chat else [prompt for prompt in asked if not prompt]:
            reader.prompt_ids(_prompt(recipe, prompt))
    except ValueError as error:
        raise ValueError(f"model {member.model!r}: {error}") from error


def _show_nothing(text: str) -> None:
    pass


def write_to_standard_output(text: str) -> None:
    """Print a piece of an answer at once, characters that the terminal does not know escaped."""
    out = sys.stdout
    try:
        out.write(text)
    except UnicodeEncodeError:  # a terminal that does not know all characters
        out.write(text.encode(out.encoding, "backslashreplace").decode(out.encoding))
    out.flush()
