"""The tokenizer that the demo moves its model to: made on the spot, of another family.

The shipped model reads byte-level BPE. This one is a Unigram model in the manner of SentencePiece:
it cuts text at white space only, writes a space as "▁", has beginning and end of document tokens,
and falls back to byte tokens for characters it does not know.
"""

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

BOS, EOS, UNK, PAD = "<s>", "</s>", "<unk>", "<pad>"
NUM_TOKENS = 3000
MAX_TRAINING_CHARACTERS = 3_000_000
MIN_CHARACTER_COUNT = 100

# "▁▁▁▁def" is "▁▁▁" and "▁def"; every line's end stands alone.
_WORDS = r"\n+|▁+(?=▁)|▁?[^▁\n]+|▁"


def build_target_tokenizer(
    texts: Sequence[str], num_tokens: int = NUM_TOKENS
) -> PreTrainedTokenizerFast:
    """Train a Unigram tokenizer with byte fallback; takes a few seconds.

    Equal texts give equal tokenizers. `decode(encode(text))` is the text, white space included,
    with the one exception that all SentencePiece tokenizers share: "▁" (U+2581) reads as a space.

    Args:
        texts: Training text. Of a long list, evenly spaced documents are used.
        num_tokens: Size of the vocabulary: 4 special tokens, 256 bytes, and trained pieces. Fewer
            come out when the texts are too small for that many.

    Raises:
        ValueError: No text, or a vocabulary that leaves no room for trained pieces.
    """
    reserved = [UNK, BOS, EOS, PAD, *(f"<0x{byte:02X}>" for byte in range(256))]
    if num_tokens < 2 * len(reserved):
        raise ValueError(
            f"num_tokens is {num_tokens}: {len(reserved)} are special tokens and bytes; "
            f"ask for at least {2 * len(reserved)}"
        )
    if not any(texts):
        raise ValueError("texts hold no text: a tokenizer is trained on some")
    pieces = _train_pieces(_training_sample(texts), num_tokens - len(reserved))
    vocabulary = [(token, 0.0) for token in reserved] + [
        piece for piece in pieces if piece[0] not in reserved
    ]
    tokenizer = _pipeline(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    special = [AddedToken(token, special=True, normalized=False) for token in (UNK, BOS, EOS, PAD)]
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A",
        pair=f"{BOS} $A {BOS} $B",
        special_tokens=[(BOS, reserved.index(BOS))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
    )


def _training_sample(texts: Sequence[str]) -> list[str]:
    """Evenly spaced documents, without the characters that are left to the byte tokens."""
    every = -(-sum(map(len, texts)) // MAX_TRAINING_CHARACTERS)
    sample = texts[:: max(1, every)]
    counts = Counter[str]()
    for text in sample:
        counts.update(text)
    rare = {ord(char) for char, count in counts.items() if count < MIN_CHARACTER_COUNT}
    rare -= set(range(128))
    return [text.translate(dict.fromkeys(rare)) for text in sample]


def _train_pieces(texts: Sequence[str], num_pieces: int) -> list[tuple[str, float]]:
    """Pieces with their log-probabilities (nats), the most likely first."""
    tokenizer = _pipeline(models.Unigram())
    trainer = trainers.UnigramTrainer(
        vocab_size=num_pieces, max_piece_length=16, show_progress=False, unk_token=None
    )
    tokenizer.train_from_iterator(texts, trainer)
    import json

    vocabulary = json.loads(tokenizer.to_str())["model"]["vocab"]
    return [(piece, score) for piece, score in vocabulary]


def _pipeline(model: models.Model) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_WORDS), behavior="isolated")
    return tokenizer
