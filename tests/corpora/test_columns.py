"""The data's own names for fields: mapped, joined, and suggested where they are missing."""

import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crosstok.chats import Conversation, PromptCompletion, parse_example
from crosstok.corpora import load_corpus, load_examples

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
ALPACA = [
    {"instruction": "Add.", "input": "1 and 2", "output": "3"},
    {"instruction": "Greet.", "input": "", "output": "Hello"},
]


def write(folder, rows, kind="jsonl"):
    file = folder / f"data.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif kind == "csv":
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        file.write_text("\n".join(lines))
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def parsed(examples):
    return [parse_example(row["example"], row["where"]) for row in examples.dataset]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_alpaca_is_read_with_its_input(tmp_path, kind, streaming):
    columns = {"prompt": "instruction+input", "completion": "output"}
    examples = load_examples(write(tmp_path, ALPACA, kind), columns=columns, streaming=streaming)
    assert parsed(examples) == [
        PromptCompletion("Add.\n\n1 and 2", "3"),
        PromptCompletion("Greet.", "Hello"),
    ]


@pytest.mark.parametrize("streaming", [False, True])
def test_columns_of_a_hub_data_set_are_mapped(monkeypatch, streaming):
    def hub(name, config, split, streaming):
        rows = datasets.Dataset.from_list([{"question": "1+1?", "answer": "2", "id": 7}])
        return rows.to_iterable_dataset() if streaming else rows

    monkeypatch.setattr(datasets, "load_dataset", hub)
    columns = {"prompt": "question", "completion": "answer"}
    examples = load_examples("some/set", columns=columns, streaming=streaming)
    assert parsed(examples) == [PromptCompletion("1+1?", "2")]


def test_the_chosen_answer_of_a_preference_is_read(tmp_path):
    rows = [{"prompt": "Hi", "chosen": TURNS, "rejected": TURNS[:1], "messages": "no list"}]
    source = write(tmp_path, rows)
    [chat] = parsed(load_examples(source, columns={"messages": "chosen"}))
    assert chat == Conversation(tuple(TURNS))


def test_what_is_asked_for_is_taken_before_what_else_a_row_has(tmp_path):
    rows = [{"messages": TURNS, "text": "a text", "q": "Q", "a": "A"}]
    source = write(tmp_path, rows)
    pair = load_examples(source, columns={"prompt": "q", "completion": "a"})
    assert parsed(pair) == [PromptCompletion("Q", "A")]
    assert list(load_examples(source, columns={"text": "q"}).texts()) == ["Q"]
    assert load_examples(source).kind == "chat"


def test_texts_are_joined_by_a_blank_line(tmp_path):
    rows = [{"title": "T", "body": "B"}, {"title": None, "body": "C"}, {"title": "", "body": " "}]
    for kind in ("jsonl", "parquet"):
        corpus = load_corpus(write(tmp_path, rows, kind), text_field="title+body")
        assert list(corpus.texts()) == ["T\n\nB", "C"]


def test_a_column_whose_name_has_a_plus_is_itself(tmp_path):
    source = write(tmp_path, [{"a+b": "one", "a": "two", "b": "three"}])
    assert list(load_corpus(source, text_field="a+b").texts()) == ["one"]


@pytest.mark.parametrize(
    ("row", "flags"),
    [
        (ALPACA[0], "--columns prompt=instruction+input --columns completion=output"),
        ({"question": "a", "answer": "b"}, "--columns prompt=question --columns completion=answer"),
        ({"Question": "a", "Response": "b"}, "--columns prompt=Question --columns completion=Resp"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "Give --columns completion=chosen."),
        ({"chosen": TURNS, "rejected": TURNS}, "Give --columns messages=chosen."),
        ({"id": 1, "dialog": TURNS}, "Give --columns messages=dialog."),
        ({"id": "1", "content": "x"}, "Give --columns text=content."),
        ({"url": "u", "raw": "a longer text"}, "Give --columns text=raw."),
        ({"id": 1}, "--columns text=NAME"),
    ],
)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_unknown_columns_are_listed_with_the_flags_that_fit_best(tmp_path, row, flags, kind):
    with pytest.raises(ValueError, match="Its fields are") as error:
        load_examples(write(tmp_path, [row], kind))
    assert flags in str(error.value)
    assert all(repr(column) in str(error.value) for column in row)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"prompt": "instruct", "completion": "output"}, "no column 'instruct'; its columns are"),
        ({"txt": "output"}, "'txt', which is not a field that crosstok reads"),
        ({"output": "completion"}, "Or was it completion=output"),
    ],
)
def test_a_column_that_is_not_there_is_refused(tmp_path, columns, message):
    with pytest.raises(ValueError, match=message):
        load_examples(write(tmp_path, ALPACA), columns=columns)


def test_columns_that_do_not_hold_text_are_not_joined(tmp_path):
    source = write(tmp_path, [{"a": "one", "b": 2, "c": "x"}])
    with pytest.raises(
        ValueError, match=r"row 1: the columns a\+b are joined, and one .* is a int"
    ):
        load_examples(source, columns={"prompt": "a+b", "completion": "c"})
