"""Which models answer, and how: one, one read byte by byte, or several as one.

The command line, files and Python all make an `Ensemble`, which alone checks the rules. Nothing
heavy is imported here, so that mistakes are found before libraries load.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from jaxtyping import Float

from crosstok.choices import Target, Unit
from crosstok.plugins import resolve

BYTE_VIEW_OF = "bytes:"
"""Prefix of a model's name that stands for its byte view."""

_PLACE = "crosstok.inference."


@dataclass(frozen=True)
class Rule:
    """A way to let several models answer as one.

    Attributes:
        unit: the unit in which the models are read.
        engine: "module:Class" of its implementation, which is called as
            `Class(members, combine, **options)`; the members are `TokenModel` where the unit is
            tokens, and `ByteMember` where it is bytes.
        options: which of `weights` and `alpha` it takes.
        roles: the roles of the models, where their number is fixed.
    """

    unit: Unit
    engine: str
    options: tuple[str, ...] = ("weights",)
    roles: tuple[str, ...] = ()

    def load_engine(self) -> type:
        """Import the class.

        Raises:
            ValueError: there is no such class.
        """
        return resolve(self.engine, {}, "crosstok.rules", "engine")


RULES: dict[str, Rule] = {
    "probs": Rule("token", _PLACE + "token_ensemble:TokenEnsemble"),
    "logprobs": Rule("token", _PLACE + "token_ensemble:TokenEnsemble"),
    "mined": Rule("token", _PLACE + "mined_ensemble:MinedEnsemble"),
    "bytes-mixture": Rule("byte", _PLACE + "byte_ensemble:ByteEnsemble"),
    "bytes-bayes": Rule("byte", _PLACE + "byte_ensemble:ByteEnsemble"),
    "bytes-product": Rule("byte", _PLACE + "byte_ensemble:ByteEnsemble"),
    "proxy": Rule(
        "byte",
        _PLACE + "byte_ensemble:ByteEnsemble",
        options=("alpha",),
        roles=("base", "expert", "anti-expert"),
    ),
}
"""Every way to let several models answer as one, by its name in `combine`."""


@dataclass(frozen=True)
class Member:
    """One model of an ensemble.

    Attributes:
        model: folder, or name on the hub.
        chat_template: text of a chat template instead of the model's own, or None.
    """

    model: str
    chat_template: str | None = None


