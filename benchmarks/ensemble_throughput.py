"""Cost of a token ensemble of k models, against the k models one after the other.

    python benchmarks/ensemble_throughput.py [--repeats N]

Prompts and numbers of new tokens are the same for all. `ratio` is the median time of the k models
one after the other over the median time of the ensemble: 1 means no extra cost, 0.9 is the target.
A second measure is the k models in turn under transformers' own `generate`. The models are random
Llamas of 9M parameters (hidden 256, 6 layers, vocabulary 8,192). Times are CPU seconds of the
process on one thread, which other processes disturb less than wall time; repeats of the three ways
alternate.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from datetime import date

import torch
import transformers
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from crosstok.inference import Sampling, TokenEnsemble, TokenModel

PROMPT_TOKENS, NEW_TOKENS, VOCABULARY = 64, 32, 8192
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def tokenizer():
    """Letters, and many longer tokens that occur only in generated text."""
    pieces = [a + b + c for a in LETTERS for b in LETTERS for c in LETTERS]
    names = ["<s>", *LETTERS, *pieces[: VOCABULARY - 1 - len(LETTERS)]]
    backend = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=[]))
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>")


def model(seed, words):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=256, intermediate_size=768, num_hidden_layers=6,
        num_attention_heads=4, bos_token_id=0, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    return TokenModel(LlamaForCausalLM(config), words, name=f"seed {seed}")


def transformers_in_turn(members, prompts):
    for member in members:
        ids = torch.tensor([member.reader.prompt_ids(prompt) for prompt in prompts])
        member.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            pad_token_id=0,
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    words = tokenizer()
    every = [model(seed, words) for seed in range(3)]
    sampling = Sampling(max_new_tokens=NEW_TOKENS)
    print(
        f"{date.today()}, torch {torch.__version__}, transformers {transformers.__version__}, "
        f"python {platform.python_version()}, {platform.machine()}, 1 thread, medians of {repeats} "
        f"repeats, {PROMPT_TOKENS} prompt tokens, {NEW_TOKENS} new tokens\n"
    )
    print("| k | rule | batch | ensemble s | in turn s | ratio | transformers in turn s | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for k, rule, batch in [
        (2, "probs", 1), (2, "probs", 8), (3, "probs", 1), (3, "probs", 8), (3, "logprobs", 8)
    ]:  # fmt: skip
        members = every[:k]
        ensemble = TokenEnsemble(members, rule)
        text = (LETTERS * 5)[: PROMPT_TOKENS - 1]
        prompts = [text[i:] + text[:i] for i in range(batch)]
        ways = {
            "ensemble": lambda e=ensemble, p=prompts: e.generate(p, sampling),
            "in turn": lambda m=members, p=prompts: [one.generate(p, sampling) for one in m],
            "transformers": lambda m=members, p=prompts: transformers_in_turn(m, p),
        }
        seconds = {name: [] for name in ways}
        for repeat in range(repeats + 1):  # the first warms up
            for name, way in ways.items():
                started = time.process_time()
                way()
                if repeat:
                    seconds[name].append(time.process_time() - started)
        together, apart, theirs = (statistics.median(times) for times in seconds.values())
        print(
            f"| {k} | {rule} | {batch} | {together:.3f} | {apart:.3f} | {apart / together:.2f} | "
            f"{theirs:.3f} | {theirs / together:.2f} |"
        )


if __name__ == "__main__":
    main()
