"""Stored teachers: equal to the teacher, never another's, whole after a kill, asked once."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from crosstok.models import load_model
from crosstok.objectives import ALM, GOLD, HiddenStates, Needs
from crosstok.teachers import (
    CachedTeacher,
    LocalTeacher,
    Teacher,
    cached_teacher,
    check_needs,
    fingerprint,
    score_store,
)
from crosstok.teachers.score_store import ENTRY, ScoreStore
from crosstok.tokenizers import TextEncoder, load_tokenizer
from tests.folders import save_model
from tests.texts import texts as any_text
from tests.tiny import SENTENCES as TEXTS
from tests.tiny import tiny_tokenizer

LIKELIHOODS = Needs(teacher=True, boundary_mass=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def encoder(model) -> TextEncoder:
    return TextEncoder(load_tokenizer(str(model)))


@pytest.fixture(scope="module")
def teacher(model, encoder) -> LocalTeacher:
    return LocalTeacher(load_model(str(model), dtype=torch.float32), encoder.byte_vocab)


@pytest.fixture
def cached(model, encoder, teacher, tmp_path):
    """A cached teacher of a folder; `load` stands for the model."""

    def make(folder: str = "cache", *, of: Path = model, load=lambda: teacher, dtype="float32"):
        return cached_teacher(
            tmp_path / folder, str(of), encoder.byte_vocab, identify(of, encoder, dtype), load
        )

    return make


def identify(model: Path, encoder: TextEncoder, dtype: str = "float32"):
    """What `cached_teacher` calls for the fingerprint of a local model."""
    return lambda notes: fingerprint.fingerprint(str(model), encoder.byte_vocab, dtype, notes)


def never():
    raise AssertionError("the model was loaded")


def gone():
    raise ValueError("there is no such model.")


def batch(encoder: TextEncoder, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    rows = [spans.ids[:40] for spans in encoder(texts)]
    ids = torch.zeros(len(rows), max(1, *map(len, rows)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), 1
    return ids, mask


def assert_equal(one, other) -> None:
    """To the bit: nothing is rounded."""
    assert torch.equal(one.token_logprobs, other.token_logprobs)
    assert torch.equal(one.boundary_logprobs, other.boundary_logprobs)


def test_what_is_read_equals_what_the_teacher_said_to_the_bit(cached, teacher, encoder):
    ids, mask = batch(encoder, TEXTS[:6])
    expected = teacher.scores(ids, mask, LIKELIHOODS)
    first = cached()
    assert_equal(first.scores(ids, mask, LIKELIHOODS), expected)
    assert (first.hits, first.rows) == (0, 6)
    again = cached(load=never)
    assert_equal(again.scores(ids, mask, LIKELIHOODS), expected)
    assert (again.hits, again.rows) == (6, 6)
    assert again.scores(ids, mask, Needs(teacher=True)).boundary_logprobs is None


@settings(deadline=None, max_examples=15)
@given(st.lists(any_text, min_size=1, max_size=4), st.randoms())
def test_any_rows_in_any_batch_equal_the_teacher(
    model, encoder, teacher, tmp_path_factory, texts, random
):
    """Other batches, other padding: equal to the last digits of the model's own arithmetic."""
    folder = tmp_path_factory.mktemp("cache")
    stored = cached_teacher(
        folder, str(model), encoder.byte_vocab, identify(model, encoder), lambda: teacher
    )
    for _ in range(3):
        ids, mask = batch(encoder, random.choices([*texts, "A text."], k=3))
        expected = teacher.scores(ids, mask, LIKELIHOODS)
        got = stored.scores(ids, mask, LIKELIHOODS)
        torch.testing.assert_close(got.token_logprobs, expected.token_logprobs)
        torch.testing.assert_close(got.boundary_logprobs, expected.boundary_logprobs)


def test_only_missing_rows_are_asked(cached, teacher, encoder):
    asked = []

    class Listening(Teacher):
        name, supports, view = teacher.name, teacher.supports, teacher.view

        def scores(self, input_ids, attention_mask, needs):
            asked.append(len(input_ids))
            return teacher.scores(input_ids, attention_mask, needs)

    stored = cached(load=Listening)
    stored.scores(*batch(encoder, TEXTS[:2]), LIKELIHOODS)
    both = batch(encoder, TEXTS[:5])
    got = stored.scores(*both, LIKELIHOODS)
    stored.scores(*both, LIKELIHOODS)
    assert asked == [2, 3]
    torch.testing.assert_close(
        got.token_logprobs, teacher.scores(*both, LIKELIHOODS).token_logprobs
    )


