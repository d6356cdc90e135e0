"""What every transplant must satisfy, for every kind of tokenizer and model."""

from itertools import permutations

import pytest
import torch

from crosstok.alignment import overlapping_tokens
from crosstok.tokenizers import TextEncoder
from crosstok.transplants import METHODS, transplant
from tests.tiny import KINDS, tiny_tokenizer
from tests.tiny_models import ARCHITECTURES, tiny_model
from tests.transplants.neighbours import Neighbours

ENCODERS = {kind: TextEncoder(tiny_tokenizer(kind)) for kind in KINDS}
ALL_METHODS = [*METHODS, Neighbours()]


def model_for(kind: str, architecture: str = "llama", **overrides):
    return tiny_model(architecture, len(ENCODERS[kind].byte_vocab.token_bytes), **overrides)


@pytest.mark.parametrize("method", ALL_METHODS, ids=str)
@pytest.mark.parametrize(("source", "target"), list(permutations(KINDS, 2)))
def test_overlapping_tokens_are_copied_bit_for_bit(source, target, method):
    model = model_for(source, tie_word_embeddings=False)
    old_in = model.get_input_embeddings().weight.detach().clone()
    old_out = model.get_output_embeddings().weight.detach().clone()
    transplant(model, ENCODERS[source], ENCODERS[target], method=method)
    overlap = overlapping_tokens(ENCODERS[source].byte_vocab, ENCODERS[target].byte_vocab)
    assert len(overlap) > 50
    new_in = model.get_input_embeddings().weight
    new_out = model.get_output_embeddings().weight
    assert torch.equal(new_in[overlap.target_ids], old_in[overlap.source_ids])
    assert torch.equal(new_out[overlap.target_ids], old_out[overlap.source_ids])
    assert new_in.isfinite().all()
    assert new_out.isfinite().all()
    assert len(new_in) == len(ENCODERS[target].byte_vocab.token_bytes)


@pytest.mark.parametrize("method", ALL_METHODS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_tokenizer_is_the_identity(kind, method):
    model = model_for(kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = transplant(model, ENCODERS[kind], ENCODERS[kind], method=method)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert report.copied == report.target_rows


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_tied_stays_tied_and_untied_stays_untied(architecture, tied):
    model = model_for("bytelevel_bpe", architecture, tie_word_embeddings=tied)
    report = transplant(model, ENCODERS["bytelevel_bpe"], ENCODERS["spm_bpe"])
    matrices = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert (matrices[0] is matrices[1]) == tied == report.tied
    size = len(ENCODERS["spm_bpe"].byte_vocab.token_bytes)
    assert model.config.get_text_config().vocab_size == size
    ids = torch.randint(0, size, (1, 5))
    assert model(input_ids=ids).logits.shape == (1, 5, size)
