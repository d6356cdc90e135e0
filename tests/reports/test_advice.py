from dataclasses import replace

import pytest

from crosstok.reports import (
    ExampleNumbers,
    ModelNumbers,
    VocabularyNumbers,
    has_errors,
    recommend,
    red_flags,
)

ALIKE = VocabularyNumbers(50_000, 60_000, 40_000, 40 / 70, is_same=False)
SAME = VocabularyNumbers(50_000, 50_000, 50_000, 1.0, is_same=True)
GOOD = ExampleNumbers(
    examples=100, bytes=40_000, teacher_tokens=10_000, student_tokens=10_500, chunks=9_500,
    coverage=1.0, one_to_one_chunks=0.95, one_to_one_teacher_tokens=0.9,
    one_to_one_student_tokens=0.86, cut_bytes=0, unknown_bytes=0, changed_bytes=0,
    unmatched_bytes=0, tool_call_tokens=0, template_tokens=0, teacher_only_tokens=0.01,
    teacher_ends=100, student_ends=100, matched_ends=100,
)  # fmt: skip
UNLIKE = replace(GOOD, one_to_one_teacher_tokens=0.5, one_to_one_student_tokens=0.3)
TEACHER = ModelNumbers("big", 8_000_000_000, 50_000, 50_000, 49_999, 4096)
STUDENT = ModelNumbers("small", 500_000_000, 60_000, 60_000, 59_999, 2048)


def test_one_vocabulary_means_the_plain_kl_divergence():
    advice = recommend(SAME, replace(GOOD, one_to_one_student_tokens=1.0), mass=1.0)
    assert (advice.objective, advice.options) == ("strict", {"strict.top_k": None})
    assert "50,000 ids" in advice.reason
    assert "100.0%" in advice.reason
    assert advice.hints == ()


def test_a_pair_as_alike_as_those_that_strict_was_tested_on():
    advice = recommend(ALIKE, GOOD, mass=0.998)
    assert (advice.objective, advice.also, advice.options) == ("strict", ("alm",), {})
    for number in ("90.0%", "82.8%", "99.80%", "99.69%"):
        assert number in advice.reason
    assert "not compared with alm" in advice.reason


@pytest.mark.parametrize(
    ("examples", "mass", "said"),
    [
        (UNLIKE, 0.999, ("50.0%", "82.8%", "70.0% of the student's tokens")),
        (GOOD, 0.95, ("95.00%", "99.69%")),
        (GOOD, None, ("90.0%", "not measured")),
    ],
)  # fmt: skip
def test_a_pair_less_alike_gets_alm_with_the_number_that_says_so(examples, mass, said):
    advice = recommend(ALIKE, examples, mass=mass)
    assert advice.objective == "alm"
    assert all(number in advice.reason for number in (*said, "9,500", "100.00% of the bytes"))


def test_a_teacher_that_gives_likelihoods_only_gets_alm():
    advice = recommend(SAME, GOOD, mass=None, gives_distributions=False)
    assert advice.objective == "alm"
    assert "likelihoods" in advice.reason


def test_hints_for_small_students_and_for_bytes():
    small = recommend(ALIKE, GOOD, mass=0.99, student_parameters=3_000_000)
    assert any("3M parameters" in hint and "dskd" in hint for hint in small.hints)
    large = recommend(ALIKE, GOOD, mass=0.99, student_parameters=3_000_000_000)
    assert not any("dskd" in hint for hint in large.hints)
    spelling = replace(UNLIKE, student_tokens=39_000)
    assert any("byte by byte" in hint for hint in recommend(ALIKE, spelling, mass=0.9).hints)


def names(examples=GOOD, vocabulary=ALIKE, teacher=TEACHER, student=STUDENT, lengths=(512, 512)):
    flags = red_flags(vocabulary, examples, teacher, student, lengths)
    return [(flag.level, flag.name) for flag in flags], flags


def test_a_good_pair_raises_no_flag():
    assert names() == ([], [])
    assert names(teacher=None, student=None) == ([], [])


@pytest.mark.parametrize(
    ("changes", "expected", "said"),
    [
        (
            {"student": replace(STUDENT, output_rows=59_000)},
            ("error", "student_vocabulary_exceeds_rows"),
            "need 60000 rows, but its model has 59000",
        ),
        (
            {"teacher": replace(TEACHER, embedding_rows=50_176, output_rows=50_176)},
            ("note", "teacher_is_padded"),
            "176 of the teacher's 50,176",
        ),
        (
            {"teacher": replace(TEACHER, parameters=400_000_000)},
            ("warning", "teacher_is_smaller"),
            "400.0M",
        ),
        ({"lengths": (512, 4000)}, ("warning", "student_positions"), "2,048 positions"),
        ({"examples": replace(GOOD, coverage=0.98)}, ("warning", "low_coverage"), "98.00%"),
        (
            {"examples": replace(GOOD, matched_ends=0)},
            ("warning", "no_end_matched"),
            "when to stop",
        ),
        ({"examples": replace(GOOD, cut_bytes=4000)}, ("warning", "cut"), "10.0%"),
        ({"examples": replace(GOOD, chunks=0)}, ("error", "nothing_to_learn"), "loss_on"),
        (
            {"vocabulary": replace(ALIKE, teacher_ids=60_000)},
            ("note", "equal_size"),
            "60,000 ids, but not the same",
        ),
    ],
)  # fmt: skip
def test_each_red_flag_alone(changes, expected, said):
    found, flags = names(**changes)
    assert found == [expected]
    assert said in flags[0].message
    assert has_errors(flags) == (expected[0] == "error")


def test_errors_come_first():
    found, _ = names(
        teacher=replace(TEACHER, parameters=1, embedding_rows=1, output_rows=50_001),
        examples=replace(GOOD, coverage=0.5),
    )
    assert [level for level, _ in found] == ["error", "warning", "warning", "note"]
