"""Input expansion: a model over bytes that also sees the subwords which end at each byte."""

import copy
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from crosstok.models.head_probe import unwrap_model
from crosstok.models.modeling_byte_expanded import (
    ByteExpandedConfig,
    ByteExpandedForCausalLM,
    SubwordLookup,
)
from crosstok.models.modes import evaluating
from crosstok.tokenizers import ByteVocab

# crosstok reads such folders with its own copy of the code: none of theirs is executed.
AutoConfig.register(ByteExpandedConfig.model_type, ByteExpandedConfig, exist_ok=True)
AutoModelForCausalLM.register(ByteExpandedConfig, ByteExpandedForCausalLM, exist_ok=True)
# Folders that are written hold a copy of it, for whoever has no crosstok.
ByteExpandedConfig.register_for_auto_class()  # type: ignore[no-untyped-call]
ByteExpandedForCausalLM.register_for_auto_class(  # type: ignore[no-untyped-call]
    "AutoModelForCausalLM"
)


def expand_inputs(
    model: PreTrainedModel,
    original_embeddings: Float[Tensor, "V D"],
    source_vocab: ByteVocab,
    byte_vocab: ByteVocab,
) -> PreTrainedModel:
    """Add to every byte's embedding that of the longest original subword which ends there.

    Minixhofer et al. 2025 (arXiv 2503.20083), appendix C, without their cap of 16 bytes. Special
    tokens get the row of the same special, and no subword reaches across one.

    Args:
        model: a model over bytes; it becomes the ``backbone`` of the new one, not a copy.
        original_embeddings: the input matrix that the model had for `source_vocab`; copied, frozen,
            and kept in its dtype.
        source_vocab: of the original tokenizer.
        byte_vocab: of the model's tokenizer: one byte an id, and special tokens.

    Returns:
        A `ByteExpandedForCausalLM` in the mode (training, evaluation) of `model`.

    Raises:
        ValueError: ids of `byte_vocab` are no single bytes, the matrix does not fit, or the model
            cannot be given its inputs as embeddings.
    """
    lookup = subword_lookup(source_vocab, byte_vocab, _num_rows(model))
    num_subwords = len(source_vocab)
    _check_fits(model, original_embeddings, num_subwords)
    config = ByteExpandedConfig(
        text_config=model.config,
        num_subwords=num_subwords,
        num_edges=len(lookup.edge_keys),
        longest_subword=lookup.longest,
    )
    with torch.device("meta"):  # the parts are there already
        expanded: Any = ByteExpandedForCausalLM(config)
    expanded.config.text_config = model.config
    expanded.backbone = model
    embeddings: Any = model.get_input_embeddings()
    embeddings.padding_idx = None
    device = embeddings.weight.device
    rows = original_embeddings[:num_subwords].detach().to(device, copy=True)
    expanded.register_buffer("subwords", rows)
    for name, table in vars(lookup).items():
        if isinstance(table, Tensor):
            expanded.register_buffer(name, table.to(device))
    expanded.generation_config = copy.deepcopy(model.generation_config)
    expanded.name_or_path = expanded.config.name_or_path = model.name_or_path
    model.config.name_or_path = ""  # would be written into config.json, beside the model's own
    return expanded.train(model.training)  # type: ignore[no-any-return]


def check_is_bytes(byte_vocab: ByteVocab) -> None:
    """Check that a tokenizer's ids are single bytes and special tokens.

    Raises:
        ValueError: one is something else; input expansion has no meaning there.
    """
    for id_, content in enumerate(byte_vocab.token_bytes):
        if content is not None and len(content) != 1:
            raise ValueError(
                f"input expansion is for models over bytes, and id {id_} of this tokenizer stands "
                f"for {content!r}. Take the tokenizer `bytes`, or leave input expansion out."
            )


def describe_expansion(model: nn.Module) -> list[str]:
    """What input expansion adds to a model, in words and numbers; nothing for other models."""
    if find_lookup(model) is None:
        return []
    matrix: Any = model.subwords
    edges: Any = model.edge_keys
    return [
        "Input expansion: each byte's embedding is added to that of the longest original subword "
        f"which ends there. That holds {matrix.numel():,} frozen numbers ({matrix.shape[0]:,} "
        f"subwords of width {matrix.shape[1]:,}) and a table of {len(edges):,} entries beside the "
        "weights of the model over bytes, and code of its own: it loads with "
        "`trust_remote_code=True`, or where crosstok is installed and imported."
    ]


