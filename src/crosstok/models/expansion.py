"""Input expansion: a model over bytes whose inputs also contain the subword ending at each byte."""

import copy
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from crosstok.models.modeling_byte_expanded import (
    ByteExpandedConfig,
    ByteExpandedForCausalLM,
    SubwordLookup,
)
from crosstok.models.modes import evaluating
from crosstok.tokenizers import ByteVocab

# crosstok loads such folders with its own code and does not execute the code in the folder.
AutoConfig.register(ByteExpandedConfig.model_type, ByteExpandedConfig, exist_ok=True)
AutoModelForCausalLM.register(ByteExpandedConfig, ByteExpandedForCausalLM, exist_ok=True)
# Saved folders contain a copy of the code, so that they load without crosstok.
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
    """Add the embedding of the longest original subword ending at each byte to the byte's own.

    Minixhofer et al. 2025 (arXiv 2503.20083), appendix C, without their cap of 16 bytes. Special
    tokens get the row of the same special token, and no subword extends across one.

    Args:
        model: a model over bytes; it becomes the ``backbone`` of the new model and is not copied.
        original_embeddings: the input matrix that the model had for `source_vocab`; copied, frozen,
            and kept in its dtype.
        source_vocab: byte view of the original tokenizer.
        byte_vocab: byte view of the model's tokenizer: one byte per id, and special tokens.

    Returns:
        A `ByteExpandedForCausalLM` in the mode (training, evaluation) of `model`.

    Raises:
        ValueError: ids of `byte_vocab` are not single bytes, the matrix does not fit, or the model
            does not accept its inputs as embeddings.
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
    with torch.device("meta"):  # its parts exist already
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
    model.config.name_or_path = ""  # else config.json would contain it a second time
    return expanded.train(model.training)  # type: ignore[no-any-return]


def check_is_bytes(byte_vocab: ByteVocab) -> None:
    """Check that a tokenizer's ids are single bytes and special tokens.

    Raises:
        ValueError: an id is something else; input expansion is not defined for such tokenizers.
    """
    for id_, content in enumerate(byte_vocab.token_bytes):
        if content is not None and len(content) != 1:
            raise ValueError(
                f"input expansion is for models over bytes, and id {id_} of this tokenizer stands "
                f"for {content!r}. Use the tokenizer `bytes`, or leave input expansion out."
            )


def subword_lookup(
    source_vocab: ByteVocab, byte_vocab: ByteVocab, num_ids: int | None = None
) -> SubwordLookup:
    """Build the tables that find the longest subword of `source_vocab` at each byte.

    If several ids of `source_vocab` have the same bytes, the id that its encoder writes is used.

    Args:
        source_vocab: byte view of the original tokenizer.
        byte_vocab: byte view of the model's tokenizer: one byte per id, and special tokens.
        num_ids: rows of the model's matrix, if it has more rows than `byte_vocab` has ids.

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
    """Build edges and subwords of the trie of the reversed bytes, one level at a time."""
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
            f"input expansion needs an architecture that transformers contains, and {name} "
            "comes with its own code. Leave input expansion out."
        )
    ids = torch.arange(min(4, embeddings.weight.shape[0]), device=model.device)[None]
    with evaluating(model), torch.no_grad():
        plain = model(input_ids=ids, use_cache=False).logits
        given = model(inputs_embeds=embeddings(ids), use_cache=False).logits
    if getattr(model, "_is_stateful", False) or not torch.allclose(plain, given, rtol=1e-3):
        raise ValueError(
            f"{name} does not take its inputs from its embedding matrix alone, so nothing can be "
            "added to them. Leave input expansion out."
        )
