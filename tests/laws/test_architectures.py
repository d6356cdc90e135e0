"""Two laws of transplants over the causal architectures of the installed transformers.

The gate tries those that are used most; `make search` tries all of them.
"""

import os

import pytest
import torch

from tests.permuted import TOLERANCE, permutation_gap, permuted_pair, spellings_differ
from tests.tiny_forms import EVERY_ARCHITECTURE, tiny_form

USUAL = (
    "deepseek_v3",
    "deepseek_v4",  # routes by a table of the ids
    "gemma3n_text",  # has a table for each layer
    "gemma4_text",
    "gpt2",
    "gptj",  # has an output bias
    "gpt_oss",
    "inkling_text",  # cuts its logits to a second size
    "llama",
    "mamba",
    "mixtral",
    "opt",
    "phi",
    "qwen3_5_text",
    "rwkv",
    "whisper",
)
SEARCHES = os.environ.get("HYPOTHESIS_PROFILE") == "search"
TRIED = EVERY_ARCHITECTURE if SEARCHES else USUAL

REFUSED = (
    "camembert",
    "data2vec-text",
    "prophetnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
)
"""They count their positions from the id of the padding token."""

NOT_LOADED = ("emu3", "mllama")
"""The part that writes text loads only with the whole: AutoModelForCausalLM does not know it."""


def form(name: str):
    """A tiny form, or a skip that says why there is none."""
    encoder = permuted_pair()[0]
    try:
        model = tiny_form(name, len(encoder.byte_vocab), pad=encoder.tokenizer.pad_token_id)
        with torch.no_grad():
            model(input_ids=torch.arange(4, 14)[None], use_cache=False)
    except Exception as error:
        pytest.skip(f"{name} has no tiny form: {error}")
    return model


@pytest.mark.parametrize("name", [name for name in TRIED if name not in REFUSED])
def test_permuted_ids_leave_the_function_as_it_was(name, tmp_path):
    assert permutation_gap(form(name), tmp_path) <= TOLERANCE


@pytest.mark.parametrize("name", [n for n in TRIED if n not in REFUSED and n not in NOT_LOADED])
def test_two_spellings_of_a_configuration_have_one_outcome(name, tmp_path):
    assert spellings_differ(form(name), tmp_path) == ""


@pytest.mark.parametrize("name", REFUSED if SEARCHES else REFUSED[-1:])
def test_an_architecture_that_cannot_be_moved_is_refused_before_any_work(name, tmp_path):
    model = form(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="counts its positions from the id of its padding"):
        permutation_gap(model, tmp_path)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
