import logging

import numpy as np
import pytest
import torch

from crosstok.inference import Sampling, TokenEnsemble, TokenModel
from tests.byteview.markov import letters, same_always
from tests.tiny import tiny_tokenizer, with_chat_template
from tests.tiny_models import tiny_model

RULES = ("probs", "logprobs")
PROMPTS = ["The quick brown", "He", "In the morning she walked to the market and"]
TEMPLATE = "{% for m in messages %}<|user|>{{ m.content }}<|end|>{% endfor %}<|bot|>"


def model(kind="bytelevel_bpe", architecture="llama", seed=0, **options):
    tokenizer = tiny_tokenizer(kind)
    size = max(tokenizer.get_vocab().values()) + 1
    return TokenModel(tiny_model(architecture, size, seed=seed), tokenizer, **options)


@pytest.fixture(scope="module")
def pair():
    """Other ids for the same bytes, other architectures, other ends."""
    return [model("bytelevel_bpe"), model("gapped", "gpt2", seed=1)]


def slow_scores(ensemble, rule, rows):
    """By the definition, without cache: log-probabilities of the outcomes behind rows of ids."""
    every = []
    for number, (member, ids) in enumerate(zip(ensemble.members, rows, strict=True)):
        with torch.no_grad():
            logits = member.model(torch.tensor([ids])).logits[0, -1].double()
        own = ensemble.shared.ids[number].tolist()
        odds = logits.exp()
        kept = torch.stack([*odds[own], odds[member.stop_ids].sum()])
        every.append(kept / kept.sum())
    mixed = sum(every) / len(every) if rule == "probs" else torch.stack(every).log().mean(0).exp()
    return (mixed / mixed.sum()).log()


def slow_answer(ensemble, rule, prompt, num_new):
    rows = [member.reader.prompt_ids(prompt) for member in ensemble.members]
    content = b""
    for _ in range(num_new):
        outcome = int(slow_scores(ensemble, rule, rows).argmax())
        if outcome == ensemble.shared.stop:
            break
        content += ensemble.shared.contents[outcome]
        rows = [
            [*row, int(ids[outcome])] for row, ids in zip(rows, ensemble.shared.ids, strict=True)
        ]
    return content.decode(errors="replace")


@pytest.mark.parametrize("rule", RULES)
def test_batches_on_caches_write_what_full_recomputation_writes(rule, pair):
    ensemble = TokenEnsemble(pair, rule)
    expected = [slow_answer(ensemble, rule, prompt, 12) for prompt in PROMPTS]
    assert ensemble.generate(PROMPTS, Sampling(max_new_tokens=12)) == expected


@pytest.mark.parametrize("rule", RULES)
def test_scores_are_dense_softmaxes_over_the_shared_tokens(rule, pair):
    ensemble = TokenEnsemble(pair, rule)
    texts = [("The quick", " brown fox jumps"), ("", "He said"), ("Hello wor", "ld!")]
    for (prompt, continuation), score in zip(texts, ensemble.logprob(texts), strict=True):
        reads = [member.read_pairs([(prompt, continuation)])[0] for member in pair]
        assert len(reads[0].ids) - reads[0].first == len(reads[1].ids) - reads[1].first
        slow, greedy = 0.0, True
        for step in range(score.num_units):
            rows = [read.ids[: read.first + step].tolist() for read in reads]
            scores = slow_scores(ensemble, rule, rows)
            label = pair[0].vocab.token_bytes[reads[0].ids[reads[0].first + step]]
            outcome = ensemble.shared.contents.index(label)
            slow += float(scores[outcome])
            greedy &= int(scores.argmax()) == outcome
        assert score.logprob == pytest.approx(slow, abs=1e-4)
        assert score.is_greedy == greedy
        assert score.num_bytes == len(continuation.encode())


@pytest.mark.parametrize("rule", RULES)
def test_a_model_with_itself_is_the_model_over_the_shared_tokens(rule):
    one = model()
    one = TokenModel(one.model.double(), one.tokenizer)
    ensemble = TokenEnsemble([one, one, one], rule, weights=[1, 2, 3])
    for prompt, continuation in (("The quick", " brown fox"), ("", "A market")):
        read = one.read_pairs([(prompt, continuation)])[0]
        with torch.no_grad():
            logits = one.model(torch.tensor(read.ids[None])).logits[0]
        kept = torch.full_like(logits, -torch.inf)
        ids = [*ensemble.shared.ids[0].tolist(), *one.stop_ids]
        kept[:, ids] = logits[:, ids]
        logprobs = kept.log_softmax(-1)
        places = range(read.first, len(read.ids))
        expected = sum(float(logprobs[k - 1, read.ids[k]]) for k in places)
        [score] = ensemble.logprob([(prompt, continuation)])
        assert score.logprob == pytest.approx(expected, abs=1e-6)
    sampling = Sampling(max_new_tokens=10)
    assert ensemble.generate(PROMPTS, sampling) == TokenEnsemble([one, one]).generate(
        PROMPTS, sampling
    )


