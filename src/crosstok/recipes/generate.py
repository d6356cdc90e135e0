"""The recipe of models that speak: which, how they answer as one, what they are asked."""

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from crosstok.choices import ByteRule, Combine, Target, Unit
from crosstok.recipes.fields import Numbers, RecipeError, Strings, option

if TYPE_CHECKING:
    from crosstok.inference.loading import Sampling

_PER_BYTE: tuple[str, ...] = get_args(ByteRule)
_PER_TOKEN = tuple(rule for rule in get_args(Combine) if rule not in _PER_BYTE)
_OF_DRAWS = ("top_k", "top_p", "min_p", "num_return_sequences")
_IN_DEFINITIONS = ("combine", "weight", "alpha", "bytes", "chat_template")


@dataclass(frozen=True, kw_only=True)
class GenerateRecipe:
    """Let a model, or several as one, continue texts or answer chats.

    One prompt is answered as it comes, several together. --chat without a prompt is a conversation,
    line by line, on the terminal or from standard input.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    model: Strings = option(
        "Model, name or folder, or a .yaml file that defines an ensemble; may be repeated."
    )
    combine: Combine | None = option("How several models answer as one.", None)
    weight: Numbers | None = option("Of each model, in their order; equal if not given.", None)
    alpha: float | None = option("For proxy: how far expert and anti-expert pull (1).", None)
    bytes: bool = option("Read the model byte by byte: a prompt may end anywhere.", False)
    target: Target = option("Read byte by byte: which token sequences count.", "all")

    prompt: Strings | None = option("Text to continue; may be repeated.", None)
    prompt_file: Strings | None = option(
        "File to continue, as it stands; - for standard input; may be repeated.", None
    )
    chat: bool = option("The prompt is a user's message. Without one: a conversation.", False)
    system: str | None = option("System message of the chat.", None)
    chat_template: Strings | None = option(
        "Template instead of the model's own: a file, or plain; for several models, one for all or "
        "one each, own for those that keep theirs.",
        None,
    )
    json: bool = option("Write each prompt with its answer as a line of JSON.", False)

    max_new_tokens: int = option("Tokens of an answer, at most; bytes, of bytes.", 128)
    max_new_bytes: int | None = option("The same for models that answer in bytes.", None)
    temperature: float = option("0: the likeliest each time; above: sampled.", 0.0)
    top_k: int = option("Sample from the so many likeliest; 0: from all.", 0)
    top_p: float = option("Sample from the likeliest that hold this probability together.", 1.0)
    min_p: float = option("Sample from those with this share of the likeliest one's.", 0.0)
    repetition_penalty: float = option("Above 1: what was said becomes less likely.", 1.0)
    stop: Strings | None = option("End an answer in front of this text; may be repeated.", None)
    num_return_sequences: int = option("Sampled answers to each prompt.", 1)
    seed: int = option("Of the sampling.", 0)

    device: str | None = option("cpu, cuda, cuda:1, ...; an accelerator if there is one.", None)
    precision: Literal["fp32", "bf16", "fp16"] | None = option(
        "Of the weights; if not given, fp32 on a CPU and elsewhere as saved.", None
    )
    trust_remote_code: bool = option("Run Python code that comes with a model.", False)

    def __post_init__(self) -> None:
        """One name is a list of one, in Python as in YAML."""
        for name in ("model", "prompt", "prompt_file", "chat_template", "stop"):
            value = getattr(self, name)
            if isinstance(value, str):
                object.__setattr__(self, name, [value])

    @property
    def is_definition(self) -> bool:
        """Whether the model is a file that defines an ensemble."""
        return any(_is_definition(name) for name in self.model)

    @property
    def has_prompts(self) -> bool:
        """Whether something is asked; else it is a conversation."""
        return bool(self.prompt or self.prompt_file)

    def check(self) -> None:
        """Find what cannot be, before anything is loaded.

        Raises:
            RecipeError: Two options contradict each other, or one is missing or out of range.
        """
        if self.is_definition:
            self._check_definition()
        else:
            self._check_models()
        self._check_prompts()
        self._check_draws()
        if not self.is_definition:
            self.check_unit("byte" if self.bytes else unit_of(self.combine))
        self.sampling()

    def check_unit(self, unit: Unit) -> None:
        """Find options that mean nothing to a model that answers in this unit.

        Raises:
            RecipeError: There is one.
        """
        if unit == "token" and self.max_new_bytes is not None:
            raise RecipeError(
                "--max-new-bytes is of models that answer in bytes (--bytes, --combine "
                "bytes-mixture, ...), and this one answers in tokens: give --max-new-tokens, "
                "which counts bytes where a model's tokens are bytes."
            )
        if unit == "token" and self.target != "all":
            raise RecipeError(
                f"--target {self.target} is of models that are read byte by byte: add --bytes, or "
                "leave it out."
            )
        if unit == "byte" and self.repetition_penalty != 1:
            raise RecipeError(
                "--repetition-penalty cannot be of models that answer in bytes, where every byte "
                "is there soon. Leave it out."
            )

    def sampling(self) -> "Sampling":
        """How to generate.

        Raises:
            RecipeError: A value is out of range.
        """
        from crosstok.inference.loading import Sampling

        values = {field.name: getattr(self, field.name) for field in fields(Sampling)}
        try:
            return Sampling(**{**values, "stop": tuple(self.stop or ())})
        except ValueError as error:
            raise RecipeError(f"--{_dashed(str(error))}") from error

    def template_of(self, number: int) -> str | None:
        """The chat template given for one model; None for its own."""
        given = self.chat_template
        if given is None:
            return None
        template = given[number if len(given) > 1 else 0]
        return None if template == "own" else template

    def _check_definition(self) -> None:
        [name, *_] = filter(_is_definition, self.model)
        if len(self.model) > 1:
            raise RecipeError(
                f"{name} defines an ensemble and is given with other models; give it alone, or "
                "name its members with --model."
            )
        if given := self._given(_IN_DEFINITIONS):
            raise RecipeError(
                f"{', '.join(given)} cannot be given with {name}: the file says how its members "
                "answer as one."
            )

    def _check_models(self) -> None:
        rule, size = self.combine, len(self.model)
        views = [name for name in self.model if name.startswith("bytes:")]
        if views:
            raise RecipeError(
                f"{views[0]!r} is a byte view; here it is --model {views[0][6:]} --bytes, of "
                "several models --combine bytes-mixture, ..."
            )
        if size > 1 and rule is None:
            raise RecipeError(
                f"{size} models answer as one only by a rule; add --combine with one of "
                f"{', '.join(_PER_TOKEN)} (per token) and {', '.join(_PER_BYTE)} (per byte)."
            )
        if rule == "proxy" and size != 3:
            raise RecipeError(
                "--combine proxy takes three models, --model BASE --model EXPERT --model "
                f"ANTI_EXPERT, and there {'is' if size == 1 else 'are'} {size}."
            )
        if rule is not None and size == 1:
            raise RecipeError(
                f"--combine {rule} is of several models, and there is one; repeat --model, or "
                "leave --combine out."
            )
        if self.bytes and rule in _PER_TOKEN:
            raise RecipeError(
                f"--bytes reads models byte by byte, and --combine {rule} combines them per token; "
                f"leave --bytes out, or take {', '.join(_PER_BYTE)}."
            )
        self._check_numbers()
        if len(self.chat_template or [""]) not in (1, size):
            raise RecipeError(
                f"there are {len(self.chat_template or [])} chat templates for {size} models; give "
                "one for all, or one each, with own for those that keep theirs."
            )

    def _check_numbers(self) -> None:
        rule, size = self.combine, len(self.model)
        if self.alpha is not None and rule != "proxy":
            raise RecipeError("--alpha is of --combine proxy; leave it out.")
        if self.alpha is not None and not math.isfinite(self.alpha):
            raise RecipeError(f"--alpha is {self.alpha}; it must be a number.")
        if self.weight is None:
            return
        if rule is None or rule == "proxy":
            which = "a single model has none" if rule is None else "proxy has --alpha instead"
            raise RecipeError(f"--weight is of models that are averaged; {which}. Leave it out.")
        if len(self.weight) != size:
            raise RecipeError(
                f"there are {len(self.weight)} weights for {size} models; give --weight once for "
                "each, in their order."
            )
        if not all(math.isfinite(weight) and weight > 0 for weight in self.weight):
            raise RecipeError(
                f"--weight is {self.weight}; weights must be above 0. Leave a model out to give it "
                "none."
            )

    def _check_prompts(self) -> None:
        if not self.chat and not self.has_prompts:
            raise RecipeError(
                "missing: --prompt or --prompt-file, something to continue; or --chat for a "
                "conversation."
            )
        if not self.chat and (given := self._given(("system", "chat_template"))):
            raise RecipeError(f"{', '.join(given)} can only be given with --chat.")
        if not self.has_prompts and (given := self._given(("json", "num_return_sequences"))):
            raise RecipeError(
                f"{', '.join(given)} cannot be given for a conversation; add --prompt."
            )

    def _check_draws(self) -> None:
        if self.num_return_sequences < 1:
            raise RecipeError(
                f"--num-return-sequences is {self.num_return_sequences}; it must be at least 1."
            )
        if self.temperature == 0 and (given := self._given(_OF_DRAWS)):
            raise RecipeError(
                f"{', '.join(given)} can only be given where answers are sampled, and "
                "--temperature 0 takes the likeliest each time; add, for example, --temperature 1."
            )

    def _given(self, names: tuple[str, ...]) -> list[str]:
        """Flags of those that differ from their defaults."""
        defaults = {field.name: field.default for field in fields(self)}
        changed = [name for name in names if getattr(self, name) != defaults[name]]
        return [f"--{_dashed(name)}" for name in changed]


def unit_of(combine: str | None) -> Unit:
    """In what models answer that are combined so, or a single one."""
    return "byte" if combine in _PER_BYTE else "token"


def _is_definition(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def _dashed(text: str) -> str:
    """The first word of a text spelt as a flag."""
    name, space, rest = text.partition(" ")
    return name.replace("_", "-") + space + rest
