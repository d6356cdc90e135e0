"""Replace the embeddings of a model by rows for another tokenizer, in place."""

import copy
from dataclasses import asdict, dataclass
from typing import Any

from transformers import PreTrainedModel

from crosstok.models import check_vocabulary_fits, extra_inputs
from crosstok.models.ties import is_tied, untie_embeddings
from crosstok.models.vocabulary_axes import (
    check_padding,
    follow_configuration,
    vocabulary_axes,
)
from crosstok.tokenizers import TextEncoder
from crosstok.transplants.base import Resources, SourceMatrices, TransplantMethod
from crosstok.transplants.methods import describe_method, find_method
from crosstok.transplants.moved_tensors import check_entries, move_tensor
from crosstok.transplants.named_ids import move_named_ids, padding_id
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
    if extra_inputs(model) is not None:
        raise ValueError(
            f"{type(model).__name__} keeps its vocabulary of bytes, which its further inputs are "
            "computed from. Start from the model without input expansion."
        )
    check_vocabulary_fits(model, source.byte_vocab.num_rows_needed, source.tokenizer.name_or_path)
    method = find_method(method)
    axes = vocabulary_axes(model)  # what cannot be moved is said before any work
    check_padding(model, padding_id(target))
    num_source = len(source.byte_vocab.token_bytes)
    check_entries(model, axes.tensors, source.byte_vocab.num_rows_needed)
    matrices = SourceMatrices(model, num_source)
    inputs: Any = model.get_input_embeddings()
    source_rows = int(inputs.weight.shape[0])
    plan = plan_rows(source, target, method, resources=resources, matrices=matrices)
    plan = plan.without_rows_past(source_rows)
    del matrices  # it may hold copies
    if untie:
        untie_embeddings(model)
        axes = vocabulary_axes(model)
    num_target = len(plan.sources)
    tied = is_tied(model)
    for tensor in axes.tensors:
        move_tensor(model, tensor, num_source, plan)
    before = copy.deepcopy(model.config)
    for config in (model.config, model.config.get_text_config()):
        for field in axes.fields:
            if type(vars(config).get(field)) is int:
                setattr(config, field, num_target)
    move_named_ids(model, source, target)
    follow_configuration(model, before)
    return _report(plan, source_rows, tied, method)


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
