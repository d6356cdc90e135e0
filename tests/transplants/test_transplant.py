"""Where rows come from: bytes, roles, pieces, or the mean."""

import pytest
import torch
from torch import nn

from crosstok.tokenizers import TextEncoder
from crosstok.transplants import RowSource, plan_rows, transplant
from crosstok.transplants.fvt import source_pieces
from tests.tiny import tiny_tokenizer
from tests.tiny_models import tiny_model

BPE = TextEncoder(tiny_tokenizer("bytelevel_bpe"))
SPM = TextEncoder(tiny_tokenizer("spm_bpe"))
UNIGRAM = TextEncoder(tiny_tokenizer("unigram"))


@pytest.mark.parametrize("encoder", [BPE, SPM, UNIGRAM])
@pytest.mark.parametrize(
    "token",
    [b" zebra", b"zebra", b"\n\n\n", b" ", b"  ", "ß".encode(), b"\xf0\x9f", b"\x80", b"<s>"],
)
def test_pieces_spell_the_token_without_a_prefix_space_of_their_own(encoder, token):
    (pieces,) = source_pieces([token], encoder)
    assert b"".join(encoder.byte_vocab.token_bytes[id_] for id_ in pieces) == token


def test_a_composed_row_is_the_mean_of_its_pieces():
    plan = plan_rows(BPE, SPM)
    composed = [i for i, s in enumerate(plan.sources) if s == RowSource.COMPOSED]
    model = tiny_model("llama", len(BPE.byte_vocab.token_bytes), tie_word_embeddings=False)
    old = model.get_input_embeddings().weight.detach().clone()
    transplant(model, BPE, SPM)
    new = model.get_input_embeddings().weight
    assert composed
    for id_ in composed:
        torch.testing.assert_close(new[id_], old[list(plan.input_rows[id_].ids)].mean(0))


def test_mean_gives_every_missing_token_the_mean_row():
    model = tiny_model("llama", len(BPE.byte_vocab.token_bytes), tie_word_embeddings=True)
    mean = model.get_input_embeddings().weight.detach().mean(0)
    report = transplant(model, BPE, SPM, method="mean")
    assert report.composed == 0
    plan = plan_rows(BPE, SPM, "mean")
    missing = [i for i, s in enumerate(plan.sources) if s == RowSource.FALLBACK]
    assert report.fallback == len(missing) > 0
    rows = model.get_input_embeddings().weight[missing]
    torch.testing.assert_close(rows, mean.expand_as(rows))


def test_specials_are_mapped_by_role():
    """<|endoftext|> is both bos and eos of the one; the other has <s> and </s>."""
    plan = plan_rows(BPE, SPM)
    end_of_text = BPE.byte_vocab.roles["bos"][0]
    for role in ("bos", "eos"):
        id_ = SPM.byte_vocab.roles[role][0]
        assert plan.sources[id_] == RowSource.MAPPED
        assert plan.input_rows[id_].ids == plan.output_rows[id_].ids == (end_of_text,)


def test_a_special_with_two_roles_is_read_as_one_and_predicted_as_the_other():
    plan = plan_rows(SPM, BPE)
    end_of_text = BPE.byte_vocab.roles["bos"][0]
    assert plan.input_rows[end_of_text].ids == SPM.byte_vocab.roles["bos"]
    assert plan.output_rows[end_of_text].ids == SPM.byte_vocab.roles["eos"]


def test_output_biases_are_carried_over():
    size = len(BPE.byte_vocab.token_bytes)
    model = tiny_model("llama", size, tie_word_embeddings=False)
    head = nn.Linear(model.config.hidden_size, size)
    model.set_output_embeddings(head)
    bias = head.bias.detach().clone()
    transplant(model, BPE, SPM)
    plan = plan_rows(BPE, SPM)
    new = model.get_output_embeddings().bias
    assert new.shape == (len(plan.sources),)
    copied = [i for i, s in enumerate(plan.sources) if s == RowSource.COPIED]
    assert torch.equal(new[copied], torch.stack([bias[plan.output_rows[i].ids[0]] for i in copied]))


def test_rows_that_pad_the_source_matrix_are_left_behind():
    size = len(BPE.byte_vocab.token_bytes)
    model = tiny_model("llama", size + 56)
    with torch.no_grad():
        model.get_input_embeddings().weight[size:] = float("nan")
    transplant(model, BPE, SPM)
    assert model.get_input_embeddings().weight.isfinite().all()


def test_gaps_in_the_target_ids_get_the_mean():
    gapped = TextEncoder(tiny_tokenizer("gapped"))
    plan = plan_rows(SPM, gapped)
    gaps = [
        i
        for i, token in enumerate(gapped.byte_vocab.token_bytes)
        if token is None and i not in gapped.byte_vocab.special_ids
    ]
    assert gaps
    assert all(plan.sources[i] == RowSource.FALLBACK for i in gaps)


def test_the_configuration_names_the_target_s_specials():
    model = tiny_model("llama", len(BPE.byte_vocab.token_bytes))
    transplant(model, BPE, SPM)
    vocab = SPM.byte_vocab
    for config in (model.config, model.generation_config):
        assert config.bos_token_id == vocab.document_start
        assert config.eos_token_id == vocab.document_end


def test_a_tokenizer_with_more_ids_than_rows_is_refused_with_both_numbers():
    model = tiny_model("llama", 100)
    with pytest.raises(ValueError, match="100"):
        transplant(model, BPE, SPM)
