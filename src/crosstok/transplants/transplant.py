"""Replace the embeddings of a model by rows for another tokenizer, in place."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from crosstok.models import check_vocabulary_fits
from crosstok.models.ties import is_tied, untie_embeddings
from crosstok.tokenizers import TextEncoder
from crosstok.transplants.base import Resources, SourceMatrices, SourceRows, TransplantMethod
from crosstok.transplants.methods import describe_method, find_method
from crosstok.transplants.named_ids import move_named_ids
from crosstok.transplants.plan import RowSource, TransplantPlan, plan_rows


@dataclass(frozen=True)
class TransplantReport:
    """Number of target rows by where they came from.

    Attributes:
        copied: rows of the same bytes, or of the same special token.
        mapped: rows of special tokens, taken from one with the same role.
        composed: rows made by the method.
        fallback: rows set to the mean of all source rows.
        source_rows: rows of the matrix before, including padding.
        target_rows: rows of the matrix after.
        tied: whether input and output are one matrix.
        method: name of the method.
        row_label: what the method calls the rows that it made.
    """

    copied: int
    mapped: int
    composed: int
    fallback: int
    source_rows: int
    target_rows: int
    tied: bool
    method: str
    row_label: str

    @property
    def labels(self) -> dict[str, str]:
        """What to call each count: ``{"mapped": "mapped by role", ...}``."""
        return {source.value: source.label for source in RowSource} | {
            RowSource.COMPOSED.value: self.row_label
        }

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON and tables."""
        values = asdict(self)
        del values["row_label"]
        return {**values, "labels": self.labels}


def transplant(
    model: PreTrainedModel,
    source: TextEncoder,
    target: TextEncoder,
    *,
    method: str | TransplantMethod = "fvt",
    untie: bool = False,
    resources: Resources | None = None,
) -> TransplantReport:
    """Replace the model's embeddings by rows for the target tokenizer; nothing else changes.

    Input and output embeddings are made separately; tied ones stay tied unless ``untie`` is set. An
    output bias is transplanted, too, and padding rows of the source matrix are left out. The ids
    that the configurations name move with the tokenizer (`crosstok.transplants.named_ids`).

    Args:
        model: changed in place.
        source: encoder of the tokenizer that the model was trained with.
        target: encoder of the tokenizer that the model will have.
        method: for tokens that the source vocabulary lacks: ``fvt``, ``mean``, the name of one that
            an installed package adds, ``package.module:Class``, or a `TransplantMethod`.
        untie: give a model with tied embeddings an output matrix of its own.
        resources: what the method needs besides the two tokenizers.

    Raises:
        ValueError: the source tokenizer has more ids than the model has rows, or the method is
            unknown, lacks something it needs, or returns invalid rows.
    """
    check_vocabulary_fits(model, source.byte_vocab.num_rows_needed, source.tokenizer.name_or_path)
    method = find_method(method)
    num_source = len(source.byte_vocab.token_bytes)
    matrices = SourceMatrices(model, num_source)
    inputs: Any = model.get_input_embeddings()
    plan = plan_rows(source, target, method, resources=resources, matrices=matrices)
    plan = plan.without_rows_past(len(inputs.weight))
    del matrices  # it may hold copies
    if untie:
        untie_embeddings(model)
    num_target = len(plan.sources)
    output = model.get_output_embeddings()
    old_input = inputs.weight.detach()
    tied = is_tied(model)
    new_input = _rows(old_input[:num_source], plan.input_rows)
    new_output = None if tied else _rows(output.weight.detach()[:num_source], plan.output_rows)
    old_bias = None if output is None else getattr(output, "bias", None)
    new_bias = (
        None if old_bias is None else _rows(old_bias.detach()[:num_source, None], plan.output_rows)
    )

    model.resize_token_embeddings(num_target, mean_resizing=False)
    inputs = model.get_input_embeddings()
    with torch.no_grad():
        inputs.weight.copy_(new_input)
        if new_output is not None:
            model.get_output_embeddings().weight.copy_(new_output)
        if new_bias is not None:
            model.get_output_embeddings().bias.copy_(new_bias[:, 0])
    inputs.padding_idx = None  # would stop the gradient of the row that now has this id
    move_named_ids(model, source, target)
    return _report(plan, old_input.shape[0], tied, method)


def _rows(matrix: Float[Tensor, "V D"], plan: Sequence[SourceRows]) -> Float[Tensor, "W D"]:
    """Compute the planned means and weighted sums in fp32 or wider; copies keep their bits."""
    matrix = matrix.detach()
    wide = matrix.cpu().to(torch.promote_types(matrix.dtype, torch.float32))
    flat, bags, counts = _bags([row.ids if row.weights is None else () for row in plan])
    rows = nn.functional.embedding_bag(flat, wide, bags, mode="mean")
    rows[counts == 0] = wide.mean(0)
    weighted = {i: row for i, row in enumerate(plan) if row.weights is not None}
    if weighted:
        flat, bags, _ = _bags([row.ids for row in weighted.values()])
        weights = [weight for row in weighted.values() for weight in row.weights or ()]
        rows[list(weighted)] = nn.functional.embedding_bag(
            flat, wide, bags, mode="sum", per_sample_weights=torch.tensor(weights, dtype=wide.dtype)
        )
    return rows.to(dtype=matrix.dtype, device=matrix.device)


def _bags(ids: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor, Tensor]:
    """Join the groups of ids; also return where each begins, and how many ids it has."""
    counts = torch.tensor([len(group) for group in ids])
    flat = torch.tensor([id_ for group in ids for id_ in group], dtype=torch.long)
    return flat, torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)[:-1]]), counts


def _report(
    plan: TransplantPlan, source_rows: int, tied: bool, method: TransplantMethod
) -> TransplantReport:
    return TransplantReport(
        copied=plan.count(RowSource.COPIED),
        mapped=plan.count(RowSource.MAPPED),
        composed=plan.count(RowSource.COMPOSED),
        fallback=plan.count(RowSource.FALLBACK),
        source_rows=source_rows,
        target_rows=len(plan.sources),
        tied=tied,
        method=describe_method(method),
        row_label=method.row_label,
    )
