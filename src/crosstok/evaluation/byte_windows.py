"""Texts in windows of so many bytes: the same ones for every model, whatever its tokens."""

WINDOW_BYTES = 1024
"""Bytes of a window where models are compared that do not share a tokenizer's windows."""


def cut_text(text: str, num_bytes: int) -> list[str]:
    """A text in windows of at most that many bytes; joined they are the text.

    A window ends in front of white space where there is some in its second half, since tokens
    begin there; else at the last whole character.

    Raises:
        ValueError: `num_bytes` is below 4, and so holds not every character.
    """
    if num_bytes < 4:
        raise ValueError(
            f"a window of {num_bytes} bytes does not hold every character; give at least 4."
        )
    windows, rest = [], text
    while rest:
        window = first_window(rest, num_bytes)
        windows.append(window)
        rest = rest[len(window) :]
    return windows


def first_window(text: str, num_bytes: int) -> str:
    """The first window of `cut_text`."""
    head = text[:num_bytes]  # a character has at least one byte
    content = head.encode()
    if len(content) <= num_bytes and len(head) == len(text):
        return text
    window = content[:num_bytes].decode(errors="ignore")
    for end in range(len(window), len(window) // 2, -1):
        if text[end].isspace() and not text[end - 1].isspace():
            return text[:end]
    return window
