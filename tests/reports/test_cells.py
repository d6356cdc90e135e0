"""Cells of two tokenizations: every token once, on each side in the order of the ids."""

import pytest

from crosstok.reports.cells import cells
from tests.chats.chat_pairs import aligned, conversations
from tests.chats.chat_shapes import shape_encoder


@pytest.mark.parametrize(
    ("left", "right"), [("chatml", "llama3"), ("llama3", "phi3"), ("inst", "gemma")]
)
def test_chats_are_in_the_order_of_the_ids_on_both_sides(left, right):
    examples = conversations()[::5]
    _, ours, theirs, found = aligned(shape_encoder(left), shape_encoder(right), examples)
    for one, two, alignment in zip(ours, theirs, found, strict=True):
        row = cells(one, two, alignment)
        assert [token for cell in row for token in cell.source] == [*range(len(one.ids))]
        assert [token for cell in row for token in cell.target] == [*range(len(two.ids))]
        assert [cell.chunk for cell in row if cell.is_chunk] == [*range(alignment.num_chunks)]
