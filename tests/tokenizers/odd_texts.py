"""Texts that break tokenizers: many scripts, code, emoji, odd white space, marks typed as text."""

from __future__ import annotations

from hypothesis import strategies as st

SPECIALS_AS_TEXT = (
    "<|endoftext|>", "<|im_end|>", "<|im_start|>user\n", "<s>", "</s>", "<unk>", "<pad>", "[INST]",
    "[SEP]", "[UNK]", "[CLS]", "<tool_call>", "<extra_id_0>", "<end_of_turn>", "<|eot_id|>",
)  # fmt: skip

FRAGMENTS = (
    *SPECIALS_AS_TEXT,
    "Hello", "world", "the user", " and", "don't", "naïve", "Straße", "İstanbul", "ÉCOLE",
    "кошка", "猫はソファ", "안녕하세요", "नमस्ते", "สวัสดี", "مرحبا", "שלום", "ამინდი", "አማርኛ",
    "😀", "👩‍👩‍👧‍👦", "🏳️‍🌈", "e\u0301", "\u0301", "\u0323\u0307", "ﬁ", "½", "①",
    "ｆｕｌｌ", "Å", "\u1e9b\u0323", "\u1112\u1161\u11ab",
    "def f(x):\n\treturn x ** 2\n", "    ", "\t", "\n", "\n\n", "\r\n", " ", "  ",
    "\u00a0", "\u3000", "\u200b",
    "\u2028", "\u0085", "\ufeff", "\x00", "\x1b[0m", "\x7f", "\ufffd", "\uffff", "▁", "▁▁",
    "##", "##ing",
    "Ġ", "Ċ", "0", "12345", "3.14", "...", "!?", "—", "'s", "a", "x" * 40,
)  # fmt: skip

_characters = st.characters(exclude_categories=("Cs",))


def texts() -> st.SearchStrategy[str]:
    """Any text that has UTF-8."""
    pieces = st.one_of(st.sampled_from(FRAGMENTS), st.text(_characters, max_size=6))
    return st.lists(pieces, max_size=12).map("".join)
