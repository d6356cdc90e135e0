"""What stands in the columns of a comparison: models, byte views, ensembles."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from crosstok.choices import ByteRule
from crosstok.evaluation.options import EvaluationOptions
from crosstok.inference.byte_ensemble import ByteView, check_byte_rule
from crosstok.inference.ensemble import is_ensemble_file, read_ensemble_file
from crosstok.inference.language_model import LanguageModel, normalized_weights
from crosstok.inference.loading import BYTE_VIEW_OF, load_language_model, place_and_dtype
from crosstok.inference.scoring import Scorer
from crosstok.models import check_model_exists, load_config, load_model, max_positions
from crosstok.tokenizers import load_tokenizer

Model = str | tuple[str, Any, Any] | LanguageModel
"""A name or folder, "bytes:" and a name for its byte view, a .yaml file that defines an ensemble;
(name, model, tokenizer) for a model that is loaded; or anything that answers."""


@dataclass(frozen=True)
class Contender:
    """One column: a plain model that a `Scorer` reads, or any other that answers.

    Attributes:
        name: As given; of several models combined, all names and how.
        members: Names to load; empty if it is loaded.
        loaded: (model, tokenizer), or what answers.
        is_byte_view: Whether a single model is read byte by byte.
        is_ensemble: Whether several models answer.
    """

    name: str
    members: tuple[str, ...] = ()
    loaded: Any = None
    is_byte_view: bool = False
    is_ensemble: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether it is one model that is read token by token."""
        is_given = self.loaded is None or isinstance(self.loaded, tuple)
        return is_given and not self.is_byte_view and not self.is_ensemble

    def check(self, options: EvaluationOptions) -> None:
        """Find what is wrong with a name or a tokenizer, without loading a model.

        Raises:
            ValueError: There is no such file, it defines no ensemble, or there is no model or
                tokenizer in a folder.
        """
        for member in _plain_names(self.members):
            check_model_exists(member)
            load_tokenizer(member, trust_remote_code=options.trust_remote_code)

    def positions(self, options: EvaluationOptions) -> list[int]:
        """Of each model in it, if its configuration says; of what answers, the units of a text."""
        if self.loaded is not None and not isinstance(self.loaded, tuple):
            return [int(self.loaded.max_length)]
        configs = [] if self.loaded is None else [self.loaded[0].config]
        trust = options.trust_remote_code
        names = _plain_names(self.members)
        configs += [load_config(name, trust_remote_code=trust) for name in names]
        found = [max_positions(config) for config in configs]
        return [number for number in found if number is not None]

    def load(self, options: EvaluationOptions) -> Scorer | LanguageModel:
        """Load it.

        Raises:
            ValueError: It cannot be loaded.
        """
        if self.is_plain:
            return self.scorer(options)
        if isinstance(self.loaded, tuple):
            return ByteView(*self.loaded, name=self.name, target=options.target)
        if self.loaded is not None:
            answering: LanguageModel = self.loaded
            return answering
        device, dtype = place_and_dtype(options.device, options.dtype)
        return load_language_model(
            self.members,
            combine=options.combine,
            bytes_view=self.is_byte_view,
            weights=options.weights,
            alpha=options.alpha,
            target=options.target,
            dtype=dtype,
            device=device,
            trust_remote_code=options.trust_remote_code,
        )

    def scorer(self, options: EvaluationOptions) -> Scorer:
        """Load a plain one.

        Raises:
            ValueError: It cannot be loaded.
        """
        if self.loaded is None:
            device, dtype = place_and_dtype(options.device, options.dtype)
            trust = options.trust_remote_code
            (name,) = self.members
            model: Any = load_model(name, dtype=dtype, device=device, trust_remote_code=trust)
            tokenizer: Any = load_tokenizer(name, trust_remote_code=trust)
        else:
            model, tokenizer = self.loaded
        return Scorer(
            model,
            tokenizer,
            name=self.name,
            max_length=options.max_length,
            tokens_per_batch=options.tokens_per_batch,
        )


def contenders(models: Sequence[Model], options: EvaluationOptions) -> list[Contender]:
    """The columns that models make: one each, or one in all if they are combined.

    Raises:
        ValueError: Models that are no names are combined, their number or weights do not fit, or an
            ensemble is read byte by byte.
    """
    if options.combine is None:
        return [contender(model, options) for model in models]
    names = [model for model in models if isinstance(model, str)]
    wrong = [name for name in names if name.startswith(BYTE_VIEW_OF) or is_ensemble_file(name)]
    if wrong or len(names) < len(models):
        raise ValueError(
            f"combine is {options.combine!r}, which takes names of plain models"
            + (f", not {wrong[0]!r}." if wrong else ".")
        )
    if options.combine in get_args(ByteRule):
        rule = cast(ByteRule, options.combine)
        check_byte_rule(len(names), rule, options.weights, options.alpha)
    else:
        normalized_weights(len(names), options.weights)
    name = f"{' + '.join(names)} ({options.combine})"
    return [Contender(name, tuple(names), is_ensemble=True)]


def contender(model: Model, options: EvaluationOptions) -> Contender:
    """The column of one model.

    Raises:
        ValueError: An ensemble is to be read byte by byte.
    """
    if isinstance(model, tuple):
        name, loaded, tokenizer = model
        shown = BYTE_VIEW_OF + name if options.bytes_view else name
        return Contender(shown, loaded=(loaded, tokenizer), is_byte_view=options.bytes_view)
    if not isinstance(model, str):
        return Contender(model.name, loaded=model)
    name = model.removeprefix(BYTE_VIEW_OF)
    is_byte_view = options.bytes_view or name != model
    if not is_ensemble_file(name):
        shown = BYTE_VIEW_OF + name if is_byte_view else name
        return Contender(shown, (name,), is_byte_view=is_byte_view)
    if is_byte_view:
        raise ValueError(
            f"{name} defines an ensemble, which cannot be read byte by byte as a whole; set its "
            "combine to bytes-mixture, or leave bytes out and name single models bytes:NAME."
        )
    return Contender(name, (name,), is_ensemble=True)


def short_name(name: str) -> str:
    """A contender's name without folders."""
    if name.startswith(BYTE_VIEW_OF):
        return f"{short_name(name.removeprefix(BYTE_VIEW_OF))} (bytes)"
    return " + ".join(Path(part).name or part for part in name.split(" + "))


def _plain_names(names: Sequence[str]) -> list[str]:
    """The models behind names, those in ensemble files included."""
    found = []
    for name in names:
        if is_ensemble_file(name):
            found += [member.model for member in read_ensemble_file(name).members]
        else:
            found.append(name)
    return found
