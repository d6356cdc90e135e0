"""A toy method with weights, which needs the source model's embeddings and has an option."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, ClassVar

import pydantic
import torch

from crosstok.transplants import MethodInputs, MethodNeeds, MethodRows, SourceRows, source_pieces


@dataclass(frozen=True)
class Neighbours:
    """The rows nearest to the mean of a token's pieces, by softmax of their cosine."""

    needs: ClassVar[MethodNeeds] = MethodNeeds(source_matrix=True)
    row_label: ClassVar[str] = "weighted from neighbours"

    num_neighbours: Annotated[int, pydantic.Field(gt=0)] = 3

    def __call__(self, inputs: MethodInputs) -> MethodRows:
        pieces = source_pieces(inputs.tokens, inputs.source)
        both = [
            [self._row(matrix, ids) for ids in pieces]
            for matrix in (inputs.input_matrix, inputs.output_matrix)
        ]
        return MethodRows(*both)

    def _row(self, matrix: torch.Tensor, ids: tuple[int, ...]) -> SourceRows:
        if not ids:
            return SourceRows()
        query = matrix[list(ids)].mean(0, keepdim=True)
        near = torch.cosine_similarity(matrix, query).topk(self.num_neighbours)
        return SourceRows(tuple(near.indices.tolist()), tuple(near.values.softmax(0).tolist()))


@dataclass(frozen=True)
class Donated(Neighbours):
    """The same, for a user who must name a donor and word vectors."""

    needs: ClassVar[MethodNeeds] = MethodNeeds(donor=True, vectors=True)
    row_label: ClassVar[str] = "donated"

    def __call__(self, inputs: MethodInputs) -> MethodRows:
        assert inputs.resources.donor
        assert inputs.resources.vectors
        return MethodRows([SourceRows((0, 1), (2.0, -1.0))] * len(inputs.tokens))


@dataclass(frozen=True)
class Particular(Neighbours):
    """Has an option without default, and one that must be even."""

    _: dataclasses.KW_ONLY
    power: int

    def __post_init__(self) -> None:
        if self.power % 2:
            raise ValueError("power must be even.")
