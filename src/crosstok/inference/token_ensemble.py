"""Models that share a vocabulary, averaged token by token.

At every step each member gives its distribution over the tokens that all members have and the end
of the text (`SharedVocabulary`), in its own ids, after its own start token or chat template, on its
own cache. With weights w_i that sum to 1:

probs      sum_i w_i p_i                  computed as a logsumexp
logprobs   prod_i p_i^w_i, normalised     the weighted mean of log-probabilities

`crosstok transfer` gives models a common vocabulary (Minixhofer et al. 2025, arXiv 2503.20083,
section 5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from crosstok.choices import Unit
from crosstok.inference.continuing import continue_prompts
from crosstok.inference.ensemble import check_engine
from crosstok.inference.generation import MakeDecoder, OneByOne, Outcomes, Row, answer_rows
from crosstok.inference.language_model import (
    ContinuationScore,
    LanguageModel,
    Prompt,
    Sampling,
    check_single,
)
from crosstok.inference.prompts import ReadPair, as_text
from crosstok.inference.scoring import TokenRow, batches, blocks
from crosstok.inference.shared_vocabulary import SharedVocabulary, share_vocabulary
from crosstok.inference.token_model import TokenModel, unit_of


def combine_logprobs(
    logprobs: Sequence[Float[Tensor, "N U"]], weights: Float[np.ndarray, " k"], rule: str
) -> Float[Tensor, "N U"]:
    """Combine several distributions over the same outcomes into one, in nats."""
    if rule == "probs":
        shifted = [one + float(np.log(w)) for one, w in zip(logprobs, weights, strict=True)]
        return torch.stack(shifted).logsumexp(dim=0)
    mean = sum(one * float(w) for one, w in zip(logprobs, weights, strict=True))
    assert isinstance(mean, Tensor)
    return mean.log_softmax(dim=-1)


class TokenEnsemble(LanguageModel):
    """Models that answer token by token as one: see `LanguageModel`.

    Attributes:
        name: the rule with the members' names.
        combine: the rule.
        members: the models. The first one's tokenizer splits the texts that are scored.
        shared: their common vocabulary.
    """

    def __init__(
        self,
        members: Sequence[TokenModel],
        combine: str = "probs",
        *,
        weights: Sequence[float] | None = None,
        decoder: MakeDecoder = OneByOne,
    ) -> None:
        """Combine models.

        Args:
            members: the models.
            combine: the rule.
            weights: one for each member, above 0; equal by default.
            decoder: how to decode; see `crosstok.inference.generation`.

        Raises:
            ValueError: the members have no token in common; or see `Ensemble`.
        """
        declared = check_engine(TokenEnsemble, members, combine, weights)
        self._weights, self.combine = declared.shares, combine
        self.members, self._decoder = list(members), decoder
        self.shared: SharedVocabulary = share_vocabulary(members)
        self.name = f"{combine}({', '.join(member.name for member in members)})"

    @cached_property
    def unit(self) -> Unit:
        """The unit of answers: bytes if every shared token is a single byte."""
        return unit_of(self.shared.contents)

    @property
    def max_length(self) -> int:
        """Most tokens in a text, the start token included."""
        return min(member.max_length for member in self.members)

    def logprob(
        self, pairs: Sequence[tuple[Prompt, str]], *, greedy: bool = True
    ) -> list[ContinuationScore]:
        """Score continuations; see `LanguageModel.logprob`.

        Raises:
            ValueError: a continuation has a token that not all members have; or see
                `LanguageModel.logprob`.
        """
        outcomes, rows = self._rows(pairs)
        scores: list[ContinuationScore | None] = [None] * len(pairs)
        longest = [max(len(row.ids) for row in of_members) for of_members in rows]
        budget = min(member.scorer.tokens_per_batch for member in self.members)
        for batch in batches(longest, budget):
            wanted = [outcomes[place] for place in batch]
            logprobs, likeliest = self._score([rows[place] for place in batch], wanted)
            ends = np.cumsum([len(one) for one in wanted])
            for place, end in zip(batch, ends, strict=True):
                part = slice(end - len(outcomes[place]), end)
                scores[place] = ContinuationScore(
                    logprob=float(logprobs[part].sum()),
                    is_greedy=greedy and bool(likeliest[part].all()),
                    num_bytes=len(pairs[place][1].encode()),
                    num_units=len(outcomes[place]),
                )
        return [score for score in scores if score is not None]

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling = Sampling(),  # noqa: B008 (frozen)
        *,
        on_text: Callable[[str], None] | None = None,
    ) -> list[str]:
        """Answer prompts; see `LanguageModel.generate`."""
        check_single(prompts, on_text)
        sampling = sampling.of(self.unit)
        ids = [[m.reader.prompt_ids(prompt) for m in self.members] for prompt in prompts]
        first = self.members[0]
        rows = []
        for number, of_members in enumerate(ids):
            both = list(zip(self.members, of_members, strict=True))
            found = self.shared.outcomes_of(np.array(of_members[0]), 0, len(first.vocab))
            rows.append(
                Row(
                    number=number,
                    num_prompt_tokens=max(map(len, of_members)),
                    room=min(member.room(one, sampling) for member, one in both),
                    history=tuple(found[found >= 0].tolist()),
                    strips_space=first.strips_space(of_members[0]),
                )
            )
        is_stop = np.arange(self.shared.stop + 1) == self.shared.stop
        return answer_rows(
            rows,
            lambda numbers: _Steps(self, [ids[number] for number in numbers]),
            Outcomes([*self.shared.contents, b""], is_stop, self.shared.word_ends(first.vocab)),
            sampling,
            device=first.model.device.type,
            decoder=self._decoder,
            on_text=on_text,
        )

    def combined(self, logits: Sequence[Float[Tensor, "N V"]]) -> Float[Tensor, "N U+1"]:
        """Log-probabilities of the outcomes from the members' logits."""
        logprobs = [self.shared.logprobs(one, place) for place, one in enumerate(logits)]
        return combine_logprobs(
            [one.to(logprobs[0].device) for one in logprobs], self._weights, self.combine
        )

    def _rows(
        self, pairs: Sequence[tuple[Prompt, str]]
    ) -> tuple[list[Int[np.ndarray, " N"]], list[list[TokenRow]]]:
        """Outcomes of the continuations, and for each continuation a row of every member."""
        read = [member.read_pairs(pairs) for member in self.members]
        outcomes, rows = [], []
        for place, pair in enumerate(pairs):
            own = read[0][place]
            wanted = self._outcomes(own.ids[own.first :], 0)
            if (wanted < 0).any():
                token = int(own.ids[own.first :][wanted < 0][0])
                self._explain(token, pair[1])
            outcomes.append(wanted)
            of_members = [TokenRow(own.ids, own.first)]
            for number in range(1, len(self.members)):
                of_members.append(self._row(number, read[number][place], own, wanted, pair))
            rows.append(of_members)
        return outcomes, rows

    def _row(
        self,
        number: int,
        own: ReadPair,
        first: ReadPair,
        wanted: Int[np.ndarray, " N"],
        pair: tuple[Prompt, str],
    ) -> TokenRow:
        """A member's row: its own, if its tokenizer splits the text as the first one's does.

        Otherwise its own ids of what is not scored, and after them the tokens of the first one's
        tokenizer, so that all members score the same bytes.
        """
        if np.array_equal(self._outcomes(own.ids[own.first :], number), wanted):
            return TokenRow(own.ids, own.first)
        member, (prompt, continuation) = self.members[number], pair
        if isinstance(prompt, str | bytes):
            before = member.reader.prefix_ids(as_text(prompt) + continuation, int(first.starts[0]))
        else:
            before = own.ids[: own.first].tolist()
        if not before:
            raise ValueError(
                f"{member.name} has neither bos nor eos to start from, and nothing comes before "
                f"{continuation[:40]!r}; give a longer prompt."
            )
        after = self.shared.ids[number].cpu().numpy()[wanted]
        ids = np.concatenate([np.array(before, dtype=np.int64), after])
        member.reader.check_fits(ids, continuation, member.max_length, member.name)
        return TokenRow(ids, len(before))

    def _outcomes(self, ids: Int[np.ndarray, " T"], member: int) -> Int[np.ndarray, " T"]:
        return self.shared.outcomes_of(ids, member, len(self.members[member].vocab))

    def _explain(self, token: int, continuation: str) -> None:
        first = self.members[0]
        content = first.vocab.token_bytes[token]
        others = [
            member.name
            for member in self.members[1:]
            if content is None or not member.vocab.ids_of(content)
        ]
        shown = first.vocab.special_tokens.get(token) if content is None else content
        raise ValueError(
            f"{continuation[:40]!r} has the token {shown!r} (id {token} of {first.name}), which is "
            f"not in the vocabulary of {', '.join(others) or 'text tokens of all members'}: the "
            "ensemble gives it no probability. Move the members to one tokenizer (`crosstok "
            "transfer`), or combine them byte by byte."
        )

    def _score(
        self, rows: Sequence[Sequence[TokenRow]], wanted: Sequence[Int[np.ndarray, " N"]]
    ) -> tuple[Float[np.ndarray, " N"], np.ndarray]:
        """Log-probabilities of the wanted outcomes, and whether each is the most likely one."""
        hidden = [
            member.scorer.hidden_of([row[number] for row in rows])[0]
            for number, member in enumerate(self.members)
        ]
        labels = torch.from_numpy(np.concatenate(wanted)).to(hidden[0].device)
        logprobs, likeliest = [], []
        for places in self._blocks(len(labels)):
            with torch.no_grad():
                logits = [
                    member.scorer.head.logits(states[places])
                    for member, states in zip(self.members, hidden, strict=True)
                ]
                combined = self.combined(logits)
            logprobs.append(combined.gather(1, labels[places, None]).squeeze(1).double().cpu())
            likeliest.append((combined.argmax(dim=1) == labels[places]).cpu())
        return torch.cat(logprobs).numpy(), torch.cat(likeliest).numpy()

    def _blocks(self, num_rows: int) -> Iterator[slice]:
        sizes = (member.scorer.head.weight.shape[0] for member in self.members)
        return blocks(num_rows, 2 * sum(sizes))


class _Steps:
    """The steps of all members, each on its own cache."""

    def __init__(self, ensemble: TokenEnsemble, prompts: Sequence[Sequence[Sequence[int]]]) -> None:
        self._ensemble = ensemble
        self._rows = [
            continue_prompts(member.model, of_member)
            for member, of_member in zip(ensemble.members, zip(*prompts, strict=True), strict=True)
        ]

    def scores(self, num: int = 1) -> Float[Tensor, "B num U+1"]:
        logits = [rows.logits(num).flatten(0, 1) for rows in self._rows]
        combined = self._ensemble.combined(logits)
        return combined.view(-1, num, combined.shape[1])

    def crop(self, num: int) -> None:
        for rows in self._rows:
            rows.crop(num)

    def append(self, outcomes: Int[Tensor, "B k"]) -> None:
        for rows, ids in zip(self._rows, self._ensemble.shared.ids, strict=True):
            rows.append(ids[outcomes.to(ids.device)])

    def keep(self, rows: Sequence[int]) -> None:
        for member_rows in self._rows:
            member_rows.keep(rows)
