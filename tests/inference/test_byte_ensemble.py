import math

import numpy as np
import pytest

from crosstok.byteview import EXACT
from crosstok.inference import ByteEnsemble, ByteMember, ByteView, Sampling
from crosstok.tokenizers import byte_tokenizer
from tests.byteview.markov import letters, markov_model, same_always
from tests.byteview.toy_tokenizers import toy_tokenizer
from tests.tiny import tiny_tokenizer, with_chat_template
from tests.tiny_models import tiny_model

RULES = ("bytes-mixture", "bytes-bayes", "bytes-product")
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MARKS = ("<|user|>", "<|assistant|>", "<|end|>")


def member(toy="bpe", seed=0, pruning=EXACT):
    tokenizer = toy_tokenizer(toy)
    model = tiny_model("llama", len(tokenizer), seed=seed).double()
    return ByteMember(model, tokenizer, pruning=pruning)


def alone(one):
    """The byte view of a member."""
    reader = one.model._reader
    return ByteView(reader.model, reader.tokenizer, pruning=one.model.pruning)


def pair_of_letters():
    """Tokens {a .3, b .2, ab .4, end .1}, and {a .5, b .4, end .1}."""
    pairs = letters("a", "b", "ab", merges=[("a", "b")])
    return [
        ByteMember(same_always(0.1, 0.3, 0.2, 0.4), pairs, pruning=EXACT),
        ByteMember(same_always(0.1, 0.5, 0.4), letters("a", "b"), pruning=EXACT),
    ]


def after(ensemble, text):
    """Probabilities of the next byte by the definition: of the text with it, over the text."""
    tables = np.stack([[m.stream(text).next_byte_logprobs()] for m in ensemble.members])
    so_far = np.array([[m.stream(text).logprob] for m in ensemble.members])
    return np.exp(ensemble.next_byte_logprobs(tables, so_far)[0])


def test_worked_values_at_a():  # to 1e-6: norms of a Llama are in float32
    first, second = 0.46 / 0.7, 0.4
    mixture = ByteEnsemble(pair_of_letters(), "bytes-mixture")
    assert after(mixture, "a")[ord("b")] == pytest.approx((first + second) / 2, abs=1e-6)
    assert first == pytest.approx(0.6571, abs=1e-4)
    bayes = ByteEnsemble(pair_of_letters(), "bytes-bayes")
    expected = (0.7 * first + 0.5 * second) / (0.7 + 0.5)
    assert after(bayes, "a")[ord("b")] == pytest.approx(expected, abs=1e-6)
    product = ByteEnsemble(pair_of_letters(), "bytes-product")
    one = np.array([0.3, first, 0.03 / 0.7])  # a, b, end behind "a"
    both = np.sqrt(one * np.array([0.5, 0.4, 0.1]))
    assert after(product, "a")[ord("b")] == pytest.approx(both[1] / both.sum(), abs=1e-6)


def test_weights_count():
    mixture = ByteEnsemble(pair_of_letters(), "bytes-mixture", weights=[3, 1])
    expected = 0.75 * 0.46 / 0.7 + 0.25 * 0.4
    assert after(mixture, "a")[ord("b")] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("rule", [*RULES, "proxy"])
def test_outcomes_sum_to_one(rule):
    members = [*pair_of_letters(), *pair_of_letters()[:1]] if rule == "proxy" else pair_of_letters()
    ensemble = ByteEnsemble(members, rule)
    for text in ("", "a", "ab", "ba"):
        assert after(ensemble, text).sum() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("toy", ["bpe", "unigram"])
def test_a_model_with_itself_is_the_model(rule, toy):
    one = member(toy)
    view, twice = alone(one), ByteEnsemble([one, one], rule)
    pairs = [("", "abcab"), ("ab", "ca"), ("abc", "b")]
    for a, b in zip(view.logprob(pairs), twice.logprob(pairs), strict=True):
        assert b.logprob == pytest.approx(a.logprob, abs=1e-6)
        assert a.is_greedy == b.is_greedy
    sampling = Sampling(max_new_bytes=8, temperature=1.0, seed=3)
    assert twice.generate(["ab"], sampling) == view.generate(["ab"], sampling)


@pytest.mark.parametrize("kind", ["bytelevel_bpe", "spm_bpe"])
def test_a_model_with_itself_is_the_model_also_where_most_is_left_out(kind):
    tokenizer = tiny_tokenizer(kind)
    model = tiny_model("llama", max(tokenizer.get_vocab().values()) + 1).double()
    one = ByteMember(model, tokenizer)
    pairs = [("", "The quick brown fox jumps"), ("Der Fl\u00fc", "gel"), ("x", " = 1\n")]
    expected = [score.logprob for score in alone(one).logprob(pairs)]
    for rule, size in [("bytes-mixture", 2), ("bytes-product", 2), ("proxy", 3)]:
        found = [score.logprob for score in ByteEnsemble([one] * size, rule).logprob(pairs)]
        assert found == pytest.approx(expected, abs=1e-6)


