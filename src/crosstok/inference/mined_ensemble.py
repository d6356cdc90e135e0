"""The baseline of token ensembles: vocabularies are mapped to the first model's by spelling.

The first model, the pivot, generates its own tokens. At every step

* the pivot reads its own tokens and gives its distribution over its own ids;
* every other member reads the same text in its own tokens, after its own start token or chat
  template: prompt and answer so far are encoded anew at every step, so that it need not have a
  token that ends there. Keys and values are kept for the tokens that two successive encodings begin
  with. While the pivot is inside a character, the others stop before that character;
* the logit of each of the pivot's ids is taken from the member's id with the most similar spelling
  (MinED, `nearest_tokens`; ends are matched by role), and the softmax is over these;
* the distributions are averaged as probabilities.

Several ids of the pivot may have the same nearest id, and a member may split the text so that its
next token says little about the pivot's: this is the baseline in Minixhofer et al. 2025 (arXiv
2503.20083, Table 2). Texts are scored by the same rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from crosstok.alignment import nearest_tokens
from crosstok.byteview.contexts import Context, Contexts, check_sharing
from crosstok.choices import Unit
from crosstok.inference.continuing import continue_prompts
from crosstok.inference.ensemble import check_engine
from crosstok.inference.generation import Row, answer_rows
from crosstok.inference.language_model import (
    ContinuationScore,
    LanguageModel,
    Prompt,
    Sampling,
    check_single,
)
from crosstok.inference.prompts import as_text
from crosstok.inference.scoring import TokenRow, blocks
from crosstok.inference.token_ensemble import combine_logprobs
from crosstok.inference.token_model import TokenModel


class MinedEnsemble(LanguageModel):
    """Several models that answer as one, mapped by spelling: see `LanguageModel`.

    Attributes:
        name: "mined" with the members' names.
        members: the models; the first is the pivot.
    """

    def __init__(
        self,
        members: Sequence[TokenModel],
        combine: str = "mined",
        *,
        weights: Sequence[float] | None = None,
    ) -> None:
        """Map the vocabularies, which takes seconds to minutes for large ones.

        Args:
            members: the models; the first is the pivot.
            combine: the rule; there is only one.
            weights: one for each member, above 0; equal by default.

        Raises:
            ValueError: a member has no text tokens, or it cannot share a cache between branches;
                or see `Ensemble`.
        """
        self._weights = check_engine(MinedEnsemble, members, combine, weights).shares
        self.members = list(members)
        self._others = [_Other(member, members[0]) for member in members[1:]]
        self.name = f"mined({', '.join(member.name for member in members)})"

    @property
    def pivot(self) -> TokenModel:
        """The model whose tokens are generated."""
        return self.members[0]

    @property
    def max_length(self) -> int:
        """Most tokens of the pivot in a text; the other members have their own limits."""
        return self.pivot.max_length

    def logprob(
        self, pairs: Sequence[tuple[Prompt, str]], *, greedy: bool = True
    ) -> list[ContinuationScore]:
        """Score continuations; see `LanguageModel.logprob`."""
        read = self.pivot.read_pairs(pairs)
        scores = []
        for pair, (prompt, continuation) in zip(read, pairs, strict=True):
            hidden, labels = self.pivot.scorer.hidden_of([TokenRow(pair.ids, pair.first)])
            befores = _befores(prompt, continuation, pair.starts)
            states = [hidden, *(other.states(prompt, befores) for other in self._others)]
            logprobs, likeliest = [], []
            for places in blocks(len(labels), 2 * self.pivot.num_rows * len(states)):
                combined = self.combined([one[places] for one in states])
                logprobs.append(combined.gather(1, labels[places, None]).double().sum())
                likeliest.append((combined.argmax(dim=1) == labels[places]).all())
            scores.append(
                ContinuationScore(
                    logprob=float(sum(logprobs)),
                    is_greedy=greedy and all(map(bool, likeliest)),
                    num_bytes=len(continuation.encode()),
                    num_units=len(labels),
                )
            )
        return scores

    @property
    def unit(self) -> Unit:
        """The unit of the pivot, which generates."""
        return self.pivot.unit

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling = Sampling(),  # noqa: B008 (frozen)
        *,
        on_text: Callable[[str], None] | None = None,
    ) -> list[str]:
        """Answer prompts; see `LanguageModel.generate`."""
        check_single(prompts, on_text)
        pivot, sampling = self.pivot, sampling.of(self.unit)
        ids = [pivot.reader.prompt_ids(prompt) for prompt in prompts]
        rows = []
        for number, row in enumerate(ids):
            own = [other.member.reader.prompt_ids(prompts[number]) for other in self._others]
            rooms = [
                other.member.room(one, sampling)
                for other, one in zip(self._others, own, strict=True)
            ]
            room = min([pivot.room(row, sampling), *rooms])
            rows.append(Row(number, len(row), room, tuple(row), pivot.strips_space(row)))
        return answer_rows(
            rows,
            lambda numbers: _Steps(self, [(prompts[n], ids[n]) for n in numbers]),
            pivot.outcomes,
            sampling,
            device=pivot.model.device.type,
            on_text=on_text,
        )

    @torch.no_grad()
    def combined(self, states: Sequence[Float[Tensor, "N D"]]) -> Float[Tensor, "N V"]:
        """Log-probabilities of the pivot's ids from the members' last hidden states."""
        return self.combined_logits(self.pivot.scorer.head.logits(states[0]), states[1:])

    @torch.no_grad()
    def combined_logits(
        self, logits: Float[Tensor, "N V"], states: Sequence[Float[Tensor, "N D"]]
    ) -> Float[Tensor, "N V"]:
        """The same, with the pivot's logits already computed."""
        every = [logits]
        for other, hidden in zip(self._others, states, strict=True):
            own = other.member.scorer.head.logits(hidden)
            every.append(own[:, other.nearest].to(logits.device))
        logprobs = [self.pivot.without_invalid(one).log_softmax(dim=-1) for one in every]
        return combine_logprobs(logprobs, self._weights, "probs")

    def begin(self, prompt: Prompt) -> list[_Reading]:
        """Let the other members begin to read a prompt."""
        return [_Reading(other, prompt) for other in self._others]


