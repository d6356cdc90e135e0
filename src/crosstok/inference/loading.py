"""Load language models by name: one, its byte view, or several as one."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from crosstok.choices import DTYPES, Target
from crosstok.inference.byte_ensemble import ByteView
from crosstok.inference.byte_member import ByteMember
from crosstok.inference.ensemble import Ensemble, Member
from crosstok.inference.language_model import LanguageModel
from crosstok.inference.token_model import TokenModel
from crosstok.loaded import Loaded
from crosstok.models import find_device, load_model
from crosstok.tokenizers import load_tokenizer


def load_language_model(  # noqa: PLR0913 (the options of the command line)
    models: str | Sequence[Any] | Ensemble | PreTrainedModel,
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
        models: one or several folders or names on the hub; or one file that defines an ensemble
            (.yaml), or "bytes:" and a name for the byte view of that model; or an `Ensemble`, which
            sets the next six options itself. A loaded model, or ``(model, tokenizer)``, may stand
            for a name; its weights are shared and never changed.
        combine: rule for several models, one of `RULES`. For "mined" the first model is the pivot;
            for "proxy" they are base, expert and anti-expert.
        bytes_view: read a single model byte by byte.
        weights: weights of the models; equal by default.
        alpha: for "proxy": strength of expert minus anti-expert.
        target: which token sequences count where models are read byte by byte.
        chat_templates: a template for each model, as text or "plain"; None for a model's own.
        dtype: dtype of the weights; by default float32 on a CPU, and on an accelerator as they are
            saved. Of a loaded model, its own.
        device: where to put the models; by default the accelerator, if there is one. A loaded model
            stays where it is.
        trust_remote_code: whether Python code in the folders may be executed.

    Raises:
        ValueError: a name, a file or an option is wrong; says which.
    """
    if device is not None or dtype is not None:
        place_and_dtype(device, dtype)  # a wrong one is said before anything is loaded
    loading = _Loading(dtype, device, trust_remote_code)
    how: dict[str, Any] = {
        "combine": combine,
        "bytes_view": bytes_view,
        "weights": weights,
        "alpha": alpha,
        "target": target,
        "chat_templates": chat_templates,
    }
    if not isinstance(models, Ensemble):
        return loading.load(Ensemble.of(_names(models), **how))
    defaults = inspect.signature(Ensemble.of).parameters
    if wrong := [name for name, value in how.items() if value != defaults[name].default]:
        raise ValueError(
            f"an Ensemble itself says how its models answer; leave {', '.join(wrong)} out."
        )
    return loading.load(models)


def _names(models: Any) -> list[str]:
    """The models as names, those that are loaded among them."""
    is_one = isinstance(models, str) or not isinstance(models, Sequence) or _is_pair(models)
    given = [models] if is_one else models
    return [one if isinstance(one, str) else Loaded.model_of(one) for one in given]


def _is_pair(models: Sequence[Any]) -> bool:
    """Whether it is one model with its tokenizer, not several models."""
    return (
        len(models) in (2, 3)
        and hasattr(models[-2], "parameters")
        and not isinstance(models[-1], str | tuple)
        and not hasattr(models[-1], "parameters")
    )


def place_and_dtype(
    device: torch.device | str | None, precision: torch.dtype | str | None
) -> tuple[str, torch.dtype | str]:
    """Choose device and dtype: the accelerator if there is one; float32 on a CPU, else as saved.

    Args:
        device: as torch calls it; None for the default.
        precision: fp32, bf16, fp16, or torch's names; None for the default.

    Raises:
        ValueError: there is no such device.
    """
    place = str(find_device(None if device is None else str(device)))
    dtype = DTYPES.get(precision, precision) if isinstance(precision, str) else precision
    return place, dtype or ("float32" if place == "cpu" else "auto")


@dataclass(frozen=True)
class _Loading:
    """How models are loaded."""

    dtype: torch.dtype | str | None
    device: torch.device | str | None
    trust_remote_code: bool

    def load(self, ensemble: Ensemble) -> LanguageModel:
        """Load the models and make the language model."""
        if ensemble.rule is None:
            [member] = ensemble.members
            if ensemble.bytes_view:
                model, tokenizer = self._parts(member)
                return ByteView(
                    model,
                    tokenizer,
                    name=member.model,
                    chat_template=member.chat_template,
                    target=ensemble.target,
                )
            return self._token_model(member)
        members = [
            self._byte_member(member, ensemble.target)
            if ensemble.unit == "byte"
            else self._token_model(member)
            for member in ensemble.members
        ]
        options = {name: getattr(ensemble, name) for name in ensemble.rule.options}
        answering: LanguageModel = ensemble.rule.load_engine()(members, ensemble.combine, **options)
        return answering

    def _parts(self, member: Member) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
        trust = self.trust_remote_code
        tokenizer = load_tokenizer(member.model, trust_remote_code=trust)
        device: torch.device | str | None = self.device
        dtype = self.dtype
        if not isinstance(member.model, Loaded):
            device, dtype = place_and_dtype(device, dtype)
        elif device is not None or dtype is not None:  # else it stays as it is
            device, dtype = place_and_dtype(device or member.model.model.device, dtype or "auto")
        model = load_model(
            member.model,
            dtype=dtype or "auto",
            device=device,
            trust_remote_code=trust,
            shared=True,
        )
        return model, tokenizer

    def _token_model(self, member: Member) -> TokenModel:
        model, tokenizer = self._parts(member)
        return TokenModel(model, tokenizer, name=member.model, chat_template=member.chat_template)

    def _byte_member(self, member: Member, target: Target) -> ByteMember:
        model, tokenizer = self._parts(member)
        return ByteMember(
            model,
            tokenizer,
            name=member.model,
            chat_template=member.chat_template,
            target=target,
        )
