"""Special ids without rows (Code Llama 34B has four) stop nothing that does not need them."""

import json

import pytest
import torch

from crosstok.byteview import ByteModel
from crosstok.inference import TokenModel
from crosstok.models import hidden_states, load_model
from crosstok.tokenizers import ByteVocab
from tests.tiny import SENTENCES, tiny_tokenizer, with_chat_template
from tests.tiny_models import tiny_model

LACKING = ("<|pre|>", "<|suf|>", "<|mid|>", "<|eot|>")
NUM_ROWS = len(tiny_tokenizer("bytelevel_bpe"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("lacking")
    tiny_model("llama", NUM_ROWS).save_pretrained(made)
    tokenizer().save_pretrained(made)
    rows = [json.dumps({"text": text}) + "\n" for text in SENTENCES]
    (made / "data.jsonl").write_text("".join(rows), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    made = tmp_path_factory.mktemp("other")
    target = tiny_tokenizer("spm_bpe")
    tiny_model("llama", len(target)).save_pretrained(made)
    target.save_pretrained(made)
    return made


def tokenizer():
    return with_chat_template("bytelevel_bpe", None, special_tokens=LACKING)


def test_it_is_evaluated(folder, crosstok):
    data = folder / "data.jsonl"
    assert crosstok("evaluate", "--model", folder, "--data", data)[0] == 0
    assert crosstok("evaluate", "--model", folder, "--data", data, "--bytes")[0] == 0


@pytest.mark.parametrize("more", [(), ("--bytes",)])
def test_it_answers(folder, crosstok, more):
    assert crosstok("generate", "--model", folder, "--prompt", "The", *more)[0] == 0


def test_it_is_the_source_and_the_target_of_a_transplant(folder, other, crosstok, tmp_path):
    for number, (model, target) in enumerate([(folder, folder), (folder, other), (other, folder)]):
        status, _, err = crosstok(
            "transplant", "--model", model, "--tokenizer", target, "--output",
            tmp_path / str(number),
        )  # fmt: skip
        assert status == 0, err


def test_rows_that_are_there_are_kept(folder, crosstok, tmp_path):
    made = tmp_path / "out"
    assert (
        crosstok("transplant", "--model", folder, "--tokenizer", folder, "--output", made)[0] == 0
    )
    before = tiny_model("llama", NUM_ROWS).get_input_embeddings().weight
    after = load_model(str(made)).get_input_embeddings().weight
    assert len(after) == NUM_ROWS + len(LACKING)
    assert torch.equal(after[:NUM_ROWS], before)
    assert bool(after.isfinite().all())


@pytest.mark.parametrize("objective", ["alm", "strict", "gold", "uld", "mined"])
def test_it_teaches_and_is_taught(folder, other, crosstok, tmp_path, objective):
    for number, (teacher, student) in enumerate([(folder, other), (other, folder)]):
        status, _, err = crosstok(
            "distil", "--teacher", teacher, "--student", student, "--objective", objective,
            "--data", folder / "data.jsonl", "--output", tmp_path / str(number),
            "--max-steps", 1, "--max-length", 64, "--precision", "fp32",
        )  # fmt: skip
        assert status == 0, err


def test_it_is_transferred(folder, other, crosstok, tmp_path):
    status, _, err = crosstok(
        "transfer", "--model", folder, "--tokenizer", other, "--data", folder / "data.jsonl",
        "--output", tmp_path / "out", "--max-steps", 1, "--max-length", 64,
    )  # fmt: skip
    assert status == 0, err


def test_a_text_that_needs_such_an_id_is_named():
    model = tiny_model("llama", NUM_ROWS)
    ids = torch.tensor([[1, 2], [1, NUM_ROWS + 1]])
    with pytest.raises(ValueError, match=rf"row 1 holds id {NUM_ROWS + 1}.*has only {NUM_ROWS}"):
        hidden_states(model, ids, torch.ones_like(ids))
    with pytest.raises(ValueError, match=r"row 0 holds id"):
        TokenModel(model, tokenizer()).generate(["<|mid|>The"])


def test_such_ids_have_no_probability():
    model = tiny_model("llama", NUM_ROWS + 2)
    view = ByteModel(model, tokenizer())
    assert view.prefill("The").next_byte_logprobs().shape == (257,)
    vocab = ByteVocab.from_tokenizer(tokenizer())
    assert vocab.num_rows_needed == NUM_ROWS
    cut = vocab.with_rows(NUM_ROWS + 2)
    assert len(cut) == NUM_ROWS + 2
    assert set(cut.special_tokens.values()) & set(LACKING) == set(LACKING[:2])


def test_text_without_a_row_is_still_an_error():
    with pytest.raises(ValueError, match=r"has ids up to \d+, which need"):
        TokenModel(tiny_model("llama", 300), tiny_tokenizer("bytelevel_bpe"))