class _Other:
    """A member with the map from the pivot's ids to its own."""

    def __init__(self, member: TokenModel, pivot: TokenModel) -> None:
        check_sharing(member.model)
        self.member = member
        found = nearest_tokens(pivot.vocab, member.vocab, workers=-1).ids
        ids = np.zeros(pivot.num_rows, dtype=np.int64)
        ids[: len(found)] = np.maximum(found, 0)  # gaps are masked
        self.nearest = torch.from_numpy(ids).to(member.model.device)

    def ids(self, prompt: Prompt, text: str) -> list[int]:
        """Its tokens for a chat with the answer so far, or for a whole text."""
        reader = self.member.reader
        if not isinstance(prompt, str | bytes):
            before, after = reader.chats(prompt, text)
            return [*before.ids.tolist(), *after.ids.tolist()]
        start = self.member.scorer.start
        [spans] = reader.encoder([text], add_start=False, add_end=False)
        ids = [*([] if start is None else [start]), *spans.ids.tolist()]
        if not ids:
            raise ValueError(
                f"{self.member.name} has neither bos nor eos to start from; give a prompt."
            )
        limit = self.member.max_length
        if len(ids) > limit:
            raise ValueError(
                f"the text has {len(ids)} tokens of {self.member.name}, which has {limit} "
                f"positions: {int(spans.ends[limit - 1])} bytes fit; shorten it."
            )
        return ids

    def states(self, prompt: Prompt, befores: Sequence[str]) -> Float[Tensor, "N D"]:
        """Its last hidden state after each of these texts."""
        reading = _Reading(self, prompt)
        contexts = Contexts(self.member.model)
        last = read_on(contexts, [reading], befores[-1:])
        # Mostly beginnings of what was just read, with few or no new tokens.
        found = read_on(contexts, [reading] * (len(befores) - 1), befores[:-1], keep=False)
        return torch.stack([context.hidden for context in [*found, *last]])


class _Reading:
    """One text as one member reads it: its tokens so far, with their states."""

    def __init__(self, other: _Other, prompt: Prompt) -> None:
        self.other, self.prompt = other, prompt
        self.chain: list[Context] = []


