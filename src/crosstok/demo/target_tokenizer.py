"""The tokenizer that the demo moves its model to, of another family and trained by the demo.

The shipped model uses byte-level BPE with GPT-2's pattern. This one is BPE in the style of
SentencePiece, as in Llama 2: it splits text at white space only (so "(self," or "None:" can be one
token), writes a space as "▁", has its own beginning and end of document, and falls back to byte
tokens for unknown characters.
"""

import json
from collections import Counter
from collections.abc import Sequence

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

NUM_TOKENS = 3000
UNK, BOS, EOS, PAD = SPECIAL_TOKENS = ("<unk>", "<s>", "</s>", "<pad>")
BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))

_MAX_TRAINING_CHARACTERS = 3_000_000
_MIN_CHARACTER_COUNT = 100
_MAX_TOKEN_CHARACTERS = 16
# "▁▁▁▁def" is "▁▁▁" and "▁def"; line breaks are never joined with the text around them.
_WORDS = r"\n+|▁+(?=▁)|▁?[^▁\n]+|▁"


def build_target_tokenizer(
    texts: Sequence[str], num_tokens: int = NUM_TOKENS
) -> PreTrainedTokenizerFast:
    """Train a BPE tokenizer with byte fallback; takes a few seconds.

    Equal texts give equal tokenizers. Decoding the ids of a text (encoded without special tokens)
    gives the text, white space included, with the one exception that all tokenizers of
    SentencePiece share: "▁" (U+2581) itself comes back as a space.

    Args:
        texts: training text. Of more than three million characters, evenly spaced documents are
            used. Characters outside ASCII that are rare in them are encoded as bytes.
        num_tokens: size of the vocabulary: 4 special tokens, 256 bytes, and trained pieces; smaller
            if the texts have too few different pieces.

    Returns:
        A tokenizer that puts `<s>` before a text, as Llama's tokenizers do.

    Raises:
        ValueError: there is no text, or the vocabulary leaves too little room for trained pieces.
    """
    reserved = (*SPECIAL_TOKENS, *BYTE_TOKENS)
    if num_tokens < 2 * len(reserved):
        raise ValueError(
            f"num_tokens is {num_tokens}, of which {len(reserved)} are special tokens and bytes; "
            f"it must be at least {2 * len(reserved)}. Use {NUM_TOKENS} (the default)."
        )
    if not any(texts):
        raise ValueError("texts hold no text at all. Give the text to train the tokenizer on.")
    every = -(-sum(map(len, texts)) // _MAX_TRAINING_CHARACTERS)
    characters, merges = _train(texts[::every], num_tokens - len(reserved))
    vocabulary = {token: token_id for token_id, token in enumerate((*reserved, *characters))}
    usable_merges = []
    for left, right in merges:
        # A merge that spells a reserved token ("<0x0A>" in a table) would turn text into that byte.
        if left in vocabulary and right in vocabulary and left + right not in reserved:
            vocabulary.setdefault(left + right, len(vocabulary))
            usable_merges.append((left, right))
    model = models.BPE(vocabulary, usable_merges, unk_token=UNK, byte_fallback=True, fuse_unk=False)
    return _wrap(_pipeline(model), vocabulary[BOS])


def _train(texts: Sequence[str], num_pieces: int) -> tuple[list[str], list[tuple[str, str]]]:
    """Train the characters and merges of a BPE model of `num_pieces` pieces."""
    counts = Counter[str]()
    for text in texts:
        counts.update(text)
    rare = [
        char for char, count in counts.items() if ord(char) > 127 and count < _MIN_CHARACTER_COUNT
    ]
    without_rare = {ord(char): None for char in rare}
    tokenizer = _pipeline(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=num_pieces,
        max_token_length=_MAX_TOKEN_CHARACTERS,
        show_progress=False,
    )
    tokenizer.train_from_iterator((text.translate(without_rare) for text in texts), trainer)
    trained = json.loads(tokenizer.to_str())["model"]
    merges = [(left, right) for left, right in trained["merges"]]
    composed = {left + right for left, right in merges}
    return sorted(token for token in trained["vocab"] if token not in composed), merges


def _pipeline(model: models.Model) -> Tokenizer:
    """Make the pipeline from text to words to pieces, and back."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_WORDS), behavior="isolated")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer


def _wrap(tokenizer: Tokenizer, bos_id: int) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, bos_id)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
    )