def test_all_outcomes_at_every_byte_sum_to_one_and_hold_the_text():
    tokenizer = tiny_tokenizer("bytelevel_bpe")
    model = ByteMember(tiny_model("llama", len(tokenizer)).double(), tokenizer).model
    content = "Caf\u00e9 cr\u00e8me".encode()
    [whole], [rest] = model.outcome_logprobs([content]), model.outcome_logprobs([content], [7])
    [logprobs] = model.byte_logprobs([content])
    assert np.allclose(np.exp(whole).sum(axis=1), 1)
    assert np.allclose(whole[range(len(content)), list(content)], logprobs)
    assert np.array_equal(whole[7:], rest)


def test_of_no_text_nothing_is_said():
    view = alone(member())
    assert view.logprob([]) == view.text_logprobs([]) == []
    assert [score.num_bytes for score in view.text_logprobs(["", "ab", ""])] == [0, 2, 0]
    assert [score.num_bytes for score in view.text_logprobs([""])] == [0]


def test_proxy_without_alpha_or_without_a_difference_is_its_base():
    base, expert, anti = member(seed=0), member(seed=1), member(seed=2)
    [plain] = alone(base).logprob([("a", "bca")])
    for members, alpha in (([base, expert, anti], 0.0), ([base, expert, expert], 2.0)):
        [found] = ByteEnsemble(members, "proxy", alpha=alpha).logprob([("a", "bca")])
        assert found.logprob == pytest.approx(plain.logprob, abs=1e-7)
    [moved] = ByteEnsemble([base, expert, anti], "proxy", alpha=1.0).logprob([("a", "bca")])
    assert abs(moved.logprob - plain.logprob) > 1e-3


def test_copies_in_other_tokens_mixed_are_the_one_model():
    # Bytes a .5, b .4, end .1 whatever came before, written by a model that also has "ab": behind
    # the token "a" a "b" is rarer, as "ab" took its share.
    q = 0.15
    rest = 0.5 - q
    pairs = letters("a", "b", "ab", merges=[("a", "b")])
    usual = [0.1, rest, 0.4, q]
    x = 0.25 / rest
    behind_a = [0.05 / rest, x * rest / 0.5, (0.2 - q) / rest, x * q / 0.5]
    copy = ByteMember(markov_model([usual, behind_a, usual, usual]), pairs, pruning=EXACT)
    plain = ByteMember(same_always(0.1, 0.5, 0.4), letters("a", "b"), pruning=EXACT)
    mixed = ByteEnsemble([copy, plain], "bytes-mixture")
    for text in ("aab", "abba", "aaabab"):
        [score] = mixed.text_logprobs([text])
        expected = text.count("a") * math.log(0.5) + text.count("b") * math.log(0.4)
        assert score.logprob == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_scores_are_what_the_steps_add_up_to(rule):
    ensemble = ByteEnsemble([member("bpe"), member("unigram", 1)], rule)
    slow = 0.0
    for at, letter in enumerate("bcab"):
        slow += math.log(after(ensemble, "a" + "bcab"[:at])[ord(letter)])
    for greedy in (False, True):
        [score] = ensemble.logprob([("a", "bcab")], greedy=greedy)
        assert score.logprob == pytest.approx(slow, abs=1e-7)
        assert (score.num_bytes, score.num_units) == (4, 4)


def test_per_byte_figures_of_a_model_are_those_of_its_stream():
    tokenizer = tiny_tokenizer("bytelevel_bpe")
    model = tiny_model("llama", len(tokenizer))
    for one in (member("bpe"), member("unigram")):
        [found] = one.byte_logprobs([("a", "bcab")])
        [table] = one.tables([("a", "bcab")])
        assert np.allclose(found, table[range(4), list(b"bcab")], atol=1e-9)
    pruned = ByteMember(model, tokenizer)
    text = "The quick brown fox jumps"
    [found] = pruned.byte_logprobs([("", text)])
    assert found.sum() == pytest.approx(pruned.model.score([text])[0].logprob, abs=1e-9)


@pytest.mark.parametrize("rule", RULES)
def test_what_greedy_decoding_writes_is_greedy(rule):
    ensemble = ByteEnsemble([member("bpe"), member("unigram", 1)], rule)
    [text] = ensemble.generate(["a"], Sampling(max_new_bytes=5))
    if text:
        [score] = ensemble.logprob([("a", text)])
        assert score.is_greedy
        other = "".join("b" if letter == "a" else "a" for letter in text)
        assert not ensemble.logprob([("a", other)])[0].is_greedy


