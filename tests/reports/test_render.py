import re
import time

import pytest
from rich.cells import cell_len
from rich.console import Console

from crosstok.alignment import align
from crosstok.reports import compare_tokenizers, outcome_table, pair_table, print_chunks
from crosstok.tokenizers import TextEncoder
from tests.texts import SAMPLE
from tests.tiny import tiny_tokenizer

BPE, SPM, WORDPIECE = (
    TextEncoder(tiny_tokenizer(kind)) for kind in ("bytelevel_bpe", "spm_bpe", "wordpiece")
)


def shown(draw, width=80):
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        draw(console)
    return capture.get()


def chunks(text, target=SPM, width=80, **ends):
    ends = ends or {"add_start": False, "add_end": False}
    spans = BPE([text], **ends)[0], target([text], **ends)[0]
    vocabs = BPE.byte_vocab, target.byte_vocab
    return shown(
        lambda console: print_chunks(console, *spans, align(*spans, *vocabs), *vocabs), width
    )


@pytest.mark.parametrize("width", [24, 40, 80, 200])
def test_no_row_is_wider_than_the_terminal_and_bars_stand_in_one_column(width):
    text = SAMPLE + " 猫はソファで寝ています。 " * 5 + " " * 90 + "नमस्ते 🙂" + "x" * 100
    rows = chunks(text, width=width).splitlines()
    rows = rows[next(i for i, row in enumerate(rows) if row.startswith("source  ")) :]
    for top, bottom, blank in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        assert blank == ""
        for row in (top, bottom):
            assert cell_len(row) <= width
        assert [cell_len(top[: m.start()]) for m in re.finditer(r"\|", top)][-1] == [
            cell_len(bottom[: m.start()]) for m in re.finditer(r"\|", bottom)
        ][-1]


def test_tokens_of_a_chunk_and_chunks_can_be_told_apart():
    top, bottom = chunks("the café").splitlines()[1:3]
    assert top.startswith("source  ")
    assert bottom.startswith("target  ")
    assert "␣" in bottom
    assert "·" in top + bottom
    assert top.count("|") == bottom.count("|") >= 2


def test_tokens_in_no_chunk_are_marked_without_colours():
    assert "~" in chunks("Äpfel und Über", target=WORDPIECE)
    assert "~" not in chunks("Äpfel und Über")


def test_specials_are_named_by_their_role():
    assert "<bos>" in chunks("the", add_start=True, add_end=True)


def test_bytes_and_marks_that_cannot_be_seen_are_spelled():
    assert r"\u200b" in chunks("a\u200bb", target=WORDPIECE) or r"\xe2" in chunks("a\u200bb")
    assert "⏎" in chunks("a\n\tb")


def test_long_texts_take_time_in_proportion():
    took = []
    for length in (2_000, 16_000):
        text = "the dog and the fox " * (length // 20)
        start = time.perf_counter()
        chunks(text)
        took.append(time.perf_counter() - start)
    assert took[1] < 8 * 4 * took[0]


def test_the_pairs_numbers_fit_in_eighty_columns():
    numbers = compare_tokenizers(BPE, SPM, {"one": ["Hello"], "two": [SAMPLE]}).as_json()
    table = shown(lambda console: console.print(pair_table(numbers, "some/[model]", "other")))
    assert "some/[model]  →  other" in table
    assert "lowest coverage" in table
    assert max(map(cell_len, table.splitlines())) <= 80


def test_rows_are_called_what_the_report_calls_them_or_by_the_name_of_their_count():
    labels = {"copied": "copied", "composed": "weighted from neighbours"}
    counts = {"copied": 12, "composed": 3, "method": "mine:Mine", "labels": labels}
    table = shown(lambda console: console.print(outcome_table(counts, {})))
    assert re.search(r"rows weighted from neighbours +│ 3 ", table)
    assert "mine:Mine" in table
    assert "labels" not in table
    del counts["labels"]  # of a folder that was written before there were any
    table = shown(lambda console: console.print(outcome_table(counts, {})))
    assert re.search(r"rows composed +│ 3 ", table)


def test_the_outcome_of_a_transplant_and_of_a_transfer():
    counts = {"copied": 1234, "mapped": 2, "composed": 3, "fallback": 0, "tied": True}
    table = shown(lambda console: console.print(outcome_table(counts, {})))
    assert "1,234" in table
    assert "training" not in table
    metrics = {"steps": 4, "coverage": 0.99954, "tokens_per_second": 1234.5, "new_thing": 0.5}
    table = shown(lambda console: console.print(outcome_table(counts, metrics)))
    assert "99.954% of bytes" in table
    assert re.search(r"1,23[45] tokens per second", table)
    assert re.search(r"new thing +│ 0.5 ", table)
    assert "│ yes" in table
