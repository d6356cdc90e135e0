"""The job without training: give a model the embeddings of another tokenizer."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from crosstok.jobs.publishing import check_hub, publish
from crosstok.jobs.result import TrainedResult
from crosstok.models import (
    check_is_bytes,
    check_model_exists,
    describe_architecture,
    expand_inputs,
    load_to_change,
    needs_code,
)
from crosstok.models.saved_dtypes import save_weights
from crosstok.recipes import TransplantRecipe, as_mapping, recipe_yaml, takes
from crosstok.tokenizers import TextEncoder, load_target_tokenizer, load_tokenizer
from crosstok.training.folder_lock import check_unlocked, locked
from crosstok.training.model_card import Card, code
from crosstok.training.outputs import (
    RECIPE,
    check_output_folder,
    clear_output_folder,
    save_outputs,
    to_json,
)
from crosstok.transplants import TransplantReport
from crosstok.transplants import transplant as transplant_rows


@dataclass(frozen=True, kw_only=True, repr=False)
class TransplantResult(TrainedResult):
    """What a transplant leaves; its figures are counts of embedding rows.

    Attributes:
        report: where the embedding rows came from.
    """

    report: TransplantReport


@takes(TransplantRecipe)
def transplant(recipe: TransplantRecipe) -> TransplantResult:
    """Transplant the model's embeddings and save it: initialisation without training.

    Raises:
        ValueError: something in the recipe cannot be used; nothing was written.
        SaveError: the disk is full.
        UploadError: the model is saved, and could not be uploaded.
    """
    output = Path(recipe.output)
    check_unlocked(output)
    check_output_folder(output, overwrite=recipe.overwrite)
    check_model_exists(recipe.model)
    recipe.check_device()
    check_hub(recipe)
    recipe.transplant_method()  # what it lacks is said before anything is loaded
    trust = recipe.trust_remote_code
    source = TextEncoder(load_tokenizer(recipe.model, trust_remote_code=trust))
    target = TextEncoder(
        load_target_tokenizer(recipe.tokenizer, recipe.model, trust_remote_code=trust)
    )
    if recipe.input_expansion:
        check_is_bytes(target.byte_vocab)
    place = recipe.device  # the CPU is enough for this job, so it is the default
    model, dtypes = load_to_change(recipe.model, device=place, trust_remote_code=trust)
    model, report = give_embeddings(recipe, model, source, target, dtypes.main)
    lines = [
        f"{code(recipe.model)} with the tokenizer of {code(recipe.tokenizer)}, not trained after "
        "that.",
        *describe_rows(report),
        *describe_architecture(model),
    ]
    card = Card(
        title=output.resolve().name,
        lines=lines,
        recipe=as_mapping(recipe),
        base_model=recipe.model,
        has_code=needs_code(model),
        repository=recipe.push_to_hub,
    )
    files = {"README.md": card.text(), RECIPE: recipe_yaml(recipe)}
    counts = report.as_dict()
    files["transplant.json"] = to_json(counts)
    with locked(output):
        check_output_folder(output, overwrite=recipe.overwrite)  # others may have come since
        if recipe.overwrite:
            clear_output_folder(output)
        write = partial(save_weights, model=model, dtypes=dtypes)
        written = save_outputs(output, write, target.tokenizer, files)
    own = files.keys() - {"README.md"}
    publish(recipe, output, [name for name in written if name not in own])
    return TransplantResult(folder=output, metrics=_figures(counts), report=report)


def give_embeddings(
    recipe: TransplantRecipe,
    model: PreTrainedModel,
    source: TextEncoder,
    target: TextEncoder,
    dtype: torch.dtype,
) -> tuple[PreTrainedModel, TransplantReport]:
    """The model with the embeddings of the target tokenizer, its inputs expanded if that is asked.

    Args:
        recipe: says how.
        model: changed, and part of what is returned.
        source: of the model's own tokenizer.
        target: of the one that it is to have.
        dtype: in which the old embeddings are kept: that of their files, so nothing is lost.
    """
    matrix: Any = model.get_input_embeddings().weight
    original = matrix.detach().to(dtype)
    method, resources = recipe.transplant_method()
    report = transplant_rows(
        model, source, target, method=method, untie=recipe.unties, resources=resources
    )
    if recipe.input_expansion:
        model = expand_inputs(model, original, source.byte_vocab, target.byte_vocab)
    return model, report


def describe_rows(report: TransplantReport) -> list[str]:
    """The transplant's counts, in words."""
    counts = [f"{getattr(report, name):,} {label}" for name, label in report.labels.items()]
    counts[0] = counts[0].replace(" ", " were ", 1)
    return [f"Of {report.target_rows:,} embedding rows {', '.join(counts)}."]


def _figures(counts: dict[str, Any]) -> dict[str, float]:
    """The counts of a report."""
    return {name: float(n) for name, n in counts.items() if type(n) is int}
