"""The recipe of a comparison of models."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from crosstok.choices import Combine, Precision, Target, TextUnit
from crosstok.recipes.data import COLUMNS, READING, check_columns, text_column
from crosstok.recipes.effects import refuse_unused
from crosstok.recipes.ensemble import ensemble_options, spelled_as_in_recipes
from crosstok.recipes.fields import Numbers, PathName, RecipeError, Strings, option
from crosstok.recipes.in_memory import ModelName, ModelNames, Sources
from crosstok.recipes.placing import PlacedRecipe

if TYPE_CHECKING:
    from crosstok.evaluation import EvaluationOptions

_EXAMS = "tasks and exams"


@dataclass(frozen=True, kw_only=True)
class EvaluateRecipe(PlacedRecipe):
    """Compare models by bits per byte, exams, tasks and agreement with a teacher."""

    model: ModelNames = option(
        "Model: a name on the hub, a folder, bytes:NAME or an ensemble file (.yaml).", group="model"
    )
    combine: Combine | None = option("Let all models answer as one.", None, group="model")
    weight: Numbers | None = option(
        "Weight of each model, in their order; equal if not given.", None, group="model", above=0
    )
    alpha: float = option(
        "For --combine proxy: strength of expert minus anti-expert.", 1.0, group="model"
    )
    bytes: bool = option("Read every model byte by byte.", False, group="model")
    target: Target = option(
        "For models read byte by byte: which token sequences count.", "all", group="model"
    )

    data: Sources | None = option(
        "Texts for bits per byte: a data set name, a file, a folder or a glob.", None, group="data"
    )
    max_texts: int | None = option(
        "Texts of each data set, from its beginning; all if not given.",
        None,
        group="data",
        at_least=1,
    )
    max_length: int | None = option(
        "Tokens (bytes, of a byte model) in a window; the model's own limit if not given.",
        None,
        group="data",
        at_least=1,
    )
    window_bytes: int | None = option(
        "Bytes in a window, not tokens; up to 1024 by default for byte views and ensembles.",
        None,
        group="data",
        at_least=1,
    )
    start_every_window: bool = option(
        "Put the start token before every window, not only before every text.", True, group="data"
    )
    columns: dict[str, str] | None = option(COLUMNS, None, group="data", example="text=body")
    text_field: str = option("Field of the data that holds the text.", "text", group="data")
    text_unit: TextUnit = option("How a .txt file is divided into texts.", "line", group="data")
    split: str = option("Split of a data set or folder.", "train", group="data")

    exam: Strings | None = option("File of exam items.", None, group=_EXAMS)
    task: Strings | None = option(
        "Task of lm-eval: a name, a pattern or a file.", None, group=_EXAMS
    )
    limit: int | None = option(
        "Items of each exam (evenly spaced) and of each task (the first); all if not given.",
        None,
        group=_EXAMS,
        at_least=1,
    )
    task_folder: PathName | None = option("Folder with your own task files.", None, group=_EXAMS)
    num_fewshot: int | None = option(
        "Solved examples before each question of a task; the task's own number if not given.",
        None,
        group=_EXAMS,
        at_least=0,
    )
    apply_chat_template: bool = option("Put the questions of tasks as chats.", False, group=_EXAMS)
    batch_size: int | None = option(
        "Texts, options or prompts in one forward pass at most; as many as fit if not given.",
        None,
        group=_EXAMS,
        at_least=1,
    )
    log_samples: PathName | None = option(
        "Folder for the items of exams and tasks with each model's scores.", None, group=_EXAMS
    )

    teacher: ModelName | None = option(
        "Model whose likelihoods the others are compared with.", None, group="comparison"
    )

    json: PathName | None = option("Also write the figures here.", None, group="output and run")
    precision: Precision | None = option(
        "Precision of the weights; by default fp32 on a CPU, elsewhere as saved.",
        None,
        group="output and run",
    )
    trust_remote_code: bool = option(
        "Run Python code that comes with a model.", False, group="output and run"
    )

    def __post_init__(self) -> None:
        """Check every value, and how they fit together."""
        super().__post_init__()
        check_columns(self.columns, self.text_field, "text")
        if not self.task:
            refuse_unused(self, ("task_folder", "num_fewshot", "apply_chat_template"), "task")
        if not self.task and not self.exam:
            refuse_unused(self, ("limit",), "exam or task")
        if not self.data:
            of_data = ("max_texts", "start_every_window", *READING, "teacher")
            refuse_unused(self, of_data, "data")
        if self.window_bytes is not None and not self.start_every_window:
            raise RecipeError(
                f"window_bytes is {self.window_bytes}, and every window of bytes has the start "
                "token before it, so that start_every_window cannot be switched off. Give "
                "max_length instead of window_bytes, or leave start_every_window out."
            )

    def options(self) -> "EvaluationOptions":
        """How texts are read and scored.

        Raises:
            RecipeError: options that say which models answer contradict each other.
            ValueError: a file that defines an ensemble is missing or wrong.
        """
        from crosstok.evaluation import EvaluationOptions
        from crosstok.evaluation.contenders import contenders

        own = {field.name for field in fields(self)}
        same = [field.name for field in fields(EvaluationOptions) if field.name in own]
        values = {name: getattr(self, name) for name in same} | ensemble_options(self)
        values["text_field"] = text_column(self.columns, self.text_field)
        options = EvaluationOptions(**values)
        with spelled_as_in_recipes():
            contenders(self.model, options)
        return options
