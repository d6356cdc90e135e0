"""A tensor with the vocabulary as an axis, in the order and number of another tokenizer's ids."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from crosstok.models.vocabulary_axes import VocabularyTensor
from crosstok.transplants.base import SourceRows
from crosstok.transplants.plan import TransplantPlan


def check_entries(model: Any, tensors: Sequence[VocabularyTensor], num_source: int) -> None:
    """Refuse a tensor that has too few entries for the source tokenizer.

    Raises:
        ValueError: names it.
    """
    for moved in tensors:
        size = model.get_parameter_or_buffer(moved.names[0]).shape[moved.axis] - moved.tail
        if size < num_source and moved.beyond is None:
            raise ValueError(
                f"{moved.names[0]} of {type(model).__name__} has {size} entries, and the source "
                f"tokenizer has ids up to {num_source - 1}. Use the tokenizer that the model was "
                "saved with."
            )


def move_tensor(model: Any, moved: VocabularyTensor, num_source: int, plan: TransplantPlan) -> None:
    """Replace a tensor under all of its names by one with an entry for each target id.

    Args:
        model: changed in place.
        moved: which tensor, and where its ids are.
        num_source: highest id of the source tokenizer + 1; entries beyond that are padding.
        plan: what the entries are made of.
    """
    old: Tensor = model.get_parameter_or_buffer(moved.names[0])
    entries = old.detach().movedim(moved.axis, 0)
    size = entries.shape[0] - moved.tail
    head = entries[: min(size, num_source)]
    if size < num_source and moved.beyond is not None:
        past = torch.full((num_source - size,), moved.beyond, device=old.device)
        head = torch.cat([head, entries[past]])
    rows = plan.input_rows if moved.is_read else plan.output_rows
    flat = head.reshape(len(head), -1)
    made = make_rows(flat, rows) if flat.is_floating_point() else _copied(flat, rows)
    made = made.view(len(rows), *head.shape[1:])
    new = torch.cat([made, entries[size:]]) if moved.tail else made
    _replace(model, moved, new.movedim(0, moved.axis).contiguous(), old)


def make_rows(matrix: Float[Tensor, "V D"], plan: Sequence[SourceRows]) -> Float[Tensor, "W D"]:
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


def _copied(matrix: Shaped[Tensor, "V D"], plan: Sequence[SourceRows]) -> Shaped[Tensor, "W D"]:
    """Rows of whole numbers have no mean: each is a copy of its first source row."""
    return matrix[torch.tensor([row.ids[0] if row.ids else 0 for row in plan])]


def _replace(model: Any, moved: VocabularyTensor, new: Tensor, old: Tensor) -> None:
    kept: Any = new
    if isinstance(old, nn.Parameter):
        kept = nn.Parameter(new, requires_grad=old.requires_grad)
    for name in moved.names:
        owner, _, last = name.rpartition(".")
        module: Any = model.get_submodule(owner)
        setattr(module, last, kept)
        size = new.shape[moved.axis]
        if isinstance(module, nn.Embedding):
            module.num_embeddings = size
            module.padding_idx = None  # would stop the gradient of the row that now has this id
        elif isinstance(module, nn.Linear):
            module.out_features = size
