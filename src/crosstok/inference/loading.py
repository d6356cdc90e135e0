"""Models that answer, by name: one, its byte view, or several as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast, get_args

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from crosstok.chats.templates import PLAIN_TEMPLATE
from crosstok.choices import ByteRule, Target, TokenRule
from crosstok.inference.byte_ensemble import ByteEnsemble, ByteView, check_byte_rule
from crosstok.inference.byte_member import ByteMember
from crosstok.inference.ensemble import MemberFile, is_ensemble_file, read_ensemble_file
from crosstok.inference.language_model import (
    COMBINE,
    ContinuationScore,
    LanguageModel,
    Prompt,
    Sampling,
    normalized_weights,
)
from crosstok.inference.mined_ensemble import MinedEnsemble
from crosstok.inference.token_ensemble import TokenEnsemble
from crosstok.inference.token_model import TokenModel
from crosstok.models import default_device, load_model
from crosstok.tokenizers import load_tokenizer

__all__ = [
    "COMBINE",
    "ContinuationScore",
    "LanguageModel",
    "Prompt",
    "Sampling",
    "load_language_model",
]

BYTE_VIEW_OF = "bytes:"
"""In front of a name: the byte view of that model."""


def load_language_model(  # noqa: PLR0913 (the options of the command line)
    models: Sequence[str],
    *,
    combine: str | None = None,
    bytes_view: bool = False,
    weights: Sequence[float] | None = None,
    alpha: float = 1.0,
    target: Target = "all",
    chat_templates: Sequence[str | None] | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    trust_remote_code: bool = False,
) -> LanguageModel:
    """Load one model, or several that answer as one.

    Args:
        models: Folders or names on the hub; or one file that defines an ensemble (.yaml), or
            "bytes:" and a name for the byte view of that model.
        combine: One of `COMBINE`, for several models. For "mined" the first is the pivot, for
            "proxy" they are base, expert and anti-expert.
        bytes_view: Read a single model byte by byte.
        weights: Of the models; equal by default.
        alpha: Of "proxy".
        target: Which token sequences count where models are read byte by byte.
        chat_templates: Text of a template for each model, in the place of its own, or "plain"; None
            for those that keep theirs.
        dtype: Of the weights; as they are saved by default.
        device: Where to put the models.
        trust_remote_code: Whether Python code in the folders may be executed.

    Raises:
        ValueError: A name, a file or an option is wrong; says which.
    """
    if isinstance(models, str):
        raise ValueError("load_language_model takes a list of models; pass [model].")
    options = _Options(target, dtype or "auto", device, trust_remote_code)
    if len(models) == 1 and is_ensemble_file(models[0]):
        if combine is not None or weights is not None or bytes_view or chat_templates:
            raise ValueError(
                f"{models[0]!r} says itself how its models are combined; leave combine, weights, "
                "bytes and chat templates out."
            )
        return _defined(models[0], options)
    if len(models) == 1 and models[0].startswith(BYTE_VIEW_OF):
        models, bytes_view = [models[0].removeprefix(BYTE_VIEW_OF)], True
    members = _members(models, chat_templates)
    if combine is None:
        _check_alone(models, weights)
        return options.byte_view(members[0]) if bytes_view else options.token_model(members[0])
    if bytes_view:
        raise ValueError(
            f"bytes is of one model alone, and combine is {combine!r}; to combine models byte by "
            "byte take bytes-mixture, bytes-bayes, bytes-product or proxy."
        )
    _check(len(members), combine, weights, alpha)  # before models are loaded
    return _ensemble(members, combine, weights, alpha, options)


def place_and_dtype(
    device: str | None, dtype: torch.dtype | str | None
) -> tuple[str, torch.dtype | str]:
    """Where models go of which nothing is said, and in what: float32 on a CPU, elsewhere as saved.

    Raises:
        ValueError: There is no such device.
    """
    if device is None:
        device = str(default_device())
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the second where torch was built without it
        raise ValueError(
            f"device {device!r} cannot be used ({str(error).splitlines()[0]}); take cpu, or leave "
            "it out for the accelerator if there is one."
        ) from error
    return device, dtype or ("float32" if device == "cpu" else "auto")


@dataclass(frozen=True)
class _Options:
    """How models are loaded and read."""

    target: Target
    dtype: torch.dtype | str
    device: torch.device | str | None
    trust_remote_code: bool

    def load(self, member: MemberFile) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
        trust = self.trust_remote_code
        tokenizer = load_tokenizer(member.model, trust_remote_code=trust)
        model = load_model(
            member.model, dtype=self.dtype, device=self.device, trust_remote_code=trust
        )
        return model, tokenizer

    def token_model(self, member: MemberFile) -> TokenModel:
        template = member.chat_template
        return TokenModel(*self.load(member), name=member.model, chat_template=template)

    def byte_member(self, member: MemberFile) -> ByteMember:
        return ByteMember(
            *self.load(member),
            name=member.model,
            chat_template=member.chat_template,
            target=self.target,
        )

    def byte_view(self, member: MemberFile) -> ByteView:
        template = member.chat_template
        loaded = self.load(member)
        return ByteView(*loaded, name=member.model, chat_template=template, target=self.target)


def _members(models: Sequence[str], templates: Sequence[str | None] | None) -> list[MemberFile]:
    given = [None] * len(models) if templates is None else list(templates)
    if len(given) != len(models):
        raise ValueError(
            f"there are {len(given)} chat templates for {len(models)} models; give one for each, "
            "None for those that keep their own."
        )
    return [
        MemberFile(name, chat_template=PLAIN_TEMPLATE if template == "plain" else template)
        for name, template in zip(models, given, strict=True)
    ]


def _check_alone(models: Sequence[str], weights: Sequence[float] | None) -> None:
    if len(models) != 1:
        raise ValueError(
            f"there are {len(models)} models and nothing says how they answer as one; pass one "
            f"model, or combine: one of {', '.join(COMBINE)}."
        )
    if weights is not None:
        raise ValueError("weights are of several models; leave them out.")


def _check(size: int, combine: str, weights: Sequence[float] | None, alpha: float) -> None:
    if combine not in COMBINE:
        raise ValueError(f"combine is {combine!r}; it must be one of {', '.join(COMBINE)}.")
    if combine in get_args(ByteRule):
        check_byte_rule(size, combine, weights, alpha)
    else:
        normalized_weights(size, weights)


def _defined(name: str, options: _Options) -> LanguageModel:
    """The ensemble that a file defines."""
    read = read_ensemble_file(name)
    try:
        _check(len(read.members), read.combine, read.weights, read.alpha)
    except ValueError as error:
        raise ValueError(f"ensemble file {name!r}: {error}") from None
    return _ensemble(read.members, read.combine, read.weights, read.alpha, options)


def _ensemble(
    members: Sequence[MemberFile],
    combine: str,
    weights: Sequence[float] | None,
    alpha: float,
    options: _Options,
) -> LanguageModel:
    if combine in get_args(ByteRule):
        loaded = [options.byte_member(member) for member in members]
        return ByteEnsemble(loaded, cast(ByteRule, combine), weights=weights, alpha=alpha)
    models = [options.token_model(member) for member in members]
    if combine == "mined":
        return MinedEnsemble(models, weights=weights)
    return TokenEnsemble(models, cast(TokenRule, combine), weights=weights)
