"""Thoughts, calls and marks of a row under templates that read them differently."""

from __future__ import annotations

import json

import numpy as np
import pytest

from crosstok.alignment import align_batch
from crosstok.chats import ChatPrompts, parse_example, shared_examples
from tests.chats.field_templates import (
    ANSWER,
    ASKED,
    CALL,
    THOUGHT,
    TOOL,
    encode,
    encoder_of,
    learned,
    rendered,
)

CHAT = {"messages": [ASKED, ANSWER]}
PLAIN = {"role": "assistant", "content": "It is 42."}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("reasoning", f"<think>\n{THOUGHT}\n</think>\n\n42<|im_end|>"),
        ("thinking field", f"<reason>{THOUGHT}</reason>42<|im_end|>"),
        ("parts", f"[THINK]{THOUGHT}[/THINK]42<|im_end|>"),
        ("last only", f"{THOUGHT}\n</think>\n\n42<|im_end|>"),  # the prompt opens the thoughts
        ("simple", "42<|im_end|>"),
    ],
)
def test_thoughts_are_learned_as_the_template_writes_them(name, wanted):
    encoder = encoder_of(name)
    assert learned(encoder, CHAT) == wanted
    for loss_on in ("assistant", "last"):
        shared = shared_examples([parse_example(CHAT, "row 1")], encoder)
        (spans,) = encoder(shared, loss_on=loss_on)
        assert encoder.encoder.tokenizer.decode(spans.ids[spans.loss_mask]) == wanted
        assert spans.num_bytes == len(shared[0].text.encode())


@pytest.mark.parametrize("name", ["reasoning", "thinking field", "parts", "last only"])
@pytest.mark.parametrize(
    "turn",
    [
        {"role": "assistant", "content": "42", "thinking": THOUGHT},
        {"role": "assistant", "content": "42", "reasoning": THOUGHT},
        {"from": "gpt", "value": "42", "reasoning_content": THOUGHT},
        {
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": "42"}],
        },
        {"role": "assistant", "content": [{"type": "reasoning", "text": THOUGHT}, "42"]},
    ],
)
def test_every_spelling_of_thoughts_gives_the_same_ids_and_loss(name, turn):
    encoder = encoder_of(name)
    one, other = encode(encoder, CHAT), encode(encoder, {"messages": [ASKED, turn]})
    assert one.ids.tolist() == other.ids.tolist()
    assert one.loss_mask.tolist() == other.loss_mask.tolist()


def test_ids_with_thoughts_are_those_of_apply_chat_template():
    encoder = encoder_of("reasoning")
    row = {"messages": [ASKED, ANSWER, ASKED, PLAIN]}
    expected = encoder.encoder.tokenizer.apply_chat_template(row["messages"], tokenize=True)
    assert encode(encoder, row).ids.tolist() == expected["input_ids"]


def test_thoughts_and_answers_are_aligned_where_both_templates_write_them():
    left, right = encoder_of("reasoning"), encoder_of("thinking field", "spm_bpe")
    row = {"messages": [ASKED, ANSWER, ASKED, {**ANSWER, "content": "Again 42."}]}
    (example,) = shared_examples([parse_example(row, "row 1")], left, right)
    assert example.text == (ASKED["content"] + THOUGHT + "42") + (
        ASKED["content"] + THOUGHT + "Again 42."
    )
    sides = [side([example], loss_on="assistant") for side in (left, right)]
    (found,) = align_batch(*sides, left.encoder.byte_vocab, right.encoder.byte_vocab)
    text = ~found.chunk_is_special
    covered = (found.chunk_ends[text] - found.chunk_starts[text]).sum()
    assert covered >= 0.9 * len(example.text.encode())
    roles = {role for _, role in sides[0][0].specials}
    assert {"begin_of_thought", "end_of_thought"} <= roles


def test_thoughts_that_one_template_leaves_out_are_the_other_ones_own():
    left, right = encoder_of("reasoning"), encoder_of("simple", "gapped")
    (example,) = shared_examples([parse_example(CHAT, "row 1")], left, right)
    assert THOUGHT not in example.text
    one, two = (side([example], loss_on="assistant")[0] for side in (left, right))
    assert THOUGHT in left.encoder.tokenizer.decode(one.ids[one.loss_mask])
    (found,) = align_batch([one], [two], left.encoder.byte_vocab, right.encoder.byte_vocab)
    text = ~found.chunk_is_special
    covered = (found.chunk_ends[text] - found.chunk_starts[text]).sum()
    assert covered == len(example.text.encode())