def find_lookup(model: nn.Module) -> SubwordLookup | None:
    """What finds the subwords of a model with input expansion, on the CPU; None for others."""
    lookup: Any = getattr(unwrap_model(model), "lookup", None)
    return lookup.to("cpu") if hasattr(lookup, "state_subwords") else None


def subword_lookup(
    source_vocab: ByteVocab, byte_vocab: ByteVocab, num_ids: int | None = None
) -> SubwordLookup:
    """The tables that find the longest subword of `source_vocab` at each byte.

    Where several ids of `source_vocab` have the same bytes, it is the one that its encoder writes.

    Args:
        source_vocab: of the original tokenizer.
        byte_vocab: one byte an id, and special tokens.
        num_ids: rows of the model's matrix, if it has more than `byte_vocab` has ids.

    Raises:
        ValueError: an id of `byte_vocab` is neither a single byte nor special.
    """
    check_is_bytes(byte_vocab)
    size = max(len(byte_vocab), num_ids or 0)
    id_bytes, id_subwords = np.full(size, -1), np.full(size, -1)
    for id_, content in enumerate(byte_vocab.token_bytes):
        if content is not None:
            id_bytes[id_] = content[0]
    specials = {text: id_ for id_, text in source_vocab.special_tokens.items()}
    for id_, text in byte_vocab.special_tokens.items():
        id_subwords[id_] = specials.get(text, -1)
    edge_keys, state_subwords = _trie(source_vocab)
    return SubwordLookup(
        id_bytes=torch.from_numpy(id_bytes),
        id_subwords=torch.from_numpy(id_subwords),
        edge_keys=torch.from_numpy(edge_keys),
        state_subwords=torch.from_numpy(state_subwords),
        longest=max(len(content or b"") for content in source_vocab.token_bytes),
    )


def _trie(vocab: ByteVocab) -> tuple[Int[np.ndarray, " E"], Int[np.ndarray, " S"]]:
    """Edges and subwords of the trie of the reversed bytes, grown a level at a time."""
    contents = sorted({content for content in vocab.token_bytes if content})
    ids = np.array([vocab.ids_of(content)[0] for content in contents])
    lengths = np.array([len(content) for content in contents], dtype=np.int64)
    flat = np.frombuffer(b"".join(contents), dtype=np.uint8).astype(np.int64)
    last = lengths.cumsum() - 1
    states = np.zeros(len(contents), dtype=np.int64)
    growing = np.arange(len(contents))
    levels: list[np.ndarray] = []
    num_states = depth = 0
    while len(growing):
        keys = 256 * states[growing] + flat[last[growing] - depth]
        level, edges = np.unique(keys, return_inverse=True)
        states[growing] = num_states + edges + 1
        levels.append(level)
        num_states += len(level)
        depth += 1
        growing = growing[lengths[growing] > depth]
    state_subwords = np.full(num_states + 1, -1)
    state_subwords[states] = ids
    return np.concatenate(levels), state_subwords


def _num_rows(model: PreTrainedModel) -> int:
    embeddings: Any = model.get_input_embeddings()
    return int(embeddings.weight.shape[0])


def _check_fits(model: PreTrainedModel, original: Tensor, num_subwords: int) -> None:
    embeddings: Any = model.get_input_embeddings()
    name, width = type(model).__name__, embeddings.weight.shape[1]
    if original.shape[0] < num_subwords or original.shape[1] != width:
        raise ValueError(
            f"the original embeddings are {list(original.shape)}; {num_subwords} subwords of width "
            f"{width} are needed. Pass the input matrix that the model had before the transplant."
        )
    if model.config.model_type not in CONFIG_MAPPING:
        raise ValueError(
            f"input expansion needs an architecture that transformers knows itself, and {name} "
            "comes with code of its own. Leave input expansion out."
        )
    ids = torch.arange(min(4, embeddings.weight.shape[0]), device=model.device)[None]
    with evaluating(model), torch.no_grad():
        plain = model(input_ids=ids, use_cache=False).logits
        given = model(inputs_embeds=embeddings(ids), use_cache=False).logits
    if getattr(model, "_is_stateful", False) or not torch.allclose(plain, given, rtol=1e-3):
        raise ValueError(
            f"{name} does not read its inputs from its embedding matrix alone, so that nothing can "
            "be added to them. Leave input expansion out."
        )
