"""Text from one model, as transformers generates it."""

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast, set_seed
from transformers.generation.streamers import BaseStreamer

from crosstok.tokenizers import ByteVocab


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompt: str,
    *,
    max_new_tokens: int = 128,
    temperature: float = 0.0,
    seed: int = 0,
    streamer: BaseStreamer | None = None,
) -> str:
    """Continue a prompt.

    The document start (bos, or eos where there is none) is put in front, as in training.

    Args:
        model: a causal language model.
        tokenizer: the model's.
        prompt: text; what looks like a special token in it is one, as transformers reads it.
        max_new_tokens: at most so many.
        temperature: 0 takes the likeliest token each time.
        seed: of the sampling.
        streamer: receives tokens as they come.

    Returns:
        The continuation, without the prompt and without special tokens.

    Raises:
        ValueError: there is neither a prompt nor a start token, or no new token is asked for, or
            the temperature is negative.
    """
    if temperature < 0 or max_new_tokens < 1:
        raise ValueError(
            f"temperature is {temperature} and max_new_tokens {max_new_tokens}; the first must be at "
            "least 0 (greedy), the second at least 1."
        )
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    start = ByteVocab.from_tokenizer(tokenizer).document_start
    if start is not None:
        ids = [start, *ids]
    if not ids:
        raise ValueError("the prompt is empty and this tokenizer has no bos or eos; give a prompt.")
    set_seed(seed)
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {}
    config = GenerationConfig.from_model_config(model.config)
    config.update(max_new_tokens=max_new_tokens, **sampling)
    inputs = torch.tensor([ids], device=model.device)
    if streamer is not None:
        streamer.put(torch.tensor(ids[:0]))
    output = model.generate(
        inputs,
        attention_mask=torch.ones_like(inputs),
        generation_config=config,
        streamer=streamer,
    )
    text: str = tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True)
    return text
