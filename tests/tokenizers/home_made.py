"""Home-made tokenizers of every combination of parts that the tokenizers library offers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

SENTENCES = (
    "The quick brown fox jumps over the lazy dog, and the dog does not mind at all.",
    "Hello there! 12 and 345, don't you know? It isn't 3.14 (or is it).",
    "def add(left, right):\n    return left + right\n\tpass\n",
    "Le café est déjà fermé; Ångström, naïve, Straße, ﬁne ½ ①.",
    "안녕하세요 세계, 猫はソファで寝ています。 Кошка спит, й. नमस्ते क़लम 😀 a_b-c",
    "the</w> ▁dog Ġand ##ing <0x41> |x| [UNK]",
)

NORMALIZERS: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "NFC": normalizers.NFC,
    "NFD": normalizers.NFD,
    "NFKC": normalizers.NFKC,
    "NFKD": normalizers.NFKD,
    "Lowercase": normalizers.Lowercase,
    "Strip": normalizers.Strip,
    "Nmt": normalizers.Nmt,
    "StripAccents": lambda: normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]),
    "Bert": normalizers.BertNormalizer,
    "Bert cased": lambda: normalizers.BertNormalizer(lowercase=False),
    "Replace": lambda: normalizers.Replace(Regex(r"\s+"), " "),
    "Prepend": lambda: normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    ),
    "Underline": lambda: normalizers.Replace(" ", "_"),
    "ByteLevel": normalizers.ByteLevel,
}

PRE_TOKENIZERS: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "ByteLevel": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False),
    "ByteLevel space": lambda: pre_tokenizers.ByteLevel(add_prefix_space=True),
    "ByteLevel no regex": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    "Digits ByteLevel": lambda: pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=True)]
    ),
    "Metaspace": lambda: pre_tokenizers.Metaspace(prepend_scheme="always"),
    "Metaspace first": lambda: pre_tokenizers.Metaspace(prepend_scheme="first"),
    "Metaspace never": lambda: pre_tokenizers.Metaspace(prepend_scheme="never", split=False),
    "Metaspace Digits": lambda: pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Digits(individual_digits=True)]
    ),
    "Digits Metaspace": lambda: pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Metaspace()]
    ),
    "Digits Metaspace first": lambda: pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(True), pre_tokenizers.Metaspace(prepend_scheme="first")]
    ),
    "Whitespace Metaspace": lambda: pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    ),
    "Whitespace": pre_tokenizers.Whitespace,
    "WhitespaceSplit": pre_tokenizers.WhitespaceSplit,
    "Bert": pre_tokenizers.BertPreTokenizer,
    "Digits": lambda: pre_tokenizers.Digits(individual_digits=False),
    "Punctuation": lambda: pre_tokenizers.Punctuation("isolated"),
    "Punctuation removed": lambda: pre_tokenizers.Punctuation("removed"),
    "Split removed": lambda: pre_tokenizers.Split(" ", "removed"),
    "Split next": lambda: pre_tokenizers.Split(" ", "merged_with_next"),
    "Split previous": lambda: pre_tokenizers.Split(" ", "merged_with_previous"),
    "CharDelimiterSplit": lambda: pre_tokenizers.CharDelimiterSplit("_"),
    "UnicodeScripts": pre_tokenizers.UnicodeScripts,
    "FixedLength": lambda: pre_tokenizers.FixedLength(length=3),
    "Clip": lambda: pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
}

DECODERS: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "ByteLevel": decoders.ByteLevel,
    "Metaspace": decoders.Metaspace,
    "Metaspace never": lambda: decoders.Metaspace(prepend_scheme="never"),
    "WordPiece": decoders.WordPiece,
    "WordPiece plain": lambda: decoders.WordPiece(cleanup=False),
    "BPEDecoder": lambda: decoders.BPEDecoder(suffix="</w>"),
    "CTC": lambda: decoders.CTC(pad_token="<pad>", word_delimiter_token="|"),
    "Fuse": decoders.Fuse,
    "ByteFallback": decoders.ByteFallback,
    "Replace": lambda: decoders.Replace("_", " "),
    "Strip": lambda: decoders.Strip(" ", 1, 0),
    "Llama": lambda: decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    ),
    "Metaspace bytes": lambda: decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(), decoders.Fuse()]
    ),
    "ByteLevel Strip": lambda: decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)]),
    "Clip": lambda: decoders.Sequence([decoders.ByteLevel(), decoders.Replace("</w>", " ")]),
}

MODELS = (
    "BPE", "BPE bytes", "BPE suffix", "BPE prefix", "BPE ignore_merges", "Unigram",
    "Unigram bytes", "WordPiece", "WordLevel",
)  # fmt: skip

ADDED = ("<tool>", "Tool", "É", "two words", "▁▁", "été", "한", "España")

MARKS = ("##", "</w>", "<0x", "▁", "_", "|", "Ġ", "<pad>")
"""What stands for something else in one of these tokenizers: typed in a text, it is lost."""

_WORDS = (
    "the", " dog", " 12", ".", ", and", " isn't", " lazy", "café", "é", " 안녕", "하세요", "Tool",
    " <tool>", " two words", "  ", "▁▁", " of", "_", "hello", " Hello", "猫", "\n\n", " É", "été",
    "España", "한", "the</w>", "##ing", "Ġ", "½", "क़", "й", " don't", "e\u0301", "\u1112\u1161",
)  # fmt: skip


def plain_texts() -> st.SearchStrategy[str]:
    """Texts of words that these tokenizers know, so that many are encoded without loss."""
    return st.lists(st.sampled_from(_WORDS), min_size=1, max_size=5).map("".join)


@dataclass(frozen=True)
class Parts:
    """The parts of one tokenizer, by their names in the tables of this module."""

    normalizer: str = "none"
    pre_tokenizer: str = "none"
    model: str = "BPE"
    decoder: str = "none"
    has_unknown: bool = True
    added: tuple[tuple[str, bool, bool, bool, bool], ...] = field(default=())

    @property
    def knows_unknown(self) -> bool:
        """Whether there is an unknown token: only BPE encodes every text without one."""
        return self.has_unknown or not self.model.startswith("BPE")


_flags = st.booleans()
# The library panics on white space that takes in more of it, or that the normaliser removes.
_added = st.one_of(
    st.tuples(st.sampled_from(ADDED), _flags, _flags, _flags, _flags),
    st.tuples(st.just("\n\n"), st.just(False), st.just(False), st.just(False), st.just(False)),
)

# Combinations that belong together, as published tokenizers have them.
MATCHED = (
    ("ByteLevel", "BPE", "ByteLevel"),
    ("ByteLevel space", "BPE", "ByteLevel"),
    ("ByteLevel no regex", "BPE ignore_merges", "ByteLevel"),
    ("Digits ByteLevel", "BPE", "ByteLevel"),
    ("ByteLevel", "WordLevel", "ByteLevel"),
    ("ByteLevel", "Unigram", "ByteLevel"),
    ("Clip", "BPE suffix", "Clip"),
    ("Clip", "BPE suffix", "ByteLevel"),
    ("Bert", "BPE suffix", "BPEDecoder"),
    ("Whitespace", "BPE suffix", "BPEDecoder"),
    ("WhitespaceSplit", "BPE suffix", "BPEDecoder"),
    ("WhitespaceSplit", "BPE prefix", "WordPiece"),
    ("Bert", "WordPiece", "WordPiece"),
    ("Whitespace", "WordPiece", "WordPiece plain"),
    ("WhitespaceSplit", "WordLevel", "none"),
    ("Whitespace", "WordLevel", "WordPiece plain"),
    ("WhitespaceSplit", "BPE", "none"),
    ("Metaspace", "Unigram", "Metaspace"),
    ("Metaspace", "BPE bytes", "Llama"),
    ("Metaspace first", "Unigram bytes", "Metaspace bytes"),
    ("Metaspace never", "BPE", "Metaspace never"),
    ("Metaspace Digits", "BPE bytes", "Metaspace bytes"),
    ("Digits Metaspace", "Unigram", "Metaspace"),
    ("Digits Metaspace first", "BPE bytes", "Llama"),
    ("Whitespace Metaspace", "Unigram", "Metaspace"),
    ("none", "BPE bytes", "Llama"),
    ("none", "Unigram bytes", "Fuse"),
    ("Digits", "BPE", "Fuse"),
    ("Punctuation", "BPE", "Fuse"),
    ("Split next", "BPE", "Fuse"),
    ("Split previous", "BPE", "Fuse"),
    ("Split removed", "WordLevel", "none"),
    ("UnicodeScripts", "BPE", "Fuse"),
    ("FixedLength", "BPE", "Fuse"),
)  # fmt: skip


def parts() -> st.SearchStrategy[Parts]:
    """Any combination, half of them of parts that belong together."""
    matched = st.builds(
        lambda normalizer, triple, has_unknown, added: Parts(
            normalizer, *triple, has_unknown, tuple(added)
        ),
        st.sampled_from(sorted(NORMALIZERS)),
        st.sampled_from(MATCHED),
        st.booleans(),
        st.lists(_added, max_size=2, unique_by=lambda token: token[0]),
    )
    free = st.builds(
        Parts,
        st.sampled_from(sorted(NORMALIZERS)),
        st.sampled_from(sorted(PRE_TOKENIZERS)),
        st.sampled_from(MODELS),
        st.sampled_from(sorted(DECODERS)),
        st.booleans(),
        st.lists(_added, max_size=2, unique_by=lambda token: token[0]).map(tuple),
    )
    return st.one_of(matched, free)


def make(parts: Parts) -> PreTrainedTokenizerFast:
    """Train a small tokenizer of these parts."""
    backend = Tokenizer.from_str(
        _trained(parts.normalizer, parts.pre_tokenizer, parts.model, parts.knows_unknown)
    )
    decoder = DECODERS[parts.decoder]()
    if decoder is not None:
        backend.decoder = decoder
    for content, normalized, lstrip, rstrip, single_word in parts.added:
        backend.add_tokens(
            [
                AddedToken(
                    content,
                    normalized=normalized,
                    lstrip=lstrip,
                    rstrip=rstrip,
                    single_word=single_word,
                )
            ]
        )
    names = {"eos_token": "<eos>"} | ({"unk_token": "<unk>"} if parts.knows_unknown else {})
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


@lru_cache(maxsize=4096)
def _trained(normalizer: str, pre_tokenizer: str, model: str, has_unknown: bool) -> str:
    kind, *variant = model.split()
    bytes_of = [f"<0x{byte:02X}>" for byte in range(256)] if variant == ["bytes"] else []
    shows_bytes = "ByteLevel" in pre_tokenizer + normalizer or pre_tokenizer == "Clip"
    backend, trainer = _untrained(kind, variant, has_unknown, bytes_of, shows_bytes)
    made, before = NORMALIZERS[normalizer](), PRE_TOKENIZERS[pre_tokenizer]()
    if made is not None:
        backend.normalizer = made
    if before is not None:
        backend.pre_tokenizer = before
    backend.train_from_iterator(SENTENCES * 2, trainer)
    description = json.loads(backend.to_str())
    if bytes_of:
        _give_bytes(description, bytes_of)
    return json.dumps(description)


def _untrained(
    kind: str, variant: list[str], has_unknown: bool, bytes_of: list[str], shows_bytes: bool
) -> tuple[Tokenizer, Any]:
    specials = ["<eos>", "<unk>"] if has_unknown else ["<eos>"]
    shown: dict[str, Any] = {"show_progress": False, "special_tokens": specials}
    unknown = "<unk>" if has_unknown else None
    if kind == "Unigram":
        trainer: Any = trainers.UnigramTrainer(vocab_size=200, unk_token=unknown, **shown)
        return Tokenizer(models.Unigram()), trainer
    if kind == "WordPiece":
        trainer = trainers.WordPieceTrainer(vocab_size=400, **shown)
        return Tokenizer(models.WordPiece(unk_token="<unk>")), trainer
    if kind == "WordLevel":
        trainer = trainers.WordLevelTrainer(vocab_size=400, **shown)
        return Tokenizer(models.WordLevel(unk_token="<unk>")), trainer
    options, both = {
        "": ({}, {}),
        "bytes": ({"byte_fallback": True}, {}),
        "suffix": ({}, {"end_of_word_suffix": "</w>"}),
        "prefix": ({}, {"continuing_subword_prefix": "##"}),
        "ignore_merges": ({"ignore_merges": True}, {}),
    }["".join(variant)]
    shown |= both
    if bytes_of:
        shown |= {"special_tokens": specials + bytes_of, "limit_alphabet": 40}
    if shows_bytes:
        shown["initial_alphabet"] = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(unk_token=unknown, fuse_unk=True, **options, **both))
    return backend, trainers.BpeTrainer(vocab_size=800, **shown)


def _give_bytes(description: dict[str, Any], bytes_of: list[str]) -> None:
    """Make the byte pieces ordinary pieces of the model, as byte fallback has them."""
    model = description["model"]
    description["added_tokens"] = [
        token for token in description["added_tokens"] if token["content"] not in bytes_of
    ]
    if isinstance(model["vocab"], list):
        model["vocab"] += [[piece, -20.0] for piece in bytes_of]
        model["byte_fallback"] = True
