"""What a chat template leaves out is named once, with a count."""

from __future__ import annotations

import logging
import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crosstok.chats import parse_example
from crosstok.chats.left_out import LeftOut
from crosstok.corpora import as_examples
from tests.chats.chat_shapes import shape_encoder
from tests.chats.field_templates import (
    ANSWER,
    ASKED,
    CALL,
    TEMPLATES,
    TOOL,
    encode,
    encoder_of,
)

PLAIN = {"role": "assistant", "content": "It is 42."}
CHAT = {"messages": [ASKED, PLAIN, ASKED, PLAIN]}


def fresh(name):
    """An encoder that has named nothing yet."""
    return type(encoder_of(name))(encoder_of(name).encoder)


def check(encoder, rows):
    encoder.check(parse_example(row, f"row {number}") for number, row in enumerate(rows, 1))


def test_thoughts_that_no_one_reads_are_counted(caplog):
    rows = [CHAT, {"messages": [ASKED, ANSWER, ASKED, ANSWER]}, {"messages": [ASKED, ANSWER]}]
    check(fresh("simple"), rows)
    assert "leaves out the thoughts ('reasoning_content') of 3 turns (first: row 2)" in caplog.text
    assert caplog.text.count("leaves out") == 1
    caplog.clear()
    check(fresh("last only"), rows)
    assert "the thoughts ('reasoning_content') of 1 turn (first: row 2)" in caplog.text
    caplog.clear()
    check(fresh("reasoning"), rows)
    assert not caplog.text


def test_thoughts_in_a_content_that_the_template_takes_out_are_counted(caplog):
    encoder = type(encoder_of("simple"))(shape_encoder("thinking").encoder)
    turn = {"role": "assistant", "content": "<think>\nlong\n</think>\n\nshort answer"}
    check(encoder, [{"messages": [ASKED, turn, ASKED, turn]}])
    assert "thoughts in the content of 1 turn (first: row 1)" in caplog.text


def test_fields_tools_calls_and_options_that_no_one_reads_are_counted(caplog):
    turn = {**PLAIN, "tool_calls": [CALL], "mood": "glad"}
    row = {
        "messages": [ASKED, turn], "tools": [TOOL], "chat_template_kwargs": {"effort": "high"},
        "documents": [{"title": "a", "text": "b"}],
    }  # fmt: skip
    check(fresh("simple"), [row] * 40)
    for named in (
        "'tool_calls' of 40 messages of role assistant", "'mood' of 40 messages",
        "'tools' of 40 rows", "'effort' of 40 rows", "'documents' of 40 rows",
    ):  # fmt: skip
        assert named in caplog.text
    caplog.clear()
    check(fresh("reasoning"), [row])
    assert "'mood' of 1 message of role assistant (first: row 1); 'documents' of" in caplog.text
    for honoured in ("tool_calls", "tools", "effort"):
        assert honoured not in caplog.text


def test_ids_of_calls_and_the_like_are_no_warning(caplog):
    caplog.set_level(logging.INFO)
    result = {"role": "tool", "content": "sunny", "tool_call_id": "1", "name": "weather"}
    call = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    check(fresh("reasoning"), [{"messages": [ASKED, call, result, PLAIN]}])
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "'tool_call_id' of 1 message" in caplog.text


def test_without_a_check_each_thing_is_named_at_its_first_row_and_no_more(caplog):
    encoder = fresh("simple")
    row = {"messages": [ASKED, ANSWER]}
    for _ in range(3):
        encode(encoder, row)
        encoder = pickle.loads(pickle.dumps(encoder))  # as in the workers of a data loader
    assert caplog.text.count("the thoughts ('reasoning_content')") == 1
    assert "so far" in caplog.text


KNOWN = [
    {"reasoning_content": "Hm."}, {"thinking": "Hm."}, {"reasoning": "Hm."}, {"weight": 0},
    {"train": False}, {"masked": True}, {"tool_calls": [CALL]}, {"tool_calls": "[]"},
    {"function_call": CALL["function"]}, {"name": "Ada"}, {"prefix": True}, {"mood": "glad"},
    {"reasoning_details": [{"text": "Hm."}]}, {"content": [{"type": "text", "text": "Else."}]},
]  # fmt: skip
OF_ROWS = [
    {"system": "Be brief."}, {"tools": [TOOL]}, {"tools": '[{"name": "f"}]'},
    {"system_prompt": "x"},
    {"chat_template_kwargs": {"effort": "low"}}, {"chat_template_kwargs": '{"other": 1}'},
    {"documents": [{"text": "b"}]}, {"images": ["a.png"]}, {"chat_template": "{{ 1 }}"},
    {"enable_thinking": True}, {"functions": [TOOL["function"]]}, {"rejected": "x"},
]  # fmt: skip


@pytest.mark.parametrize("name", TEMPLATES)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_field_changes_what_is_learned_or_is_named(caplog, name, data):
    """The law of data: a field is honoured or named, never dropped in silence."""
    caplog.set_level(logging.INFO)
    caplog.clear()
    messages = [dict(message) for message in CHAT["messages"]]
    more = data.draw(st.sampled_from(KNOWN + OF_ROWS))
    place = data.draw(st.sampled_from([1, 3]))
    if more in KNOWN:
        messages[place] |= more
        row = {"messages": messages}
    else:
        row = {"messages": messages, **more}
    encoder = encoder_of(name)
    encoder.chat.left_out = LeftOut("tiny")  # which has named nothing yet
    plain = encode(encoder, CHAT)
    (field,) = more
    if field in ("images", "chat_template"):
        with pytest.raises(ValueError, match=field):
            as_examples([row])
        return
    as_examples([row])
    spans = encode(encoder, row)
    check(encoder, [row])
    changed = plain.ids.tolist() != spans.ids.tolist() or (
        plain.loss_mask.tolist() != spans.loss_mask.tolist()
    )
    value = more[field]
    kwargs = str(value) if field == "chat_template_kwargs" else ""
    is_named = any(
        word in caplog.text
        for word in (repr(field), "reasoning_content", "tool_calls", "'tools'", "'other'", "effort")
        if word == repr(field) or field in ("thinking", "reasoning", "function_call", "functions")
        or word.strip("'") in kwargs
    )  # fmt: skip
    assert changed or is_named or value == "[]"