def read_on(
    contexts: Contexts, readings: Sequence[_Reading], texts: Sequence[str], *, keep: bool = True
) -> list[Context]:
    """Read texts and return the states after them, reusing what the readings share with them.

    Args:
        contexts: the member's cache.
        readings: readings of one member.
        texts: one text for each reading.
        keep: whether the next call continues from these texts.
    """
    chains: list[list[Context]] = []
    requests: list[tuple[Context | None, list[int]]] = []
    for reading, text in zip(readings, texts, strict=True):
        ids = reading.other.ids(reading.prompt, text)
        pairs = zip(reading.chain, ids, strict=False)
        same = next((i for i, (c, t) in enumerate(pairs) if c.token != t), None)
        same = min(len(reading.chain), len(ids)) if same is None else same
        chains.append(reading.chain[:same])
        requests.append((chains[-1][-1] if same else None, ids[same:]))
    grown = iter(contexts.extend([request for request in requests if request[1]]))
    for chain, (_, new) in zip(chains, requests, strict=True):
        chain += next(grown) if new else []
    if keep:
        for reading, chain in zip(readings, chains, strict=True):
            reading.chain = chain
    return [chain[-1] for chain in chains]


class _Steps:
    """The steps of the pivot and the other members, which read the text so far."""

    def __init__(
        self, ensemble: MinedEnsemble, prompts: Sequence[tuple[Prompt, Sequence[int]]]
    ) -> None:
        self._ensemble = ensemble
        self._rows = continue_prompts(ensemble.pivot.model, [ids for _, ids in prompts])
        self._outcomes: list[list[int]] = [[] for _ in prompts]
        self._readings = [ensemble.begin(prompt) for prompt, _ in prompts]
        self._texts = [
            as_text(prompt) if isinstance(prompt, str | bytes) else "" for prompt, _ in prompts
        ]
        self._strips_space = [ensemble.pivot.strips_space(ids) for _, ids in prompts]
        self._last_ids = [ids[-1] for _, ids in prompts]
        self._contexts = [Contexts(member.model) for member in ensemble.members[1:]]

    def scores(self, num: int = 1) -> Float[Tensor, "B num V"]:
        logits, found = self._rows.logits(num), []
        for place in range(num):
            texts = self._texts_without(num - 1 - place)
            states = []
            for number, contexts in enumerate(self._contexts):
                read = read_on(contexts, [row[number] for row in self._readings], texts)
                states.append(torch.stack([context.hidden for context in read]))
            found.append(self._ensemble.combined_logits(logits[:, place], states))
        return torch.stack(found, dim=1)

    def _texts_without(self, num: int) -> list[str]:
        """The texts so far, without the last `num` outcomes."""
        after = self._ensemble.pivot.outcomes.after
        rows = zip(self._texts, self._outcomes, self._strips_space, self._last_ids, strict=True)
        texts = []
        for before, outcomes, strips, last in rows:
            kept = [last, *outcomes[: len(outcomes) - num]]
            answer = b"".join(after(one, other) for one, other in pairwise(kept))
            texts.append(
                before + _whole_characters(answer.removeprefix(b" ") if strips else answer)
            )
        return texts

    def append(self, outcomes: Int[Tensor, "B k"]) -> None:
        for row, new in zip(self._outcomes, outcomes.tolist(), strict=True):
            row += new
        self._rows.append(outcomes)

    def crop(self, num: int) -> None:
        self._rows.crop(num)
        self._outcomes = [row[: len(row) - num] for row in self._outcomes]

    def keep(self, rows: Sequence[int]) -> None:
        self._rows.keep(rows)
        self._outcomes = [self._outcomes[row] for row in rows]
        self._readings = [self._readings[row] for row in rows]
        self._texts = [self._texts[row] for row in rows]
        self._strips_space = [self._strips_space[row] for row in rows]
        self._last_ids = [self._last_ids[row] for row in rows]


def _befores(prompt: Prompt, continuation: str, starts: Int[np.ndarray, " N"]) -> list[str]:
    """The text before every scored token: of the whole text, or of the answer in a chat."""
    whole = continuation.encode()
    if isinstance(prompt, str | bytes):
        whole = as_text(prompt).encode() + whole
    return [_whole_characters(whole[:start]) for start in starts.tolist()]


def _whole_characters(content: bytes) -> str:
    """Text up to the last whole character, with U+FFFD for invalid UTF-8 before it."""
    for size in range(1, min(4, len(content)) + 1):
        byte = content[-size]
        if byte >= 0xC0:  # begins a character of several bytes
            whole = 2 + (byte >= 0xE0) + (byte >= 0xF0)
            content = content[:-size] if size < whole else content
            break
        if byte < 0x80:
            break
    return content.decode(errors="replace")