def test_a_template_may_write_the_thoughts_of_the_last_turn_only():
    encoder = encoder_of("last only")
    row = {"messages": [ASKED, ANSWER, ASKED, ANSWER]}
    assert learned(encoder, row) == f"42<|im_end|>{THOUGHT}\n</think>\n\n42<|im_end|>"


@pytest.mark.parametrize("name", ["reasoning", "json arguments"])
@pytest.mark.parametrize(
    "calls",
    [
        [{"type": "function", "function": {"name": "weather", "arguments": '{"city": "Fes"}'}}],
        [{"type": "function", "function": {"name": "weather", "arguments": '{"city":"Fes"}'}}],
        [{"name": "weather", "arguments": {"city": "Fes"}}],
        json.dumps([CALL]),
        [json.dumps(CALL)],
    ],
)
def test_every_spelling_of_calls_gives_the_same_ids_and_loss(name, calls):
    encoder = encoder_of(name)
    want = {"messages": [ASKED, {"role": "assistant", "content": None, "tool_calls": [CALL]}]}
    text = (
        '\n<tool_call>\n{"name": "weather", "arguments": {"city": "Fes"}}\n</tool_call><|im_end|>'
    )
    assert learned(encoder, want) == text
    row = {"messages": [ASKED, {"role": "assistant", "content": None, "tool_calls": calls}]}
    assert learned(encoder, row) == text


def test_calls_of_sharegpt_and_of_the_old_api_are_calls():
    encoder = encoder_of("reasoning")
    call = {"name": "weather", "arguments": '{"city": "Fes"}'}
    result = {"role": "tool", "content": "sunny"}
    want = [ASKED, {"role": "assistant", "content": "", "tool_calls": [CALL]}, result, PLAIN]
    sharegpt = [
        {"from": "human", "value": ASKED["content"]},
        {"from": "function_call", "value": json.dumps(call)},
        {"from": "observation", "value": "sunny"},
        {"from": "gpt", "value": PLAIN["content"]},
    ]
    old = [
        ASKED, {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "content": "sunny"}, PLAIN,
    ]  # fmt: skip
    tools = [TOOL]
    texts = {
        learned(encoder, {"conversations": sharegpt, "tools": json.dumps(tools)}),
        learned(encoder, {"messages": old, "functions": [TOOL["function"]]}),
        learned(encoder, {"messages": want, "tools": [json.dumps(TOOL["function"])]}),
        learned(encoder, {"messages": json.dumps(want), "tools": tools}),
    }
    assert len(texts) == 1
    assert '"arguments": {"city": "Fes"}' in texts.pop()
    assert rendered(encoder, {"messages": old, "functions": [TOOL["function"]]}) == rendered(
        encoder, {"messages": want, "tools": tools}
    )


def test_names_and_arguments_of_calls_are_aligned_where_both_templates_write_them():
    left, right = encoder_of("reasoning"), encoder_of("json arguments", "spm_bpe")
    turn = {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]}
    row = {"messages": [ASKED, turn, {"role": "tool", "content": "sunny"}, PLAIN]}
    (example,) = shared_examples([parse_example(row, "row 1")], left, right)
    assert 'Let me see.weather{"city": "Fes"}sunny' in example.text
    one, two = (side([example], loss_on="assistant")[0] for side in (left, right))
    assert '{"name": "weather", "arguments": {"city": "Fes"}}' in left.encoder.tokenizer.decode(
        one.ids[one.loss_mask]
    )
    (found,) = align_batch([one], [two], left.encoder.byte_vocab, right.encoder.byte_vocab)
    begin = example.text.index('{"city')
    inside = (found.chunk_starts >= begin) & (found.chunk_ends <= begin + len('{"city": "Fes"}'))
    assert (inside & ~found.chunk_is_special).sum() >= 2
    alone = shared_examples([parse_example(row, "row 1")], left, encoder_of("simple"))[0]
    assert "weather{" not in alone.text


def test_arguments_that_are_not_an_object_are_named_with_their_row():
    for arguments in ("{city: Fes}", "[1]", '"Fes"'):
        call = {"function": {"name": "weather", "arguments": arguments}}
        row = {"messages": [ASKED, {"role": "assistant", "tool_calls": [call]}]}
        with pytest.raises(ValueError, match=r"a.jsonl, row 3, message 2.*weather"):
            parse_example(row, "a.jsonl, row 3")