def test_a_token_takes_eight_bytes_and_a_row_thirty_two(cached, encoder, tmp_path):
    ids, mask = batch(encoder, TEXTS[:6])
    cached().scores(ids, mask, LIKELIHOODS)
    sizes = {
        suffix: sum(file.stat().st_size for file in (tmp_path / "cache").glob(f"*{suffix}"))
        for suffix in (".scores", ".index")
    }
    assert sizes == {".scores": 8 * int(mask.sum()), ".index": 32 * len(ids)}


KILLED = """
import importlib.util, os, signal, sys
import numpy as np
from pathlib import Path
# By its file: the package would load torch.
found = importlib.util.spec_from_file_location("score_store", sys.argv[4])
score_store = importlib.util.module_from_spec(found)
found.loader.exec_module(score_store)
store = score_store.ScoreStore(Path(sys.argv[1]), "key")
row = np.arange(20, dtype="f4").reshape(10, 2)
store.add({b"a" * 16: row, b"b" * 16: row + 1})
part, at = sys.argv[2], int(sys.argv[3])
write = score_store._append
def half(file, content):
    if file.suffix == part:
        write(file, content[:at])
        os.kill(os.getpid(), signal.SIGKILL)
    write(file, content)
score_store._append = half
store.add({b"c" * 16: row + 2, b"d" * 16: row + 3})
"""


@pytest.mark.parametrize(
    ("part", "at", "whole"),
    [(".scores", 13, "ab"), (".scores", 160, "ab"), (".index", 0, "ab"), (".index", 40, "abc")],
)
def test_killed_while_writing_nothing_half_is_read(tmp_path, part, at, whole):
    words = (str(tmp_path), part, str(at), score_store.__file__)
    done = subprocess.run([sys.executable, "-c", KILLED, *words])
    assert done.returncode == -9
    store = ScoreStore(tmp_path, "key")
    row = np.arange(20, dtype="f4").reshape(10, 2)
    assert len(store) == len(whole)
    for i, letter in enumerate("abcd"):
        got = store.get(letter.encode() * 16)
        assert (got is not None) == (letter in whole)
        assert got is None or np.array_equal(got, row + i)
    store.add({b"d" * 16: row})  # into files of its own
    assert np.array_equal(ScoreStore(tmp_path, "key").get(b"d" * 16), row)


@pytest.mark.parametrize("harm", ["a changed byte", "cut off", "gone"])
def test_damaged_scores_are_computed_again(cached, teacher, encoder, tmp_path, caplog, harm):
    ids, mask = batch(encoder, TEXTS[:3])
    cached().scores(ids, mask, LIKELIHOODS)
    (file,) = (tmp_path / "cache").glob("*.scores")
    content = bytearray(file.read_bytes())
    content[9] ^= 1
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(content if harm == "a changed byte" else content[:-1])
    mended = cached()
    scores = mended.scores(ids, mask, LIKELIHOODS)
    expected = teacher.scores(ids, mask, LIKELIHOODS)
    torch.testing.assert_close(scores.token_logprobs, expected.token_logprobs)
    torch.testing.assert_close(scores.boundary_logprobs, expected.boundary_logprobs)
    assert mended.hits < 3
    assert "scored again" in caplog.text
    assert_equal(cached(load=never).scores(ids, mask, LIKELIHOODS), scores)


def test_two_processes_write_side_by_side(tmp_path):
    """Ranks of one run: each has files of its own, and finds the other's when it starts."""
    first, second = ScoreStore(tmp_path, "key"), ScoreStore(tmp_path, "key")
    row = np.ones((3, 2), "f4")
    for i in range(3):
        first.add({bytes([i]) * 16: row * i})
        second.add({bytes([9 - i]) * 16: row * (9 - i), bytes([i]) * 16: row * i})
    both = ScoreStore(tmp_path, "key")
    assert len(both) == 6
    for i in (0, 1, 2, 7, 8, 9):
        assert np.array_equal(both.get(bytes([i]) * 16), row * i)
    assert len(list(tmp_path.glob("*.index"))) == 2


