"""Rows in the forms that data sets have, and which of their fields are read."""

from __future__ import annotations

import json

import pytest

from crosstok.chats import Conversation, PromptCompletion, parse_example
from crosstok.chats.rows import read_example

ASKED = {"role": "user", "content": "What is 6*7?"}
PLAIN = {"role": "assistant", "content": "It is 42."}
SYSTEM = {"role": "system", "content": "Be brief."}
CHAT = Conversation((ASKED, PLAIN))


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [ASKED, PLAIN]},
        {"messages": json.dumps([ASKED, PLAIN])},
        {"conversations": [{"from": "human", "value": "What is 6*7?"},
                           {"from": "gpt", "value": "It is 42."}]},
        {"conversations": json.dumps([{"from": "user", "value": "What is 6*7?"},
                                      {"from": "model", "value": "It is 42."}])},
        {"conversation": [ASKED, PLAIN]},
        {"messages": [{"role": "user", "content": [{"type": "input_text", "text": "What is 6*7?"}]},
                      PLAIN]},
        {"instruction": "What is 6*7?", "output": "It is 42."},
        {"instruction": "What is 6*7?", "input": "", "output": "It is 42."},
        {"question": "What is 6*7?", "answer": "It is 42."},
        {"query": "What is 6*7?", "response": "It is 42.", "history": []},
        {"prompt": "What is 6*7?", "response": "It is 42."},
        {"problem": "What is 6*7?", "solution": "It is 42."},
        {"chosen": [ASKED, PLAIN], "rejected": [ASKED, ASKED]},
        {"messages": [ASKED, PLAIN], "system": "", "images": [], "tools": "[]"},
    ],
)  # fmt: skip
def test_rows_of_every_form_are_the_same_conversation(row):
    assert parse_example(row, "row 1") == CHAT


def test_instructions_have_inputs_systems_and_histories():
    row = {
        "instruction": "Add.", "input": "1 and 2", "output": "3", "system": "Be brief.",
        "history": [["Hello", "Hi."]],
    }  # fmt: skip
    contents = parse_example(row, "row 1").contents
    assert contents == ("Be brief.", "Hello", "Hi.", "Add.\n1 and 2", "3")


@pytest.mark.parametrize("name", ["system", "system_prompt", "system_message"])
def test_a_system_prompt_in_a_field_of_its_own_begins_the_conversation(name):
    want = Conversation((SYSTEM, ASKED, PLAIN))
    assert parse_example({"messages": [ASKED, PLAIN], name: "Be brief."}, "row") == want
    assert parse_example({"messages": [SYSTEM, ASKED, PLAIN], name: "Be brief."}, "row") == want
    pair = parse_example({"prompt": [ASKED], "completion": [PLAIN], name: "Be brief."}, "row")
    assert (pair.messages, pair.num_prompt_messages) == (want.messages, 2)
    with pytest.raises(ValueError, match=r"row 4: .*more than one system prompt"):
        parse_example({"messages": [SYSTEM, ASKED, PLAIN], name: "Be long."}, "row 4")
    with pytest.raises(ValueError, match=rf"row 4: '{name}' needs a chat template"):
        parse_example({"prompt": "a", "completion": "b", name: "Be brief."}, "row 4")


def test_the_chosen_answer_of_a_preference_is_read():
    row = {"prompt": "a ", "chosen": "b", "rejected": "c"}
    assert read_example(row, "row") == (PromptCompletion("a ", "b"), ["rejected"])
    row = {"prompt": [ASKED], "chosen": [PLAIN], "rejected": [ASKED]}
    assert read_example(row, "row") == (Conversation((ASKED, PLAIN), None, 1), ["rejected"])


def test_calls_in_turns_of_their_own_belong_to_the_turn_before_them():
    calls = [{"name": "f", "arguments": {}}, {"name": "g", "arguments": {"a": 1}}]
    turns = [ASKED, PLAIN, *({"role": "tool_call", "content": json.dumps(call)} for call in calls)]
    found = parse_example({"messages": turns}, "row")
    assert len(found.messages) == 2
    assert [call["function"] for call in found.messages[1]["tool_calls"]] == calls


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": [ASKED, PLAIN], "images": ["a.png"]}, "'images'.*only text can be read"),
        ({"messages": [ASKED, PLAIN], "chat_template": "{{ x }}"}, "'chat_template' of its own"),
        ({"messages": [ASKED, PLAIN], "chat_template_kwargs": [1]}, "must be a JSON object"),
        ({"messages": "[{"}, "'messages' is a string that is not valid JSON"),
        ({"messages": [ASKED, PLAIN], "tools": ["f"]}, "'tools' is a string that is not valid"),
        ({"messages": [ASKED, PLAIN], "tools": [1]}, "'tools' holds 1"),
        (
            {"messages": [ASKED, {**PLAIN, "thinking": "a", "reasoning": "b"}]},
            "message 2: thoughts in 'thinking' and 'reasoning' that differ",
        ),
        ({"messages": [{**ASKED, "content": [{"type": "thinking", "thinking": "a"}]}, PLAIN]},
         "only the assistant's messages may hold thoughts"),
        ({"question": "a", "answer": 3}, "'answer' is int"),
        ({"question": "a", "answer": ""}, "'answer' is empty"),
        ({"chosen": "a", "rejected": "b"}, "not known where the answer begins"),
        ({"query": "a", "response": "b", "history": ["c"]}, "a list of pairs"),
        ({"messages": [ASKED, {"role": "function_call", "content": "f(1)"}]}, "not valid JSON"),
    ],
)  # fmt: skip
def test_a_field_that_cannot_be_honoured_stops_with_its_row(row, reason):
    with pytest.raises(ValueError, match=f"a.jsonl, row 7.*{reason}"):
        parse_example(row, "a.jsonl, row 7")


def test_the_fields_that_are_not_read_are_listed():
    row = {"messages": [ASKED, PLAIN], "prompt": "x", "id": 3, "weight": 0.5, "extra": None}
    assert read_example(row, "row") == (CHAT, ["prompt", "id", "weight"])
