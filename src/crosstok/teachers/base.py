"""Interface of teachers: anything that scores texts in its own tokens, wherever it runs."""

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
    """Arguments for opening a teacher.

    Attributes:
        name: its name in a recipe, without the kind; for a local model, hub name or folder.
        byte_vocab: vocabulary of its tokenizer.
        device: device that training runs on.
        dtype: dtype of its weights, if it runs in this process.
        arithmetic: that dtype in words; scores in different arithmetic are never mixed.
        options: further options for loading it (``teacher_options`` of a recipe).
        trust_remote_code: whether Python code from its folder or repository may be executed.
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
        name: its name in errors and metrics.
        supports: the scores that it can compute.
        view: the model itself, for objectives that use it; None if only scores are available.
        num_parameters: number of parameters of its model; None if unknown.
        advice: the next step for a user whose objective needs more than it supports.
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
        """Score a batch: log-probabilities (nats) and what else is needed; without a gradient.

        Args:
            input_ids: ids of its own tokenizer, padded on the right.
            attention_mask: 1 for tokens, 0 for padding.
            needs: what to compute; at most what it supports.
        """

    def metrics(self) -> dict[str, tuple[float, float]]:
        """Metrics of the run as (sum, count); both are added over ranks before the division."""
        return {}

    @classmethod
    def tokenizer_of(cls, name: str) -> str:
        """Return the hub name or folder of the tokenizer for a teacher of this name."""
        return name

    @classmethod
    def check(cls, name: str) -> None:
        """Check that a teacher of this name exists, without loading it.

        Raises:
            ValueError: it does not exist.
        """
        if not name:
            raise ValueError(
                f"a teacher of the kind {cls.__name__} needs a name after its kind; give KIND:NAME."
            )

    @classmethod
    def open(cls, request: TeacherRequest) -> "Teacher":
        """Open a teacher of this kind.

        Raises:
            ValueError: it cannot be opened.
        """
        raise ValueError(
            f"a {cls.__name__} cannot be opened by name; define its class method `open`."
        )

    @classmethod
    def identify(cls, request: TeacherRequest, notes: Path) -> Fingerprint:
        """Compute its fingerprint, which identifies stored scores, without loading it.

        Args:
            request: as for `open`.
            notes: a file in which digests of large files may be stored.

        Raises:
            ValueError: teachers of this kind have no fingerprint.
        """
        raise ValueError(
            f"the scores of a {cls.__name__} cannot be stored, since nothing says when two of them "
            "are the same; leave teacher_cache out, or define its class method `identify`."
        )
