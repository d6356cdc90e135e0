"""`Loaded`: a model, tokenizer or data set that is in memory, where a name is expected."""

from __future__ import annotations

from typing import Any

IN_MEMORY = "<in memory>"
"""What recipes, cards and tables call an object that has no name."""


class Loaded(str):
    """A name that stands for objects in memory.

    It is a plain name for everything that prints, compares or stores names. What loads models,
    tokenizers or data takes its objects instead.

    Attributes:
        model: a model, or None.
        tokenizer: a tokenizer, or None.
        data: rows, or None.
    """

    model: Any
    tokenizer: Any
    data: Any

    def __new__(
        cls, name: str, *, model: Any = None, tokenizer: Any = None, data: Any = None
    ) -> Loaded:
        """Give objects a name."""
        made = super().__new__(cls, name)
        made.model, made.tokenizer, made.data = model, tokenizer, data
        return made

    def __deepcopy__(self, memo: Any) -> Loaded:
        """The same: a copy of a recipe has the same objects."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process it is a plain name."""
        return str, (str(self),)

    @classmethod
    def model_of(cls, given: Any) -> Loaded:
        """Name a model, a tokenizer, ``(model, tokenizer)`` or ``(name, model, tokenizer)``.

        An object is called by its ``name_or_path``, where it has one.
        """
        if not isinstance(given, tuple | list):
            is_tokenizer = not hasattr(given, "parameters") and hasattr(given, "encode")
            kind = "tokenizer" if is_tokenizer else "model"
            return cls(_name_of(given), **{kind: given})
        name, model, tokenizer = given if len(given) == 3 else (None, *given)
        return cls(name or _name_of(model), model=model, tokenizer=tokenizer)

    @classmethod
    def data_of(cls, given: Any) -> Loaded:
        """Name a data set."""
        return cls(IN_MEMORY, data=given)


def _name_of(given: Any) -> str:
    return str(getattr(given, "name_or_path", None) or IN_MEMORY)
