"""Chat examples: time against `apply_chat_template`, and coverage of answers in many languages.

Conversations of six messages, with words from GSM8K and sentences from NTREX in all its languages.
Interleaved repeats, ratio of medians, one thread, as in a data loader's worker.

    TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1 python benchmarks/chat_encoding.py
"""

import argparse
import statistics
import time
from itertools import permutations
from pathlib import Path

from common import SHARED, check_folder, made_by, write_results

from crosstok.alignment import align_batch
from crosstok.chats import Conversation, ExampleEncoder, resolve_chat_template, shared_examples
from crosstok.corpora import load_corpus, read_rows
from crosstok.tokenizers import TextEncoder, load_tokenizer

# Tokenizers, and the template of those that have none.
NAMES = {
    "qwen2.5": None, "mistral-7b-instruct-v0.2": None, "tinyllama": "plain", "gpt2": "plain",
    "small-unigram-bytefallback-8k": "plain",
}  # fmt: skip
ROLES = ("user", "assistant") * 3
RESULTS = Path("benchmarks/chat_encoding_cpu_202611.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--conversations", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    check_folder(parser, "--shared", arguments.shared)
    data = arguments.shared / "data"
    encoders = {name: load(data / "tokenizers" / name, chat) for name, chat in NAMES.items()}
    rows = read_rows(str(data / "corpora/instructions/gsm8k_train.jsonl.xz"))
    texts = [str(value) for row in rows for value in row.values()]
    problems = conversations(texts)[: arguments.conversations]
    times = [measure(name, encoders[name], problems, arguments.repeats) for name in NAMES]
    files = sorted((data / "corpora/multilingual_ntrex").glob("*.txt.xz"))
    sentences = [text for file in files for text in load_corpus(str(file)).texts(60)]
    languages = conversations(sentences)
    pairs = [cover(*pair, encoders, languages) for pair in permutations(NAMES, 2)]
    write_results(RESULTS, report(times, pairs, len(files), len(languages)))
    print(RESULTS.read_text())


def load(folder: Path, chat: str | None) -> ExampleEncoder:
    encoder = TextEncoder(load_tokenizer(str(folder)))
    return ExampleEncoder(encoder, resolve_chat_template(chat) if chat else None)


def conversations(texts: list[str]) -> list[Conversation]:
    size = len(ROLES)
    return [
        Conversation(
            tuple(
                {"role": role, "content": text}
                for role, text in zip(ROLES, texts[first : first + size], strict=True)
            ),
            where=f"conversation {first // size}",
        )
        for first in range(0, len(texts) - size + 1, size)
    ]


def measure(name: str, encoder: ExampleEncoder, examples: list[Conversation], repeats: int) -> str:
    """Measure one line of the table of times."""
    tokenizer = encoder.encoder.tokenizer
    encoder(examples[:8], loss_on="assistant")
    theirs, ours = [], []
    num_tokens = 0
    for _ in range(repeats):
        start = time.perf_counter()
        for example in examples:
            tokenizer.apply_chat_template(
                list(example.messages), chat_template=encoder.chat_template, tokenize=True
            )
        middle = time.perf_counter()
        num_tokens = 0
        for first in range(0, len(examples), 16):
            spans = encoder(examples[first : first + 16], loss_on="assistant")
            num_tokens += sum(map(len, spans))
        theirs.append(middle - start)
        ours.append(time.perf_counter() - middle)
    a, b = statistics.median(theirs), statistics.median(ours)
    per = 1000 / len(examples)
    return (
        f"| {name} | {num_tokens / len(examples):.0f} | {a * per:.2f} | {b * per:.2f} | "
        f"{b / a:.2f} | {len(examples) / b:.0f} |"
    )


def cover(
    left: str, right: str, encoders: dict[str, ExampleEncoder], examples: list[Conversation]
) -> str:
    """Measure one line of the table of pairs."""
    one, other = encoders[left], encoders[right]
    shared = shared_examples(examples, one, other)
    a, b = (encoder(shared, loss_on="assistant") for encoder in (one, other))
    found = align_batch(a, b, one.encoder.byte_vocab, other.encoder.byte_vocab)
    covered = total = ends = matched = 0
    for spans, alignment in zip(a, found, strict=True):
        placed = dict(spans.specials)
        for token in spans.loss_mask.nonzero()[0]:
            has_chunk = alignment.source_chunk_ids[token] >= 0
            if placed.get(int(token)) == "end_of_turn":
                ends, matched = ends + 1, matched + has_chunk
            width = int(spans.ends[token] - spans.starts[token])
            total, covered = total + width, covered + width * has_chunk
    return f"| {left} | {right} | {100 * covered / total:.3f} | {matched} of {ends} |"


def report(times: list[str], pairs: list[str], num_languages: int, num_conversations: int) -> str:
    lines = [
        "# Chat examples: time and coverage",
        "",
        made_by(
            "TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1 python benchmarks/chat_encoding.py",
            "one thread",
        ),
        "",
        "Milliseconds a conversation of six messages of GSM8K: `apply_chat_template(tokenize=True)`"
        " against `ExampleEncoder` (ids, byte spans, roles, loss mask), medians of interleaved "
        "repeats; target: at most 2. gpt2, tinyllama and the small tokenizer use the template "
        "`plain`.",
        "",
        "| tokenizer | tokens | apply_chat_template | ExampleEncoder | ratio | conversations/s |",
        "|---|---|---|---|---|---|",
        *times,
        "",
        f"Share of the assistant's bytes in a chunk, in percent, and tokens of its ends of turn "
        f"that are matched: {num_conversations} conversations in {num_languages} languages "
        "(NTREX).",
        "",
        "| left | right | covered | ends of turn |",
        "|---|---|---|---|",
        *pairs,
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