@dataclass(frozen=True)
class Ensemble:
    """The models that answer, and how. One model alone, or its byte view, has no rule.

    Attributes:
        members: the models, in the order that the rule needs: for "mined" the pivot first, for
            "proxy" base, expert and anti-expert.
        combine: the rule, one of `RULES`; None for a single model.
        weights: weights of the models, for rules that average; None for equal ones. They need not
            sum to 1: see `shares`.
        alpha: for "proxy": strength of expert minus anti-expert.
        target: which token sequences count where models are read byte by byte.
        bytes_view: read a single model byte by byte.
    """

    members: Sequence[Member]
    combine: str | None = None
    weights: Sequence[float] | None = None
    alpha: float = 1.0
    target: Target = "all"
    bytes_view: bool = False

    def __post_init__(self) -> None:
        """Check everything that does not need the models.

        Raises:
            ValueError: there are too few or too many models for the rule, there is no such rule, an
                option has a wrong value, or the rule does not take an option.
        """
        object.__setattr__(self, "members", tuple(self.members))
        if self.weights is not None:
            object.__setattr__(self, "weights", tuple(self.weights))
        if not self.members:
            raise ValueError("there is no model; give at least one.")
        if self.combine is None:
            self._check_alone()
        else:
            self._check_rule(self.combine, RULES.get(self.combine))
        self._check_weights()
        self._check_alpha()
        self._check_target()

    @classmethod
    def of(
        cls,
        models: Sequence[str],
        *,
        combine: str | None = None,
        bytes_view: bool = False,
        weights: Sequence[float] | None = None,
        alpha: float = 1.0,
        target: Target = "all",
        chat_templates: Sequence[str | None] | None = None,
    ) -> Ensemble:
        """Make an ensemble from names, as on the command line.

        Args:
            models: folders or names on the hub; or one file that defines an ensemble (.yaml), or
                "bytes:" and a name for the byte view of that model.
            combine: see `Ensemble`.
            bytes_view: see `Ensemble`.
            weights: see `Ensemble`.
            alpha: see `Ensemble`.
            target: see `Ensemble`.
            chat_templates: a template for each model, as text or "plain"; None for a model's own.

        Raises:
            EnsembleFileError: the file is missing or wrong.
            ValueError: an option is wrong (see `Ensemble`), or is given with a file, which sets it
                itself.
        """
        if any(map(is_ensemble_file, models)):
            from crosstok.inference.ensemble_file import read_ensemble_file

            given = {
                "combine": combine,
                "bytes_view": bytes_view or None,
                "weights": weights,
                "alpha": None if alpha == 1 else alpha,
                "chat_templates": chat_templates,
            }
            _check_file_alone(models, [name for name, value in given.items() if value is not None])
            return read_ensemble_file(models[0], target)
        if len(models) == 1 and models[0].startswith(BYTE_VIEW_OF):
            models, bytes_view = [models[0].removeprefix(BYTE_VIEW_OF)], True
        if views := [name for name in models if name.startswith(BYTE_VIEW_OF)]:
            raise ValueError(
                f"{views[0]!r} is the byte view of a single model; several take their plain names "
                f"and a rule that reads them byte by byte: {', '.join(_rules('byte'))}."
            )
        return cls(
            members=_members(models, chat_templates),
            combine=combine,
            weights=weights,
            alpha=alpha,
            target=target,
            bytes_view=bytes_view,
        )

    @property
    def rule(self) -> Rule | None:
        """The rule that combines them; None for a single model."""
        return None if self.combine is None else RULES[self.combine]

    @property
    def unit(self) -> Unit:
        """The unit in which the models are read."""
        if self.rule is None:
            return "byte" if self.bytes_view else "token"
        return self.rule.unit

    @property
    def is_plain(self) -> bool:
        """Whether it is a single model, read token by token."""
        return self.combine is None and not self.bytes_view

    @property
    def shares(self) -> Float[np.ndarray, " k"]:
        """Weights that sum to 1; equal ones if none are given."""
        given: Float[np.ndarray, " k"] = np.ones(len(self.members))
        if self.weights is not None:
            given = np.array(self.weights, dtype=np.float64)
        total: float = given.sum()
        given = given / total
        return given

    def _check_alone(self) -> None:
        if len(self.members) > 1:
            raise ValueError(
                f"there are {len(self.members)} models and nothing says how they answer as one; "
                f"give one model, or add combine with one of {', '.join(_rules('token'))} (per "
                f"token) and {', '.join(_rules('byte'))} (per byte)."
            )

    def _check_rule(self, combine: str, rule: Rule | None) -> None:
        if rule is None:
            near = difflib.get_close_matches(combine, RULES, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"combine is {combine!r}; it must be one of {', '.join(RULES)}.{hint}")
        size = len(self.members)
        there = "there is one" if size == 1 else f"there are {size}"
        if rule.roles and size != len(rule.roles):
            number = {2: "two", 3: "three"}.get(len(rule.roles), str(len(rule.roles)))
            raise ValueError(
                f"combine is {combine!r}, which takes {number} models ({', '.join(rule.roles)}), "
                f"and {there}."
            )
        if size == 1:
            raise ValueError(
                f"combine is {combine!r}, which is for several models, and {there}; give more, or "
                "leave combine out."
            )
        if self.bytes_view and rule.unit == "token":
            raise ValueError(
                f"combine is {combine!r}, which reads models token by token; leave bytes_view out, "
                f"or use one of {', '.join(_rules('byte'))}."
            )

    def _check_weights(self) -> None:
        given, size = self.weights, len(self.members)
        if given is None:
            return
        if self.rule is None:
            raise ValueError("a single model takes no weights; leave weights out.")
        if "weights" not in self.rule.options:
            instead = " and ".join(self.rule.options) or "nothing"
            raise ValueError(
                f"combine is {self.combine!r}, which takes {instead} instead of weights; "
                "leave weights out."
            )
        if len(given) != size or not all(math.isfinite(one) and one > 0 for one in given):
            raise ValueError(
                f"weights is {list(given)}; there must be one for each of the {size} models, in "
                "their order, above 0. Leave a model out to give it no weight."
            )

    def _check_alpha(self) -> None:
        if not math.isfinite(self.alpha):
            raise ValueError(f"alpha is {self.alpha}; it must be a number. Use 1 (the default).")
        if self.alpha != 1 and (self.rule is None or "alpha" not in self.rule.options):
            takers = ", ".join(name for name, rule in RULES.items() if "alpha" in rule.options)
            raise ValueError(
                f"alpha is {self.alpha}, and only combine {takers} takes one; leave alpha out."
            )

    def _check_target(self) -> None:
        if self.target not in get_args(Target):
            raise ValueError(
                f"target is {self.target!r}; it must be one of {', '.join(get_args(Target))}."
            )
        if self.target != "all" and self.unit == "token":
            raise ValueError(
                f"target is {self.target!r}, which is for models that are read byte by byte; add "
                "bytes_view, or leave target out."
            )


class EnsembleFileError(ValueError):
    """The file that defines an ensemble is missing or wrong."""


def is_ensemble_file(name: str) -> bool:
    """Whether a name looks like a definition file, which may be missing."""
    return Path(name).suffix in (".yaml", ".yml") and not Path(name).is_dir()


def check_engine(
    engine: type,
    members: Sequence[Any],
    combine: str,
    weights: Sequence[float] | None,
    alpha: float = 1.0,
) -> Ensemble:
    """Check what an engine gets by the rules of `Ensemble`, and return it as one.

    Raises:
        ValueError: the rule belongs to another engine; or see `Ensemble`.
    """
    place = f"{engine.__module__}:{engine.__name__}"
    own = [name for name, rule in RULES.items() if rule.engine == place]
    if combine not in own:
        raise ValueError(
            f"combine is {combine!r}; for {engine.__name__} it must be one of {', '.join(own)}."
        )
    named = tuple(Member(member.name) for member in members)
    return Ensemble(named, combine, weights, alpha)


def _rules(unit: Unit) -> list[str]:
    return [name for name, rule in RULES.items() if rule.unit == unit]


def _members(models: Sequence[str], templates: Sequence[str | None] | None) -> tuple[Member, ...]:
    given = [None] * len(models) if templates is None else list(templates)
    if len(given) != len(models):
        raise ValueError(
            f"chat_templates has {len(given)} entries for {len(models)} models; give one for each, "
            "with None (own) for a model's own template."
        )
    if "plain" in given:
        from crosstok.chats import resolve_chat_template

        plain = resolve_chat_template("plain")
        given = [plain if template == "plain" else template for template in given]
    return tuple(Member(*both) for both in zip(models, given, strict=True))


def _check_file_alone(models: Sequence[str], given: Sequence[str]) -> None:
    [name, *_] = filter(is_ensemble_file, models)
    if len(models) > 1:
        raise ValueError(
            f"{name} defines an ensemble, and there are other models; give it alone, or name its "
            "members."
        )
    if given:
        raise ValueError(
            f"{name} defines an ensemble and itself says how its models answer as one; leave "
            f"{', '.join(given)} out."
        )
