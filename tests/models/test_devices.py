import logging

import pytest
import torch

from crosstok.models import default_device


@pytest.mark.parametrize(
    ("found", "chosen"), [(None, "cpu"), ("cuda", "cuda"), ("xpu", "xpu"), ("mps", "cpu")]
)
def test_models_go_to_an_accelerator_that_has_float64(monkeypatch, caplog, found, chosen):
    device = None if found is None else torch.device(found)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: device)
    with caplog.at_level(logging.WARNING, "crosstok"):
        assert default_device() == torch.device(chosen)
    assert ("mps" in caplog.text) == (found == "mps")
