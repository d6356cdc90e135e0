"""Chat data from files: found by its columns, checked row by row."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crosstok.chats import Conversation, PromptCompletion, parse_example
from crosstok.corpora import load_examples

TURNS = [{"role": "user", "content": "Hé"}, {"role": "assistant", "content": "猫"}]
CALL = {"type": "function", "function": {"name": "f", "arguments": {"a": 1, "b": ["x", None]}}}


def write(folder, rows, name="chat.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def parsed(examples):
    return [parse_example(row["example"], row["where"]) for row in examples.dataset]


@pytest.mark.parametrize("streaming", [False, True])
def test_messages_survive_loading(tmp_path, streaming):
    called = [TURNS[0], {"role": "assistant", "content": None, "tool_calls": [CALL]}, TURNS[1]]
    rows = [{"messages": TURNS, "id": 1}, {"messages": called, "tools": [{"name": "f"}]}]
    examples = load_examples(write(tmp_path, rows), streaming=streaming)
    first, second = parsed(examples)
    assert (examples.kind, examples.name) == ("chat", "chat")
    assert first == Conversation(tuple(TURNS))
    assert second.messages[1]["tool_calls"] == [CALL]
    assert second.tools == ({"type": "function", "function": {"name": "f"}},)
    assert second.where == "chat.jsonl, row 2"


def test_prompts_with_completions_are_strings_or_messages(tmp_path):
    rows = [
        {"prompt": "a ", "completion": "b"},
        {"prompt": TURNS[:1], "completion": TURNS[1:]},
    ]
    pair, messages = parsed(load_examples(write(tmp_path, rows)))
    assert pair == PromptCompletion("a ", "b")
    assert messages == Conversation(tuple(TURNS), None, 1)


def test_sharegpt_and_lists_of_text_parts_are_read(tmp_path):
    turns = [{"from": "human", "value": "Hé"}, {"from": "gpt", "value": "猫"}]
    parts = [TURNS[0], {"role": "assistant", "content": [{"type": "text", "text": "猫"}]}]
    path = write(tmp_path, [{"conversations": turns}, {"messages": parts}])
    assert parsed(load_examples(path)) == [Conversation(tuple(TURNS))] * 2


def test_texts_are_loaded_as_before(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    for path in (str(tmp_path / "a.txt"), write(tmp_path, [{"text": "one"}, {"text": "two"}])):
        examples = load_examples(path)
        assert examples.kind == "text"
        assert list(examples.texts()) == ["one", "two"]


def test_a_text_field_that_is_named_is_taken_before_messages(tmp_path):
    path = write(tmp_path, [{"messages": TURNS, "body": "one"}])
    examples = load_examples(path, text_field="body")
    assert (examples.kind, list(examples.texts())) == ("text", ["one"])


def test_parquet_gives_what_json_lines_give(tmp_path):
    rows = [
        {"messages": [*TURNS[:1], {"role": "assistant", "tool_calls": [CALL["function"]]}]},
        {"messages": TURNS},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "chat.parquet")
    called, plain = parsed(load_examples(str(tmp_path / "chat.parquet")))
    assert plain == Conversation(tuple(TURNS))
    assert called.messages[1]["tool_calls"][0]["function"]["name"] == "f"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": []}, "'messages' is empty"),
        ({"messages": "hi"}, "'messages' is a string"),
        ({"messages": TURNS[:1]}, r"no assistant turn \(the roles are: user\)"),
        (
            {"messages": [*TURNS, {"role": "narrator", "content": "x"}]},
            "message 3: unknown role 'narrator'; known roles are system, developer, user",
        ),
        (
            {"messages": [TURNS[0], {"role": "assistant", "content": None}]},
            r"message 2 \(role assistant\): neither content nor tool_calls",
        ),
        ({"messages": [TURNS[0], {"role": "assistant", "content": 3}]}, "content is int"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
            "message 1: a part of the content is of type 'image'",
        ),
        ({"messages": ["hi"]}, "message 1: 'hi' is not a JSON object"),
        ({"messages": [TURNS[0], {"role": "assistant", "content": "\ud83d"}]}, "lone surrogate"),
        ({"prompt": TURNS[:1], "completion": TURNS[:1]}, "completion has no assistant message"),
        ({"prompt": "a", "completion": TURNS[1:]}, "'prompt' is a string and 'completion' is a l"),
        ({"prompt": "a", "completion": ""}, "completion is empty"),
        ({"prompt": "a"}, "no 'messages', and no 'prompt' with 'completion'"),
        ({"messages": TURNS, "tools": "{"}, "'tools' is a string that is not valid JSON"),
        ([1], r"\[1\] is not a JSON object"),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_a_bad_row_is_reported_with_its_file_and_number(tmp_path, row, reason, streaming):
    path = write(tmp_path, [{"messages": TURNS}, row])
    with pytest.raises(ValueError, match=f"chat.jsonl, row 2.*{reason}"):
        list(load_examples(path, streaming=streaming).dataset)


def test_half_a_character_in_a_tool_call_is_kept(tmp_path):
    call = {"function": {"name": "f", "arguments": {"a": "\ud83d猫"}}}
    rows = [{"messages": [TURNS[0], {"role": "assistant", "tool_calls": [call]}]}]
    (found,) = parsed(load_examples(write(tmp_path, rows)))
    assert found.messages[1]["tool_calls"] == [call]


def test_texts_among_chat_files_are_refused(tmp_path):
    write(tmp_path, [{"messages": TURNS}], "a.jsonl")
    (tmp_path / "b.txt").write_text("one\n")
    with pytest.raises(ValueError, match="plain text among files of chat data"):
        load_examples(str(tmp_path))


def test_rows_of_another_form_report_what_chats_need(tmp_path):
    file = tmp_path / "alpaca.jsonl"
    file.write_text(json.dumps({"instruction": "Hello", "output": "Hi"}) + "\n")
    with pytest.raises(
        ValueError, match=r"'output'. Give --columns prompt=instruction --columns completion=output"
    ):
        load_examples(str(file))


@pytest.mark.parametrize("streaming", [False, True])
def test_fields_that_no_one_reads_are_named_once_with_a_count(tmp_path, caplog, streaming):
    rows = [{"messages": TURNS, "id": 1, "prompt": "Hé"}, {"messages": TURNS, "enable_thinking": 1}]
    examples = load_examples(write(tmp_path, rows), streaming=streaming)
    assert len(parsed(examples)) == 2
    for name in ("prompt", "enable_thinking"):
        assert f"{name!r} (1 rows" in caplog.text
    warned = [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]
    assert not any("'id'" in message for message in warned)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_second_reading_names_the_fields_again(tmp_path, caplog, suffix):
    rows = [{"messages": TURNS, "mood": "glad"}] * 3
    path = write(tmp_path, rows)
    if suffix == "parquet":
        path = str(tmp_path / "chat.parquet")
        pq.write_table(pa.Table.from_pylist(rows), path)
    for _ in range(2):  # the second one from the cache
        caplog.clear()
        load_examples(path)
        assert "'mood' (3 rows)" in caplog.text


def test_options_and_systems_survive_loading(tmp_path):
    options = {"enable_thinking": False}
    rows = [
        {"messages": TURNS, "chat_template_kwargs": options},
        {"messages": json.dumps(TURNS), "system": "Be brief."},
    ]
    first, second = parsed(load_examples(write(tmp_path, rows)))
    assert (first.messages, dict(first.options)) == (tuple(TURNS), options)
    assert second.contents == ("Be brief.", "Hé", "猫")
