"""Cut texts into windows of a number of bytes, the same for every model whatever its tokens."""

WINDOW_BYTES = 1024
"""Bytes in a window, where the models compared cannot all be cut at tokens."""


def cut_text(text: str, num_bytes: int) -> list[str]:
    """Cut a text into windows of at most `num_bytes` bytes, which joined give the text.

    A window ends before white space, where tokens begin, if there is any in its second half;
    otherwise at the last whole character.

    Raises:
        ValueError: `num_bytes` is below 4, too few for some characters.
    """
    if num_bytes < 4:
        raise ValueError(
            f"a window of {num_bytes} bytes is too small for some characters; give at least 4."
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
