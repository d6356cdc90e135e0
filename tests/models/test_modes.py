"""Evaluation mode for a while."""

import pytest

from crosstok.models import evaluating
from tests.tiny_models import tiny_model


def test_every_module_goes_back_into_its_own_mode():
    model = tiny_model("llama", 300).train()
    frozen = model.model.layers[0]
    frozen.eval()  # as users do who leave the dropout of some layers off
    before = {name: module.training for name, module in model.named_modules()}
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert {name: module.training for name, module in model.named_modules()} == before


def test_modes_come_back_after_an_error():
    model = tiny_model("llama", 300).train()
    with pytest.raises(RuntimeError), evaluating(model):
        raise RuntimeError
    assert model.training
