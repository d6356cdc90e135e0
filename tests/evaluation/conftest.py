import pytest
import torch

from crosstok.evaluation import Scorer
from tests.tiny import tiny_tokenizer
from tests.tiny_models import tiny_model


@pytest.fixture
def make_scorer():
    """A tiny random model with a tokenizer of one kind."""

    def make(kind="bytelevel_bpe", architecture="llama", seed=0, **options) -> Scorer:
        tokenizer = tiny_tokenizer(kind)
        size = max(tokenizer.get_vocab().values()) + 1
        model = tiny_model(architecture, size, seed=seed)
        return Scorer(model, tokenizer, name=f"{kind}-{seed}", **options)

    return make


@pytest.fixture
def naive_logprobs():
    """Log-probabilities [T - 1, V] of what follows each token but the last, from full logits."""

    def score(scorer, ids):
        with torch.no_grad():
            logits = scorer.model(torch.tensor([list(ids)])).logits[0, :-1]
        return logits.double().log_softmax(-1).numpy()

    return score
