"""The recipe of models that speak: which, how they answer as one, what they are asked."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

from crosstok.choices import Combine, Precision, Target, Unit
from crosstok.recipes.ensemble import ensemble_options, spelt_as_flags
from crosstok.recipes.fields import Numbers, RecipeError, Strings, option

if TYPE_CHECKING:
    from crosstok.inference.ensemble import Ensemble
    from crosstok.inference.language_model import Sampling

_OF_DRAWS = ("top_k", "top_p", "min_p", "num_return_sequences")


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
    alpha: float = option("For proxy: how far expert and anti-expert pull.", 1.0)
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
    precision: Precision | None = option(
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
    def has_prompts(self) -> bool:
        """Whether something is asked; else it is a conversation."""
        return bool(self.prompt or self.prompt_file)

    def check(self) -> None:
        """Find what cannot be, before anything is loaded.

        Raises:
            RecipeError: Two options contradict each other, or one is missing or out of range.
            ValueError: A file that is named is missing or wrong.
        """
        self._check_prompts()
        self._check_draws()
        self._check_unit(self.ensemble().unit)
        self.sampling()

    def ensemble(self) -> "Ensemble":
        """Which models answer, and how.

        Raises:
            RecipeError: The options contradict each other.
            ValueError: A file that defines an ensemble is missing or wrong, or there is no such
                template.
        """
        from crosstok.inference.ensemble import Ensemble

        options = ensemble_options(self) | {"chat_templates": self._templates()}
        with spelt_as_flags():
            return Ensemble.of(self.model, **options)

    def _check_unit(self, unit: Unit) -> None:
        """Find options that mean nothing to a model that answers in this unit."""
        if unit == "token" and self.max_new_bytes is not None:
            raise RecipeError(
                "--max-new-bytes is of models that answer in bytes (--bytes, --combine "
                "bytes-mixture, ...), and this one answers in tokens: give --max-new-tokens, "
                "which counts bytes where a model's tokens are bytes."
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
        from crosstok.inference.language_model import Sampling

        values = {field.name: getattr(self, field.name) for field in fields(Sampling)}
        try:
            return Sampling(**{**values, "stop": tuple(self.stop or ())})
        except ValueError as error:
            raise RecipeError(f"--{_dashed(str(error))}") from error

    def _templates(self) -> list[str | None] | None:
        """Text of the chat template of each model, None for those that keep theirs."""
        if self.chat_template is None:
            return None
        from crosstok.chats import resolve_chat_template

        given = [None if one == "own" else resolve_chat_template(one) for one in self.chat_template]
        return given * len(self.model) if len(given) == 1 else given

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


def _dashed(text: str) -> str:
    """The first word of a text spelt as a flag."""
    name, space, rest = text.partition(" ")
    return name.replace("_", "-") + space + rest
