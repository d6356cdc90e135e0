"""Hypothesis strategies for texts in many scripts, and one long text of them."""

from hypothesis import strategies as st

PIECES = (
    "the quick brown fox", "Hello", " world", "\n", "\n\n", "\t", "    ", " ", "  ", "é", "e\u0301",
    "naïve café", "Größe", "Кошка", " спит", "猫はソファ", "狗在门口", "안녕하세요", "שלום",
    "مرحبا", "नमस्ते", "ไทย", "🙂", "👩‍👩‍👧", "ﬁ", "①", "İ", "ß", "123", "3.14",
    "def f(x):\n\treturn x", "<0x0A>", "<|endoftext|>", "</s>", "<s>", "[UNK]", "▁", "Ġ", "\u00a0",
    "\u200b", "\r\n", "''", "'s", "don't", "\x00", "\ufeff", "ABC", "user", "assistant",
)  # fmt: skip

texts = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=40),
)

SAMPLE = " ".join(PIECES)
