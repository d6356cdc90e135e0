"""What reads the pages finds commands where they are, and says where one fails, and how."""

import huggingface_hub.constants
import pytest

from tests.docs.pages import ROOT, Piece, blocks, is_command, lines_of, pieces
from tests.docs.reader import Reader

PAGE = ROOT / "README.md"


def failure(language: str, content: str, *, mark: str = "") -> str:
    """What a piece on line 7 of a page fails with."""
    with pytest.raises(pytest.fail.Exception) as failed:
        Reader({}).read(Piece(PAGE, 7, language, content, mark))
    return str(failed.value)


def test_a_failing_command_is_shown_with_page_line_and_output(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    said = failure(
        "sh", "# first\ncrosstok evaluate --model nowhere \\\n    --data no.jsonl  # here\n"
    )
    assert said.startswith("README.md:8: crosstok evaluate --model nowhere --data no.jsonl\n")
    assert "error: " in said
    assert "exit status" in said


def test_failing_python_is_shown_with_the_line_of_the_page():
    said = failure("python", "print('before')\nundefined\n")
    assert said.startswith("README.md:7\nbefore\n")
    assert 'README.md", line 8' in said
    assert "NameError" in said


def test_other_output_than_the_page_claims_fails():
    assert "README.md:7\nprints\n" in failure("text", "something\n", mark="prints")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("python benchmarks/no_such_script.py", "there is no"),
        ("python benchmarks/step.py --no-such-option 1", "unrecognized arguments"),
        ("make no-such-target", "targets are"),
        (".venv/bin/pytest tests/nowhere", "no such path"),
        ("rm -r out", "a command that no test runs"),
    ],
)
def test_what_cannot_be_typed_fails(command, said):
    assert said in failure("sh", command + "\n")


def test_keys_that_no_recipe_has_fail():
    assert "tokenzier" in failure("yaml", "model: m\ntokenzier: t\n")


def test_what_is_excused_is_not_typed_and_what_is_shown_twice_is_typed_once():
    reader = Reader({"rm": "it is only shown"})
    reader.read(Piece(PAGE, 1, "sh", "rm -r out\ncrosstok --version\n"))
    assert reader.printed.startswith("crosstok ")
    reader.read(Piece(PAGE, 4, "command", "crosstok --version\n"))
    assert reader.printed == ""


@pytest.mark.parametrize(
    ("span", "is_whole"),
    [
        ("crosstok transfer --recipe my.yaml", True),
        ("crosstok transfer --help", True),
        ("crosstok transplant --model a --tokenizer b --output c", True),
        ("crosstok transplant --tokenizer bytes", False),
        ("crosstok generate", False),
        ("crosstok generate --model a --prompt ...", False),
        ("PYTHON=python3.12 make demo", True),
        (".venv/bin/pytest tests/alignment", True),
        ("make", False),
        (".venv", False),
        ("python3.12 is enough", False),
    ],
)
def test_a_code_span_is_a_command_if_it_can_be_typed(span, is_whole):
    assert is_command(span) == is_whole


def test_pieces_stand_in_the_order_of_the_page_with_their_lines(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "See `make test`.\n\n<!-- run -->\n```python\nx = 1\n```\n\n- a list\n\n"
        "    ```sh\n    make \\\n        demo\n    make setup\n    ```\n\n"
        "`make\nsearch` and `make`.\n"
    )
    found = pieces(page)
    assert [(p.line, p.language, p.mark) for p in found] == [
        (1, "command", ""),
        (5, "python", "run"),
        (11, "sh", ""),
        (16, "command", ""),
    ]
    assert lines_of(found[2]) == [(11, "make demo"), (13, "make setup")]
    assert [p.language for p in blocks(page)] == ["python", "sh"]
