"""Text from one model, as transformers generates it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.generation.streamers import BaseStreamer

from crosstok.tokenizers import ByteVocab

log = logging.getLogger(__name__)


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompt: str,
    *,
    max_new_tokens: int = 128,
    temperature: float = 0.0,
    seed: int = 0,
    on_text: Callable[[str], None] | None = None,
) -> str:
    """Continue a prompt.

    The document start (bos, or eos where there is none) is put in front, as in training, unless the
    prompt begins with it. Sampling draws from the whole distribution, as the model gives it; ids
    that stand for nothing (gaps, rows that pad the matrix) are left out. The draws depend on the
    seed alone, and the global random state is left as it was.

    Args:
        model: a causal language model.
        tokenizer: the model's.
        prompt: text; what looks like a special token in it is one, as transformers reads it.
        max_new_tokens: at most so many; fewer where the model's positions end.
        temperature: 0 takes the likeliest token each time.
        seed: of the sampling.
        on_text: receives the continuation piece by piece as it comes, in whole characters.

    Returns:
        The continuation, without the prompt and without special tokens: the pieces that ``on_text``
        receives, joined.

    Raises:
        ValueError: there is neither a prompt nor a start token, the prompt fills the model's
            positions, no new token is asked for, or the temperature is negative.
    """
    if temperature < 0 or max_new_tokens < 1:
        raise ValueError(
            f"temperature is {temperature} and max_new_tokens {max_new_tokens}; the first must be "
            "at least 0 (greedy), the second at least 1."
        )
    vocab = ByteVocab.from_tokenizer(tokenizer)
    ids = _prompt_ids(tokenizer, vocab, prompt)
    config = GenerationConfig(
        max_new_tokens=_room(model, len(ids), max_new_tokens),
        do_sample=temperature > 0,
        top_k=0 if temperature else None,
        temperature=temperature or None,
        eos_token_id=_end_ids(model, vocab),
        pad_token_id=vocab.document_end or 0,  # of a batch of one: never used, but asked for
        suppress_tokens=_empty_ids(model, vocab) or None,
    )
    pieces = _Pieces(tokenizer, on_text)
    inputs = torch.tensor([ids], device=model.device)
    with _only(config, model), torch.random.fork_rng():
        torch.manual_seed(seed)
        running: Any = model
        running.generate(inputs, attention_mask=torch.ones_like(inputs), streamer=pieces)
    return pieces.text


class _Pieces(BaseStreamer):
    """Tokens to text as they come.

    A piece is what the decoded text grows by, since tokens do not decode one by one: SentencePiece
    drops the space of a first word, and a character may take several tokens. Only the tokens from
    the last piece on are decoded again.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, on_text: Callable[[str], None] | None
    ) -> None:
        self.text = ""
        self._tokenizer, self._on_text = tokenizer, on_text
        self._ids: list[int] = []
        self._anchor = 0  # first token that is decoded
        self._told = 0  # tokens whose text was told
        self._is_prompt = True

    def put(self, value: Tensor) -> None:
        """Take the prompt, then every new token."""
        self._ids += value.flatten().tolist()
        if self._is_prompt:
            self._told, self._is_prompt = len(self._ids), False
        else:
            self._tell(is_end=False)

    def end(self) -> None:
        """Tell what was held back for a character's last bytes."""
        self._tell(is_end=True)

    def _tell(self, is_end: bool) -> None:
        before = self._decode(self._ids[self._anchor : self._told])
        after = self._decode(self._ids[self._anchor :])
        if after.endswith("\ufffd") and not is_end:
            return
        piece = after[len(before) :]
        if not piece:
            return
        self._anchor, self._told = self._told, len(self._ids)
        self.text += piece
        if self._on_text is not None:
            self._on_text(piece)

    def _decode(self, ids: list[int]) -> str:
        return str(
            self._tokenizer.decode(
                ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )


def _prompt_ids(tokenizer: PreTrainedTokenizerFast, vocab: ByteVocab, prompt: str) -> list[int]:
    ids: list[int] = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    start = vocab.document_start
    if start is not None and ids[:1] != [start]:
        ids = [start, *ids]
    if not ids:
        raise ValueError("the prompt is empty and this tokenizer has no bos or eos; give a prompt.")
    return ids


def _room(model: PreTrainedModel, num_prompt_tokens: int, max_new_tokens: int) -> int:
    """New tokens that the model's positions hold."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is None or num_prompt_tokens + max_new_tokens <= positions:
        return max_new_tokens
    if num_prompt_tokens >= positions:
        raise ValueError(
            f"the prompt has {num_prompt_tokens} tokens, and the model has {positions} positions "
            "for prompt and continuation; shorten the prompt."
        )
    room = int(positions) - num_prompt_tokens
    log.warning("%d new tokens at most: the model has %d positions", room, positions)
    return room


def _end_ids(model: PreTrainedModel, vocab: ByteVocab) -> int | list[int] | None:
    """Where to stop: as the model's own files say, else at the end of the document."""
    for config in (model.generation_config, model.config):
        if (ids := getattr(config, "eos_token_id", None)) is not None:
            return ids  # type: ignore[no-any-return]
    return vocab.document_end


def _empty_ids(model: PreTrainedModel, vocab: ByteVocab) -> list[int]:
    """Rows of the output matrix that stand for neither bytes nor a special token."""
    output: Any = model.get_output_embeddings()
    return [
        index
        for index in range(output.weight.shape[0])
        if index >= len(vocab.token_bytes)
        or (vocab.token_bytes[index] is None and index not in vocab.special_ids)
    ]


@contextmanager
def _only(config: GenerationConfig, model: PreTrainedModel) -> Iterator[None]:
    """Generate by this configuration: transformers would fill it up from the model's own."""
    kept = model.generation_config
    model.generation_config = config
    try:
        yield
    finally:
        model.generation_config = kept
