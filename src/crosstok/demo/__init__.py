"""The demo: a small shipped model, moved to another tokenizer on text that every machine has."""