def test_nothing_pads_the_softmax():
    """Padding the ids with token 0 first would divide everything by 1 + n p(token 0)."""
    tokenizer = letters("a", "b", "c")
    ensemble = TokenEnsemble([TokenModel(same_always(0.1, 0.6, 0.2, 0.1), tokenizer)] * 2)
    assert ensemble.shared.contents == (b"a", b"b", b"c")
    [score] = ensemble.logprob([("a", "a")])
    assert np.exp(score.logprob) == pytest.approx(0.6, abs=1e-6)  # and not 0.6 / (1 + 300 * 0.1)


def test_ends_are_one_outcome_whatever_their_ids():
    names = ("<|user|>", "<|bot|>", "<|end|>")
    chatty = with_chat_template("bytelevel_bpe", TEMPLATE, special_tokens=names)
    plain = tiny_tokenizer("gapped")
    members = [
        TokenModel(tiny_model("llama", len(chatty)), chatty),
        TokenModel(tiny_model("llama", 541), plain),
    ]
    ensemble = TokenEnsemble(members)
    assert not {b"<|end|>", b"<|endoftext|>"} & set(ensemble.shared.contents)
    assert [len(ids) for ids in ensemble.shared.stop_ids] == [len(m.stop_ids) for m in members]
    logits = [torch.full((1, m.scorer.head.weight.shape[0]), -5.0) for m in members]
    for one, member in zip(logits, members, strict=True):
        one[0, member.stop_ids[-1]] = 30.0
    assert int(ensemble.combined(logits).argmax()) == ensemble.shared.stop


def test_each_member_reads_a_chat_in_its_own_template():
    names = ("<|user|>", "<|bot|>", "<|end|>")
    first = with_chat_template("bytelevel_bpe", TEMPLATE, special_tokens=names)
    second = with_chat_template("bytelevel_bpe", "{{ messages[0].content }}\nAnswer:")
    members = [
        TokenModel(tiny_model("llama", len(first)), first),
        TokenModel(tiny_model("llama", len(second), seed=1), second),
    ]
    ensemble = TokenEnsemble(members)
    chat = [{"role": "user", "content": "Who are you?"}]
    [expected] = [slow_answer(ensemble, "probs", chat, 8)]
    assert ensemble.generate([chat], Sampling(max_new_tokens=8)) == [expected]
    ids = [member.reader.prompt_ids(chat) for member in members]
    for row, tokenizer in zip(ids, (first, second), strict=True):
        assert tokenizer.decode(row) == tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=True
        )
    [score] = ensemble.logprob([(chat, "I")])
    outcome = ensemble.shared.contents.index(b"I")
    slow = float(slow_scores(ensemble, "probs", ids)[outcome])
    assert score.logprob == pytest.approx(slow, abs=1e-4)


def test_rows_that_end_leave_the_others_as_they_were(pair):
    ensemble = TokenEnsemble(pair)
    sampling = Sampling(max_new_tokens=15, temperature=1.0, seed=4, stop=("e", "a"))
    together = ensemble.generate(PROMPTS * 2, sampling)
    lengths = {len(text) for text in together}
    assert len(lengths) > 1
    [alone] = ensemble.generate(PROMPTS[:1], sampling)
    assert alone == together[0]
    assert not any("e" in text or "a" in text for text in together)


def test_a_text_in_other_tokens_is_put_in_those_of_the_first():
    """Members whose encoders cut differently are asked for the same tokens."""
    merged = letters("a", "b", "ab", merges=[("a", "b")])
    apart = letters("a", "b", "ab")
    members = [
        TokenModel(same_always(0.1, 0.2, 0.3, 0.4), merged),
        TokenModel(same_always(0.1, 0.5, 0.3, 0.1), apart),
    ]
    [score] = TokenEnsemble(members).logprob([("b", "ab")])
    assert score.num_units == 1
    assert np.exp(score.logprob) == pytest.approx((0.4 + 0.1) / 2, abs=1e-6)


def test_tokens_that_not_all_have_are_an_error_and_few_common_ones_a_warning(caplog):
    first = TokenModel(
        same_always(0.1, 0.2, 0.2, 0.2, 0.3), letters("a", "x", "y", "z"), name="first"
    )
    second = TokenModel(same_always(0.1, 0.4, 0.5), letters("a", "b"), name="second")
    with caplog.at_level(logging.WARNING):
        TokenEnsemble([first, second])
    assert "share 1 text tokens (25% of the 4 of first, 50% of the 2 of second)" in caplog.text
    third = TokenModel(same_always(*[0.25] * 4), letters("a", "b", "x"), name="third")
    with pytest.raises(ValueError, match=r"b'y' \(id 3 of first\).*vocabulary of third"):
        TokenEnsemble([first, third]).logprob([("a", "xy")])
    fourth = TokenModel(same_always(0.4, 0.6), letters("q"), name="fourth")
    with pytest.raises(ValueError, match="first, fourth have no token in common"):
        TokenEnsemble([first, fourth])


def test_bad_weights_and_rules_are_refused():
    one = model()
    with pytest.raises(
        ValueError, match="combine is 'mean'; for TokenEnsemble it must be one of probs"
    ):
        TokenEnsemble([one, one], "mean")
    with pytest.raises(ValueError, match="one for each of the 2 models"):
        TokenEnsemble([one, one], weights=[1.0])
