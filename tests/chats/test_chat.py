"""One conversation under one tokenizer: ids, spans, roles, loss masks."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosstok.chats import ExampleEncoder, PromptCompletion, parse_example, resolve_chat_template
from crosstok.tokenizers import TEMPLATE, TextEncoder
from tests.chats.chat_shapes import CHATML, REAL, SHAPES, real_encoder, shape_encoder
from tests.texts import SAMPLE, texts
from tests.tiny import tiny_tokenizer, with_chat_template

EVERY = (*SHAPES, "thinking", *REAL)
SYSTEM = {"role": "system", "content": "Be brief, 猫."}
TURNS = [
    {"role": "user", "content": "Hello  there, Кошка"},
    {"role": "assistant", "content": "Grüße, 世界."},
    {"role": "user", "content": "and\n\nthen?"},
    {"role": "assistant", "content": "It is fine!\n\n  Naïve 🙂"},
]
SPECIAL = [
    {"role": "user", "content": "say <|im_end|> or </s> <s>[INST] x [/INST]"},
    {"role": "assistant", "content": "<|eot_id|><end_of_turn>\n<|im_end|>"},
]


def encoder_of(name, shared) -> ExampleEncoder:
    return real_encoder(shared, name) if name in REAL else shape_encoder(name)


def encode(encoder, messages, loss_on="assistant", **more):
    conversation = parse_example({"messages": messages, **more}, "row 1")
    return encoder([conversation], loss_on=loss_on)[0], conversation


def ids_of_template(encoder, messages, **more):
    tokenizer = encoder.encoder.tokenizer
    return tokenizer.apply_chat_template(messages, tokenize=True, **more)["input_ids"]


def learned(encoder, spans) -> str:
    return encoder.encoder.tokenizer.decode(spans.ids[spans.loss_mask], skip_special_tokens=False)


@pytest.mark.parametrize("name", EVERY)
def test_ids_are_those_of_apply_chat_template(name, shared):
    if name == "bare":
        pytest.skip("a token would hold the end of an answer; see the test of that")
    encoder = encoder_of(name, shared)
    refuses_system = name == "gemma"
    for messages in (TURNS, TURNS[:2], TURNS[:3]):
        for system in ([], [SYSTEM])[: 2 - refuses_system]:
            spans, _ = encode(encoder, system + messages)
            expected = ids_of_template(encoder, system + messages)
            assert spans.ids.tolist() == expected


@pytest.mark.parametrize("name", ["llama3", "chatml", "chatml_spm", "plain", "plain_spm"])
@settings(max_examples=40, deadline=None)
@given(contents=st.lists(texts, min_size=4, max_size=4))
def test_ids_of_any_contents_are_those_of_apply_chat_template(name, contents):
    encoder = shape_encoder(name)
    structure = encoder.chat.structure.special_text
    messages = [{**m, "content": c or "x"} for m, c in zip(TURNS, contents, strict=True)]
    if any(structure.is_in(message["content"]) for message in messages):
        return  # text here, a special token there
    spans, conversation = encode(encoder, messages)
    expected = ids_of_template(encoder, messages)
    places = set(spans.ends.tolist())
    assert spans.num_bytes == len(conversation.text.encode()) == max(places)
    assert spans.ids.tolist() == expected


@pytest.mark.parametrize("name", EVERY)
@settings(max_examples=25, deadline=None)
@given(contents=st.lists(texts, min_size=5, max_size=5))
def test_spans_cover_the_contents_without_gap_and_say_what_is_exact(shared, name, contents):
    encoder = encoder_of(name, shared)
    messages = [{**m, "content": c} for m, c in zip([SYSTEM, *TURNS], contents, strict=True)]
    spans, conversation = encode(encoder, messages)
    payload, vocab = conversation.text.encode(), encoder.encoder.byte_vocab
    special = dict(spans.specials)
    end = 0
    for token in range(len(spans)):
        assert spans.starts[token] <= spans.ends[token]
        if token in special:
            assert spans.starts[token] == spans.ends[token]
            continue
        assert spans.starts[token] == end
        end = int(spans.ends[token])
        if spans.exact[token]:
            covered = payload[spans.starts[token] : end]
            assert vocab.token_bytes[spans.ids[token]].endswith(covered)
    assert end == len(payload) or len(special) == len(spans)
    assert (np.diff(spans.ends) >= 0).all()


def test_a_blank_message_that_a_template_folds_and_trims_away_is_not_found_elsewhere():
    contents = ["0", " ", "", "", "the quick brown fox"]
    messages = [{**m, "content": c} for m, c in zip([SYSTEM, *TURNS], contents, strict=True)]
    spans, conversation = encode(shape_encoder("gemma"), messages)
    assert conversation.text == "".join(contents)
    assert learned(shape_encoder("gemma"), spans).count("the quick brown fox") == 1


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("loss_on", ["assistant", "last"])
def test_the_loss_mask_decodes_to_the_assistants_contents_and_ends_of_turn(name, loss_on, shared):
    encoder = encoder_of(name, shared)
    spans, conversation = encode(encoder, TURNS, loss_on)
    end = encoder.chat.marks.end_of_turn
    last = encoder.chat.marks.last_end_of_turn or encoder.encoder.tokenizer.eos_token
    wanted = TURNS[3]["content"] + last
    if loss_on == "assistant":
        wanted = TURNS[1]["content"] + end + wanted
    squeezed = re.sub(r"\s+", "", learned(encoder, spans))  # decoders add and drop spaces
    assert squeezed == re.sub(r"\s+", "", wanted)
    trained = spans.ends[spans.loss_mask], spans.starts[spans.loss_mask]
    size = sum(int(end - start) for end, start in zip(*trained, strict=True))
    turns = conversation.contents[1::2] if loss_on == "assistant" else conversation.contents[-1:]
    assert size == sum(len(text.encode()) for text in turns)


@pytest.mark.parametrize("name", EVERY)
def test_everything_is_learned_where_that_is_asked(name, shared):
    assert encode(encoder_of(name, shared), TURNS, "all")[0].loss_mask is None


@pytest.mark.parametrize("name", EVERY)
def test_the_text_of_a_special_token_in_a_content_is_content(name, shared):
    encoder = encoder_of(name, shared)
    spans, conversation = encode(encoder, SPECIAL)
    special_ids = encoder.encoder.byte_vocab.special_ids
    placed = {index for index, _ in spans.specials}
    text = [token for token in range(len(spans)) if token not in placed]
    assert not special_ids.intersection(spans.ids[text].tolist())
    assert sum(spans.ends[text] - spans.starts[text]) == len(conversation.text.encode())
    as_typed = [{**m, "content": f"A {i} b"} for i, m in enumerate(SPECIAL)]
    structure = [i for i in ids_of_template(encoder, as_typed) if i in special_ids]
    assert [i for i in spans.ids.tolist() if i in special_ids] == structure or name == "bare"


def test_special_text_in_tool_calls_and_tools_is_text_too(shared):
    encoder = real_encoder(shared, "qwen2.5")
    call = {"type": "function", "function": {"name": "f", "arguments": {"a": "x<|im_end|>y"}}}
    tools = [{"type": "function", "function": {"name": "f<|im_start|>", "parameters": {}}}]
    messages = [
        TURNS[0], {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "<|im_end|>"}, TURNS[1],
    ]  # fmt: skip
    spans, _ = encode(encoder, messages, tools=tools)
    tokenizer = encoder.encoder.tokenizer
    assert (spans.ids == tokenizer.convert_tokens_to_ids("<|im_end|>")).sum() == 5
    assert (spans.ids == tokenizer.convert_tokens_to_ids("<|im_start|>")).sum() == 5
    wanted = '<tool_call>\n{"name": "f", "arguments": {"a": "x<|im_end|>y"}}\n</tool_call>'
    assert wanted + "<|im_end|>" in learned(encoder, spans)


@pytest.mark.parametrize("name", ["qwen2.5", "llama3", "plain"])
def test_tool_calls_are_learned_with_their_end_and_are_in_no_chunk(name, shared):
    encoder = encoder_of(name, shared)
    call = {"type": "function", "function": {"name": "add", "arguments": {"left": 1}}}
    messages = [
        SYSTEM, TURNS[0], {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "content": "5 apples"}, TURNS[1],
    ]  # fmt: skip
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    spans, conversation = encode(encoder, messages, tools=tools)
    assert spans.ids.tolist() == ids_of_template(encoder, messages, tools=tools)
    roles = dict(spans.specials)
    called = [t for t in np.flatnonzero(spans.loss_mask) if roles.get(t) == TEMPLATE]
    shown = encoder.encoder.tokenizer.decode(spans.ids[called])
    assert '"add"' in shown
    assert '"left": 1' in shown
    assert "apples" not in shown
    ends = [t for t in np.flatnonzero(spans.loss_mask) if roles.get(t) == "end_of_turn"]
    assert len(ends) == 2 * len(
        encoder.encoder.tokenizer(
            encoder.chat.marks.end_of_turn, add_special_tokens=False
        ).input_ids
    )
    assert conversation.text.endswith("5 apples" + TURNS[1]["content"])


def test_the_end_of_an_assistants_content_is_the_end_of_a_token(shared):
    tokenizer = real_encoder(shared, "qwen2.5").encoder
    encoder = ExampleEncoder(tokenizer, shape_encoder("bare").encoder.tokenizer.chat_template)
    messages = [{**m, "content": m["content"].rstrip(".") + "."} for m in TURNS]
    spans, conversation = encode(encoder, messages)
    whole = tokenizer.tokenizer.apply_chat_template(
        messages, chat_template=encoder.chat_template, tokenize=False
    )
    together = tokenizer.tokenizer(whole, add_special_tokens=False).input_ids
    assert spans.ids.tolist() != together  # ".\n\n" is one token there
    assert tokenizer.tokenizer.decode(spans.ids) == whole
    text = [t for t in range(len(spans)) if t not in dict(spans.specials)]
    ends = set(spans.ends[text].tolist())
    size = np.cumsum([len(text.encode()) for text in conversation.contents])
    assert {int(size[1]), int(size[3])} <= ends
    roles = [role for _, role in spans.specials]
    assert roles.count("end_of_turn") >= 2


def test_a_space_of_the_template_before_a_content_counts_as_a_dummy_prefix(shared):
    encoder = real_encoder(shared, "mistral-7b-instruct-v0.2")
    spans, _ = encode(encoder, [{"role": "user", "content": "Hi"}, TURNS[1]])
    pieces = encoder.encoder.tokenizer.convert_ids_to_tokens(spans.ids.tolist())
    first = pieces.index("▁Hi")
    assert (spans.starts[first], spans.ends[first], bool(spans.exact[first])) == (0, 2, True)
    assert first not in dict(spans.specials)


def test_a_template_without_system_gets_it_with_the_first_user_message():
    encoder = shape_encoder("gemma")
    spans, conversation = encode(encoder, [SYSTEM, *TURNS])
    folded = [{"role": "user", "content": SYSTEM["content"] + "\n\n" + TURNS[0]["content"]}]
    assert spans.ids.tolist() == ids_of_template(encoder, folded + TURNS[1:])
    assert spans.num_bytes == len(conversation.text.encode())


def test_what_a_template_writes_of_its_own_has_the_role_template(shared):
    encoder = real_encoder(shared, "qwen2.5")
    spans, _ = encode(encoder, TURNS[:2])
    roles = dict(spans.specials)
    tokenizer = encoder.encoder.tokenizer
    own = tokenizer.decode([int(spans.ids[t]) for t in roles if roles[t] == TEMPLATE])
    assert own.startswith("<|im_start|>system\nYou are Qwen, created by Alibaba Cloud.")
    user = tokenizer.decode([int(spans.ids[t]) for t in roles if roles[t] == "header_user"])
    assert user == "<|im_start|>user\n"


def test_thoughts_that_a_template_takes_out_are_in_no_exact_token():
    encoder = shape_encoder("thinking")
    messages = [*TURNS]
    messages[1] = {"role": "assistant", "content": "<think>\nlong\n</think>\n\nshort answer"}
    spans, conversation = encode(encoder, messages)
    assert spans.ids.tolist() == ids_of_template(encoder, messages)
    gone = conversation.text.encode().index(b"<think>"), conversation.text.encode().index(b"short")
    inside = (spans.starts < gone[1]) & (spans.ends > gone[0])
    assert inside.sum() == 1
    assert not spans.exact[inside].any()


def test_prompt_and_completion_are_learned_from_the_completions_first_byte():
    encoder = ExampleEncoder(TextEncoder(tiny_tokenizer("bytelevel_bpe")))
    example = PromptCompletion("the quick brown", " fox jumps é")
    for loss_on in ("assistant", "last"):
        spans = encoder([example], loss_on=loss_on)[0]
        assert learned(encoder, spans) == " fox jumps é<|endoftext|>"
    assert encoder([example], loss_on="all")[0].loss_mask is None
    plain = encoder([example.text, example], loss_on="last")
    assert plain[0].loss_mask is None
    assert plain[0].ids.tolist() == plain[1].ids.tolist()


def test_messages_of_the_prompt_are_never_learned():
    encoder = shape_encoder("chatml")
    example = parse_example({"prompt": TURNS[:3], "completion": TURNS[3:]}, "row 1")
    for loss_on in ("assistant", "last"):
        assert learned(encoder, encoder([example], loss_on=loss_on)[0]) == (
            TURNS[3]["content"] + "<|im_end|>"
        )


def test_a_batch_gives_what_each_example_gives_alone(shared):
    encoder = real_encoder(shared, "qwen2.5")
    examples = [
        parse_example({"messages": messages}, "row")
        for messages in (TURNS, SPECIAL, TURNS[:2], [SYSTEM, *TURNS])
    ]
    examples.insert(2, SAMPLE)
    for together, example in zip(encoder(examples, loss_on="last"), examples, strict=True):
        alone = encoder([example], loss_on="last")[0]
        for field in ("ids", "starts", "ends", "exact", "loss_mask"):
            assert np.array_equal(getattr(together, field), getattr(alone, field))


def test_an_encoder_survives_pickling():
    encoder = shape_encoder("llama3")
    again = pickle.loads(pickle.dumps(encoder))
    for messages in (TURNS, SPECIAL):
        assert encode(again, messages)[0].ids.tolist() == encode(encoder, messages)[0].ids.tolist()


def test_a_tokenizer_without_template_says_how_to_pass_one():
    encoder = ExampleEncoder(TextEncoder(tiny_tokenizer("bytelevel_bpe")))
    with pytest.raises(ValueError, match=r"no chat template.*option chat_template.*plain"):
        encode(encoder, TURNS)
    plain = ExampleEncoder(encoder.encoder, resolve_chat_template("plain"))
    assert learned(plain, encode(plain, TURNS[:2])[0]) == TURNS[1]["content"] + "<|endoftext|>"


def test_a_chat_template_comes_from_a_file(tmp_path):
    (tmp_path / "chat.jinja").write_text(CHATML, encoding="utf-8")
    assert resolve_chat_template(str(tmp_path / "chat.jinja")) == CHATML
    with pytest.raises(ValueError, match=r"'plan' is neither 'plain' nor a file"):
        resolve_chat_template("plan")


@pytest.mark.parametrize(
    ("name", "messages", "reason"),
    [
        ("gemma", [TURNS[0], TURNS[2], TURNS[1]], "must alternate"),
        ("gemma", [TURNS[0], TURNS[1], {"role": "tool", "content": "3"}], "must alternate"),
    ],
)
def test_a_conversation_that_cannot_be_rendered_names_its_row(name, messages, reason):
    encoder = shape_encoder(name)
    conversation = parse_example({"messages": messages}, "chat.jsonl, row 7")
    for run in (encoder.check, lambda rows: encoder(rows, loss_on="last")):
        with pytest.raises(ValueError, match=rf"chat.jsonl, row 7: .*cannot render.*{reason}"):
            run([conversation])


def test_a_template_that_drops_an_answer_is_refused():
    template = (
        "{% for m in messages %}{% if m.content != 'no' and loop.index0 < 4 %}"
        "{{ m.content }}|{% endif %}{% endfor %}"
    )
    encoder = ExampleEncoder(TextEncoder(with_chat_template("bytelevel_bpe", template)))
    with pytest.raises(ValueError, match=r"leaves out message 5 \(role user\)"):
        encode(encoder, [*TURNS, *TURNS[:2]])
    with pytest.raises(ValueError, match=r"changes the content of message 2 \(role assistant\)"):
        encode(encoder, [TURNS[0], {"role": "assistant", "content": "no"}])


def test_a_system_message_out_of_its_place_leaves_the_answers_whole():
    template = (
        "{% if messages[0].role == 'system' %}{% set s = messages[0].content %}"
        "{% set messages = messages[1:] %}{% endif %}"
        "{% for m in messages %}{% if m.role == 'user' %}[INST] "
        "{% if s and loop.index0 == messages | length - 2 %}{{ s + '\\n\\n' }}{% endif %}"
        "{{ m.content }} [/INST]{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
    )
    encoder = ExampleEncoder(TextEncoder(with_chat_template("spm_bpe", template)))
    messages = [SYSTEM, *TURNS]
    spans, conversation = encode(encoder, messages)
    assert spans.ids.tolist() == ids_of_template(encoder, messages)
    assert spans.num_bytes == len(conversation.text.encode())
    text = [t for t in range(len(spans)) if t not in dict(spans.specials)]
    assert not spans.exact[text[0]]  # it stands for the system's bytes too
    assert spans.exact[text[1:]].all()
    assert learned(encoder, spans).count("</s>") == 2


def test_an_answer_that_stands_beside_its_tool_calls_is_learned_where_it_is_written(shared):
    call = {"type": "function", "function": {"name": "f", "arguments": {}}}
    messages = [TURNS[0], {**TURNS[1], "tool_calls": [call]}]
    spans, _ = encode(real_encoder(shared, "qwen2.5"), messages)
    text = learned(real_encoder(shared, "qwen2.5"), spans)
    assert text.startswith(TURNS[1]["content"] + "\n<tool_call>")
    assert text.endswith("</tool_call><|im_end|>")
    left_out, conversation = encode(shape_encoder("llama3"), messages)  # it writes the call alone
    assert left_out.num_bytes == len(conversation.text.encode())
    assert learned(shape_encoder("llama3"), left_out).startswith('{"name": "f"')


def test_a_template_that_writes_the_time_is_read_again_when_it_has_changed():
    tokenizer = with_chat_template("gapped", "10:07|" + CHATML, special_tokens=("<|im_end|>",))
    encoder = ExampleEncoder(TextEncoder(tokenizer))
    encode(encoder, TURNS)
    tokenizer.chat_template = "10:08|" + CHATML
    spans, _ = encode(encoder, TURNS)
    assert spans.ids.tolist() == ids_of_template(encoder, TURNS)
    assert learned(encoder, spans).endswith(TURNS[3]["content"] + "<|im_end|>")
