"""The recipe of a comparison of models."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

from crosstok.choices import Combine, Precision, Target, TextUnit
from crosstok.recipes.ensemble import ensemble_options, spelt_as_flags
from crosstok.recipes.fields import Numbers, Strings, option

if TYPE_CHECKING:
    from crosstok.evaluation import EvaluationOptions


@dataclass(frozen=True, kw_only=True)
class EvaluateRecipe:
    """Compare models by bits per byte, exams, tasks and likeness to a teacher.

    A model is a name on the hub, a folder, a .yaml file that defines an ensemble, or bytes:NAME for
    the byte view of a model. With --combine all models answer as one.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    model: Strings = option(
        "Model to evaluate: a name on the hub, a folder, an ensemble file, or bytes:NAME; may be "
        "repeated."
    )
    data: Strings | None = option("Texts for bits per byte; may be repeated.", None)
    exam: Strings | None = option("File of exam items; may be repeated.", None)
    task: Strings | None = option(
        "Task of lm-eval: a name, a pattern or a file; may be repeated.", None
    )
    teacher: str | None = option("Model whose likelihoods the others are compared with.", None)
    json: str | None = option("Also write the figures to this file.", None)
    max_length: int | None = option(
        "Tokens of a window, or bytes of a byte model; its own limit if not given.", None
    )
    start_every_window: bool = option(
        "Put the start token in front of every window, not only of every text.", True
    )
    window_bytes: int | None = option(
        "Bytes of a window, in the place of tokens; up to 1024 with byte views and ensembles.", None
    )
    max_texts: int | None = option("Texts of each data set, from its beginning.", None)
    limit: int | None = option(
        "Items of each exam, evenly spaced, and of each task, from its beginning.", None
    )
    task_folder: str | None = option("Folder with task files of your own.", None)
    num_fewshot: int | None = option(
        "Tasks: solved examples in front of each question; the task's own number if not given.",
        None,
    )
    apply_chat_template: bool = option("Tasks: put the questions as chats.", False)
    combine: Combine | None = option("Let all models answer as one.", None)
    bytes: bool = option("Read every model byte by byte.", False)
    weight: Numbers | None = option(
        "--combine: weight of a model; repeated for each, equal if not given.", None
    )
    alpha: float = option("--combine proxy: strength of the difference of the experts.", 1.0)
    target: Target = option("Token sequences that count where models are read by bytes.", "all")
    text_field: str = option("Field of the data that holds the text.", "text")
    text_unit: TextUnit = option("What one text of a .txt file is.", "line")
    split: str = option("Split of a data set or folder.", "train")
    device: str | None = option("cpu, cuda, cuda:1, ...; an accelerator if there is one.", None)
    precision: Precision | None = option(
        "Of the weights; if not given, fp32 on a CPU and elsewhere as saved.", None
    )
    trust_remote_code: bool = option("Run Python code that comes with a model.", False)

    def options(self) -> "EvaluationOptions":
        """How texts are read and scored.

        Raises:
            RecipeError: Options that say which models answer contradict each other.
            ValueError: A file that defines an ensemble is missing or wrong.
        """
        from crosstok.evaluation import EvaluationOptions
        from crosstok.evaluation.contenders import contenders

        own = {field.name for field in fields(self)}
        same = [field.name for field in fields(EvaluationOptions) if field.name in own]
        values = {name: getattr(self, name) for name in same} | ensemble_options(self)
        options = EvaluationOptions(**values)
        with spelt_as_flags():
            contenders(self.model, options)
        return options
