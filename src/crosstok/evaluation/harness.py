"""Run the tasks of lm-eval on any language model: one, its byte view, or several as one.

lm-eval exchanges strings with its models, so nothing here handles tokens. The short form is
`crosstok evaluate --task`; with all of lm-eval's own options:

    python -m crosstok.evaluation.harness --model crosstok --model_args pretrained=NAME --tasks TASK

Differences from lm-eval's own models:

* The bytes of the continuation are scored, as in `crosstok.evaluation.exams`; every context comes
  after the document start.
* A request that does not fit is an error; it is never cut.
* A document of `loglikelihood_rolling` that does not fit is cut into windows at white space, each
  after the document start; every byte counts once.
* A chat reaches the model as messages, and each member of an ensemble renders its own template.
* For a model that answers in bytes (or whose tokens are bytes), a limit in tokens is multiplied by
  `bytes_per_token`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tqdm import tqdm

from crosstok.evaluation.byte_windows import cut_text, first_window
from crosstok.inference.ensemble import Ensemble
from crosstok.inference.language_model import LanguageModel, Prompt, Sampling
from crosstok.inference.loading import load_language_model

try:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM
    from lm_eval.api.registry import model_registry
    from lm_eval.models.utils import normalize_gen_kwargs
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"tasks of lm-eval need a package that is missing ({error.name}): "
        "pip install 'crosstok[eval]'."
    ) from error

__all__ = ["CrosstokLM", "register"]

_REQUESTS_PER_GROUP = 256
"""Requests scored between two updates of the progress bar and of lm-eval's cache."""

_DOCUMENTS_PER_GROUP = 32

_CHAT = "<crosstok chat>"
"""Prefix of messages passed through lm-eval, which takes strings only."""

_NEUTRAL = {"num_beams": 1, "num_return_sequences": 1, "early_stopping": False, "use_cache": True}
"""Values of transformers' options that change nothing here, so that tasks may set them."""

_SAMPLING = ("top_k", "top_p", "min_p", "repetition_penalty")


