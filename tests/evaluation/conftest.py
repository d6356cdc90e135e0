import pytest
import torch

from crosstok.inference import Scorer, TokenModel
from tests.tiny import tiny_tokenizer
from tests.tiny_models import tiny_model


@pytest.fixture
def make_model():
    """A tiny random model with a tokenizer of one kind; options are those of its window."""

    def make(kind="bytelevel_bpe", architecture="llama", seed=0, **options) -> TokenModel:
        tokenizer = tiny_tokenizer(kind)
        size = max(tokenizer.get_vocab().values()) + 1
        model = tiny_model(architecture, size, seed=seed)
        return TokenModel(model, tokenizer, name=f"{kind}-{seed}").with_window(**options)

    return make


@pytest.fixture
def make_scorer(make_model):
    """What scores its tokens."""

    def make(*arguments, **options) -> Scorer:
        return make_model(*arguments, **options).scorer

    return make


@pytest.fixture
def naive_logprobs():
    """Log-probabilities [T - 1, V] of what follows each token but the last, from full logits."""

    def score(scorer, ids):
        known = {*scorer.encoder.tokenizer.get_vocab().values()}
        with torch.no_grad():
            logits = scorer.model(torch.tensor([list(ids)])).logits[0, :-1]
        logits[:, [i for i in range(logits.shape[1]) if i not in known]] = -torch.inf
        return logits.double().log_softmax(-1).numpy()

    return score