def test_a_full_disk_says_what_stands(tmp_path, monkeypatch):
    store = ScoreStore(tmp_path, "key")
    row = np.ones((3, 2), "f4")
    store.add({b"a" * 16: row})
    write = score_store._append

    def full(file, content):
        write(file, content[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(score_store, "_append", full)
    with pytest.raises(OSError, match=r"Rows stored before are kept\. Make room"):
        store.add({b"b" * 16: row})
    monkeypatch.undo()
    store.add({b"b" * 16: row * 2})
    assert np.array_equal(ScoreStore(tmp_path, "key").get(b"b" * 16), row * 2)
    assert ENTRY.itemsize == 32


def changed_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.1.mlp.up_proj.weight"][3, 3] += 1.0  # one number of thousands
    save_file(tensors, file, metadata={"format": "pt"})


def changed_configuration(folder: Path) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "rms_norm_eps": 1e-3}))


@pytest.mark.parametrize("change", [changed_weights, changed_configuration])
def test_a_changed_model_never_reads_the_old_scores(cached, model, encoder, tmp_path, change):
    other = tmp_path / "other" / model.name
    shutil.copytree(model, other)
    ids, mask = batch(encoder, TEXTS[:3])
    cached(of=other).scores(ids, mask, LIKELIHOODS)
    cached(load=never).scores(ids, mask, LIKELIHOODS)  # the same files elsewhere
    change(other)
    named = "weights" if change is changed_weights else "configuration"
    with pytest.raises(ValueError, match=f"another teacher than .*{named}.*teacher_cache"):
        cached(of=other)


def test_another_dtype_or_vocabulary_is_another_teacher(cached, model, tmp_path):
    cached()
    with pytest.raises(ValueError, match=r"arithmetic bfloat16 instead of float32.*the precision"):
        cached(dtype="bfloat16")
    other = TextEncoder(tiny_tokenizer("spm_bpe"))
    with pytest.raises(ValueError, match="which has vocabulary"):
        cached_teacher(
            tmp_path / "cache", str(model), other.byte_vocab, identify(model, other), never
        )


def test_weights_are_read_once_and_again_when_they_change(cached, tmp_path, model, monkeypatch):
    read = []
    digest = fingerprint._digest
    monkeypatch.setattr(fingerprint, "_digest", lambda file: read.append(file.name) or digest(file))
    other = tmp_path / "other"
    shutil.copytree(model, other)
    cached(of=other)
    cached(of=other)
    assert read.count("model.safetensors") == 1
    (tmp_path / "cache" / "files_seen.json").write_text("half a fi")
    cached(of=other)
    assert read.count("model.safetensors") == 2


def test_without_the_model_what_is_stored_is_read_and_a_miss_is_named(
    cached, model, encoder, teacher, tmp_path
):
    bare = tmp_path / "elsewhere" / "teacher"
    shutil.copytree(model, bare, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    with pytest.raises(ValueError, match=r"neither stored in .* nor a model"):
        cached(of=bare, load=gone)
    ids, mask = batch(encoder, TEXTS[:3])
    cached().scores(ids, mask, LIKELIHOODS)
    stored = cached(of=bare, load=gone)
    assert_equal(stored.scores(ids, mask, LIKELIHOODS), teacher.scores(ids, mask, LIKELIHOODS))
    unseen = batch(encoder, [TEXTS[0], "Never seen before."])
    message = r"row of \d+ tokens that begins 'Never seen before\.'.*among the 3 .*no such model"
    with pytest.raises(ValueError, match=message):
        stored.scores(*unseen, LIKELIHOODS)


@pytest.mark.parametrize("objective", [GOLD(), HiddenStates()])
def test_objectives_that_need_more_are_told_what_to_do(cached, objective):
    check_needs([ALM()], [cached()])
    with pytest.raises(ValueError, match=r"likelihoods only: leave out teacher_cache"):
        check_needs([objective], [cached()])


@pytest.mark.parametrize(
    ("content", "message"), [("{", "does not say which teacher"), ('{"format": 9}', "of format 9")]
)
def test_a_description_that_cannot_be_read_is_named(cached, tmp_path, content, message):
    cached()
    (tmp_path / "cache" / "teacher.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        cached()


def test_not_a_number_is_not_kept(encoder, cached):
    class Broken(Teacher):
        name, supports, view = "broken", LIKELIHOODS, None

        def scores(self, input_ids, attention_mask, needs):
            scores = CachedTeacher.scores(cached("whole"), input_ids, attention_mask, needs)
            scores.token_logprobs[0, 1] = float("nan")
            return scores

    ids, mask = batch(encoder, TEXTS[:2])
    stored = cached(load=Broken)
    assert stored.scores(ids, mask, LIKELIHOODS).token_logprobs.isnan().sum() == 1
    assert len(stored.store) == 1
