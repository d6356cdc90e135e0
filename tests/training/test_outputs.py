"""The folder that a run will write to."""

import os

import pytest

from crosstok.training.outputs import check_output_folder


def test_a_new_folder_in_new_folders_may_be_written(tmp_path):
    check_output_folder(tmp_path / "a" / "b")


def test_a_folder_that_cannot_be_made_is_refused_before_any_work(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"notes.txt is a file; give the path of a folder"):
        check_output_folder(tmp_path / "notes.txt")
    with pytest.raises(ValueError, match=r"cannot be made: .*notes.txt is a file"):
        check_output_folder(tmp_path / "notes.txt" / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_the_right_to_write_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="may not be written to"):
        check_output_folder(tmp_path / "out")
