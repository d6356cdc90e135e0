"""The columns of a comparison: models, byte views and ensembles."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crosstok.choices import Target
from crosstok.corpora import distinct_names
from crosstok.evaluation.options import EvaluationOptions
from crosstok.inference.byte_ensemble import ByteView
from crosstok.inference.ensemble import BYTE_VIEW_OF, Ensemble, Member
from crosstok.inference.language_model import LanguageModel
from crosstok.inference.loading import load_language_model
from crosstok.inference.token_model import TokenModel
from crosstok.models import check_model_exists, load_config, max_positions
from crosstok.tokenizers import load_tokenizer

Model = str | Ensemble | tuple[str, Any, Any] | LanguageModel
"""A name or folder, "bytes:" and a name for its byte view, a .yaml file that defines an ensemble,
an `Ensemble`, (name, model, tokenizer) for a loaded model, or any `LanguageModel`."""


@dataclass(frozen=True)
class Contender:
    """One column: a model, byte view or ensemble, loaded or not.

    Attributes:
        name: name of the model; for several combined models, all names and the rule.
        source: what to load, or the loaded model.
        parts: (model, tokenizer) where `source` is an ensemble of one model that is loaded.
    """

    name: str
    source: Ensemble | LanguageModel
    parts: tuple[Any, Any] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it is a single model, read token by token."""
        if isinstance(self.source, Ensemble):
            return self.source.is_plain
        return isinstance(self.source, TokenModel)

    def is_same(self, other: "Contender | None") -> bool:
        """Whether both are one model: of one name and, where they are loaded, one object."""
        if other is None:
            return False
        objects = [[getattr(n, "model", None) for n in one._names] for one in (self, other)]
        return self.name == other.name and objects[0] == objects[1]

    def check(self, options: EvaluationOptions) -> None:
        """Check names and tokenizers, without loading a model.

        Raises:
            ValueError: there is no model or tokenizer in a folder.
        """
        for name in self._names:
            check_model_exists(name)
            load_tokenizer(name, trust_remote_code=options.trust_remote_code)

    def positions(self, options: EvaluationOptions) -> list[int]:
        """Positions of each model whose configuration has a limit, or the loaded model's limit."""
        if not isinstance(self.source, Ensemble):
            return [int(self.source.max_length)]
        trust = options.trust_remote_code
        configs = [load_config(name, trust_remote_code=trust) for name in self._names]
        if self.parts is not None:
            configs.append(self.parts[0].config)
        found = [max_positions(config) for config in configs]
        return [number for number in found if number is not None]

    def load(self, options: EvaluationOptions) -> LanguageModel:
        """Load it; a plain model gets the window of the options.

        Raises:
            ValueError: it cannot be loaded.
        """
        model = self._load(options)
        if isinstance(model, TokenModel):
            return model.with_window(
                options.max_length, options.tokens_per_batch, options.batch_size
            )
        return model

    def _load(self, options: EvaluationOptions) -> LanguageModel:
        if not isinstance(self.source, Ensemble):
            return self.source
        if self.parts is None:
            return load_language_model(
                self.source,
                dtype=options.precision,
                device=options.device,
                trust_remote_code=options.trust_remote_code,
            )
        if self.source.bytes_view:
            return ByteView(*self.parts, name=self.name, target=self.source.target)
        return TokenModel(*self.parts, name=self.name)

    @property
    def _names(self) -> list[str]:
        """Names of the models to load."""
        if self.parts is not None or not isinstance(self.source, Ensemble):
            return []
        return [member.model for member in self.source.members]


def contenders(models: Sequence[Model], options: EvaluationOptions) -> list[Contender]:
    """Make the columns: one for each model, or a single one if they are combined.

    Raises:
        ValueError: models that are not given by name are combined; or see `Ensemble`.
    """
    if options.combine is None:
        columns = [contender(model, options) for model in models]
    else:
        names = [model for model in models if isinstance(model, str)]
        if len(names) < len(models):
            raise ValueError(
                f"combine is {options.combine!r}, which takes names of models; leave combine out "
                "for loaded models and for an Ensemble."
            )
        ensemble = Ensemble.of(
            names,
            combine=options.combine,
            bytes_view=options.bytes_view,
            weights=options.weights,
            alpha=options.alpha,
        )
        columns = [Contender(_name(ensemble), ensemble)]
    names = distinct_names([column.name for column in columns])
    columns = [replace(column, name=name) for name, column in zip(names, columns, strict=True)]
    return columns if options.target == "all" else _with_target(columns, options.target)


def contender(model: Model, options: EvaluationOptions) -> Contender:
    """Make the column of one model.

    Raises:
        ValueError: see `Ensemble`; an ensemble file is to be read byte by byte.
    """
    own: dict[str, Any] = {"weights": options.weights, "alpha": options.alpha}
    if isinstance(model, str):
        ensemble = Ensemble.of([model], bytes_view=options.bytes_view, **own)
        is_file = ensemble.combine is not None
        return Contender(model if is_file else _name(ensemble), ensemble)
    if isinstance(model, tuple):
        name, *parts = model
        ensemble = Ensemble((Member(name),), bytes_view=options.bytes_view, **own)
        return Contender(_name(ensemble), ensemble, (parts[0], parts[1]))
    name = _name(model) if isinstance(model, Ensemble) else model.name
    Ensemble((Member(name),), **own)  # raises an error if weights or alpha are set
    return Contender(name, model)


def _name(ensemble: Ensemble) -> str:
    names = " + ".join(member.model for member in ensemble.members)
    if ensemble.combine is None:
        return BYTE_VIEW_OF + names if ensemble.bytes_view else names
    return f"{names} ({ensemble.combine})"


def _with_target(columns: Sequence[Contender], target: Target) -> list[Contender]:
    """Set the target of the columns that are read byte by byte."""
    found = []
    for column in columns:
        source = column.source
        if isinstance(source, Ensemble) and source.unit == "byte":
            column = replace(column, source=replace(source, target=target))
        found.append(column)
    if found == list(columns):  # none is: raise the same error as for a single model
        Ensemble((Member(columns[0].name),), target=target)
    return found


def drop_folders(name: str) -> str:
    """A column's name without the folders of its models, "(bytes)" for a byte view."""
    if name.startswith(BYTE_VIEW_OF):
        return f"{drop_folders(name.removeprefix(BYTE_VIEW_OF))} (bytes)"
    return " + ".join(Path(part).name or part for part in name.split(" + "))
