"""Interface of transplant methods: tokens without a row in, weighted source rows out.

Shapes: ``V`` ids of the source tokenizer, ``D`` width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from crosstok.tokenizers import TextEncoder


@dataclass(frozen=True)
class SourceRows:
    """The source rows that make up one target row.

    Attributes:
        ids: source ids; empty: the row becomes the mean of all source rows.
        weights: one per id, of any sign and sum: the row becomes the weighted sum. None: the row
            becomes the mean of these ids; a single id without weights is copied bit for bit.

    Raises:
        ValueError: the number of weights is not that of the ids, or a weight is infinite or NaN.
    """

    ids: tuple[int, ...] = ()
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.weights is None:
            return
        if not self.ids or len(self.weights) != len(self.ids):
            raise ValueError(
                f"{len(self.weights)} weights for {len(self.ids)} source rows; there must be one "
                "for each, and at least one. SourceRows() is the mean of all rows."
            )
        if not all(map(isfinite, self.weights)):
            raise ValueError(f"weights of source rows must be finite; these are {self.weights}.")


@dataclass(frozen=True)
class MethodRows:
    """What a method returns: rows for ``MethodInputs.tokens``, in their order.

    Attributes:
        input_rows: for the input embeddings (and for the output's, where the two are tied).
        output_rows: for the output embeddings; None: the same as for the input.
    """

    input_rows: Sequence[SourceRows]
    output_rows: Sequence[SourceRows] | None = None


@dataclass(frozen=True, kw_only=True)
class MethodNeeds:
    """What a method needs besides the two tokenizers; checked before a model is loaded."""

    source_matrix: bool = False
    """The source model's embeddings: ``MethodInputs.input_matrix`` and ``output_matrix``."""
    donor: bool = False
    """Another model, for example one trained with the target tokenizer."""
    vectors: bool = False
    """A file of word vectors."""
    texts: bool = False
    """Texts, as for the option ``data``."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Names of what a method can use besides the two tokenizers. The method loads what it uses.

    Attributes:
        donor: hub name or folder of a model, for `crosstok.models.load_model`.
        vectors: path of a file of word vectors.
        texts: data set, file or folder, for `crosstok.corpora.load_corpus`.
        trust_remote_code: whether Python code of the donor may be executed.
    """

    donor: str | None = None
    vectors: str | None = None
    texts: str | None = None
    trust_remote_code: bool = False


class SourceMatrices:
    """The embeddings of the source model, copied when they are first read.

    Args:
        model: the source model, which is not changed.
        num_ids: highest id of its tokenizer + 1; rows beyond that are padding.
    """

    def __init__(self, model: PreTrainedModel, num_ids: int) -> None:
        self._model = model
        self._num_ids = num_ids

    @cached_property
    def input(self) -> Float[Tensor, "V D"]:
        """Input embeddings, in fp32 or wider, on the CPU."""
        return self._wide(self._model.get_input_embeddings())

    @cached_property
    def output(self) -> Float[Tensor, "V D"]:
        """Output embeddings; the input embeddings where the two are tied."""
        output = self._model.get_output_embeddings()
        inputs: Any = self._model.get_input_embeddings()
        if output is None or output.weight is inputs.weight:
            return self.input
        return self._wide(output)

    def _wide(self, module: Any) -> Float[Tensor, "V D"]:
        matrix: Tensor = module.weight.detach()[: self._num_ids].cpu()
        return matrix.to(torch.promote_types(matrix.dtype, torch.float32), copy=True)


@dataclass(frozen=True, kw_only=True)
class MethodInputs:
    """Inputs of a method.

    Attributes:
        ids: target ids without an equal token in the source vocabulary; special tokens are matched
            by role afterwards.
        tokens: the bytes of each id.
        source: encoder of the tokenizer that the model was trained with.
        target: encoder of the tokenizer that the model will have. Tokens in both vocabularies are
            copied: `crosstok.alignment.overlapping_tokens` of the two ``byte_vocab``.
        resources: names of what else the method needs.
        matrices: embeddings of the source model; None unless ``needs.source_matrix``.
    """

    ids: tuple[int, ...]
    tokens: tuple[bytes, ...]
    source: TextEncoder
    target: TextEncoder
    resources: Resources = Resources()
    matrices: SourceMatrices | None = None

    @property
    def input_matrix(self) -> Float[Tensor, "V D"]:
        """Input embeddings of the source model, one row per id, in fp32 or wider, on the CPU.

        Raises:
            ValueError: the method does not declare that it needs them.
        """
        return self._matrices().input

    @property
    def output_matrix(self) -> Float[Tensor, "V D"]:
        """Output embeddings of the source model; the input embeddings where the two are tied.

        Raises:
            ValueError: the method does not declare that it needs them.
        """
        return self._matrices().output

    def _matrices(self) -> SourceMatrices:
        if self.matrices is None:
            raise ValueError(
                "the source model's embeddings are available only to a method that declares them. "
                "Set needs = MethodNeeds(source_matrix=True)."
            )
        return self.matrices


class TransplantMethod(Protocol):
    """A way to make rows for tokens that the source vocabulary lacks.

    Usually a frozen dataclass whose fields are its options; ``needs`` and ``row_label`` are class
    variables, or properties where they depend on an option.
    """

    @property
    def needs(self) -> MethodNeeds:
        """What the method needs besides the two tokenizers."""
        ...

    @property
    def row_label(self) -> str:
        """What its rows are called in tables and model cards, such as ``composed from pieces``."""
        ...

    def __call__(self, inputs: MethodInputs) -> MethodRows:
        """Choose the source rows that each token's rows are made of."""
        ...