def test_the_byte_view_continues_a_character_and_streams_whole_ones():
    tokenizer = tiny_tokenizer("bytelevel_bpe")
    view = ByteView(tiny_model("llama", len(tokenizer)), tokenizer)
    pieces = []
    [text] = view.generate(
        ["Caf\u00e9".encode()[:-1]], Sampling(max_new_bytes=20), on_text=pieces.append
    )
    assert "".join(pieces) == text
    assert text
    cut = text[1:3]
    assert view.generate(["Caf\u00e9".encode()[:-1]], Sampling(max_new_bytes=20, stop=(cut,))) == [
        text[: text.index(cut)]
    ]


def test_every_member_reads_a_chat_in_its_own_template():
    first = with_chat_template("bytelevel_bpe", TEMPLATE, special_tokens=MARKS)
    second = with_chat_template("spm_bpe", TEMPLATE.replace("<|end|>", "</s>"),
                                special_tokens=MARKS[:2])  # fmt: skip
    size = max(second.get_vocab().values()) + 1
    members = [
        ByteMember(tiny_model("llama", len(first)), first),
        ByteMember(tiny_model("gpt2", size), second),
    ]
    chat = [{"role": "user", "content": "Hi <|end|> there"}]
    ensemble = ByteEnsemble(members, "bytes-mixture")
    [score] = ensemble.logprob([(chat, "Yes.")], greedy=False)
    slow = []
    for one, tokenizer in zip(members, (first, second), strict=True):
        ids = one._reader.prompt_ids(chat)
        assert tokenizer.decode(ids).count("Hi <|end|> there") == 1
        slow.append(one.model.starting_with(ids).byte_logprobs(["Yes."])[0])
    mixed = np.logaddexp(*slow) - math.log(2)
    assert score.logprob == pytest.approx(mixed.sum(), abs=1e-5)
    assert len(ensemble.generate([chat], Sampling(max_new_bytes=4))) == 1


def test_a_prompt_that_fills_the_model_is_told_at_once_and_how_much_fits():
    tokenizer = byte_tokenizer(tiny_tokenizer("bytelevel_bpe"))
    small = tiny_model("llama", len(tokenizer), max_position_embeddings=16)
    view = ByteView(small, tokenizer, name="small")
    for size in (16, 17, 40):
        with pytest.raises(ValueError, match=r"small has 16 positions.*: 15 bytes fit"):
            view.generate(["a" * size])
    assert view.generate(["a" * 15], Sampling(max_new_bytes=3))
    [score] = view.logprob([("a", "b" * 15)])  # nothing follows: the last byte is not read
    assert score.num_bytes == 15
    with pytest.raises(ValueError, match=r"small has 16 positions.*: 16 bytes fit"):
        view.logprob([("a", "b" * 16)])
    chat = ByteView(small, tokenizer, name="small", chat_template="{{ messages[0].content }}")
    with pytest.raises(ValueError, match=r"has 40 tokens, and small has 16 positions: 15 bytes of"):
        chat.generate([[{"role": "user", "content": "a" * 40}]])
    pieces = []
    view._answer = lambda *args: pieces.append(args)
    with pytest.raises(ValueError, match="15 bytes fit"):
        view.generate(["a", "a" * 40])
    assert not pieces


def test_greedy_bytes_up_to_the_last_position_are_greedy():
    view = ByteView(same_always(0.1, 0.5, 0.4), letters("a", "b"))
    [score] = view.logprob([("", "a" * view.max_length)])
    assert score.is_greedy


def test_errors_say_what_to_do():
    one, few = member(), ByteView(same_always(0.1, 0.5, 0.4), letters("a", "b"))
    with pytest.raises(ValueError, match="takes three models"):
        ByteEnsemble([one, one], "proxy")
    with pytest.raises(ValueError, match="one for each of the 2 models"):
        ByteEnsemble([one, one], "bytes-mixture", weights=[1.0, 0.0])
    words = ByteMember(same_always(0.1, 0.5, 0.4), letters("a", "b"), name="ab positions")
    other = ByteMember(same_always(0.01, 0.01, 0.98), letters("a", "c"), name="ac")
    for rule in RULES:
        both = ByteEnsemble([words, other], rule)
        with pytest.raises(ValueError, match=r"^ab positions: no tokens spell byte 0x63 at posit"):
            both.logprob([("a", "c")])
    with pytest.raises(ValueError, match=r"^ab positions: no tokens spell byte 0x63 at position 1"):
        ByteEnsemble([words, other], "bytes-mixture").generate(["a"])
    with pytest.raises(ValueError, match="repetition_penalty is 2"):
        few.generate(["a"], Sampling(repetition_penalty=2.0))
    with pytest.raises(ValueError, match=r"\d+ bytes fit"):
        few.logprob([("", "ab" * 400)])
    with pytest.raises(ValueError, match="continuation of 'a' is empty"):
        few.logprob([("a", "")])
    with pytest.raises(ValueError, match="no bos or eos"):
        ByteView(tiny_model("llama", 400), tiny_tokenizer("wordpiece"))
