"""Number of positions of a model, and how to raise it for models where that needs no weights."""

from typing import Any

# Kinds of rotary positions whose angles do not depend on the number of positions.
_FREE_KINDS = ("default", "linear", "llama3")

# Names of the number of positions in the configurations of transformers (GPT-2, MPT, RWKV, Whisper)
# and of checkpoints with code of their own.
_NAMES = (
    "max_position_embeddings",
    "n_positions",
    "n_ctx",
    "max_seq_len",
    "context_length",
    "max_target_positions",
    "max_sequence_length",
)


def max_positions(config: Any) -> int | None:
    """Return the maximum number of tokens of a model; None if its configuration has none.

    Args:
        config: a transformers configuration.
    """
    config = config.get_text_config()
    found = next((value for name in _NAMES if (value := getattr(config, name, None))), None)
    return None if found is None else int(found)


def why_positions_are_fixed(config: Any) -> str | None:
    """Return why a model cannot have more positions; None if it can have any number."""
    config = config.get_text_config()
    if max_positions(config) is None:
        return None
    rope = getattr(config, "rope_parameters", None)
    if not _is_rotary(config):
        return "its positions are not rotary: each has its own weights"
    kinds = sorted(_rope_kinds(rope or {}) - set(_FREE_KINDS))
    if kinds:
        return f"its rotary positions are of type {', '.join(kinds)}, scaled to that number"
    return None


def describe_excess(option: str, length: int, name: str, positions: int) -> str:
    """The message about a length that a model has too few positions for."""
    return f"{option} is {length}, but {name} has {positions} positions; give at most that."


def check_positions(config: Any, option: str, length: int, name: str) -> str | None:
    """Check that a model has positions for a length.

    Args:
        config: a transformers configuration.
        option: name of the option that sets the length.
        length: tokens.
        name: the model's, for messages.

    Returns:
        A warning where its rotary positions can be exceeded, but it was not trained there; None
        where it has enough.

    Raises:
        ValueError: its positions have weights of their own, and there are too few.
    """
    positions = max_positions(config)
    if positions is None or length <= positions:
        return None
    if not _is_rotary(config):
        raise ValueError(describe_excess(option, length, name, positions))
    return (
        f"{option} is {length}, and {name} was made for {positions} positions. They are rotary, so "
        "that longer texts can be read, but the model was not trained on them. Give at most that."
    )


def raise_max_positions(config: Any, length: int) -> bool:
    """Raise a model's number of positions to `length`, in place; False if it had enough.

    Raises:
        ValueError: the model's number of positions cannot be changed.
    """
    positions = max_positions(config)
    if positions is None or length <= positions:
        return False
    reason = why_positions_are_fixed(config)
    if reason is not None:
        raise ValueError(
            f"the model has {positions} positions, and {length} are needed; {reason}. "
            f"Give at most {positions}."
        )
    inner = config.get_text_config()
    setattr(inner, next(name for name in _NAMES if getattr(inner, name, None)), length)
    return True


def _is_rotary(config: Any) -> bool:
    config = config.get_text_config()
    rope = getattr(config, "rope_parameters", None)
    return bool(rope) or getattr(config, "rope_theta", None) is not None


def _rope_kinds(rope: Any) -> set[str]:
    """Collect the types of rotary positions: one, or one for each kind of layer."""
    per_layer = [value for value in rope.values() if isinstance(value, dict)]
    return {str(found.get("rope_type") or "default") for found in per_layer or [rope]}
