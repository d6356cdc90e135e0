"""Exams: which of several continuations a model finds most likely, and whether it is right.

Forms, recognised by the keys of a row:

* pair: `good`, `bad`. Right if P(good) > P(bad), whole texts.
* choice: `query`, `choices`, `gold` (index). Right if the gold choice has the largest
  log-likelihood per byte (`accuracy`); `accuracy_sum` takes the plain sum. With `question`
  instead of `query`, the query is "Question: ...", "Answer:". With `premise` and a `question` that
  is "cause" or "effect" (XCOPA), it is the likelihood of the effect given the premise, or of the
  premise given the cause.
* schema: `context_options`, `continuation`, `gold`. Right if the continuation is most likely after
  the gold context.
* cloze: `context`, `continuation`. Right if greedy decoding would write the continuation: each of
  its tokens is the most likely one. `bits_per_byte` is over the continuations.

A tie with the gold answer is not right.

**Only the bytes of the continuation are scored.** Context and continuation are tokenized together,
as text is in training, and the log-probabilities of all tokens that end after the context are
summed; a token that straddles the boundary counts in full. Tokenizing them apart would favour
tokenizers that happen to have a token boundary there. Without a context all tokens count, including
a token of the space that some tokenizers put before every text.

**Joining.** If neither the context ends nor the continuation begins with white space, one space is
put between them and counts as part of the continuation. No space is added after a context without
any white space ("25-759=", or scripts that have none).

A context too long for the model loses its beginning (`truncated` counts such items); for byte views
and ensembles it is an error.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from crosstok.inference.language_model import LanguageModel
from crosstok.inference.prompts import num_tokens_of
from crosstok.inference.scoring import Scorer, TokenRow
from crosstok.inference.token_model import TokenModel

Form = Literal["pair", "choice", "schema", "cloze"]

_FORMS = (
    "pair: good, bad; choice: query, choices, gold; schema: context_options, continuation, gold; "
    "cloze: context, continuation"
)
_ITEMS_PER_GROUP = 1000


@dataclass(frozen=True)
class Item:
    """One question: options as (context, continuation), one of them right."""

    form: Form
    options: tuple[tuple[str, str], ...]
    gold: int


@dataclass(frozen=True)
class ExamResult:
    """Figures of one model on one exam."""

    form: Form
    items: int
    accuracy: float
    accuracy_sum: float | None  # choice: by sums instead of per byte
    bits_per_byte: float | None  # cloze: of the continuations
    chance: float | None  # accuracy of guessing; None for cloze
    truncated: int

    @property
    def stderr(self) -> float:
        """Standard error of the accuracy, sqrt(p (1 - p) / n)."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / self.items)

    def as_json(self) -> dict[str, float | int | str]:
        """The figures of the `evaluate` command."""
        figures = {
            "accuracy": self.accuracy,
            "stderr": self.stderr,
            "items": self.items,
            "form": self.form,
            "accuracy_sum": self.accuracy_sum,
            "bits_per_byte": self.bits_per_byte,
            "chance": self.chance,
            "truncated": self.truncated,
        }
        return {key: value for key, value in figures.items() if value is not None}


