"""crosstok moves language models, and what they know, across tokenizers."""

__version__ = "0.1.0"
