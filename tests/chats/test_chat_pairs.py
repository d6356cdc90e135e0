"""Conversations under two templates: what is covered, what is matched."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosstok.chats import compare_templates, describe_template, parse_example, shared_examples
from tests.chats.chat_pairs import (
    LOST,
    aligned,
    conversations,
    covered_of_assistant,
    encoder_of,
    unmatched_ends,
)
from tests.chats.chat_shapes import REAL, SHAPES, real_encoder, shape_encoder
from tests.texts import texts

PAIRS = list(permutations((*SHAPES, *REAL), 2))


@pytest.mark.parametrize(("left", "right"), PAIRS, ids=lambda name: name)
def test_answers_are_covered_and_ends_of_turn_matched_for_every_pair(left, right, shared):
    left, right = encoder_of(left, shared), encoder_of(right, shared)
    examples, one, two, found = aligned(left, right, conversations())
    counts = [covered_of_assistant(e, a) for e, a in zip(examples, found, strict=True)]
    num_covered, num_bytes = map(sum, zip(*counts, strict=True))
    assert num_covered >= 0.999 * num_bytes
    for example, a, b, alignment in zip(examples, one, two, found, strict=True):
        assert unmatched_ends(a, alignment.source_chunk_ids) == 0, example.where
        assert unmatched_ends(b, alignment.target_chunk_ids) == 0, example.where
        num_turns = sum(message["role"] == "assistant" for message in example.messages)
        trained = {
            int(alignment.source_chunk_ids[token])
            for token, role in a.specials
            if role == "end_of_turn" and a.loss_mask[token]
        }
        assert len(trained) == num_turns


@pytest.mark.parametrize(
    ("left", "right"),
    [("llama3", "gemma"), ("chatml_spm", "plain"), ("phi3", "inst"), ("bare", "channels")],
)
@settings(max_examples=40, deadline=None)
@given(contents=st.lists(texts, min_size=5, max_size=5))
def test_chunks_of_any_conversation_hold_the_same_bytes(left, right, contents):
    left, right = shape_encoder(left), shape_encoder(right)
    roles = ("system", "user", "assistant", "user", "assistant")
    contents = [LOST.sub("", content) for content in contents]
    messages = [{"role": r, "content": c} for r, c in zip(roles, contents, strict=True)]
    example = parse_example({"messages": messages}, "row")
    (example,), (one,), (two,), (found,) = aligned(left, right, [example])
    payload = example.text.encode()
    for chunk in np.flatnonzero(~found.chunk_is_special):
        want = payload[found.chunk_starts[chunk] : found.chunk_ends[chunk]]
        for encoder, spans, ids in (
            (left, one, found.source_chunk_ids), (right, two, found.target_chunk_ids)
        ):  # fmt: skip
            held = b"".join(
                encoder.encoder.byte_vocab.token_bytes[i] for i in spans.ids[ids == chunk]
            )
            assert held.endswith(want) or held.replace(b" ", b"").endswith(want.replace(b" ", b""))
    num_covered, num_bytes = covered_of_assistant(example, found)
    assert num_covered == num_bytes


def test_pieces_are_matched_by_role_and_what_is_one_sides_own_is_said(shared):
    rows = compare_templates(real_encoder(shared, "qwen2.5"), shape_encoder("llama3"))
    by_name = {row.piece: row for row in rows}
    end = by_name["end_of_turn"]
    assert (end.left, end.right, end.matching) == ("<|im_end|>", "<|eot_id|>", "matched")
    assert by_name["header_assistant"].matching == "matched"
    assert by_name["bos"].matching == "right only"
    assert by_name["written before the first turn"].matching == "each its own"
    assert "You are Qwen" in by_name["written before the first turn"].left
    assert by_name["written after the end"].matching == "left only"


@pytest.mark.parametrize(
    ("name", "system", "trims", "appends_eos"),
    [
        ("qwen2.5", "own turn", False, False),
        ("mistral-7b-instruct-v0.2", "with the user's", False, False),
        ("llama3", "own turn", True, False),
        ("gemma", "folded", True, False),
        ("plain_spm", "own turn", False, False),
        ("inst", "with the user's", False, False),
    ],
)
def test_a_template_is_described_as_it_is(name, system, trims, appends_eos, shared):
    found = describe_template(encoder_of(name, shared))
    assert (found.system, "assistant" in found.trims, found.appends_eos) == (
        system, trims, appends_eos,
    )  # fmt: skip
    assert found.end_of_turn
    assert found.headers["assistant"]


def test_the_last_turn_may_end_in_another_token():
    found = describe_template(shape_encoder("channels"))
    assert (found.end_of_turn, found.last_end_of_turn) == ("<|end|>", "<|return|>")


def test_contents_are_read_without_the_white_space_that_one_side_trims():
    left, right = shape_encoder("llama3"), shape_encoder("chatml")
    messages = [{"role": "user", "content": " hi\n"}, {"role": "assistant", "content": "\n yes "}]
    example = parse_example({"messages": messages}, "row")
    assert shared_examples([example], right, right) == [example]
    assert shared_examples([example], left, right)[0].contents == ("hi", "yes")
