"""Options that say what data a job reads, and how."""

from collections.abc import Mapping
from dataclasses import dataclass

from crosstok.choices import TextUnit
from crosstok.recipes.fields import CheckedRecipe, Numbers, RecipeError, option
from crosstok.recipes.in_memory import Sources

COLUMNS = "The data's own name for a field: text, prompt, ..."

READING = ("columns", "text_field", "text_unit", "split")
"""Options that say how data is read."""


def check_columns(columns: Mapping[str, str] | None, text_field: str, *fields: str) -> None:
    """Check which fields are given other columns, without the data.

    Args:
        columns: column of each field.
        text_field: the option of that name.
        fields: those that the job reads; by default every field of texts and chats.

    Raises:
        RecipeError: a key is not a field that is read, or the text's column is given twice.
    """
    if not columns:
        return
    from crosstok.corpora.columns import check_columns as check_fields

    try:
        check_fields(columns)
    except ValueError as error:
        raise RecipeError(str(error)) from error
    if others := [name for name in columns if fields and name not in fields]:
        raise RecipeError(
            f"columns has {others[0]!r}, and this command reads only {', '.join(fields)}. Leave it "
            "out."
        )
    if "text" in columns and text_field != "text":
        raise RecipeError(
            f"columns has text={columns['text']}, and text_field is {text_field!r}; give one of "
            "the two."
        )


def text_column(columns: Mapping[str, str] | None, text_field: str) -> str:
    """The column that holds the text."""
    return (columns or {}).get("text", text_field)


@dataclass(frozen=True, kw_only=True)
class DataRecipe(CheckedRecipe):
    """What a job that trains reads."""

    data: Sources = option("Texts or chats: data set, file, folder or glob.", group="data")
    data_weight: Numbers | None = option(
        "How often the rows of each --data come in one pass.",
        None,
        group="data",
    )
    columns: dict[str, str] | None = option(COLUMNS, None, group="data", example="text=body")
    text_field: str = option("Field of the data that holds the text.", "text", group="data")
    text_unit: TextUnit = option("How a .txt file is divided into texts.", "line", group="data")
    split: str = option("Split of a data set or folder.", "train", group="data")
    streaming: bool = option("Read the data while training, not before.", False, group="data")

    def __post_init__(self) -> None:
        """Check every value, and how they fit together."""
        super().__post_init__()
        check_columns(self.columns, self.text_field)
        weights = self.data_weight
        if weights is None:
            return
        if self.streaming:
            raise RecipeError(
                "data_weight is given, and the number of rows of streamed data is not known. Leave "
                "data_weight or streaming out."
            )
        if len(weights) != len(self.data) or not all(0 < w < float("inf") for w in weights):
            raise RecipeError(
                f"data_weight is {weights}; there must be one for each of the {len(self.data)} "
                "sources of data, in their order, above 0. Leave a source out to give it no weight."
            )
