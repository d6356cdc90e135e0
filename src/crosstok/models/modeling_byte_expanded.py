"""A language model over bytes whose input at each byte includes the longest subword ending there.

    input of position i  =  E_byte[x_i] + E_subword[longest subword whose bytes end at i]

E_subword is the frozen input matrix of the model from which this one was made; a position without
such a subword gets E_byte alone. (Input expansion, Minixhofer et al. 2025, arXiv 2503.20083,
appendix C; here without a cap on the length of subwords.)

This file is copied into the folders of such models and is all the code that they need
(``trust_remote_code=True``): it imports only torch and transformers.
"""

import inspect
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationMixin,
    PretrainedConfig,
    PreTrainedModel,
)

_OF_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings")
_CACHE_NAMES = ("cache", "past_key_values")
_PACKED = ("cu_seq_lens_q", "cu_seq_lens_k", "seq_idx", "block_table")


class ByteExpandedConfig(PretrainedConfig):
    """Configuration of the model over bytes, and sizes of the tables that find the subwords.

    Attributes:
        text_config: the configuration of the model over bytes.
        num_subwords: number of rows of the frozen matrix.
        num_edges: number of edges of the trie of subwords.
        longest_subword: length of the longest subword in bytes.
    """

    model_type = "byte_expanded"
    sub_configs = {"text_config": AutoConfig}  # noqa: RUF012

    def __init__(
        self,
        text_config: Any = None,
        num_subwords: int = 1,
        num_edges: int = 1,
        longest_subword: int = 1,
        **kwargs: Any,
    ) -> None:
        if text_config is None:
            text_config = {"model_type": "llama"}
        if isinstance(text_config, dict):
            text_config = AutoConfig.for_model(**text_config)
        self.text_config = text_config
        self.num_subwords, self.num_edges = num_subwords, num_edges
        self.longest_subword = longest_subword
        for name in _OF_TOKENS:
            kwargs.setdefault(name, getattr(text_config, name, None))
        super().__init__(**kwargs)

    @property
    def vocab_size(self) -> int:
        """Number of rows of the matrices over bytes."""
        return int(self.text_config.vocab_size)

    @property
    def hidden_size(self) -> int:
        """Hidden width."""
        return int(self.text_config.hidden_size)

    @property
    def num_hidden_layers(self) -> int:
        """Number of layers."""
        return int(self.text_config.num_hidden_layers)

    @property
    def max_position_embeddings(self) -> int | None:
        """Maximum number of bytes of a text, or None if there is no limit."""
        return getattr(self.text_config, "max_position_embeddings", None)


@dataclass(frozen=True)
class SubwordLookup:
    """Finds the longest subword that ends at each byte, by a trie of the subwords read backwards.

    States are numbered breadth first and edges are sorted, so that edge e leads to state e + 1.

    Attributes:
        id_bytes: [V] the byte of every id; -1 for a special token.
        id_subwords: [V] for a special token, the row of the same special token; else -1.
        edge_keys: [E] 256 * state + byte, ascending.
        state_subwords: [E + 1] row of the subword that a state spells, or -1.
        longest: length of the longest subword in bytes.
    """

    id_bytes: Tensor
    id_subwords: Tensor
    edge_keys: Tensor
    state_subwords: Tensor
    longest: int

    def to(self, device: torch.device | str) -> "SubwordLookup":
        """Return the same tables on another device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in _TABLES})

    def __call__(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Return the rows of the longest subwords [B T], -1 where there is none.

        All positions walk back in parallel, each as long as the bytes read are the end of some
        subword. No walk is longer than the longest subword, so the work is linear in the length of
        the text. A special token or padding (mask 0) ends every walk.
        """
        is_text = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        content = self.id_bytes[input_ids].masked_fill(is_text == 0, -1)
        subwords = self.id_subwords[input_ids].masked_fill(is_text == 0, -1)
        # A column before every row, which ends all walks.
        content = nn.functional.pad(content, (1, 0), value=-1).flatten()
        found = nn.functional.pad(subwords, (1, 0), value=-1).flatten()
        places = (content >= 0).nonzero().squeeze(1)
        read, states = places, torch.zeros_like(places)
        while len(places):
            keys = 256 * states + content[read]
            edges = torch.searchsorted(self.edge_keys, keys).clamp(max=len(self.edge_keys) - 1)
            goes_on = self.edge_keys[edges] == keys
            places, read, states = places[goes_on], read[goes_on] - 1, edges[goes_on] + 1
            spelled = self.state_subwords[states]
            found[places] = spelled.where(spelled >= 0, found[places])
            goes_on = content[read] >= 0
            places, read, states = places[goes_on], read[goes_on], states[goes_on]
        return found.view(len(input_ids), -1)[:, 1:]


