"""Models that answer."""

from crosstok.inference.generate import generate

__all__ = ["generate"]
