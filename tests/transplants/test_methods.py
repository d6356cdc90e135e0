"""The socket for methods: rows with weights, what a method needs, names that people type."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from crosstok.tokenizers import TextEncoder
from crosstok.transplants import (
    MethodNeeds,
    MethodRows,
    Resources,
    RowSource,
    SourceMatrices,
    SourceRows,
    plan_rows,
    transplant,
)
from crosstok.transplants.fvt import FVT
from tests.tiny import tiny_tokenizer
from tests.tiny_models import tiny_model
from tests.transplants.neighbours import Donated, Neighbours

BPE = TextEncoder(tiny_tokenizer("bytelevel_bpe"))
SPM = TextEncoder(tiny_tokenizer("spm_bpe"))
SIZE = len(BPE.byte_vocab.token_bytes)
ROW = SourceRows((3, 5), (0.25, -2.0))
NAME = "tests.transplants.neighbours:Neighbours"


@dataclass(frozen=True)
class Fixed:
    """Returns what it is made with, for every token."""

    needs: ClassVar[MethodNeeds] = MethodNeeds()
    row_label: ClassVar[str] = "fixed"

    row: SourceRows
    output_row: SourceRows | None = None

    def __call__(self, inputs):
        number = len(inputs.tokens)
        output = None if self.output_row is None else [self.output_row] * number
        return MethodRows([self.row] * number, output)


def embeddings(model) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    return inputs.weight.detach().clone(), outputs.weight.detach().clone()


def composed_ids(plan) -> list[int]:
    return [i for i, source in enumerate(plan.sources) if source == RowSource.COMPOSED]


def test_a_weighted_row_is_the_weighted_sum_of_its_source_rows():
    model = tiny_model("llama", SIZE, tie_word_embeddings=False)
    plan = plan_rows(BPE, SPM, Neighbours(), matrices=SourceMatrices(model, SIZE))
    old = embeddings(model)
    report = transplant(model, BPE, SPM, method=Neighbours())
    made = composed_ids(plan)
    assert report.composed == len(made) > 50
    assert plan.input_rows != plan.output_rows
    for rows, before, after in zip(
        (plan.input_rows, plan.output_rows), old, embeddings(model), strict=True
    ):
        for id_ in made:
            weights = torch.tensor(rows[id_].weights)
            wanted = (weights[:, None] * before[list(rows[id_].ids)]).sum(0)
            torch.testing.assert_close(after[id_], wanted)


def test_weights_may_have_any_sign_and_sum_and_output_rows_may_be_their_own():
    model = tiny_model("llama", SIZE, tie_word_embeddings=False)
    old_input, old_output = embeddings(model)
    method = Fixed(ROW, SourceRows((7,), (3.0,)))
    made = composed_ids(plan_rows(BPE, SPM, method))
    transplant(model, BPE, SPM, method=method)
    new_input, new_output = embeddings(model)
    for id_ in made:
        torch.testing.assert_close(new_input[id_], 0.25 * old_input[3] - 2 * old_input[5])
        torch.testing.assert_close(new_output[id_], 3 * old_output[7])


def test_weights_for_some_tokens_leave_the_bits_of_all_other_rows_as_they_are():
    class EverySecond(Fixed):
        def __call__(self, inputs):
            rows = list(FVT()(inputs).input_rows)
            rows[::2] = [self.row] * len(rows[::2])
            return MethodRows(rows)

    plain, mixed = (tiny_model("llama", SIZE).bfloat16() for _ in range(2))
    transplant(plain, BPE, SPM, method="fvt")
    transplant(mixed, BPE, SPM, method=EverySecond(ROW))
    plan = plan_rows(BPE, SPM, EverySecond(ROW))
    is_weighted = torch.tensor([row.weights is not None for row in plan.input_rows])
    new, old = embeddings(mixed)[0], embeddings(plain)[0]
    assert 0 < is_weighted.sum() < len(is_weighted)
    assert torch.equal(new[~is_weighted], old[~is_weighted])
    assert not torch.equal(new[is_weighted], old[is_weighted])


def test_a_token_that_a_method_cannot_make_gets_the_mean_and_counts_as_fallback():
    model = tiny_model("llama", SIZE)
    report = transplant(model, BPE, SPM, method=Fixed(SourceRows()))
    assert report.composed == 0
    assert report.fallback > 50


def test_the_report_names_the_method_and_its_rows():
    report = transplant(tiny_model("llama", SIZE), BPE, SPM, method=NAME)
    assert report.method == NAME
    values = report.as_dict()
    assert values["labels"]["composed"] == "weighted from neighbours"
    assert values["labels"]["mapped"] == "mapped by role"
    known = transplant(tiny_model("llama", SIZE), BPE, SPM)
    assert known.method == "fvt"
    assert known.labels["composed"] == "composed from pieces"


def test_a_method_sees_missing_tokens_both_encoders_and_the_matrix_of_the_source():
    model = tiny_model("llama", SIZE + 8).bfloat16()  # 8 rows of padding
    seen = []

    class Looks(Fixed):
        needs = MethodNeeds(source_matrix=True)

        def __call__(self, inputs):
            seen.append((inputs, inputs.input_matrix.clone()))
            return super().__call__(inputs)

    old = embeddings(model)[0]
    transplant(model, BPE, SPM, method=Looks(ROW))
    ((inputs, matrix),) = seen
    assert (inputs.source, inputs.target) == (BPE, SPM)
    assert matrix.dtype == torch.float32
    assert torch.equal(matrix, old[:SIZE].float())
    vocab = SPM.byte_vocab
    assert [vocab.token_bytes[id_] for id_ in inputs.ids] == list(inputs.tokens)
    assert not any(BPE.byte_vocab.ids_of(token) for token in inputs.tokens)


def test_embeddings_are_there_only_for_a_method_that_declares_them():
    class Sneaks(Fixed):
        def __call__(self, inputs):
            return inputs.input_matrix

    with pytest.raises(ValueError, match=r"MethodNeeds\(source_matrix=True\)"):
        transplant(tiny_model("llama", SIZE), BPE, SPM, method=Sneaks(ROW))
    with pytest.raises(ValueError, match="needs the source model's embeddings"):
        plan_rows(BPE, SPM, NAME)


def test_what_a_method_needs_and_is_not_given_is_named():
    model = tiny_model("llama", SIZE)
    with pytest.raises(ValueError, match=r"needs donor.*resources=Resources\(donor=\.\.\.\)"):
        transplant(model, BPE, SPM, method=Donated())
    with pytest.raises(ValueError, match="donor is 'd', but transplant method 'fvt' does not use"):
        transplant(model, BPE, SPM, resources=Resources(donor="d"))
    resources = Resources(donor="d", vectors="nowhere")
    with pytest.raises(ValueError, match="vectors is 'nowhere', and there is no such file"):
        transplant(model, BPE, SPM, method=Donated(), resources=resources)


BAD_METHODS = [
    ("fvtt", "unknown transplant method 'fvtt': did you mean 'fvt'"),
    ("nowhere.at.all:X", "importing 'nowhere.at.all' failed"),
    ("tests.transplants.neighbours:Neighbour", "did you mean 'Neighbours'"),
    ("pathlib:Path", "it lacks needs, row_label, __call__"),
    (Neighbours, r"Pass Neighbours\(\)"),
    (object(), "it lacks needs"),
    (Fixed(SourceRows((SIZE,))), f"source row {SIZE}; source ids are 0 to {SIZE - 1}"),
]


@pytest.mark.parametrize(("method", "message"), BAD_METHODS)
def test_a_method_that_cannot_be_used_is_refused_with_the_next_step(method, message):
    model = tiny_model("llama", SIZE)
    before = embeddings(model)[0]
    with pytest.raises(ValueError, match=message):
        transplant(model, BPE, SPM, method=method)
    assert torch.equal(embeddings(model)[0], before)


def test_a_method_that_returns_something_else_than_a_row_for_each_token_is_refused():
    class TooFew(Fixed):
        def __call__(self, inputs):
            rows = super().__call__(inputs)
            return replace(rows, input_rows=rows.input_rows[1:])

    class Ids(Fixed):
        def __call__(self, inputs):
            return [(1, 2)] * len(inputs.tokens)

    with pytest.raises(ValueError, match="it must return one for each"):
        plan_rows(BPE, SPM, TooFew(ROW))
    with pytest.raises(ValueError, match="returned list; it must return MethodRows"):
        plan_rows(BPE, SPM, Ids(ROW))


@pytest.mark.parametrize(
    ("ids", "weights", "message"),
    [
        ((1, 2), (1.0,), "1 weights for 2 source rows"),
        ((), (), "at least one"),
        ((1, 2), (1.0, float("nan")), "finite"),
    ],
)
def test_weights_that_fit_no_rows_are_refused(ids, weights, message):
    with pytest.raises(ValueError, match=message):
        SourceRows(ids, weights)
