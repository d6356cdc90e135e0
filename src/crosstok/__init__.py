"""crosstok moves language models, and what they know, across tokenizers."""

from typing import Any

__version__ = "0.1.0"

_FROM = {
    "ALM": "objectives",
    "CrossTokenizerTrainer": "training",
    "DistillationCollator": "training",
    "DistillationLoss": "training",
    "alm_loss": "training",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _FROM:
        raise AttributeError(f"module 'crosstok' has no attribute {name!r}")
    return getattr(import_module(f"crosstok.{_FROM[name]}"), name)
