"""Answers of one model: streamed text, settings, seeds, limits."""

import logging
import warnings

import pytest
import torch

from crosstok.inference import Sampling, TokenModel
from tests.tiny import KINDS, tiny_tokenizer
from tests.tiny_models import tiny_model

PROMPT = "The quick brown"


def model_for(kind, **overrides):
    vocab_size = max(tiny_tokenizer(kind).get_vocab().values()) + 1
    return tiny_model("llama", vocab_size, **overrides)


def generate(model, tokenizer, prompt, *, on_text=None, **options):
    answers = TokenModel(model, tokenizer).generate([prompt], Sampling(**options), on_text=on_text)
    return answers[0]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_the_pieces_as_they_come_join_to_the_text_that_is_returned(kind, temperature):
    pieces = []
    text = generate(
        model_for(kind),
        tiny_tokenizer(kind),
        PROMPT,
        max_new_tokens=40,
        temperature=temperature,
        on_text=pieces.append,
    )
    assert "".join(pieces) == text
    assert text


def test_a_word_after_the_prompt_keeps_its_space():
    tokenizer, model = tiny_tokenizer("spm_bpe"), model_for("spm_bpe")
    word = tokenizer.convert_tokens_to_ids("▁the")
    with torch.no_grad():
        for embeddings in (model.get_input_embeddings(), model.get_output_embeddings()):
            embeddings.weight.zero_()
        model.get_input_embeddings().weight.fill_(1.0)
        model.get_output_embeddings().weight[word] = model.model.norm.weight.sign()
    assert generate(model, tokenizer, "He", max_new_tokens=2) == " the the"
    assert generate(model, tokenizer, "", max_new_tokens=2) == "the the"


def test_the_seed_decides_and_nothing_else_does():
    tokenizer, model = tiny_tokenizer("bytelevel_bpe"), model_for("bytelevel_bpe")
    texts = []
    for seed, outer in ((1, 5), (1, 6), (2, 5)):
        torch.manual_seed(outer)
        before = torch.random.get_rng_state()
        texts.append(generate(model, tokenizer, PROMPT, temperature=1.0, seed=seed))
        assert torch.equal(torch.random.get_rng_state(), before)
    assert texts[0] == texts[1] != texts[2]


def test_settings_in_the_models_files_do_not_steer_the_sampling():
    tokenizer, model = tiny_tokenizer("bytelevel_bpe"), model_for("bytelevel_bpe")
    plain = generate(model, tokenizer, PROMPT, temperature=1.0, max_new_tokens=20)
    settings = {"top_p": 0.1, "top_k": 1, "repetition_penalty": 5.0, "max_length": 3}
    for name, value in settings.items():
        setattr(model.generation_config, name, value)
    kept = model.generation_config
    assert generate(model, tokenizer, PROMPT, temperature=1.0, max_new_tokens=20) == plain
    assert model.generation_config is kept


def test_it_stops_where_the_models_files_say():
    tokenizer, model = tiny_tokenizer("bytelevel_bpe"), model_for("bytelevel_bpe")
    text = generate(model, tokenizer, PROMPT, max_new_tokens=10)
    first = tokenizer(text, add_special_tokens=False)["input_ids"][0]
    model.generation_config.eos_token_id = [first, 3]
    assert len(generate(model, tokenizer, PROMPT, max_new_tokens=10)) < len(text)


def test_ids_that_stand_for_nothing_are_never_drawn():
    tokenizer, model = tiny_tokenizer("gapped"), tiny_model("llama", 600)
    gap = [i for i in range(512, 600) if i not in tokenizer.get_vocab().values()]
    with torch.no_grad():
        model.get_output_embeddings().weight[gap] *= 50
    assert generate(model, tokenizer, PROMPT, max_new_tokens=10, temperature=1.0)


def test_an_empty_prompt_needs_a_start_token():
    assert generate(model_for("bytelevel_bpe"), tiny_tokenizer("bytelevel_bpe"), "")
    with pytest.raises(ValueError, match=r"prompt is empty.*give a prompt"):
        generate(model_for("wordpiece"), tiny_tokenizer("wordpiece"), "")


def test_the_models_positions_are_the_limit(caplog):
    tokenizer = tiny_tokenizer("bytelevel_bpe")
    model = model_for("bytelevel_bpe", max_position_embeddings=16)
    with caplog.at_level(logging.WARNING):
        generate(model, tokenizer, "a", max_new_tokens=50)
    assert "14 new tokens at most: LlamaForCausalLM has 16 positions" in caplog.text
    with pytest.raises(ValueError, match=r"has 16 positions.*shorten the prompt"):
        generate(model, tokenizer, "one two three " * 20)


def test_it_is_quiet(capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        generate(model_for("spm_bpe"), tiny_tokenizer("spm_bpe"), PROMPT, max_new_tokens=3)
    assert capfd.readouterr() == ("", "")
