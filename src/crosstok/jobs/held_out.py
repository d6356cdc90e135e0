"""Held-out texts: the student's bits per byte on them while it trains.

The figures are those of `crosstok evaluate`, of the model as it stands at a step, in windows of the
recipe's length and in the arithmetic of its precision.
"""

import time
from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback

from crosstok.corpora import Corpus, distinct_names, load_corpus
from crosstok.corpora.read import MissingFieldError
from crosstok.evaluation import Scorer, bits_per_byte
from crosstok.models import evaluating
from crosstok.recipes import TrainingRecipe
from crosstok.recipes.data import text_column
from crosstok.training import DistillationTrainer, Student
from crosstok.training.best_checkpoint import note_best

Texts = Mapping[str, list[str]]
"""By the name of what they come from."""


def held_out_texts(recipe: TrainingRecipe) -> Texts:
    """The recipe's held-out texts; empty where it has none.

    Two of one name are distinguished by ``-2``, ``-3``, ... in the order of the recipe.

    Raises:
        ValueError: something cannot be read or holds no text.
    """
    corpora = [_load(recipe, source) for source in recipe.eval_data or ()]
    names = distinct_names([corpus.name for corpus in corpora])
    return {
        name: list(corpus.texts(recipe.eval_texts))
        for name, corpus in zip(names, corpora, strict=True)
    }


class HeldOut(TrainerCallback):
    """Bits per byte on held-out texts: before the first step, every so often, after the last.

    Every rank measures the same, as every rank logs; what is logged is shown by the first.
    """

    def __init__(self, recipe: TrainingRecipe, student: Student, texts: Texts) -> None:
        """Find what can be wrong while nothing is written yet.

        Args:
            recipe: of the run.
            student: before it is trained.
            texts: `held_out_texts`; without any, nothing is measured.

        Raises:
            ValueError: the student has fewer positions than a window, or can score none of the
                texts of a name.
        """
        self._recipe, self._student = recipe, student
        self._texts = {f"eval_{name}_bits_per_byte": given for name, given in texts.items()}
        if texts:
            scorer = self._make_scorer()
            for name, given in texts.items():
                _check_scorable(scorer, name, given)

    def watch(self, trainer: DistillationTrainer) -> None:
        """Measure when this trainer trains, on the device that it has brought the student to."""
        if self._texts:
            self._trainer, self._scorer = trainer, self._make_scorer()
            trainer.add_callback(self)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure where the run starts or goes on."""
        self._log(state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure at every multiple of the interval and at the last step."""
        if state.global_step % self._recipe.eval_every == 0 or state.global_step >= state.max_steps:
            self._log(state, control)

    def _log(self, state: Any, control: Any) -> None:
        """Log what a run that is resumed has not logged at this step already."""
        lines = [line for line in state.log_history if line["step"] == state.global_step]
        logged = {name for line in lines for name in line}
        due = {name: texts for name, texts in self._texts.items() if name not in logged}
        if not due:
            return
        began = time.perf_counter()
        values = self._measure(due)
        self._trainer.meters.skip(time.perf_counter() - began)
        should_log = control.should_log  # by the step that ends here; a log takes it back
        self._trainer.log({**values, **self._trainer.seen()})
        control.should_log = should_log
        if self._trainer.args.load_best_model_at_end:
            lines = [line for line in state.log_history if line["step"] == state.global_step]
            figures = {name: line[name] for line in lines for name in self._texts if name in line}
            note_best(state, control, figures)

    def _make_scorer(self) -> Scorer:
        model, tokenizer = self._student.model, self._student.encoder.tokenizer
        length = self._recipe.student_max_length
        with evaluating(model):
            return Scorer(model, tokenizer, name="the student", max_length=length)

    def _measure(self, texts: Texts) -> dict[str, float]:
        with evaluating(self._scorer.model), self._trainer.compute_loss_context_manager():
            return {
                name: bits_per_byte(self._scorer, given).bits_per_byte
                for name, given in texts.items()
            }


def _load(recipe: TrainingRecipe, source: str) -> Corpus:
    try:
        return load_corpus(
            source,
            text_field=text_column(recipe.columns, recipe.text_field),
            text_unit=recipe.text_unit,
            split=recipe.eval_split,
            streaming=recipe.streaming,
        )
    except MissingFieldError as error:
        raise ValueError(
            f"eval_data {source}: {error} Chats have no bits per byte here: give texts, or "
            "compare the models by `crosstok evaluate` when they are trained."
        ) from error
    except ValueError as error:
        raise ValueError(
            f"eval_data {source} (split {recipe.eval_split!r}; eval_split sets another): {error}"
        ) from error


def _check_scorable(scorer: Scorer, name: str, texts: list[str]) -> None:
    if not any(scorer.row(spans.ids) is not None for spans in scorer.encode(texts)):
        raise ValueError(
            f"eval_data {name}: the {len(texts)} texts hold no byte that the student can score; "
            "give longer texts, or more of them by eval_texts."
        )
