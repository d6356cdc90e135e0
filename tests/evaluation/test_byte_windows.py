import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosstok.evaluation.byte_windows import cut_text


@given(st.text(max_size=200), st.integers(4, 40))
def test_windows_fit_and_join_to_the_text(text, num_bytes):
    windows = cut_text(text, num_bytes)
    assert "".join(windows) == text
    assert all(0 < len(window.encode()) <= num_bytes for window in windows)


def test_a_window_ends_in_front_of_white_space_in_its_second_half():
    assert cut_text("one two three four", 10) == ["one two", " three", " four"]
    assert cut_text("a bcdefghijklmnop", 8) == ["a bcdefg", "hijklmno", "p"]
    assert cut_text("ждёт\nу двери", 9) == ["ждёт", "\nу дв", "ери"]


def test_a_window_must_hold_every_character():
    with pytest.raises(ValueError, match=r"a window of 3 bytes .* give at least 4"):
        cut_text("text", 3)
