"""The demo: a small shipped model moved to another tokenizer, on text of the standard library."""
