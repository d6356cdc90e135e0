"""How many tokens a model has positions for, and more of them where that costs no weights."""

from typing import Any

# Kinds of rotary positions whose angles do not depend on the number of positions.
_FREE_KINDS = ("default", "linear", "llama3")


def max_positions(config: Any) -> int | None:
    """Tokens that a model was made for; None where its configuration does not say.

    Args:
        config: a transformers configuration.
    """
    config = config.get_text_config()
    found = getattr(config, "max_position_embeddings", None)
    return None if found is None else int(found)


def why_positions_are_fixed(config: Any) -> str | None:
    """What keeps a model to its number of positions; None where it can have any number."""
    config = config.get_text_config()
    if max_positions(config) is None:
        return None
    rope = getattr(config, "rope_parameters", None)
    if not rope and getattr(config, "rope_theta", None) is None:
        return "its positions are not rotary: each has weights of its own"
    kinds = sorted(_rope_kinds(rope or {}) - set(_FREE_KINDS))
    if kinds:
        return f"its rotary positions are of type {', '.join(kinds)}, stretched to that number"
    return None


def raise_max_positions(config: Any, length: int) -> bool:
    """Let a model have `length` positions, in place; False where it had as many already.

    Raises:
        ValueError: its number of positions cannot be changed.
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
    config.get_text_config().max_position_embeddings = length
    return True


def _rope_kinds(rope: Any) -> set[str]:
    """Types of rotary positions: one, or one for each kind of layer."""
    per_layer = [value for value in rope.values() if isinstance(value, dict)]
    return {str(found.get("rope_type") or "default") for found in per_layer or [rope]}
