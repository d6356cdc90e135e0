"""Cost of the byte view, and its gain where a prompt ends inside a word.

    python benchmarks/next_byte.py --model FOLDER --data TEXTS.jsonl[.xz] [--part PART ...]

score    CPU seconds and tokens through the model for whole texts, against scoring their canonical
         tokens, for targets and thresholds, with and without a shared cache
stream   CPU seconds per byte of greedy generation, against `generate` of transformers
prompts  words of held-out text, the prompt cut at every byte inside them: bits per byte of the
         rest of the word and the space after it, for the byte view, for plain continuation (the
         prompt and the rest tokenized apart) and for token healing (the prompt's last token taken
         back, the next token must begin with its bytes)

CPU seconds are measured for the process on one thread; other processes disturb them less than wall
time.
"""

from __future__ import annotations

import argparse
import math
import platform
import time
from datetime import date
from functools import partial

import numpy as np
import tokenizers
import torch
import transformers

from crosstok.byteview import ByteModel, Pruning
from crosstok.byteview.trie import ByteTrie
from crosstok.corpora import read_rows
from crosstok.models import hidden_states, load_model, output_head, token_scores
from crosstok.tokenizers import TextEncoder, load_tokenizer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, help="rows with a key 'text'")
    parser.add_argument("--part", choices=("score", "stream", "prompts"), action="append")
    parser.add_argument("--texts", type=int, default=30)
    parser.add_argument("--chars", type=int, default=900, help="of every text")
    parser.add_argument("--words", type=int, default=60)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(given.model, dtype=torch.float32)
    tokenizer = load_tokenizer(given.model)
    rows = read_rows(given.data)
    texts = [row["text"][: given.chars] for row in rows[: given.texts]]
    print(
        f"{date.today()}, torch {torch.__version__}, transformers {transformers.__version__}, "
        f"tokenizers {tokenizers.__version__}, python {platform.python_version()}, "
        f"{platform.machine()}, 1 thread\n"
    )
    parts = given.part or ["score", "stream", "prompts"]
    if "score" in parts:
        score(model, tokenizer, texts)
    if "stream" in parts:
        stream(model, tokenizer, texts)
    if "prompts" in parts:
        prompts(model, tokenizer, texts, given.words)


def head_of_table(*names):
    print("| " + " | ".join(names) + " |\n" + "|---" * len(names) + "|")


def timed(call, repeats=3):
    """The lowest CPU time of a few calls, in seconds, and the result of the last one."""
    seconds = []
    for _ in range(repeats):
        begin = time.process_time()
        result = call()
        seconds.append(time.process_time() - begin)
    return min(seconds), result


def score(model, tokenizer, texts):
    encoder, head = TextEncoder(tokenizer), output_head(model)
    start = encoder.byte_vocab.document_start
    ids = [spans.ids for spans in encoder(texts, add_start=False, add_end=False)]
    num_tokens, num_bytes = sum(map(len, ids)), sum(len(text.encode()) for text in texts)

    @torch.no_grad()
    def by_token(rows):
        total = 0.0
        for row in rows:
            batch = torch.tensor([[start, *row.tolist()]])
            scores = token_scores(model, head, batch, torch.ones_like(batch))
            total += float(scores.token_logprobs.double().sum())
        return total

    base, total = timed(partial(by_token, ids))
    print(f"{len(texts)} texts, {num_bytes} bytes, {num_tokens} tokens\n")
    head_of_table("target", "min_share", "shared cache", "bits per byte", "lower bound",
                  "tokens read", "CPU s", "against tokens", "dropped per byte")  # fmt: skip
    print(f"| tokens | | | {-total / num_bytes / math.log(2):.4f} | | 1.00 | {base:.2f} | 1.00 | |")
    cases = [("all", share, True) for share in (0.3, 0.1, 0.03, 0.01, 0.001)]
    cases += [("canonical", 0.1, True), ("canonical", 0.01, True), ("all", 0.1, False)]
    for target, share, shared in cases:
        view = ByteModel(
            model, tokenizer, target=target, pruning=Pruning(min_share=share), share_kv=shared
        )
        some = slice(None) if shared else slice(2)  # every branch from its start takes its time
        seconds, scores = timed(partial(view.score, texts[some]), 3 if shared else 1)
        again, _ = timed(partial(by_token, ids[some]))
        bits = sum(s.num_bytes for s in scores) * math.log(2)
        read = 1 + sum(s.num_branch_tokens for s in scores) / sum(s.num_tokens for s in scores)
        print(
            f"| {target} | {share} | {'yes' if shared else 'no, 2 texts'} "
            f"| {-sum(s.logprob for s in scores) / bits:.4f} "
            f"| {-sum(s.lower_bound for s in scores) / bits:.4f} "
            f"| {read:.2f}{'' if shared else ', each with all before'} | {seconds:.2f} "
            f"| {seconds / again:.2f} | {sum(s.dropped for s in scores) / num_bytes:.5f} |",
            flush=True,
        )