_TABLES = ("id_bytes", "id_subwords", "edge_keys", "state_subwords")


@dataclass(frozen=True)
class ExpansionInputs:
    """Computes the extra input of the forward pass from the ids."""

    lookup: SubwordLookup

    @property
    def context(self) -> int:
        """Number of bytes that determine the subword of a position."""
        return self.lookup.longest

    def __call__(
        self, input_ids: Tensor, attention_mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the rows of the longest subwords [B T], by the name of the argument."""
        return {"expansion_ids": self.lookup(input_ids, attention_mask)}


class ByteExpandedForCausalLM(PreTrainedModel, GenerationMixin):
    """A causal language model over bytes with input expansion.

    ``backbone`` is the model over bytes; on its own it is a plain model of its architecture,
    without the expansion. ``subwords`` [num_subwords, D] is the frozen matrix.
    """

    subwords: Tensor

    config_class = ByteExpandedConfig
    supports_gradient_checkpointing = True
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True
    _supports_attention_backend = _can_compile_fullgraph = True

    def __init__(self, config: ByteExpandedConfig) -> None:
        super().__init__(config)
        self.backbone = AutoModelForCausalLM.from_config(
            config.text_config, dtype=torch.get_default_dtype()
        )
        # transformers before 5.24 calls it past_key_values.
        taken = inspect.signature(self.backbone.forward).parameters
        self._cache_name = "cache" if "cache" in taken else "past_key_values"
        own = self.backbone.get_input_embeddings()
        own.padding_idx = None  # else that row would not be trained
        num_ids, width = own.weight.shape
        # A buffer, so that it is frozen wherever it is loaded and is in no optimizer.
        self.register_buffer("subwords", torch.zeros(config.num_subwords, width))
        sizes = (num_ids, num_ids, config.num_edges, config.num_edges + 1)
        for name, size in zip(_TABLES, sizes, strict=True):
            self.register_buffer(name, torch.full((size,), -1))
        # The same on all ranks and constant, so DistributedDataParallel need not send them.
        self._ddp_params_and_buffers_to_ignore = [*_TABLES, "subwords"]
        self.post_init()  # type: ignore[no-untyped-call]

    @property
    def lookup(self) -> SubwordLookup:
        """The tables that find the subwords, on the model's device."""
        tables: Any = {name: getattr(self, name) for name in _TABLES}
        return SubwordLookup(**tables, longest=self.config.longest_subword)

    def extra_inputs(self) -> ExpansionInputs:
        """Return what finds the subwords before the forward pass, on the CPU."""
        return ExpansionInputs(self.lookup.to("cpu"))

    def describe_architecture(self) -> list[str]:
        """Describe what input expansion adds to the model over bytes, with numbers."""
        rows, width = self.subwords.shape
        edges: Any = self.edge_keys
        return [
            "Input expansion: the input of each byte is the sum of its embedding and the embedding "
            "of the longest original subword that ends there. Besides the weights of the model "
            f"over bytes, this adds {self.subwords.numel():,} frozen numbers ({rows:,} subwords of "
            f"width {width:,}) and a table of {len(edges):,} entries. The folder contains its own "
            "code: it loads with `trust_remote_code=True`, or after `import crosstok.models`."
        ]

    def get_input_embeddings(self) -> nn.Module:
        """Return the input matrix over bytes."""
        embeddings: nn.Module = self.backbone.get_input_embeddings()
        return embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the input matrix over bytes."""
        self.backbone.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """Return the output matrix over bytes."""
        embeddings: nn.Module = self.backbone.get_output_embeddings()
        return embeddings

    def set_output_embeddings(self, value: nn.Module) -> None:
        """Replace the output matrix over bytes."""
        self.backbone.set_output_embeddings(value)

    def resize_token_embeddings(self, *_args: Any, **_kwargs: Any) -> nn.Embedding:
        """Raise an error: the subwords can only be found if the ids are bytes."""
        raise ValueError(
            "a model with input expansion keeps its vocabulary of bytes. For another vocabulary, "
            "start from the model that it was made from, or from its .backbone."
        )

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Any = None,
        expansion_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        logits_to_keep: int | Tensor = 0,
        cache: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Run the backbone's forward pass on expanded inputs.

        Args:
            input_ids: [B T] bytes and special tokens.
            attention_mask: [B T] 1 for text, 0 for padding, on either side.
            expansion_ids: [B T] rows of the frozen matrix, -1 for none. They are looked up if not
                passed, which needs the whole text: with a filled `cache` they are required.
            position_ids: passed on to the backbone.
            past_key_values: the former name of `cache`.
            logits_to_keep: passed on to the backbone.
            cache: passed on to the backbone, under the name that its forward pass has for it.
            kwargs: other arguments of the backbone.

        Raises:
            TypeError: the subwords cannot be found from these arguments.
        """
        if input_ids is None or kwargs.pop("inputs_embeds", None) is not None:
            raise TypeError(
                "a model with input expansion takes input_ids, not inputs_embeds: it finds the "
                "subwords by the ids. Pass input_ids."
            )
        cache = past_key_values if cache is None else cache
        if expansion_ids is None:
            mask = attention_mask
            self._check_whole_text(mask, position_ids, cache, kwargs)
            expansion_ids = self.lookup(input_ids, mask)
        if logits_to_keep is not None and not (
            isinstance(logits_to_keep, int) and logits_to_keep == 0
        ):
            kwargs["logits_to_keep"] = logits_to_keep
        if position_ids is not None:
            kwargs["position_ids"] = position_ids
        if cache is not None:
            kwargs[self._cache_name] = cache
        return self.backbone(
            inputs_embeds=self.expanded(input_ids, expansion_ids),
            attention_mask=attention_mask,
            **kwargs,
        )

    def expanded(self, input_ids: Tensor, expansion_ids: Tensor) -> Tensor:
        """Return the sum of both embeddings [B T D], each from the backbone's embedding module.

        That module may scale its rows (Gemma), so it is called a second time, with the rows of the
        subwords instead of its matrix.
        """
        own: Any = self.get_input_embeddings()
        rows = self.subwords[expansion_ids.clamp(min=0).flatten()].to(own.weight.dtype)
        rows = rows.masked_fill((expansion_ids < 0).flatten()[:, None], 0)
        order = torch.arange(len(rows), device=rows.device).view_as(expansion_ids)
        added: Tensor = own(input_ids) + functional_call(own, {"weight": rows}, (order,))
        return added

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Return the backbone's inputs, and the new tokens' subwords, found in the last bytes."""
        kwargs.pop("expansion_ids", None)
        inputs: dict[str, Any] = self.backbone.prepare_inputs_for_generation(
            input_ids, attention_mask=attention_mask, **kwargs
        )
        if inputs.get("input_ids") is None:
            raise TypeError(
                "a model with input expansion generates from input_ids only; pass them."
            )
        num_new = inputs["input_ids"].shape[1]
        past = next((kwargs[name] for name in _CACHE_NAMES if kwargs.get(name) is not None), None)
        num_past = 0 if past is None else int(past.get_seq_length())
        if input_ids.shape[1] < num_past + num_new:
            raise TypeError(
                f"the cache holds {num_past} positions, but only {input_ids.shape[1]} ids were "
                "passed: a model with input expansion needs the ids of the whole text (chunked "
                "prefill is not supported)."
            )
        first = max(0, input_ids.shape[1] - num_new - self.config.longest_subword + 1)
        mask = None if attention_mask is None else attention_mask[:, first : input_ids.shape[1]]
        found = self.lookup(input_ids[:, first:], mask)
        inputs["expansion_ids"] = found[:, -num_new:]
        return inputs

    def _check_whole_text(self, mask: Any, positions: Any, past: Any, kwargs: Any) -> None:
        """Check that every row is one text from its first byte on, possibly padded on any side."""
        name = type(self).__name__
        if past is not None and int(past.get_seq_length()):
            raise TypeError(
                f"{name} cannot see the bytes of the text in the cache: pass "
                "expansion_ids (model.lookup(all_ids)[:, -num_new:]), or use generate()."
            )
        if mask is not None and not (isinstance(mask, Tensor) and mask.ndim == 2):
            raise TypeError(
                f"{name} finds the subwords of rows of text, and this attention mask is not "
                "[B T]: pass expansion_ids."
            )
        packed = [key for key in _PACKED if kwargs.get(key) is not None]
        if positions is not None and positions.shape[-1] > 1:
            steps = positions.diff(dim=-1) != 1
            if mask is not None:
                steps = steps & (mask[:, 1:] * mask[:, :-1] != 0)
            packed += ["position_ids that restart"] if bool(steps.any()) else []
        if packed:
            raise TypeError(
                f"{name} got several texts in one row ({', '.join(packed)}): pass expansion_ids, "
                "or give each text its own row."
            )
