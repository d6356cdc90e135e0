"""What a teacher is: something that scores texts in its own tokens, whatever it runs on."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from crosstok.models import Scores
from crosstok.objectives import ModelView, Needs
from crosstok.teachers.fingerprint import Fingerprint
from crosstok.tokenizers import ByteVocab


@dataclass(frozen=True, kw_only=True)
class TeacherRequest:
    """What a teacher is opened with.

    Attributes:
        name: what a recipe calls it, without its kind: of a local model, its name or folder.
        byte_vocab: of its tokenizer.
        device: where training runs.
        dtype: of its weights, where it runs in this process.
        arithmetic: that dtype in words; scores in different arithmetic are never mixed.
        options: further options for loading it (``teacher_options`` of a recipe).
        trust_remote_code: whether Python code that comes with it may be executed.
    """

    name: str
    byte_vocab: ByteVocab
    device: torch.device
    dtype: torch.dtype
    arithmetic: str
    options: Mapping[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False


class Teacher(ABC):
    """Scores texts in its own tokens. A kind of teacher is a subclass.

    Attributes:
        name: what errors and metrics call it.
        supports: what it can be asked for.
        view: the model itself, for objectives that look into it; None where only scores can be had.
        num_parameters: of its model; None where that is not known.
        advice: the next step for a user whose objective needs what it does not give.
    """

    name: str
    supports: Needs
    view: ModelView | None = None
    num_parameters: int | None = None
    advice: ClassVar[str] = (
        "Choose another teacher, or an objective that needs less (alm needs likelihoods only)."
    )

    @abstractmethod
    def scores(
        self, input_ids: Int[Tensor, "B T"], attention_mask: Int[Tensor, "B T"], needs: Needs
    ) -> Scores:
        """What the needs ask for: log-probabilities (nats), hidden states; without a gradient.

        Args:
            input_ids: ids of its own tokenizer, padded on the right.
            attention_mask: 1 for tokens, 0 for padding.
            needs: at most what it supports.
        """

    def metrics(self) -> dict[str, tuple[float, float]]:
        """Figures of the run as (sum, count); both are added over ranks before they are divided."""
        return {}

    @classmethod
    def tokenizer_of(cls, name: str) -> str:
        """The tokenizer that this kind reads texts with, as a name or folder."""
        return name

    @classmethod
    def check(cls, name: str) -> None:
        """Find out whether there is such a teacher, without loading it.

        Raises:
            ValueError: there is none.
        """
        if not name:
            raise ValueError(
                f"a teacher of the kind {cls.__name__} needs a name after its kind; give KIND:NAME."
            )

    @classmethod
    def open(cls, request: TeacherRequest) -> "Teacher":
        """Make a teacher of this kind.

        Raises:
            ValueError: it cannot be had.
        """
        raise ValueError(
            f"a {cls.__name__} cannot be opened by name; define its class method `open`."
        )

    @classmethod
    def identify(cls, request: TeacherRequest, notes: Path) -> Fingerprint:
        """What makes its scores its own, without loading it; for scores that are stored.

        Args:
            request: as for `open`.
            notes: a file where digests of large files may be kept.

        Raises:
            ValueError: this kind cannot say.
        """
        raise ValueError(
            f"the scores of a {cls.__name__} cannot be stored, since nothing says when two of them "
            "are the same; leave teacher_cache out, or define its class method `identify`."
        )
