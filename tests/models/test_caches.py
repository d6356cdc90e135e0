"""The names of caches, of any version of transformers."""

import warnings

import pytest
import torch

from crosstok.byteview import ByteModel
from crosstok.models.caches import cache_argument, cache_of
from tests.tiny import tiny_tokenizer
from tests.tiny_models import tiny_model


class OldNames(torch.nn.Module):
    """A model with code of its own, written for an older version of transformers."""

    def forward(self, input_ids, past_key_values=None, use_cache=None):
        pass


class NoCache(torch.nn.Module):
    def forward(self, input_ids):
        pass


class Output:
    def __init__(self, **fields):
        vars(self).update(fields)


def test_the_name_is_the_one_that_the_forward_pass_has():
    assert cache_argument(OldNames()) == "past_key_values"
    assert cache_argument(NoCache()) is None
    model = tiny_model("llama", 20)
    name = cache_argument(model)
    filled = cache_of(model(input_ids=torch.tensor([[1, 2]]), use_cache=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = model(input_ids=torch.tensor([[3]]), use_cache=True, **{name: filled})
    assert cache_of(again).get_seq_length() == 3


@pytest.mark.parametrize("name", ["cache", "past_key_values", "cache_params"])
def test_an_output_may_have_any_of_the_names(name):
    assert cache_of(Output(**{name: "filled"}, logits=0)) == "filled"
    assert cache_of(Output(logits=0)) is None
    assert cache_of(Output(**{name: None})) is None


def test_the_byte_view_is_quiet(capfd):
    tokenizer = tiny_tokenizer("bytelevel_bpe")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ByteModel(tiny_model("llama", len(tokenizer)), tokenizer).generate("The", max_new_bytes=2)
    assert capfd.readouterr() == ("", "")
