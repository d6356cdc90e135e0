"""The pages: one file each, the numbers of the JSON in it, whatever the texts hold."""

import math
import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

from crosstok.alignment import align
from crosstok.reports import (
    chunk_view,
    pair_page,
    run_curves,
    run_page,
    write_page,
)
from crosstok.reports.curves import MAX_POINTS, round_ticks
from tests.reports.pages import BPE, SPM, WORDPIECE, history, pages, pair_numbers, run, view
from tests.texts import SAMPLE

VOID = {"meta", "link", "br", "hr", "img", "input"}
NASTY = (
    "<script>alert(1)</script> \u202etxt.exe\u202c &amp; \"q\" 'q' \u200b\u00a0\r\n\t{{ 7 * 7 }} ✓"
)


class Page(HTMLParser):
    """Checks that every element is closed where it should be, and collects what there is."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.mark.parametrize("name", pages())
def test_a_page_parses_and_loads_nothing(name):
    text = pages()[name]
    page = Page(text)
    for tag, attributes in page.elements:
        assert tag not in ("script", "iframe", "img", "object"), tag
        for attribute in ("src", "href", "srcset", "data", "action"):
            assert (attributes.get(attribute) or "data:,") == "data:,"
    assert "url(" not in text
    assert "@import" not in text
    assert "http://" not in text
    assert "https://" not in text
    assert "default-src 'none'" in text


@pytest.mark.parametrize("name", pages())
def test_a_page_can_be_read_without_seeing_it(name):
    page = Page(pages()[name])
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == len(page.all("main")) == 1
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(cell["scope"] in ("row", "col") for cell in page.all("th"))
    assert all(picture["aria-label"] for picture in page.all("svg"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(section["aria-labelledby"] in ids for section in page.all("section"))


def test_the_pairs_page_says_the_numbers_of_the_json():
    numbers = pair_numbers()
    text = Page(pair_page(numbers, "some/source", "some/target", [view(gaps=False)])).text
    for key in ("bytes", "source_tokens", "target_tokens", "chunks", "overlapping_tokens"):
        assert f"{numbers[key]:,}" in text, key
    for key in ("coverage", "comparable"):
        assert f"{numbers[key]:.4%}" in text
        for value in numbers[f"{key}_by_file"].values():
            assert f"{100 * value:.4f} %" in text
    assert f"{numbers['one_to_one_share']:.1%}" in text
    assert "some/source → some/target" in text


def test_the_runs_page_says_figures_settings_and_gaps():
    shown = view()
    page = Page(run_page(run(views=[shown])))
    for said in ("1.2345", "99.954%", "1,234", "yes", "seed", "7", "cpu", "row 1", "Some rows."):
        assert said in page.text, said
    for mean in shown.mean_gaps:
        assert f"{mean:.3f}" in page.text
    strong = next(gap for cell in shown.cells for gap in cell.gaps if gap is not None and gap > 4)
    assert f"+{strong:.1f}" in page.text
    classes = " ".join(a.get("class") or "" for a in page.all("span")).split()
    assert {"p4", "n4"} <= set(classes)
    assert len(page.all("svg")) == len(run_curves(history(30)).curves)


def test_ten_thousand_steps_weigh_less_than_two_megabytes():
    made = run(curves=run_curves(history(10_000, metrics=30)), views=[view(SAMPLE * 4)] * 4)
    assert len(run_page(made).encode()) < 2_000_000


@pytest.mark.parametrize("target", [SPM, WORDPIECE])
def test_texts_are_text_and_what_cannot_be_seen_is_spelled(target):
    shown = view(NASTY, target)
    numbers = {**pair_numbers(), "coverage_by_file": {NASTY: 1.0, "two": 1.0}}
    numbers["comparable_by_file"] = numbers["coverage_by_file"]
    for text in (
        run_page(run(views=[shown], title=NASTY, summary=NASTY, settings={NASTY: NASTY})),
        pair_page(numbers, NASTY, NASTY, [shown]),
    ):
        page = Page(text)
        assert not page.all("script")
        assert "{{ 7 * 7 }}" in page.text
    cut = Page(pair_page(pair_numbers(), "a", "b", [shown]))
    spelled = "".join(token for cell in shown.cells for token in cell.source)
    assert not {"\u202e", "\u202c", "\u200b", "\u00a0", "\r", "\n", "\t", " "} & set(spelled)
    assert "␣" in cut.text
    assert "⏎" in cut.text
    assert r"\u202e" in cut.text or r"\xe2" in cut.text


def test_a_long_text_is_shown_from_the_first_chunk_that_was_compared():
    text = "the dog and the fox " * 60
    spans = BPE([text], add_start=True, add_end=True)[0], SPM([text])[0]
    vocabs = BPE.byte_vocab, SPM.byte_vocab
    alignment = align(*spans, *vocabs)
    gaps = np.full(alignment.num_chunks, np.nan)
    gaps[50:] = 0.0  # as after a prompt
    shown = chunk_view("", spans, alignment, vocabs, ("a", "b"), {"gap": gaps})
    assert 0 < shown.num_before < 60
    assert shown.num_after > 0
    assert shown.num_compared == alignment.num_chunks - 50
    assert shown.mean_gaps == (0.0,)
    assert [cell.gaps[0] for cell in shown.cells].index(0.0) == 8


def test_neighbours_in_no_chunk_stand_in_one_column():
    kinds = [cell.kind for cell in view("Äpfel und Über", WORDPIECE).cells]
    assert "uncovered" in kinds
    assert ("uncovered", "uncovered") not in list(pairwise(kinds))


def test_specials_of_both_sides_are_marked():
    kinds = {cell.kind for cell in view("the dog", add_start=True, add_end=True).cells}
    assert "special" in kinds


def test_a_curve_keeps_means_extremes_and_ends():
    lines = history(10_000)
    curves = {curve.name: curve for curve in run_curves(lines).curves}
    curve, values = curves["loss"], [line["loss"] for line in lines]
    assert len(curve.steps) == MAX_POINTS
    assert (curve.first, curve.last, curve.steps[-1]) == (values[0], values[-1], 10_000)
    assert min(curve.lows) == min(values)
    assert max(curve.highs) == max(values)
    assert np.mean(curve.means) == pytest.approx(np.mean(values), rel=1e-2)
    assert {"step", "epoch", "tokens_seen", "bytes_seen"}.isdisjoint(curves)


def test_ticks_tell_bytes_by_step_and_bad_values_are_left_out():
    lines = [{**line, "bits_per_byte": math.nan} for line in history(1000)]
    lines += [{"train_runtime": 3.0, "step": 1000}]
    found = run_curves(lines)
    assert "bits_per_byte" not in {curve.name for curve in found.curves}
    assert [(tick.step, tick.bytes_seen) for tick in found.ticks][-1] == (1000, 2_048_000)
    assert run_curves([{"train_runtime": 3.0, "step": 1}]) is None


def test_held_out_texts_have_curves_of_their_own_steps():
    name = "eval_wiki_bits_per_byte"
    measured = [
        {"step": step, name: 2 - step / 100, "tokens_seen": 512 * step, "bytes_seen": 2048 * step}
        for step in (0, 20, 40)
    ]
    lines = history(40)
    lines[20:20] = measured[1:2]
    found = run_curves([measured[0], *lines, measured[2]])
    curve = next(curve for curve in found.curves if curve.name == name)
    assert (curve.steps, curve.means) == ((0, 20, 40), (2.0, 1.8, 1.6))
    assert (found.first_step, found.last_step, found.num_logged) == (0, 40, 40)
    assert [(tick.step, tick.bytes_seen) for tick in found.ticks][:2] == [(0, 0), (10, 20_480)]
    page = Page(run_page(run(curves=found, metrics={"steps": 40, name: 1.6})))
    assert len(page.all("svg")) == len(found.curves)
    text = " ".join(run_page(run(curves=found, metrics={"steps": 40, name: 1.6})).split())
    assert "held-out data, at the end" in text
    assert "bits per byte on wiki, steps 0 to 40: from 2.0000 to 1.6000" in text
    assert "Means of neighbouring log lines" in text
    assert "<caption>Held-out texts</caption>" in text


@pytest.mark.parametrize("ends", [(0.13, 0.88), (5, 5), (0, 0), (-3, 7e9), (1e-9, 2e-9)])
def test_ticks_are_few_and_round_and_reach_over_the_values(ends):
    ticks = round_ticks(*ends)
    assert ticks[0] <= ends[0] <= ends[1] <= ticks[-1]
    assert 2 <= len(ticks) <= 8


def test_a_page_is_written_where_asked(tmp_path):
    write_page(tmp_path / "new" / "page.html", pages()["run"])
    assert "␣" in (tmp_path / "new" / "page.html").read_text(encoding="utf-8")


def luminance(colour: str) -> float:
    """WCAG 2: of ``#rrggbb``."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize("look", ["light", "dark"])
def test_text_stands_out_from_what_it_stands_on(look):
    """4.5 to 1, WCAG 2 level AA: also where axe cannot tell."""
    light, dark = re.findall(r":root \{(.*?)\}", pages()["run"], re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#\w{6})\b", light))
    if look == "dark":
        colours |= dict(re.findall(r"--(\w+): (#\w{6})\b", dark))
        colours["weak"] = colours["ink"]
    else:
        colours["weak"] = colours["strong"] = colours["ink"]
    pairs = [("weak", f"{side}{i}") for side in "pn" for i in (1, 2)]
    pairs += [
        (text, side + i) for side in "pn" for text, i in (("strong", "3"), ("strongest", "4"))
    ]
    pairs += [(text, on) for text in ("ink", "muted", "accent") for on in ("paper", "card")]
    pairs += [("ink", "token"), ("error", "card"), ("error", "paper"), ("warning", "card")]
    for text, on in pairs:
        high, low = sorted((luminance(colours[text]), luminance(colours[on])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, f"{text} on {on}"
