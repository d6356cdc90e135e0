"""Tokenizers that can encode the data are enough, and encode it the same way every time."""

import json
import logging

import pytest
from tokenizers import Tokenizer, models

from crosstok.byteview import ByteModel
from crosstok.chats.structure import StructureEncoder
from crosstok.inference import Scorer, TokenModel
from crosstok.inference.prompts import PromptReader
from crosstok.tokenizers import TextEncoder, byte_tokenizer, load_tokenizer
from crosstok.tokenizers.encoding import without_sampling
from crosstok.training.tokenizer_files import save_tokenizer
from crosstok.transplants.plan import plan_rows
from tests.odd_tokenizers import BARE, DNA, with_dropout
from tests.tiny import SENTENCES, tiny_tokenizer
from tests.tiny_models import tiny_model

TEXT = " ".join(SENTENCES[:3])
each_bare = pytest.mark.parametrize("make", BARE)


def same(find) -> bool:
    return len({str(find()) for _ in range(8)}) == 1


def test_dropout_in_the_file_changes_no_ids(tmp_path, caplog):
    with_dropout().save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING):
        tokenizer = load_tokenizer(str(tmp_path))
    assert not caplog.text
    plain = TextEncoder(tiny_tokenizer("bytelevel_bpe"))
    encoder = TextEncoder(tokenizer)
    wanted = plain([TEXT], add_start=False, add_end=False)[0].ids.tolist()
    assert encoder([TEXT], add_start=False, add_end=False)[0].ids.tolist() == wanted
    assert same(lambda: encoder([TEXT])[0].ids)
    assert same(lambda: StructureEncoder(encoder)([f"{TEXT}<|endoftext|>{TEXT}"])[0].ids)
    assert same(lambda: PromptReader(encoder).prompt_ids(TEXT))
    assert same(lambda: ByteModel(tiny_model("llama", 512), tokenizer).logprob(TEXT[:40]))


def test_dropout_stays_in_what_is_saved(tmp_path):
    tiny_model("llama", 512).config.save_pretrained(tmp_path)
    tokenizer = with_dropout(0.25)
    TextEncoder(tokenizer)([TEXT])
    save_tokenizer(tmp_path, tokenizer)
    saved = json.loads((tmp_path / "tokenizer.json").read_text())
    assert saved["model"]["dropout"] == 0.25
    assert not (tmp_path / "tokenization_verbatim.py").exists()


def test_sampling_of_unigram_is_off_too():
    pieces = [("a", -1.0), ("b", -1.0), ("ab", -1.0), ("ba", -1.1), ("aba", -1.2)]
    backend = Tokenizer(models.Unigram(pieces, alpha=0.5, nbest_size=8))
    assert same(lambda: without_sampling(backend).encode("abababab").ids)
    assert backend.model.alpha == 0.5


@each_bare
@pytest.mark.parametrize("names", [{}, {"eos_token": "<eos>"}], ids=["bare", "eos"])
def test_a_tokenizer_that_can_encode_the_data_is_enough(make, names, tmp_path):
    make(**names).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(str(tmp_path))
    encoder = TextEncoder(tokenizer)
    assert len(encoder([DNA])[0].ids)
    model = tiny_model("llama", len(tokenizer))
    [row] = Scorer(model, tokenizer).encode([DNA])
    assert row.num_bytes == len(DNA)
    assert isinstance(TokenModel(model, tokenizer).generate(["GATTACA"])[0], str)
    assert len(StructureEncoder(encoder)(["GATTACA"])[0].ids)
    assert len(byte_tokenizer(tokenizer)) >= 256


@each_bare
@pytest.mark.parametrize("target", ["canonical", "all"])
def test_the_byte_view_needs_no_unknown_token(make, target):
    tokenizer = make(eos_token="<eos>")
    view = ByteModel(tiny_model("llama", len(tokenizer)), tokenizer, target=target)
    text = "ACGT" if "words" in make.__name__ else "ACA"
    assert view.logprob(text) < 0


@each_bare
def test_such_a_tokenizer_is_a_source_and_a_target(make, tmp_path):
    bare, full = TextEncoder(make(eos_token="<eos>")), TextEncoder(tiny_tokenizer("spm_bpe"))
    for source, target in ((bare, full), (full, bare)):
        plan = plan_rows(source, target)
        assert len(plan.input_rows) == len(target.byte_vocab)


@pytest.mark.parametrize("make", BARE[:3])
def test_a_text_that_cannot_be_encoded_is_named(make):
    encoder = TextEncoder(make(eos_token="<eos>"))
    with pytest.raises(ValueError, match=r"text 1 holds .*neither a token nor an unknown token"):
        encoder(["ACGT", "ACGT Z"])
    assert encoder.can_encode(["ACGT", "ACGT Z"]) == [True, False]