def stream(model, tokenizer, texts, num_bytes=160):
    prompts_ = [text[:200] for text in texts[:4]]
    start = TextEncoder(tokenizer).byte_vocab.document_start

    def by_token():
        made = 0
        for prompt in prompts_:
            row = torch.tensor([[start, *tokenizer(prompt)["input_ids"]]])
            out = model.generate(
                row, attention_mask=torch.ones_like(row), max_new_tokens=num_bytes // 3,
                min_new_tokens=num_bytes // 3, do_sample=False, pad_token_id=0,
            )  # fmt: skip
            made += len(tokenizer.decode(out[0, row.shape[1] :]).encode())
        return made

    seconds, made = timed(by_token)
    base = seconds / made
    print(f"\n{len(prompts_)} prompts of 200 characters, {num_bytes} bytes each, greedy\n")
    head_of_table("how", "min_share", "shared cache", "tokens read per byte", "CPU ms per byte",
                  "against tokens")  # fmt: skip
    print(f"| transformers generate | | | {len(prompts_) * (num_bytes // 3) / made:.2f} "
          f"| {1000 * base:.2f} | 1.00 |")  # fmt: skip
    for target, share, shared in (
        ("all", 0.1, True), ("all", 0.01, True), ("all", 0.001, True), ("all", 0.01, False),
        ("canonical", 0.01, True),
    ):  # fmt: skip
        view = ByteModel(
            model, tokenizer, target=target, pruning=Pruning(min_share=share), share_kv=shared
        )
        seconds = read = made = 0
        for prompt in prompts_:
            running = view.prefill(prompt)
            before, begin = running.num_evaluated, time.process_time()
            for _ in range(num_bytes):
                running.advance(int(running.next_byte_logprobs()[:256].argmax()))
            seconds += time.process_time() - begin
            read += running.num_evaluated - before
            made += num_bytes
        print(
            f"| byte view, {target} | {share} | {'yes' if shared else 'no'} | {read / made:.2f} "
            f"| {1000 * seconds / made:.2f} | {seconds / made / base:.2f} |",
            flush=True,
        )


def prompts(model, tokenizer, texts, num_words):
    cuts = []  # prompt, rest of the word and the space after it
    for text in texts:
        content = text.encode()
        spaces = [i for i in range(80, min(len(content), 400)) if content[i : i + 1] == b" "]
        for begin, end in zip(spaces[::7], spaces[1::7], strict=False):
            word = content[begin + 1 : end]
            if word.isalpha() and len(word) > 2:
                cuts.append((content, begin + 1, end))
    cuts = cuts[:num_words]
    cases = [
        (content[:at], content[at : end + 1])
        for content, begin, end in cuts
        for at in range(begin, end)  # from the space on, then inside the word
    ]
    num_bytes = sum(len(rest) for _, rest in cases)
    print(f"\n{len(cuts)} words cut at {len(cases)} places, {num_bytes} bytes to complete\n")
    head_of_table("how", "bits per byte", "at the word's start", "inside of it", "worst cut, bits")
    apart = Apart(model, tokenizer)
    found = {
        "plain continuation": [apart.plain(*case) for case in cases],
        "token healing": [apart.healed(*case) for case in cases],
    }
    for target in ("all", "canonical"):
        view = ByteModel(model, tokenizer, target=target, pruning=Pruning(min_share=0.01))
        before = view.score([prompt for prompt, _ in cases])
        after = view.score([prompt + rest for prompt, rest in cases])
        found[f"byte view, {target}"] = [
            b.logprob - a.logprob for a, b in zip(before, after, strict=True)
        ]
    sizes = np.array([len(rest) for _, rest in cases])
    is_start = np.array([prompt.endswith(b" ") for prompt, _ in cases])
    for name, logprobs in found.items():
        bits = -np.array(logprobs) / math.log(2)
        print(
            f"| {name} | {bits.sum() / num_bytes:.3f} "
            f"| {bits[is_start].sum() / sizes[is_start].sum():.3f} "
            f"| {bits[~is_start].sum() / sizes[~is_start].sum():.3f} | {bits.max():.1f} |"
        )


class Apart:
    """Prompt and continuation by tokens: how likely the continuation begins with a text."""

    def __init__(self, model, tokenizer):
        self.model, self.head = model, output_head(model)
        self.encoder = TextEncoder(tokenizer)
        self.vocab = self.encoder.byte_vocab
        self.trie = ByteTrie(self.vocab.token_bytes)

    def encode(self, content):
        """Ids of a text."""
        return self.encoder([content.decode()], add_start=False, add_end=False)[0].ids.tolist()

    @torch.no_grad()
    def logprobs(self, ids, last):
        """Log-probabilities of what follows the last ids and each one before."""
        row = torch.tensor([[self.vocab.document_start, *ids]])
        hidden = hidden_states(self.model, row, torch.ones_like(row))[0, -last:]
        return torch.log_softmax(self.head.logits(hidden).double(), -1).numpy()

    def begins_with(self, logprobs, content):
        """Log-probability that the next token begins with these bytes."""
        *_, node = self.trie.walk(content)
        assert node.depth == len(content)
        return float(np.log(np.exp(logprobs[self.trie.ids[node.first : node.last]]).sum()))

    def plain(self, prompt, rest):
        """The ids of the prompt, then those of the rest."""
        before, after = self.encode(prompt), self.encode(rest[:-1])
        rows = self.logprobs(before + after, len(after) + 1)
        total = sum(rows[i, token] for i, token in enumerate(after))
        return float(total) + self.begins_with(rows[-1], rest[-1:])

    def healed(self, prompt, rest):
        """The prompt less its last token, then a token that begins with its bytes."""
        ids = self.encode(prompt)
        last = self.vocab.token_bytes[ids[-1]]
        after = self.encode(last + rest[:-1])
        if not self.vocab.token_bytes[after[0]].startswith(last):
            return self.plain(prompt, rest)  # nothing to heal
        rows = self.logprobs(ids[:-1] + after, len(after) + 1)
        total = sum(rows[i, token] for i, token in enumerate(after))
        given = self.begins_with(rows[0], last)
        return float(total) - given + self.begins_with(rows[-1], rest[-1:])


if __name__ == "__main__":
    main()
