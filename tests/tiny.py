"""Tiny tokenizers of every kind, trained here on a few fixed sentences."""

from __future__ import annotations

import json
from functools import cache
from typing import Literal

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

Kind = Literal["bytelevel_bpe", "spm_bpe", "unigram", "wordpiece", "gapped"]
KINDS: tuple[Kind, ...] = ("bytelevel_bpe", "spm_bpe", "unigram", "wordpiece", "gapped")
LOSSLESS_KINDS: tuple[Kind, ...] = ("bytelevel_bpe", "spm_bpe", "unigram", "gapped")

SENTENCES = (
    "The quick brown fox jumps over the lazy dog, and the dog does not mind at all.",
    "A tokenizer cuts a text into pieces; two tokenizers cut the same text into other pieces.",
    "In the morning she walked to the market and bought bread, cheese, apples and a newspaper.",
    "He said that he would come, that he would see, and that he would think about it.",
    "It was the best of times, it was the worst of times, it was the age of wisdom.",
    "Hello world! Hello there, general reader. How are you today? I am fine, thank you.",
    "def add(left, right):\n    return left + right\n\n\nprint(add(1, 2))\n",
    "for index in range(10):\n\tif index % 2 == 0:\n\t\tprint(index, 'is even')\n",
    "Numbers such as 0, 12, 345 and 6789 stand here; so do 3.14 and 2,718.",
    "Die Katze schläft auf dem Sofa, während der Hund vor der Tür wartet.",
    "Le café est déjà fermé; où est-ce que nous allons manger ce soir?",
    "Кошка спит на диване, а собака ждёт у двери.",
    "猫はソファで寝ています。 狗在门口等着。",
    "the user asked the assistant, and the system answered the user with another question",
)

_BYTE_PIECES = [f"<0x{byte:02X}>" for byte in range(256)]


@cache
def tiny_tokenizer(kind: Kind) -> PreTrainedTokenizerFast:
    """A small tokenizer of one kind; the same object every time, so leave it unchanged.

    bytelevel_bpe   GPT-2 like; <|endoftext|> is bos and eos, <|pad|> is pad
    spm_bpe         Llama-2 like: byte fallback, dummy prefix; <unk> <s> </s>
    unigram         SentencePiece Unigram with byte fallback; <pad> </s> <unk>, no bos
    wordpiece       BERT like: lower-casing, strips accents; [PAD] [UNK] [CLS] [SEP] [MASK], no eos
    gapped          bytelevel_bpe with specials far behind the vocabulary, as tiktoken has them
    """
    return _BUILD[kind]()


def with_chat_template(
    kind: Kind,
    template: str | None,
    *,
    special_tokens: tuple[str, ...] = (),
    rstrip: bool = False,
    **names: str,
) -> PreTrainedTokenizerFast:
    """A new tokenizer of that kind with more special tokens and a chat template."""
    backend = Tokenizer.from_str(tiny_tokenizer(kind).backend_tokenizer.to_str())
    backend.add_special_tokens(
        [AddedToken(token, normalized=False, rstrip=rstrip) for token in special_tokens]
    )
    known = {
        f"{role}_token": token
        for role in ("bos", "eos", "pad", "unk")
        if (token := getattr(tiny_tokenizer(kind), f"{role}_token"))
    }
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **(known | names))
    tokenizer.chat_template = template
    return tokenizer


def _train(backend: Tokenizer, trainer: trainers.Trainer) -> Tokenizer:
    backend.train_from_iterator(SENTENCES * 3, trainer)
    return backend


def _bytelevel_backend(special_tokens: list[str]) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=special_tokens,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    return _train(backend, trainer)


def _bytelevel_bpe() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=_bytelevel_backend(["<|endoftext|>", "<|pad|>"]),
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|pad|>",
    )


def _gapped() -> PreTrainedTokenizerFast:
    description = json.loads(_bytelevel_backend([]).to_str())
    vocab = description["model"]["vocab"]
    specials = {"<|endoftext|>": 520, "<|fim_prefix|>": 521, "<|endofprompt|>": 540}
    vocab.update(specials)
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    description["added_tokens"] = [
        {"id": index, "content": content, **flags, "special": True}
        for content, index in specials.items()
    ]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(description)),
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
    )


def _sentencepiece_parts(backend: Tokenizer) -> None:
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )


def _spm_bpe() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    _sentencepiece_parts(backend)
    # Train on words that keep their mark, then encode without a pre-tokenizer, as Llama-2 does.
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    _train(
        backend,
        trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=["<unk>", "<s>", "</s>", *_BYTE_PIECES],
            limit_alphabet=60,
            show_progress=False,
        ),
    )
    description = json.loads(backend.to_str())
    description["pre_tokenizer"] = None
    description["added_tokens"] = [
        token for token in description["added_tokens"] if token["content"] not in _BYTE_PIECES
    ]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(description)),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )


def _unigram() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.Unigram())
    _sentencepiece_parts(backend)
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    specials = ["<pad>", "</s>", "<unk>"]
    _train(
        backend,
        trainers.UnigramTrainer(
            vocab_size=240, special_tokens=specials, unk_token="<unk>", show_progress=False
        ),
    )
    description = json.loads(backend.to_str())
    model = description["model"]
    pieces = [entry for entry in model["vocab"] if entry[0] not in specials and entry[0].isascii()]
    pieces += [entry for entry in model["vocab"] if entry[0].startswith("▁")]
    pieces = sorted(dict(pieces).items(), key=lambda item: -item[1])
    head = [[piece, 0.0] for piece in specials] + [[piece, 0.0] for piece in _BYTE_PIECES]
    model.update(vocab=head + [list(entry) for entry in pieces], unk_id=2, byte_fallback=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(description)),
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
    )


def _wordpiece() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=400,
        special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
        show_progress=False,
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=_train(backend, trainer),
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


_BUILD = {
    "bytelevel_bpe": _bytelevel_bpe,
    "spm_bpe": _spm_bpe,
    "unigram": _unigram,
    "wordpiece": _wordpiece,
    "gapped": _gapped,
}
