"""Whatever is wrong: no traceback, one line that names it and what to do, and the right status."""

from pathlib import Path

import pytest

from tests.cli.wrong_inputs import ASKED, FILES, fill, make_wrong_files


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    return make_wrong_files(tmp_path_factory.mktemp("wrong"))


def check(crosstok, files: dict[str, str], row: tuple[str, str, str], status: int) -> None:
    command, named, advised = row
    code, out, err = crosstok(*fill(command, files).split())
    assert code == status, err
    assert out == ""
    assert "Traceback" not in err
    lines = err.splitlines()
    assert [line for line in lines if line.startswith("error:")] == lines[-1:]
    assert fill(named, files) in lines[-1]
    assert advised in lines[-1]
    assert not Path(files["out"]).exists()


@pytest.mark.parametrize("row", ASKED, ids=lambda row: f"{row[0].split()[0]} {row[1]}")
def test_what_is_asked_wrongly_is_named_with_a_remedy(crosstok, files, row):
    check(crosstok, files, row, 2)


@pytest.mark.parametrize("row", FILES, ids=lambda row: f"{row[0].split()[0]} {row[1]} {row[2]}")
def test_a_file_that_is_wrong_is_named_with_a_remedy(crosstok, files, row):
    check(crosstok, files, row, 1)


def test_there_are_enough_rows_and_they_cover_every_command():
    commands = {row[0].split()[0] for row in (*ASKED, *FILES)}
    jobs = {"transfer", "transplant", "distil", "evaluate", "generate", "inspect", "demo", "env"}
    assert jobs <= commands
    assert len(ASKED) + len(FILES) >= 60