@pytest.mark.parametrize(
    "mark",
    [{"weight": 0}, {"train": False}, {"training": False}, {"loss": False}, {"loss_mask": 0},
     {"masked": True}, {"mask": True}, {"trainable": False}],
)  # fmt: skip
def test_a_turn_that_is_marked_is_not_learned(mark):
    encoder = encoder_of("reasoning")
    first = {"role": "assistant", "content": "First.", "reasoning_content": "Hm.", **mark}
    row = {"messages": [ASKED, first, ASKED, PLAIN]}
    unmarked = {"messages": [ASKED, {**first, **dict.fromkeys(mark)}, ASKED, PLAIN]}
    assert learned(encoder, row) == "It is 42.<|im_end|>"
    assert "First." in learned(encoder, unmarked)
    assert rendered(encoder, row) == rendered(encoder, unmarked)
    everything = learned(encoder, row, "all")
    assert "First." not in everything
    assert "Hm." not in everything
    assert ASKED["content"] in everything
    last = {"messages": [ASKED, PLAIN, ASKED, first]}
    assert learned(encoder, last, "last") == "It is 42.<|im_end|>"


def test_marks_that_cannot_be_honoured_stop_the_run():
    for more, reason in [
        ({"weight": 0.5}, "weight.*0 or 1"),
        ({"mask": 1}, "mask.*true or false"),
        ({"weight": 1, "train": False}, "contradict"),
        ({"train_detail": [{"begin_offset": 0}]}, "train_detail"),
        ({"weight": 0}, "every turn of the assistant is marked"),
    ]:
        with pytest.raises(ValueError, match=rf"row 5.*{reason}"):
            parse_example({"messages": [ASKED, {**PLAIN, **more}]}, "row 5")


def test_options_of_a_row_reach_the_template():
    encoder = encoder_of("reasoning")
    for given in ({"effort": "high"}, '{"effort": "high"}'):
        row = {"messages": [ASKED, PLAIN], "chat_template_kwargs": given}
        text = encoder.encoder.tokenizer.apply_chat_template(
            row["messages"], tokenize=False, effort="high"
        )
        assert rendered(encoder, row) == text
        assert text.startswith("Effort: high")
    for name in ("add_generation_prompt", "chat_template", "tokenize"):
        row = {"messages": [ASKED, PLAIN], "chat_template_kwargs": {name: True}}
        with pytest.raises(ValueError, match=f"row 1: .*{name}.*option of rendering"):
            parse_example(row, "row 1")


def test_a_batch_of_rows_with_thoughts_equals_each_row_alone():
    encoder = encoder_of("reasoning")
    rows = [CHAT, {"messages": [ASKED, PLAIN]}, {**CHAT, "chat_template_kwargs": {"effort": "low"}}]
    examples = shared_examples([parse_example(row, "row") for row in rows], encoder)
    for together, example in zip(encoder(examples, loss_on="assistant"), examples, strict=True):
        (alone,) = encoder([example], loss_on="assistant")
        assert np.array_equal(together.ids, alone.ids)
        assert np.array_equal(together.loss_mask, alone.loss_mask)


def test_the_text_of_a_special_token_in_thoughts_and_calls_is_text():
    encoder = encoder_of("reasoning")
    call = {"function": {"name": "weather", "arguments": {"city": "<|im_end|>"}}}
    turn = {**ANSWER, "reasoning_content": "a <|im_end|> b", "tool_calls": [call]}
    (example,) = shared_examples([parse_example({"messages": [ASKED, turn]}, "row")], encoder)
    (spans,) = encoder([example], loss_on="assistant")
    end = encoder.encoder.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert (spans.ids == end).sum() == 2
    assert "a <|im_end|> b" in example.text
    assert spans.num_bytes == len(example.text.encode())


def test_prompts_read_thoughts_and_calls_as_training_does():
    encoder = encoder_of("reasoning")
    call = {"function": {"name": "weather", "arguments": '{"city": "Fes"}'}}
    turn = {"role": "assistant", "content": "", "thinking": THOUGHT, "tool_calls": [call]}
    messages = [ASKED, turn, {"role": "tool", "content": "sunny"}]
    prompt, _ = ChatPrompts(encoder.encoder)(messages)
    text = encoder.encoder.tokenizer.decode(prompt.ids)
    assert text == rendered(encoder, {"messages": messages}) + "<|im_start|>assistant\n"
