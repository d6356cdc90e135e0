"""Tasks of lm-eval: loaded before any model, then run on one model after another."""

import difflib
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crosstok.evaluation.options import EvaluationOptions
from crosstok.inference.language_model import LanguageModel

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

_BOOTSTRAP_ITERS = 1000  # of standard errors without a formula; lm-eval's 100,000 take minutes


class Tasks:
    """Tasks by name, ready to run on models.

    Attributes:
        names: names of the tasks, with patterns expanded.
    """

    def __init__(self, names: Sequence[str], options: EvaluationOptions) -> None:
        """Find the tasks and load their data.

        Args:
            names: tasks, groups, tags, patterns ("mmlu_*"), or task files (.yaml).
            options: the folder of task files, the number of solved examples and the limit.

        Raises:
            ValueError: lm-eval is not installed, a task is unknown, or its data cannot be loaded.
        """
        if importlib.util.find_spec("lm_eval") is None:
            raise ValueError(
                "tasks need the package lm-eval, which is missing: pip install 'crosstok[eval]'."
            )
        self._options = options
        folder = options.task_folder
        if folder is not None and not Path(folder).is_dir():
            raise ValueError(
                f"there is no folder {folder!r} of task files; give one that exists as task_folder."
            )
        self._manager = _manager(names, folder)
        self.names = [name for given in names for name in _matching(self._manager, given, folder)]
        for name in self.names:
            _load(self._manager, name)

    def run(
        self,
        model: LanguageModel,
        *,
        show_progress: bool = True,
        on_samples: Callable[[str, Iterable[Any]], None] | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Run the tasks on a model.

        Args:
            model: any language model.
            show_progress: whether to show lm-eval's progress bars.
            on_samples: called with the name of every task and its items, in lm-eval's form.

        Returns:
            For each task and group: `{"metrics": {NAME: {"value", "stderr", "higher_is_better"}},
            "items", "num_fewshot", "group"}`, where NAME is lm-eval's, with the filter in brackets
            if there is one, and `group` is the group that the task belongs to.

        Raises:
            ValueError: the model cannot answer, for example because a request does not fit.
        """
        from lm_eval import simple_evaluate

        from crosstok.evaluation.harness import CrosstokLM

        options = self._options
        asked = CrosstokLM(
            model,
            batch_size=options.batch_size,
            window_bytes=options.window_bytes,
            show_progress=show_progress,
        )
        results = simple_evaluate(
            model=asked,
            tasks=list(self.names),
            num_fewshot=options.num_fewshot,
            limit=options.limit,
            apply_chat_template=options.apply_chat_template,
            bootstrap_iters=_BOOTSTRAP_ITERS,
            log_samples=on_samples is not None,
            task_manager=self._manager,
        )
        if on_samples is not None:
            for name, samples in (results or {}).get("samples", {}).items():
                on_samples(name, samples)
        return _figures(results or {})


def _manager(names: Sequence[str], folder: str | None) -> "TaskManager":
    """Read lm-eval's own task files only if they are needed, which takes seconds."""
    from lm_eval.tasks import TaskManager

    if folder is not None:
        own = TaskManager(include_path=folder, include_defaults=False)
        if all(_is_file(name) or own.match_tasks([name]) for name in names):
            return own
    return TaskManager(include_path=folder)


def _matching(manager: "TaskManager", name: str, folder: str | None) -> list[str]:
    if _is_file(name):
        return [name]
    found: list[str] = manager.match_tasks([name])
    if found:
        return found
    near = difflib.get_close_matches(name, manager.all_tasks, 3)
    hint = f" Is it {' or '.join(near)}?" if near else ""
    where = "in " + folder + " and " if folder else ""
    raise ValueError(
        f"task {name!r} is unknown {where}to lm-eval.{hint} `lm-eval ls tasks` lists them; for "
        "tasks of your own, give the folder of their files as task_folder."
    )


def _load(manager: "TaskManager", name: str) -> None:
    try:
        manager.load([name])
    except Exception as error:
        offline = (
            " If the hub cannot be reached, give a task_folder with a file of this task whose "
            "data are local (dataset_path: json, dataset_kwargs: data_files)."
        )
        # ConnectionError of several libraries, FileNotFoundError for missing data sets
        hint = offline if isinstance(error, OSError) else ""
        raise ValueError(
            f"task {name!r} cannot be loaded: {type(error).__name__}: {error}.{hint}"
        ) from error


def _is_file(name: str) -> bool:
    return name.endswith((".yaml", ".yml")) and Path(name).is_file()


def _figures(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    groups = {
        part: group
        for group, parts in results.get("group_subtasks", {}).items()
        for part in parts
        if part != group
    }
    return {
        name: {
            "metrics": _metrics(found, results["higher_is_better"].get(name, {})),
            "items": results["n-samples"].get(name, {}).get("effective"),
            "num_fewshot": results["n-shot"].get(name),
            "group": groups.get(name),
        }
        for name, found in results["results"].items()
    }


def _metrics(
    found: dict[str, Any], higher_is_better: dict[str, bool | None]
) -> dict[str, dict[str, Any]]:
    """Join lm-eval's "acc,none" and "acc_stderr,none" into one figure called "acc"."""
    metrics = {}
    for key, value in found.items():
        metric, _, applied = key.partition(",")
        if not applied or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        stderr = found.get(f"{metric}_stderr,{applied}")
        metrics[metric if applied == "none" else f"{metric} ({applied})"] = {
            "value": float(value),
            "stderr": float(stderr) if isinstance(stderr, int | float) else None,
            "higher_is_better": higher_is_better.get(metric),
        }
    return metrics
