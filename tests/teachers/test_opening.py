"""Teachers of any kind are opened by what a recipe calls them; a kind may come from outside."""

import sys
from dataclasses import replace

import pytest
import torch

from crosstok.models import Scores
from crosstok.objectives import Needs
from crosstok.teachers import LocalTeacher, Teacher, TeacherName, TeacherRequest, open_teacher
from crosstok.teachers.fingerprint import Fingerprint
from crosstok.tokenizers import TextEncoder
from tests.folders import save_model
from tests.tiny import tiny_tokenizer

LIKELIHOODS = Needs(teacher=True, boundary_mass=True)
ENCODER = TextEncoder(tiny_tokenizer("bytelevel_bpe"))
REQUEST = TeacherRequest(
    name="",
    byte_vocab=ENCODER.byte_vocab,
    device=torch.device("cpu"),
    dtype=torch.float32,
    arithmetic="float32",
)


class Uniform(Teacher):
    """Finds every token equally likely; its name is that of a tokenizer."""

    supports = LIKELIHOODS

    def __init__(self, name: str, size: int) -> None:
        self.name, self.size = name, size

    @classmethod
    def open(cls, request: TeacherRequest) -> Teacher:
        return cls(request.name, len(request.byte_vocab))

    def scores(self, input_ids, attention_mask, needs):
        logprobs = -torch.full(input_ids.shape, float(self.size)).log()
        logprobs[:, 0] = 0.0
        return Scores(logprobs, logprobs / 2 if needs.boundary_mass else None)


class Stored(Uniform):
    """The same, with an identity."""

    @classmethod
    def identify(cls, request, notes):
        return Fingerprint("uniform", None, "vocabulary", request.arithmetic)


@pytest.fixture
def here(monkeypatch):
    """Names this module as an importable one."""
    monkeypatch.setitem(sys.modules, "my_teachers", sys.modules[__name__])
    return "my_teachers"


def test_a_plain_name_is_a_model(tmp_path):
    folder = save_model(tmp_path / "model")
    for text in (str(folder), f"model:{folder}"):
        named = TeacherName.parse(text)
        assert (named.kind, named.name) == (LocalTeacher, str(folder))
        assert named.tokenizer == str(folder)
        named.check()
    teacher = open_teacher(str(folder), REQUEST)
    assert teacher.name == "model"
    assert teacher.num_parameters > 1000


def test_a_model_that_is_not_there_is_found_out_without_loading(tmp_path):
    with pytest.raises(ValueError, match="holds no model"):
        TeacherName.parse(str(tmp_path)).check()


def test_a_class_of_ones_own_is_opened_by_its_name(here):
    named = TeacherName.parse(f"{here}:Uniform:some/tokenizer")
    assert (named.kind, named.tokenizer) == (Uniform, "some/tokenizer")
    teacher = open_teacher(f"{here}:Uniform:some/tokenizer", REQUEST)
    assert isinstance(teacher, Uniform)
    assert teacher.name == "some/tokenizer"
    assert teacher.metrics() == {}


def test_what_is_no_teacher_is_refused(here):
    with pytest.raises(ValueError, match=r"Fingerprint is not a subclass"):
        TeacherName.parse(f"{here}:Fingerprint:x")
    with pytest.raises(ValueError, match=r"has no 'Uniforn'.*did you mean 'Uniform'"):
        TeacherName.parse(f"{here}:Uniforn:x")


def test_an_identity_lets_any_kind_be_stored(here, tmp_path):
    ids, mask = torch.tensor([[5, 6, 7]]), torch.ones(1, 3, dtype=torch.long)
    for hits in (0.0, 1.0):
        teacher = open_teacher(f"{here}:Stored:t", REQUEST, cache=tmp_path / "cache")
        scores = teacher.scores(ids, mask, LIKELIHOODS)
        assert teacher.metrics() == {"teacher_cache_hits": (hits, 1.0)}
        expected = Uniform("t", len(ENCODER.byte_vocab)).scores(ids, mask, LIKELIHOODS)
        assert torch.equal(scores.token_logprobs, expected.token_logprobs)
    other = replace(REQUEST, arithmetic="float64")
    with pytest.raises(ValueError, match="arithmetic float64 instead of float32"):
        open_teacher(f"{here}:Stored:t", other, cache=tmp_path / "cache")


def test_scores_without_an_identity_are_not_stored(here, tmp_path):
    with pytest.raises(ValueError, match=r"leave teacher_cache out, or define .*identify"):
        open_teacher(f"{here}:Uniform:t", REQUEST, cache=tmp_path / "cache")


def test_a_teacher_that_is_at_hand_stands_for_its_name(tmp_path):
    running = Uniform("mine", 3)
    assert open_teacher("some/model", REQUEST, running=running) is running