class CrosstokLM(LM):  # type: ignore[misc]
    """A `LanguageModel` with the interface of lm-eval."""

    def __init__(
        self,
        pretrained: str | Sequence[str] | Ensemble | LanguageModel,
        *,
        batch_size: int | str | None = None,
        max_gen_toks: int = 256,
        bytes_per_token: float = 4.0,
        window_bytes: int | None = None,
        seed: int = 0,
        show_progress: bool = True,
        max_batch_size: int | None = None,
        **options: Any,
    ) -> None:
        """Take a loaded model, or load one.

        In `--model_args`, "a;b" names two models, "0.7;0.3" their weights, and "bytes:a" the byte
        view of one.

        Args:
            pretrained: names or folders, an ensemble file, an `Ensemble`, or a loaded model.
            batch_size: prompts answered at once; 8 if it is not a number.
            max_gen_toks: most tokens in an answer, where the task has no limit.
            bytes_per_token: factor from a limit in tokens to a limit in bytes.
            window_bytes: bytes in a window of a document; by default as many as fit.
            seed: seed of sampled answers.
            show_progress: whether to show progress bars on standard error.
            max_batch_size: accepted because lm-eval passes it, and ignored.
            **options: options of `load_language_model`: combine, bytes_view, weights, alpha,
                target, dtype, device, trust_remote_code.

        Raises:
            ValueError: see `load_language_model`.
        """
        super().__init__()
        self.model: LanguageModel = _model(pretrained, options)
        number = str(batch_size or "")
        self.batch_size = int(number) if number.isdigit() else 8
        self.max_gen_toks = max_gen_toks
        self.bytes_per_token = bytes_per_token
        self.window_bytes = window_bytes
        self.seed = seed
        self.show_progress = show_progress

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Log-likelihood (nats) of continuations, and whether greedy decoding would write them."""
        pairs = [request.args for request in requests]
        answers: list[Any] = [None] * len(pairs)
        with self._bar("loglikelihood", len(pairs)) as bar:
            for group in _groups(pairs, _REQUESTS_PER_GROUP):
                asked = [(_prompt(pairs[i][0]), pairs[i][1]) for i in group]
                for i, score in zip(group, self.model.logprob(asked), strict=True):
                    answers[i] = (score.logprob, score.is_greedy)
                    self.cache_hook.add_partial("loglikelihood", pairs[i], answers[i])
                bar.update(len(group))
        return answers

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Log-likelihood (nats) of whole documents."""
        texts = [request.args for request in requests]
        answers: list[Any] = [None] * len(texts)
        with self._bar("loglikelihood_rolling", len(texts)) as bar:
            for group in _groups(texts, _DOCUMENTS_PER_GROUP):
                sums = self._document_logprobs([texts[i][0] for i in group])
                for i, logprob in zip(group, sums, strict=True):
                    answers[i] = logprob
                    self.cache_hook.add_partial("loglikelihood_rolling", texts[i], logprob)
                bar.update(len(group))
        return answers

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Generate answers up to a stop string."""
        asked = [request.args for request in requests]
        answers: list[Any] = [None] * len(asked)
        by_options: dict[str, list[int]] = {}
        for i, (_, options) in enumerate(asked):
            by_options.setdefault(json.dumps(options, sort_keys=True), []).append(i)
        seed = self.seed
        with self._bar("generate_until", len(asked)) as bar:
            for indices in by_options.values():
                for group in _groups([asked[i] for i in indices], self.batch_size):
                    places = [indices[i] for i in group]
                    sampling = self._sampling(asked[places[0]][1], seed)
                    seed += 1  # repeats of a request are different draws
                    prompts = [_prompt(asked[i][0]) for i in places]
                    texts = self.model.generate(prompts, sampling)
                    for i, text in zip(places, texts, strict=True):
                        answers[i] = text
                        self.cache_hook.add_partial("generate_until", asked[i], text)
                    bar.update(len(group))
        return answers

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Encode the messages as a string; the model renders them later.

        Raises:
            ValueError: the task begins the assistant's answer (`gen_prefix`).
        """
        if not add_generation_prompt:
            raise ValueError(
                "the task begins the assistant's answer (gen_prefix), which chats of crosstok "
                "do not allow; leave apply_chat_template out."
            )
        return _CHAT + json.dumps(chat_history, ensure_ascii=False)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template in lm-eval's records: a note that the model's own is used."""
        return "the model's own, rendered by crosstok" if chat_template else None

    @property
    def tokenizer_name(self) -> str:
        """Key of lm-eval's cache of requests, whose messages are the same for every model."""
        return "crosstok"

    def get_model_info(self) -> dict[str, Any]:
        """The model's entry in lm-eval's records."""
        return {"model_name": self.model.name, "unit": self.model.unit}

    def _document_logprobs(self, texts: list[str]) -> list[float]:
        if self.window_bytes is not None:
            return [sum(self._logprobs(cut_text(text, self.window_bytes))) for text in texts]
        try:
            return self._logprobs(texts)
        except ValueError:  # at least one does not fit
            return [self._longest_windows(text) for text in texts]

    def _logprobs(self, texts: list[str]) -> list[float]:
        """Log-probabilities of texts that fit; empty texts are not scored."""
        asked = [text for text in texts if text]
        scores = iter(self.model.text_logprobs(asked) if asked else [])
        return [next(scores).logprob if text else 0.0 for text in texts]

    def _longest_windows(self, text: str) -> float:
        total, rest = 0.0, text
        size = self.model.max_length * (4 if self.model.unit == "token" else 1) - 1
        least = max(4, self.model.max_length // 2)
        while rest:
            window = first_window(rest, size)
            try:
                total += self._logprobs([window])[0]
            except ValueError:
                # How many bytes fit depends on the text, but half as many bytes as positions always
                # do: if these fail, the error has another cause.
                if len(window.encode()) <= least:
                    raise
                size = max(least, min(size, len(window.encode())) // 2)
                continue
            rest = rest[len(window) :]
        return total

    def _sampling(self, given: Mapping[str, Any], seed: int) -> Sampling:
        options = dict(normalize_gen_kwargs(dict(given), self.max_gen_toks))
        until = [stop for stop in options.pop("until") if stop]
        max_new_tokens = options.pop("max_gen_toks")
        temperature = float(options.pop("temperature", 1.0))  # transformers' own default
        if not options.pop("do_sample"):
            temperature = 0.0
        named = {name: options.pop(name) for name in _SAMPLING if name in options}
        unknown = {name: value for name, value in options.items() if _has_effect(name, value)}
        if unknown:
            raise ValueError(
                f"the task generates with {unknown}, which crosstok does not know; it knows until, "
                f"max_gen_toks, do_sample, temperature, {', '.join(_SAMPLING)}. Override it with "
                "generation_kwargs in your own task file."
            )
        return Sampling(
            max_new_tokens=max_new_tokens,
            max_new_bytes=max(1, round(max_new_tokens * self.bytes_per_token)),
            temperature=temperature,
            stop=tuple(until),
            seed=seed,
            **named,
        )

    def _bar(self, what: str, total: int) -> Any:
        name = f"{self.model.name}: {what}"
        return tqdm(total=total, desc=name, disable=not self.show_progress, leave=False)


def register() -> None:
    """Make `crosstok` a model of lm-eval in this process.

    lm-eval finds models of other packages only in its registry; it reads no entry points.
    """
    if "crosstok" not in model_registry:  # a name that is already used is refused
        model_registry.register("crosstok", target="crosstok.evaluation.harness:CrosstokLM")


def _model(
    pretrained: str | Sequence[str] | Ensemble | LanguageModel, options: dict[str, Any]
) -> LanguageModel:
    if isinstance(pretrained, str):
        pretrained = pretrained.split(";")
    if not isinstance(pretrained, Sequence | Ensemble):
        if options:
            raise ValueError(
                f"a loaded model takes no options for loading: {sorted(options)}. Leave them out."
            )
        return pretrained
    if "cuda" in str(options.get("device")) and not torch.cuda.is_available():
        del options["device"]  # lm-eval's default even without a GPU
    if isinstance(weights := options.get("weights"), str):
        options["weights"] = [float(weight) for weight in weights.split(";")]
    return load_language_model(pretrained, **options)


def _prompt(context: str) -> Prompt:
    """The context, or the messages that it encodes."""
    if not context.startswith(_CHAT):
        return context
    messages: list[dict[str, str]] = json.loads(context.removeprefix(_CHAT))
    return messages


def _groups(requests: Sequence[tuple[Any, ...]], size: int) -> list[list[int]]:
    """Indices, longest first, with equal contexts together."""
    order = sorted(range(len(requests)), key=lambda i: (-len(requests[i][0]), requests[i][0]))
    return [order[i : i + size] for i in range(0, len(order), size)]


def _has_effect(name: str, value: Any) -> bool:
    """Whether an option changes anything."""
    return value is not None and not (name in _NEUTRAL and value == _NEUTRAL[name])


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    register()
    cli_evaluate()
