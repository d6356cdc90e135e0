"""The recipe of text generation: which models answer, how they answer as one, and which prompts."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from crosstok.choices import Combine, Precision, Target, Unit
from crosstok.recipes.ensemble import ensemble_options, spelled_as_in_recipes
from crosstok.recipes.fields import Numbers, RecipeError, Strings, option
from crosstok.recipes.in_memory import ModelNames
from crosstok.recipes.placing import PlacedRecipe

if TYPE_CHECKING:
    from crosstok.inference.ensemble import Ensemble
    from crosstok.inference.language_model import Sampling

_SAMPLING_ONLY = ("top_k", "top_p", "min_p", "num_return_sequences")


@dataclass(frozen=True, kw_only=True)
class GenerateRecipe(PlacedRecipe):
    """Let a model, or several as one, continue texts or answer chats.

    The answer to a single prompt appears as it is generated; several prompts are answered together.
    --chat without a prompt starts a conversation on the terminal, or from standard input.
    """

    model: ModelNames = option(
        "Model: a name on the hub, a folder, bytes:NAME or an ensemble file (.yaml).", group="model"
    )
    combine: Combine | None = option("How several models answer as one.", None, group="model")
    weight: Numbers | None = option(
        "Weight of each model, in their order; equal if not given.", None, group="model", above=0
    )
    alpha: float = option(
        "For --combine proxy: strength of expert minus anti-expert.", 1.0, group="model"
    )
    bytes: bool = option(
        "Read the model byte by byte, so that a prompt may end anywhere.", False, group="model"
    )
    target: Target = option(
        "For models read byte by byte: which token sequences count.", "all", group="model"
    )

    prompt: Strings | None = option("Text to continue.", None, group="prompts", free_text=True)
    prompt_file: Strings | None = option(
        "File with one text to continue; - for standard input.", None, group="prompts"
    )

    chat: bool = option(
        "Treat the prompt as a user's message; without one, start a conversation.",
        False,
        group="chat",
    )
    system: str | None = option("System message.", None, group="chat", free_text=True)
    chat_template: Strings | None = option(
        "File, plain, or own for the model's own; several models take one for all or one each.",
        None,
        group="chat",
    )

    max_new_tokens: int = option(
        "Most tokens in an answer; bytes, for models that answer in bytes.",
        128,
        group="answers",
        at_least=1,
    )
    max_new_bytes: int | None = option(
        "Most bytes in an answer, for models that answer in bytes.",
        None,
        group="answers",
        at_least=1,
    )
    temperature: float = option(
        "0 takes the most likely token each time; above 0, tokens are sampled.",
        0.0,
        group="answers",
        at_least=0,
    )
    top_k: int = option(
        "Sample from the k most likely tokens; 0 for all.", 0, group="answers", at_least=0
    )
    top_p: float = option(
        "Sample from the most likely tokens that together hold this probability.",
        1.0,
        group="answers",
        above=0,
        at_most=1,
    )
    min_p: float = option(
        "Sample from tokens with at least this share of the highest probability.",
        0.0,
        group="answers",
        at_least=0,
        at_most=1,
    )
    repetition_penalty: float = option(
        "Above 1, tokens that already occur become less likely.", 1.0, group="answers", above=0
    )
    stop: Strings | None = option(
        "End an answer before this text.", None, group="answers", free_text=True
    )
    num_return_sequences: int = option(
        "Sampled answers to each prompt.", 1, group="answers", at_least=1
    )
    seed: int = option("Seed of the sampling.", 0, group="answers", at_least=0, at_most=2**32 - 1)

    json: bool = option(
        "Write each prompt and its answer as a line of JSON.", False, group="output and run"
    )
    precision: Precision | None = option(
        "Precision of the weights; by default fp32 on a CPU, elsewhere as saved.",
        None,
        group="output and run",
    )
    trust_remote_code: bool = option(
        "Run Python code that comes with a model.", False, group="output and run"
    )

    @property
    def has_prompts(self) -> bool:
        """Whether there are prompts; without any, it is a conversation."""
        return bool(self.prompt or self.prompt_file)

    def check(self) -> None:
        """Check how options fit together, before anything is loaded.

        Raises:
            RecipeError: two options contradict each other, or one is missing or out of range.
            ValueError: a file that an option names is missing or wrong.
        """
        self._check_prompts()
        self._check_greedy()
        self._check_unit(self.ensemble().unit)
        self.sampling()

    def ensemble(self) -> "Ensemble":
        """Which models answer, and how.

        Raises:
            RecipeError: the options contradict each other.
            ValueError: a file that defines an ensemble is missing or wrong, or there is no such
                template.
        """
        from crosstok.inference.ensemble import Ensemble

        options = ensemble_options(self) | {"chat_templates": self._read_templates()}
        with spelled_as_in_recipes():
            return Ensemble.of(self.model, **options)

    def _check_unit(self, unit: Unit) -> None:
        """Refuse options that have no meaning for a model that answers in this unit."""
        if unit == "token" and self.max_new_bytes is not None:
            raise RecipeError(
                f"max_new_bytes is {self.max_new_bytes}, and this model answers in tokens; only "
                "models that answer in bytes (bytes, combine bytes-mixture, ...) take it. Give "
                "max_new_tokens, which counts bytes where a model's tokens are bytes."
            )
        if unit == "byte" and self.repetition_penalty != 1:
            raise RecipeError(
                f"repetition_penalty is {self.repetition_penalty:g}, and this model answers in "
                "bytes, nearly all of which soon occur. Leave repetition_penalty out."
            )

    def sampling(self) -> "Sampling":
        """How to generate.

        Raises:
            RecipeError: a value is out of range.
        """
        from crosstok.inference.language_model import Sampling

        values = {field.name: getattr(self, field.name) for field in fields(Sampling)}
        try:
            return Sampling(**{**values, "stop": tuple(self.stop or ())})
        except ValueError as error:
            raise RecipeError(str(error)) from error

    def _read_templates(self) -> list[str | None] | None:
        """Text of each model's chat template, None for a model that uses its own."""
        if self.chat_template is None:
            return None
        from crosstok.chats import resolve_chat_template

        texts = [None if one == "own" else resolve_chat_template(one) for one in self.chat_template]
        return texts * len(self.model) if len(texts) == 1 else texts

    def _check_prompts(self) -> None:
        if not self.chat and not self.has_prompts:
            raise RecipeError(
                "missing: prompt or prompt_file, a text to continue, or chat, for a conversation. "
                "Give one as an option (--prompt, --prompt-file or --chat on the command line) or "
                "as a key of a recipe file."
            )
        if not self.chat and (changed := self._find_changed(("system", "chat_template"))):
            raise RecipeError(f"{', '.join(changed)} can only be given with chat. Add chat.")
        if not self.has_prompts and (
            changed := self._find_changed(("json", "num_return_sequences"))
        ):
            raise RecipeError(
                f"{', '.join(changed)} cannot be given for a conversation. Add prompt."
            )

    def _check_greedy(self) -> None:
        if self.temperature == 0 and (changed := self._find_changed(_SAMPLING_ONLY)):
            raise RecipeError(
                f"{', '.join(changed)} can only be given where answers are sampled, and with "
                "temperature 0 they are not. Add a temperature above 0, such as 1."
            )

    def _find_changed(self, names: tuple[str, ...]) -> list[str]:
        """The options among these that differ from their defaults."""
        defaults = {field.name: field.default for field in fields(self)}
        return [name for name in names if getattr(self, name) != defaults[name]]
