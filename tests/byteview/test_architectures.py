"""The byte view of models of many kinds: caches, pruning, generation, what goes wrong."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from crosstok.byteview import EXACT, STOP, ByteModel, Pruning
from crosstok.byteview.contexts import Contexts, check_sharing
from crosstok.corpora import read_rows
from crosstok.models import load_model, output_head, token_scores
from crosstok.tokenizers import ByteVocab, TextEncoder, load_tokenizer
from tests.byteview.toy_tokenizers import toy_tokenizer
from tests.texts import texts
from tests.tiny import LOSSLESS_KINDS, tiny_tokenizer
from tests.tiny_models import CORE_ARCHITECTURES, tiny_model

# "a" three, "b" two, "ab" four, end one in ten, whatever came before.
IID = {"a": 0.3, "b": 0.2, "ab": 0.4, "<e>": 0.1}


def iid_view(target, **options):
    """The toy model of a published worked example, as a real model whose logits never change."""
    tokenizer = toy_tokenizer("bpe")
    model = tiny_model("llama", len(tokenizer), max_position_embeddings=32).double()
    bias = torch.full((len(tokenizer),), -1e4, dtype=torch.float64)
    for piece, p in IID.items():
        bias[tokenizer.convert_tokens_to_ids(piece)] = math.log(p)
    head = torch.nn.Linear(32, len(tokenizer), dtype=torch.float64)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(bias)
    model.set_output_embeddings(head)
    return ByteModel(model, tokenizer, target=target, **options)


@pytest.mark.parametrize(
    ("target", "b"),
    [("all", 0.46 / 0.70), ("canonical", 0.40 / 0.64), ("canonical_renormalized", 0.40 / 0.70)],
)
def test_the_three_targets_on_the_worked_example(target, b):
    found = np.exp(iid_view(target, pruning=EXACT).prefill("a").next_byte_logprobs())
    if target == "canonical":  # "ba" is no merge, but a, a is one: only b and the end are asked
        b = found[98]
        assert found[97] < 0.3
    assert found[98] == pytest.approx(b)
    if target == "all":
        assert found[97] == pytest.approx(0.3)
        assert found[STOP] == pytest.approx(0.03 / 0.70)
    view = iid_view("all", pruning=EXACT)
    for text, p in {"a": 0.7, "ab": 0.46, "aa": 0.21, "aba": 0.322}.items():
        assert math.exp(view.logprob(text)) == pytest.approx(p)


@pytest.mark.parametrize("architecture", CORE_ARCHITECTURES)
def test_shared_branches_are_what_they_are_alone(architecture):
    model = tiny_model(architecture, 50).double()
    check_sharing(model)
    shared, plain = Contexts(model), Contexts(model, share_kv=False)
    rows = []
    for contexts in (shared, plain):
        [trunk] = contexts.extend([(None, list(range(1, 24)))])
        one, two = contexts.extend([(trunk[3], [7, 8, 9]), (trunk[20], [5])])
        trunk = trunk[:5]
        [three] = contexts.extend([(one[1], [4])])
        rows.append(torch.stack([c.hidden for c in (*trunk, *one, *two, *three)]))
    # Some take the softmax of attention in float32, whatever the model is in.
    torch.testing.assert_close(rows[0], rows[1], rtol=1e-5, atol=1e-6)
    assert shared.num_evaluated == 28


def test_slots_of_sequences_that_nobody_holds_are_removed():
    model = tiny_model("llama", 50).double()
    contexts = Contexts(model)
    [trunk] = contexts.extend([(None, [1, 2, 3, 4])])
    kept = trunk[-1]
    for step in range(200):
        chains = contexts.extend([(kept, [step % 50]), (trunk[1], [5, 6])])
        if step % 10 == 0:
            kept = chains[0][0]
        del chains
    assert contexts._num_slots < 400
    [found] = contexts.extend([(kept, [9])])
    ids = [1, 2, 3, 4, *(step % 50 for step in range(0, 200, 10)), 9]
    [alone] = Contexts(model, share_kv=False).extend([(None, ids)])
    torch.testing.assert_close(found[0].hidden, alone[-1].hidden, rtol=1e-9, atol=1e-9)


def byte_view(kind="bytelevel_bpe", architecture="llama", **options):
    tokenizer = tiny_tokenizer(kind)
    model = tiny_model(architecture, len(ByteVocab.from_tokenizer(tokenizer)))
    return ByteModel(model, tokenizer, **options)


@pytest.mark.parametrize("kind", LOSSLESS_KINDS)
def test_a_stream_and_a_score_agree_and_every_distribution_sums_to_one(kind):
    view = byte_view(kind)

    @settings(max_examples=8, deadline=None)
    @given(texts)
    def holds(text):
        content = text.encode()[:40]  # may end inside of a character
        stream = view.prefill(content[:11])
        total = view.prefill(content[:11]).logprob
        for byte in content[11:20]:
            logprobs = stream.next_byte_logprobs()
            assert np.exp(logprobs).sum() == pytest.approx(1)
            total += logprobs[byte]
            stream.advance(byte)
        assert stream.content == content[:20]
        assert view.score([content])[0].logprob >= view.score([content])[0].trunk_logprob - 1e-6

    holds()


@pytest.mark.parametrize("kind", ["unigram", "spm_bpe"])
def test_a_text_that_the_encoder_would_change_may_begin_with_a_space(kind):
    """Typed "<0x0A>" is read as a line break by these encoders: other tokens must spell it."""
    view = byte_view(kind, pruning=EXACT)
    content = b" a<0x0A>"
    score = view.score([content])[0]
    assert score.logprob == pytest.approx(view.prefill(content).logprob, abs=1e-5)
    assert score.logprob > score.trunk_logprob


def test_less_pruning_comes_closer_to_the_exact_sum():
    tokenizer = toy_tokenizer("bpe")
    model = tiny_model("llama", len(tokenizer), seed=5, max_position_embeddings=64).double()
    text = "abcabcaab"
    exact = ByteModel(model, tokenizer, pruning=EXACT).score([text])[0]
    errors = []
    for share in (0.3, 0.03, 1e-6):
        view = ByteModel(model, tokenizer, pruning=Pruning(min_share=share, max_states=None))
        score, stream = view.score([text])[0], view.prefill(text)
        assert score.lower_bound <= exact.logprob + 1e-12
        assert stream.lower_bound <= exact.logprob + 1e-12
        errors.append(abs(stream.logprob - exact.logprob))
    assert errors[2] < 1e-3 < errors[0]
    assert errors[2] <= errors[1] <= errors[0]


def test_a_byte_whose_spellings_were_all_set_aside_can_still_be_read():
    tokenizer = toy_tokenizer("bpe")
    model = tiny_model("llama", len(tokenizer), max_position_embeddings=64).double()
    view = ByteModel(model, tokenizer, pruning=Pruning(min_share=0.9, max_states=1))
    stream = view.prefill()
    stream.extend(b"abcabcabaacb" * 2)
    assert math.isfinite(stream.logprob)
    assert stream.dropped > 0


def test_a_fork_goes_its_own_way():
    stream = byte_view().prefill("The quick")
    before = stream.next_byte_logprobs()
    fork = stream.fork()
    fork.extend(" brown")
    np.testing.assert_array_equal(stream.next_byte_logprobs(), before)
    assert fork.content == b"The quick brown"
    assert stream.logprob_of(" brown") == pytest.approx(fork.logprob - stream.logprob)


def test_with_and_without_a_shared_cache_the_numbers_are_the_same():
    one, other = byte_view(), byte_view(share_kv=False)
    text = "The dog sat. Größe 123"
    assert one.logprob(text) == pytest.approx(other.logprob(text), rel=1e-5)
    assert one.generate("The", max_new_bytes=12) == other.generate("The", max_new_bytes=12)


def test_a_prompt_may_end_in_the_middle_of_a_character():
    view = byte_view()
    whole = "naïve 猫".encode()
    for end in range(len(whole)):
        logprob = view.logprob(whole[end:], prompt=whole[:end])
        assert math.isfinite(logprob)
        assert logprob <= 0.05  # 0, and what pruning leaves uncertain


def test_generation_streams_whole_characters_and_joins_to_what_it_returns():
    pieces = []
    made = byte_view().generate(
        "猫は", max_new_bytes=60, temperature=1.0, seed=3, on_text=pieces.append
    )
    assert "".join(pieces) == made.decode(errors="replace")
    again = byte_view().generate("猫は", max_new_bytes=60, temperature=1.0, seed=3)
    assert again == made


def test_generation_stops_where_the_positions_end_and_says_so(caplog):
    view = byte_view(max_length=8)
    made = view.generate("The", max_new_bytes=400, temperature=1.0)
    assert 0 < len(made) < 400
    assert "positions" in caplog.text


def test_the_stop_outcome_is_the_mass_of_the_special_tokens_or_of_those_named():
    tokenizer = tiny_tokenizer("bytelevel_bpe")
    every = byte_view().prefill("Hello").next_byte_logprobs()[STOP]
    one = byte_view(stop_ids=[tokenizer.eos_token_id]).prefill("Hello").next_byte_logprobs()[STOP]
    none = byte_view(stop_ids=[]).prefill("Hello").next_byte_logprobs()[STOP]
    assert none < one < every


# What goes wrong.


def test_a_byte_that_no_token_spells_is_named_with_its_place():
    view = iid_view("all")
    with pytest.raises(ValueError, match="byte 0x7A at position 2"):
        view.prefill("abz")
    with pytest.raises(ValueError, match="byte 0x7A at position 2"):
        view.score(["abzab"])
    stream = view.prefill("ab")
    with pytest.raises(ValueError, match="byte 0x7A at position 2"):
        stream.advance(ord("z"))
    assert stream.content == b"ab"
    stream.advance(ord("a"))


def test_a_text_that_does_not_fit_says_how_many_bytes_do():
    view = byte_view(max_length=10)
    text = "The quick brown fox jumps over the lazy dog, again and again."
    with pytest.raises(ValueError, match=r"(\d+) bytes fit") as told:
        view.score([text])
    fits = int(str(told.value).split(" bytes fit")[0].split()[-1])
    assert math.isfinite(view.score([text[:fits]])[0].logprob)
    with pytest.raises(ValueError, match="bytes fit"):
        view.prefill(text)
    with pytest.raises(ValueError, match="bytes of this text fit"):
        view.prefill("The").extend(text * 3)


def test_arguments_out_of_range():
    view = byte_view()
    stream = view.prefill()
    for byte in (-1, 256, 3.0, "a", True):
        with pytest.raises(ValueError, match="from 0 to 255"):
            stream.advance(byte)
    for wrong in ("one", b"two"):
        with pytest.raises(ValueError, match="list of texts"):
            view.score(wrong)
    with pytest.raises(ValueError, match="lone surrogate"):
        view.prefill("a\ud800")
    with pytest.raises(ValueError, match="bytes or a string"):
        view.prefill(3)
    with pytest.raises(ValueError, match="temperature"):
        view.generate("a", temperature=-1.0)
    with pytest.raises(ValueError, match="max_new_bytes"):
        view.generate("a", max_new_bytes=0)
    with pytest.raises(ValueError, match="target is 'some'"):
        byte_view(target="some")
    with pytest.raises(ValueError, match="start_ids holds 99999"):
        byte_view(start_ids=[99999])
    with pytest.raises(ValueError, match="stop_ids holds -1"):
        byte_view(stop_ids=[-1])
    with pytest.raises(ValueError, match="max_length is 100000"):
        byte_view(max_length=100000)
    with pytest.raises(ValueError, match="min_share"):
        Pruning(min_share=1.0)
    with pytest.raises(ValueError, match="max_states"):
        Pruning(max_states=0)


def test_a_tokenizer_without_bos_and_eos_needs_start_ids():
    with pytest.raises(ValueError, match="start_ids"):
        byte_view("wordpiece")
    cls = tiny_tokenizer("wordpiece").cls_token_id
    view = byte_view("wordpiece", start_ids=[cls])
    assert math.isfinite(view.logprob("the quick"))
    with pytest.raises(ValueError, match="byte 0x54 at position 0"):
        view.logprob("The quick")  # it knows no capital letters


# On a real model.


@pytest.fixture(scope="module")
def llama(shared):
    folder = shared / "models" / "llama-6m-bpe4k"
    if not folder.is_dir():
        pytest.skip("needs the shared model")
    return load_model(str(folder), dtype=torch.float32), load_tokenizer(str(folder))


@pytest.fixture(scope="module")
def articles(shared):
    rows = read_rows(shared / "data/corpora/english_wikipedia_2019/validation.jsonl.xz")
    return [row["text"][:400] for row in rows[:4]]


def test_bytes_are_never_less_likely_than_the_canonical_tokens(llama, articles):
    model, tokenizer = llama
    encoder = TextEncoder(tokenizer)
    for text, score in zip(articles, ByteModel(model, tokenizer).score(articles), strict=True):
        ids = encoder([text], add_end=False)[0].ids
        row = torch.tensor([ids.tolist()])
        with torch.no_grad():
            scores = token_scores(model, output_head(model), row, torch.ones_like(row))
        by_token = float(scores.token_logprobs.sum())
        assert score.lower_bound >= by_token - 1e-3
        assert score.logprob >= score.lower_bound
        assert score.logprob - by_token < 0.05 * abs(by_token)


def test_the_stream_of_a_long_prompt_says_what_the_score_says(llama, articles):
    view = ByteModel(*llama)
    text = articles[0]
    for end in (len(text), len(text) - 3):
        stream, score = view.prefill(text[:end]), view.score([text[:end]])[0]
        assert stream.logprob == pytest.approx(score.logprob, abs=0.02 * abs(score.logprob))


@pytest.mark.parametrize("target", ["all", "canonical"])
def test_a_word_cut_anywhere_is_completed(llama, target):
    view = ByteModel(*llama, target=target)
    for prompt in ("He was born in the United Stat", "He was born in the United S"):
        found = view.generate(prompt, max_new_bytes=14).decode(errors="replace")
        assert (prompt + found).startswith("He was born in the United States")
