"""Greedy answers are those of the definition, whatever state a model keeps between tokens."""

import logging
import os

import pytest
import torch

from crosstok.byteview import ByteModel
from crosstok.inference import Sampling, TokenModel
from crosstok.inference.continuing import (
    RecomputedRows,
    SeparateRows,
    continue_prompts,
)
from crosstok.inference.token_rows import TokenRows
from crosstok.models import output_head
from tests.architectures import CAUSAL, build
from tests.tiny import tiny_tokenizer
from tests.tiny_models import tiny_model

PROMPTS = ([3, 60, 7, 25, 9, 80, 11], [5, 41], [17, 9, 33, 2])
ALWAYS = ("mamba", "mamba2", "rwkv", "recurrent_gemma", "jamba", "lfm2", "openai-gpt", "bloom")
SEARCHED = CAUSAL if os.environ.get("HYPOTHESIS_PROFILE") == "search" else ALWAYS


def built(architecture, size=100):
    try:
        return build(architecture, size)
    except Exception as error:
        if architecture in ALWAYS:
            raise
        pytest.skip(f"no small form is known: {error}"[:200])


def defined(model, prompt, num_new):
    """Greedy decoding by definition, and how much the best token is ahead of the second."""
    ids, leads = list(prompt), []
    for _ in range(num_new):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        best = logits.topk(2).values
        leads.append(float(best[0] - best[1]))
        ids.append(int(logits.argmax()))
    return ids[len(prompt) :], min(leads)


@pytest.mark.parametrize("architecture", SEARCHED)
def test_rows_of_any_lengths_are_continued_as_by_definition(architecture):
    model = built(architecture)
    try:
        output_head(model)  # a model that is not causal is refused everywhere
        wanted = [defined(model, prompt, 4) for prompt in PROMPTS]
    except Exception as error:
        if architecture in ALWAYS:
            raise
        pytest.skip(f"not a causal model of ids alone: {error}"[:200])
    rows = continue_prompts(model, PROMPTS)
    found = []
    for _ in range(4):
        chosen = rows.logits()[:, -1].argmax(-1, keepdim=True)
        rows.append(chosen)
        found.append(chosen)
    for ours, (theirs, lead) in zip(torch.cat(found, 1).tolist(), wanted, strict=True):
        assert ours == theirs or lead < 1e-3


@pytest.mark.parametrize("architecture", ["mamba", "rwkv", "jamba", "openai-gpt"])
def test_answers_are_those_of_the_definition(architecture, caplog):
    tokenizer = tiny_tokenizer("bytelevel_bpe")
    model = built(architecture, len(tokenizer))
    prompts = ["The quick brown fox", "A", "Hello there"]
    with caplog.at_level(logging.WARNING):
        view = TokenModel(model, tokenizer)
        together = view.generate(prompts, Sampling(max_new_tokens=5))
        alone = [view.generate([prompt], Sampling(max_new_tokens=5))[0] for prompt in prompts]
    assert together == alone
    assert caplog.text.count("every token reads its whole text again") == (
        architecture in ("rwkv", "openai-gpt")
    )
    for prompt, answer in zip(prompts, together, strict=True):
        start = view.reader.prompt_ids(prompt)
        ids, _ = defined(model, start, 5)
        assert answer == tokenizer.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("rows_of", [TokenRows, SeparateRows, RecomputedRows])
def test_every_way_removes_and_drops_rows_alike(rows_of):
    model = tiny_model("llama", 100)
    rows, plain = rows_of(model, PROMPTS), TokenRows(model, PROMPTS)
    for ours in (rows, plain):
        ours.logits()
        ours.append(torch.tensor([[4, 5, 6]] * 3))
        ours.logits(2)
        ours.crop(2)
        ours.keep([2, 0])
        ours.append(torch.tensor([[8], [9]]))
    torch.testing.assert_close(rows.logits(), plain.logits(), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"num is 9; it must be from 0 to 2"):
        rows.crop(9)
    with pytest.raises(ValueError, match=r"num is 3; it must be from"):
        rows.logits(3)


def test_a_plain_model_is_padded_together_and_says_nothing(caplog):
    with caplog.at_level(logging.WARNING):
        assert isinstance(continue_prompts(tiny_model("llama", 100), PROMPTS), TokenRows)
    assert not caplog.text


@pytest.mark.parametrize("architecture", ["bloom", "mpt", "mamba", "rwkv", "recurrent_gemma"])
def test_the_byte_view_shares_keys_only_where_it_may(architecture, caplog):
    tokenizer = tiny_tokenizer("bytelevel_bpe")
    model = built(architecture, len(tokenizer))
    with caplog.at_level(logging.WARNING):
        view = ByteModel(model, tokenizer)
    assert caplog.text.count("every branch is read from its first token") == 1
    assert "share_kv" not in caplog.text
    plain = ByteModel(model, tokenizer, share_kv=False)
    assert view.logprob("The cat") == pytest.approx(plain.logprob("The cat"), rel=1e-6)