def read_exam(rows: Sequence[Mapping[str, Any]], name: str, limit: int | None = None) -> list[Item]:
    """The items of an exam, or `limit` of them, evenly spaced.

    Raises:
        ValueError: there is no row; a row has no known form (says which keys it has), a form other
            than the first row's, a value of the wrong type, or a gold index that no option has; or
            `limit` is below 1.
    """
    if not rows:
        raise ValueError(f"exam {name} holds no row; give at least one.")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; it must be at least 1. Leave it out for all items.")
    items = []
    for index, row in enumerate(rows):
        try:
            items.append(_item(row))
        except ValueError as error:
            raise ValueError(f"exam {name}, row {index + 1}: {error}") from None
        if items[-1].form != items[0].form:
            raise ValueError(
                f"exam {name}, row {index + 1} has the form {items[-1].form}, and the rows before "
                f"it have {items[0].form}. Split the exam into files of one form each."
            )
    if limit is None or limit >= len(items):
        return items
    return [items[i * len(items) // limit] for i in range(limit)]


def take_exam(
    model: LanguageModel,
    items: Sequence[Item],
    *,
    on_progress: Callable[[int], None] | None = None,
    on_sample: Callable[[Mapping[str, Any]], None] | None = None,
) -> ExamResult:
    """Let a model answer an exam; see the module for what counts as right.

    Args:
        model: any language model. The window of a `TokenModel` is the window of its scorer.
        items: items of one form, as `read_exam` returns them.
        on_progress: called with the number of items done.
        on_sample: called for every item with its `options` (context, continuation), `gold`,
            `logprobs` of the options in nats, their `bytes`, and `is_right`.

    Raises:
        ValueError: there is no item, or an option has no token that can be scored.
    """
    if not items:
        raise ValueError("an exam needs at least one item.")
    form = items[0].form
    right = right_by_sum = truncated = num_bytes = 0
    nats = 0.0
    for first in range(0, len(items), _ITEMS_PER_GROUP):
        group = items[first : first + _ITEMS_PER_GROUP]
        for item, answer in zip(group, _answers(model, group, greedy=form == "cloze"), strict=True):
            if on_sample is not None:
                on_sample(answer.as_sample(item))
            right += answer.is_right
            right_by_sum += answer.is_right_by_sum
            truncated += answer.is_truncated
            nats -= answer.logprobs[answer.gold]
            num_bytes += answer.widths[answer.gold]
        if on_progress is not None:
            on_progress(len(group))
    count = len(items)
    is_cloze = form == "cloze"
    chance = float(np.mean([1 / len(item.options) for item in items]))
    return ExamResult(
        form=form,
        items=count,
        accuracy=right / count,
        accuracy_sum=right_by_sum / count if form == "choice" else None,
        bits_per_byte=nats / math.log(2) / num_bytes if is_cloze else None,
        chance=None if is_cloze else chance,
        truncated=truncated,
    )


@dataclass(frozen=True)
class _Answer:
    is_right: bool
    is_right_by_sum: bool
    is_truncated: bool
    logprobs: tuple[float, ...]  # nats, of every option
    widths: tuple[int, ...]  # bytes
    gold: int

    def as_sample(self, item: Item) -> dict[str, Any]:
        """The item with its scores, for a JSON line."""
        return {
            "options": item.options,
            "gold": self.gold,
            "logprobs": self.logprobs,
            "bytes": self.widths,
            "is_right": self.is_right,
        }


@dataclass(frozen=True)
class _Score:
    logprob: float  # nats
    is_greedy: bool
    is_truncated: bool


def _answers(model: LanguageModel, items: Sequence[Item], *, greedy: bool) -> list[_Answer]:
    joined = [join(*option) for item in items for option in item.options]
    if isinstance(model, TokenModel):
        scores = _scores(model.scorer, joined, greedy=greedy)
    else:
        found = model.logprob(joined, greedy=greedy)
        scores = [_Score(score.logprob, score.is_greedy, False) for score in found]
    sums = np.array([score.logprob for score in scores])
    widths = np.array([len(continuation.encode()) for _, continuation in joined])
    answers, done = [], 0
    for item in items:
        options = slice(done, done + len(item.options))
        done = options.stop
        gold = options.start + item.gold
        is_best_by_sum = _is_best(sums[options], item.gold)
        if greedy:
            is_right = scores[gold].is_greedy
        elif item.form == "choice":
            is_right = _is_best(sums[options] / widths[options], item.gold)
        else:
            is_right = is_best_by_sum
        answers.append(
            _Answer(
                is_right,
                is_best_by_sum,
                any(score.is_truncated for score in scores[options]),
                tuple(sums[options].tolist()),
                tuple(widths[options].tolist()),
                item.gold,
            )
        )
    return answers


def _scores(scorer: Scorer, joined: Sequence[tuple[str, str]], *, greedy: bool) -> list[_Score]:
    encoded = scorer.encode(["".join(parts) for parts in joined])
    rows, cut = [], []
    for (context, continuation), spans in zip(joined, encoded, strict=True):
        num_context = num_tokens_of(spans, len(context.encode()))
        row, is_cut = _fitting_row(scorer, spans.ids, num_context)
        if row is None:
            raise ValueError(
                f"{scorer.name} can score no token of {continuation!r} after {context[-40:]!r}: "
                "it has neither bos nor eos to start from. Use rows with a longer text."
            )
        rows.append(row)
        cut.append(is_cut)
    return [
        _Score(
            float(score.logprobs.sum()),
            score.is_greedy is not None and bool(score.is_greedy.all()),
            is_cut,
        )
        for score, is_cut in zip(scorer.score(rows, greedy=greedy), cut, strict=True)
    ]


def _fitting_row(scorer: Scorer, ids: np.ndarray, num_context: int) -> tuple[TokenRow | None, bool]:
    """The row of an option, its beginning cut off if it is too long, and whether that was so."""
    surplus = max(0, len(ids) - (scorer.max_length - scorer.num_start))
    return scorer.row(ids[surplus:], max(0, num_context - surplus)), surplus > 0


def _is_best(scores: np.ndarray, gold: int) -> bool:
    others = np.delete(scores, gold)
    return bool((scores[gold] > others).all())


def join(context: str, continuation: str) -> tuple[str, str]:
    """Join context and continuation; a space between them becomes part of the continuation.

    Example: ("The sky is", "blue") gives ("The sky is", " blue").
    """
    apart = not context or context[-1].isspace() or continuation[:1].isspace()
    if apart or not any(character.isspace() for character in context):
        return context, continuation
    return context, " " + continuation


def _item(row: Mapping[str, Any]) -> Item:
    keys = row.keys()
    if {"good", "bad"} <= keys:
        return Item("pair", (("", _text(row, "good")), ("", _text(row, "bad"))), 0)
    if {"choices", "gold"} <= keys and keys & {"query", "question"}:
        return _choice(row)
    if {"context_options", "continuation", "gold"} <= keys:
        contexts = _texts(row, "context_options")
        continuation = _text(row, "continuation")
        options = tuple((context, continuation) for context in contexts)
        return Item("schema", options, _gold(row, len(options)))
    if {"context", "continuation"} <= keys:
        context = row["context"]
        if not isinstance(context, str):
            raise ValueError(f"context is {context!r:.60}; it must be text.")
        return Item("cloze", ((context, _text(row, "continuation")),), 0)
    raise ValueError(f"keys {sorted(keys)} do not make a known form of exam. Forms are {_FORMS}.")


def _choice(row: Mapping[str, Any]) -> Item:
    choices = _texts(row, "choices")
    gold = _gold(row, len(choices))
    if "query" in row:
        return Item("choice", tuple((_text(row, "query"), choice) for choice in choices), gold)
    question = _text(row, "question")
    if "premise" not in row:
        query = f"Question: {question}\nAnswer:"
        return Item("choice", tuple((query, choice) for choice in choices), gold)
    premise = _text(row, "premise")
    if question == "effect":
        return Item("choice", tuple((premise, choice) for choice in choices), gold)
    if question == "cause":
        return Item("choice", tuple((choice, premise) for choice in choices), gold)
    raise ValueError(f"question is {question!r}; with a premise it must be 'cause' or 'effect'.")


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row[key]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{key} is {value!r:.60}; it must be text that is not empty.")
    return value


def _texts(row: Mapping[str, Any], key: str) -> list[str]:
    values = row[key]
    if not isinstance(values, list) or len(values) < 2:
        raise ValueError(f"{key} is {values!r:.60}; it must be a list of at least two texts.")
    return [_text({key: value}, key) for value in values]


def _gold(row: Mapping[str, Any], num_options: int) -> int:
    gold = row["gold"]
    if not isinstance(gold, int) or isinstance(gold, bool) or not 0 <= gold < num_options:
        raise ValueError(
            f"gold is {gold!r}; it must be the index of the right option, 0 to {num_options - 1}."
        )
    return gold
