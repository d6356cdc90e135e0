"""Ways to decode: several tokens at a step, and steps that are taken back."""

import pytest
import torch
from transformers import Qwen3NextConfig, Qwen3NextForCausalLM

from crosstok.inference import (
    Decoder,
    MinedEnsemble,
    Sampling,
    Steps,
    TokenEnsemble,
    TokenModel,
)
from crosstok.inference.mined_ensemble import _Steps
from crosstok.inference.token_rows import TokenRows
from tests.tiny import tiny_tokenizer
from tests.tiny_models import CORE_ARCHITECTURES, tiny_model

PROMPTS = ["The quick brown", "He", "In the morning she walked to the market and"]


def model(kind="bytelevel_bpe", architecture="llama", seed=0, **options):
    tokenizer = tiny_tokenizer(kind)
    size = max(tokenizer.get_vocab().values()) + 1
    return TokenModel(tiny_model(architecture, size, seed=seed), tokenizer, **options)


class TwoAtATime(Decoder):
    """Guesses the two next outcomes, has them scored together, and takes wrong ones back."""

    def __init__(self, steps: Steps, sampler, numbers, guess=0):
        self._steps, self._sampler, self._numbers = steps, sampler, list(numbers)
        self._guess, self._chosen = guess, None
        self.num_taken_back = 0

    def step(self, histories):
        """One outcome by its scores, and one more from those of a guess that was right or not."""
        if self._chosen is not None:
            self._steps.append(self._chosen)
        first = self._sampler(self._steps.scores()[:, -1], self._numbers, histories)[:, None]
        wrong = torch.full_like(first, self._guess).expand(-1, 2)
        self._steps.append(torch.cat([first, wrong], dim=1))  # the guesses are refused
        scores = self._steps.scores(3)[:, 0]
        self._steps.crop(2)
        self.num_taken_back += 2
        second = self._sampler(scores, self._numbers, histories)[:, None]
        self._chosen = second
        return torch.cat([first, second], dim=1).tolist()

    def keep(self, rows):
        """Go on with these."""
        self._steps.keep(rows)
        self._numbers = [self._numbers[row] for row in rows]
        self._chosen = self._chosen[rows]


@pytest.mark.parametrize("limit", [1, 7, 12])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2", "gpt_neox"])
def test_two_tokens_a_step_are_what_one_by_one_writes(architecture, limit):
    plain = model(architecture=architecture)
    drafted = model(architecture=architecture, decoder=TwoAtATime)
    for stop in ((), ("e", "an")):
        sampling = Sampling(max_new_tokens=limit, stop=stop)
        expected = plain.generate(PROMPTS, sampling)
        assert drafted.generate(PROMPTS, sampling) == expected
        pieces = []
        [text] = drafted.generate(PROMPTS[:1], sampling, on_text=pieces.append)
        assert "".join(pieces) == text == expected[0]


def test_several_models_can_be_decoded_so_too():
    pair = [model(), model("gapped", "gpt2", seed=1)]
    sampling = Sampling(max_new_tokens=10)
    plain, drafted = TokenEnsemble(pair), TokenEnsemble(pair, decoder=TwoAtATime)
    assert drafted.generate(PROMPTS, sampling) == plain.generate(PROMPTS, sampling)


def test_rows_may_be_written_on_by_different_numbers_of_outcomes():
    """What a decoder writes behind the end of an answer is not part of it."""
    one = model()
    letters = [one.vocab.ids_of(letter)[0] for letter in (b"a", b"b", b"c")]

    class Script(Decoder):
        def __init__(self, steps, sampler, numbers):
            self._numbers = list(numbers)

        def step(self, histories):
            end = one.stop_ids[0]
            said = {0: letters[:1], 1: letters, 2: [letters[0], end, letters[1]]}
            return [said[number] for number in self._numbers]

        def keep(self, rows):
            self._numbers = [self._numbers[row] for row in rows]

    scripted = model(decoder=Script)
    assert scripted.generate(PROMPTS, Sampling(max_new_tokens=5)) == ["aaaaa", "abcab", "a"]
    assert scripted.generate(PROMPTS, Sampling(max_new_tokens=9, stop=("ca",)))[1] == "ab"


@pytest.mark.parametrize("architecture", CORE_ARCHITECTURES)
@pytest.mark.parametrize("is_read", [True, False])
def test_tokens_that_are_taken_back_are_as_if_never_added(architecture, is_read):
    one = tiny_model(architecture, 100)
    prompts = [[3, 4, 5], [6]]
    rows, plain = TokenRows(one, prompts), TokenRows(one, prompts)
    for each in (rows, plain):
        each.logits()
    added = torch.tensor([[7, 8, 9], [10, 11, 12]])
    rows.append(added)
    if is_read:
        together = rows.logits(3)
        assert together.shape == (2, 3, 100)
    rows.crop(2)
    plain.append(added[:, :1])
    expected = plain.logits()
    assert torch.allclose(rows.logits(), expected, atol=1e-5)
    if is_read:
        assert torch.allclose(together[:, :1], expected, atol=1e-5)
    rows.keep([1])
    plain.keep([1])
    for each in (rows, plain):
        each.append(torch.tensor([[20, 21]]))
    assert torch.allclose(rows.logits(2), plain.logits(2), atol=1e-5)


def test_a_mined_ensemble_takes_steps_back_too():
    ensemble = MinedEnsemble([model(), model("spm_bpe", "gpt2", 1)])
    prompts = [(prompt, ensemble.pivot.reader.prompt_ids(prompt)) for prompt in PROMPTS[:2]]
    plain, taken = _Steps(ensemble, prompts), _Steps(ensemble, prompts)
    a, b = (ensemble.pivot.vocab.ids_of(letter)[0] for letter in (b"a", b"b"))
    for steps in (plain, taken):
        steps.scores()
    taken.append(torch.tensor([[a, b, b], [b, a, a]]))
    together = taken.scores(3)
    taken.crop(2)
    plain.append(torch.tensor([[a], [b]]))
    expected = plain.scores()
    assert torch.allclose(taken.scores(), expected, atol=1e-5)
    assert torch.allclose(together[:, :1], expected, atol=1e-5)


def test_what_cannot_be_taken_back_is_refused():
    rows = TokenRows(tiny_model("llama", 100), [[3, 4]])
    rows.logits()
    rows.append(torch.tensor([[5]]))
    with pytest.raises(ValueError, match="num is 2; it must be from 0 to 1"):
        rows.crop(2)
    with pytest.raises(ValueError, match="num is 2; it must be from 1 to 1"):
        rows.logits(2)
    full = TokenRows(tiny_model("mistral", 100), [list(range(3, 23))])
    full.logits()
    full.append(torch.tensor([[5, 6]]))
    full.logits()
    with pytest.raises(ValueError, match=r"MistralForCausalLM cannot .* sliding window of 16"):
        full.crop(1)


def test_a_recurrent_state_cannot_go_back_and_says_so():
    config = Qwen3NextConfig(
        vocab_size=100, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, linear_num_key_heads=2,
        linear_num_value_heads=2, linear_key_head_dim=8, linear_value_head_dim=8, num_experts=0,
        layer_types=["linear_attention", "full_attention"],
    )  # fmt: skip
    rows = TokenRows(Qwen3NextForCausalLM(config).eval(), [[3, 4]])
    rows.logits()
    rows.append(torch.tensor([[5, 6]]))
    rows.crop(1)  # not read yet
    rows.logits()
    with pytest.raises(ValueError, match=r"Qwen3NextForCausalLM cannot .* recurrent state"):
        rows.crop(1)
