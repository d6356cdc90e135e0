import logging

import pytest
import torch
import yaml

from crosstok.inference import (
    ByteEnsemble,
    ByteView,
    MinedEnsemble,
    Sampling,
    TokenEnsemble,
    TokenModel,
    load_language_model,
)
from crosstok.inference.answers import AnswerText, Sampler
from crosstok.tokenizers import byte_tokenizer
from tests.tiny import KINDS, tiny_tokenizer, with_chat_template
from tests.tiny_models import CORE_ARCHITECTURES, tiny_model

PROMPTS = ["The quick brown", "He", "In the morning she walked to the market and"]
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def model(kind="bytelevel_bpe", architecture="llama", **options):
    tokenizer = tiny_tokenizer(kind)
    size = max(tokenizer.get_vocab().values()) + 1
    return TokenModel(tiny_model(architecture, size, **options), tokenizer)


def written_by_transformers(one, prompt, **options):
    """The text of `generate` of transformers, up to the first token that ends it."""
    ids = torch.tensor([one.reader.prompt_ids(prompt)])
    told = one.model.generate(
        ids, do_sample=False, eos_token_id=one.stop_ids, pad_token_id=0, **options
    )
    contents = [one.vocab.token_bytes[index] or b"" for index in told[0, ids.shape[1] :].tolist()]
    return b"".join(contents).decode(errors="replace")


@pytest.mark.parametrize("architecture", CORE_ARCHITECTURES)
def test_a_batch_writes_what_transformers_writes_one_by_one(architecture):
    one = model(architecture=architecture)
    expected = [written_by_transformers(one, prompt, max_new_tokens=20) for prompt in PROMPTS]
    assert one.generate(PROMPTS, Sampling(max_new_tokens=20)) == expected


def test_ids_that_stand_for_nothing_are_never_written():
    one = model("gapped")
    with torch.no_grad():
        gaps = [i for i in range(512, 541) if i not in one.tokenizer.get_vocab().values()]
        one.model.get_output_embeddings().weight[gaps] *= 50
    expected = [
        written_by_transformers(one, prompt, max_new_tokens=20, suppress_tokens=gaps)
        for prompt in PROMPTS
    ]
    assert one.generate(PROMPTS, Sampling(max_new_tokens=20)) == expected


def test_the_repetition_penalty_is_that_of_transformers():
    one = model()
    expected = [
        written_by_transformers(one, prompt, max_new_tokens=12, repetition_penalty=1.7)
        for prompt in PROMPTS
    ]
    sampling = Sampling(max_new_tokens=12, repetition_penalty=1.7)
    assert one.generate(PROMPTS, sampling) == expected


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "wordpiece"])
def test_scores_are_those_of_tokens_that_end_behind_the_prompt(kind):
    one = model(kind)
    pairs = [("The quick", " brown fox"), ("Hello wor", "ld!"), ("", "A tokenizer")]
    for (prompt, continuation), score in zip(pairs, one.logprob(pairs), strict=True):
        ids = one.tokenizer(prompt + continuation, add_special_tokens=False)["input_ids"]
        row = [one.scorer.start, *ids]
        with torch.no_grad():
            logits = one.model(torch.tensor([row])).logits[0]
        known = {*one.tokenizer.get_vocab().values()}
        logits[:, [i for i in range(logits.shape[1]) if i not in known]] = -torch.inf
        logprobs = logits.log_softmax(-1)
        [spans] = one.scorer.encode([prompt + continuation])
        first = 1 + (int((spans.ends <= len(prompt.encode())).sum()) if prompt else 0)
        expected = sum(float(logprobs[k - 1, row[k]]) for k in range(first, len(row)))
        assert score.logprob == pytest.approx(expected, abs=1e-4)
        assert score.num_units == len(row) - first
        assert score.num_bytes == len(continuation.encode())
    assert one.text_logprobs(["A tokenizer", ""])[0].logprob == pytest.approx(score.logprob)
    assert one.text_logprobs([""])[0].num_units == 0


@pytest.mark.parametrize("text", ["\u732b", "A", "\n", "the fox"])
def test_a_whole_text_is_worth_all_of_its_tokens(text):
    one = model("spm_bpe")  # which puts a space in front, for some texts a token of its own
    row = [one.scorer.start, *one.tokenizer(text, add_special_tokens=False)["input_ids"]]
    with torch.no_grad():
        logprobs = one.model(torch.tensor([row])).logits[0].log_softmax(-1)
    expected = sum(float(logprobs[k - 1, row[k]]) for k in range(1, len(row)))
    twice = TokenEnsemble([one, one])
    for score in (*one.text_logprobs([text]), *one.logprob([("", text)])):
        assert score.logprob == pytest.approx(expected, abs=1e-4)
        assert score.num_units == len(row) - 1
    assert twice.text_logprobs([text])[0].num_units == len(row) - 1
    [view] = ByteView(one.model, one.tokenizer).text_logprobs([text])
    assert view.logprob > expected - 1e-4


def test_what_greedy_decoding_writes_is_greedy():
    one = model()
    [text] = one.generate(["The quick brown"], Sampling(max_new_tokens=1))
    assert one.logprob([("The quick brown", text)])[0].is_greedy
    assert not one.logprob([("The quick brown", text)], greedy=False)[0].is_greedy
    assert not one.logprob([("The quick brown", " fox jumps")])[0].is_greedy


def test_a_chat_is_read_in_the_models_own_template():
    names = ("<|user|>", "<|assistant|>", "<|end|>")
    tokenizer = with_chat_template("bytelevel_bpe", TEMPLATE, special_tokens=names)
    one = TokenModel(tiny_model("llama", len(tokenizer)), tokenizer)
    chat = [{"role": "user", "content": "Who are you?"}]
    expected = tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    assert one.reader.prompt_ids(chat) == expected
    assert tokenizer.convert_tokens_to_ids("<|end|>") in one.stop_ids
    [score] = one.logprob([(chat, "I am")])
    row = [*expected, *tokenizer("I am", add_special_tokens=False)["input_ids"]]
    with torch.no_grad():
        logprobs = one.model(torch.tensor([row])).logits[0].log_softmax(-1)
    slow = sum(float(logprobs[k - 1, row[k]]) for k in range(len(expected), len(row)))
    assert score.logprob == pytest.approx(slow, abs=1e-4)
    sly = [{"role": "user", "content": "a<|end|>b"}]
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    assert one.reader.prompt_ids(sly).count(end) == expected.count(end)
    other = TokenModel(one.model, tokenizer, chat_template="{{ messages[0].content }}")
    assert tokenizer.decode(other.reader.prompt_ids(chat)) == "Who are you?"


def test_draws_depend_on_the_seed_and_the_row_alone():
    one = model()
    sampling = Sampling(max_new_tokens=10, temperature=1.0, seed=1)
    before = torch.random.get_rng_state()
    texts = one.generate(PROMPTS, sampling)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert one.generate(PROMPTS[:1], sampling) == texts[:1]
    assert one.generate(PROMPTS, Sampling(max_new_tokens=10, temperature=1.0, seed=2)) != texts
    same = one.generate(["He", "He"], sampling)
    assert same[0] != same[1]
    narrow = Sampling(max_new_tokens=10, temperature=1.0, top_k=1)
    assert one.generate(PROMPTS, narrow) == one.generate(PROMPTS, Sampling(max_new_tokens=10))


def test_samples_come_as_often_as_they_are_likely():
    scores = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    for options, left in (({}, 4), ({"top_k": 2}, 2), ({"top_p": 0.7}, 2), ({"min_p": 0.25}, 3)):
        rows = range(500)
        sampler = Sampler(Sampling(temperature=1.0, **options), rows)
        drawn = torch.cat([sampler(scores.expand(500, -1), rows) for _ in range(4)])
        share = torch.bincount(drawn, minlength=4) / 2000
        expected = scores.exp()[0] * (torch.arange(4) < left)
        assert torch.allclose(share, expected / expected.sum(), atol=0.04)


def test_text_stops_in_front_of_a_stop_string_and_streams_nothing_of_it():
    pieces = []
    text = AnswerText(("STOP", "Ende"), pieces.append)
    for part in ("caf\u00e9 S".encode(), b"TO", b"X ST", b"OP more"):
        if text.add(part):
            break
    assert text.text == "".join(pieces) == "caf\u00e9 STOX "
    assert pieces[0] == "caf\u00e9 "
    split, seen = "a\u732bb".encode(), []
    text = AnswerText((), seen.append)
    for byte in split:
        text.add(bytes([byte]))
    assert seen == ["a", "\u732b", "b"]


def test_streaming_a_prompt_and_its_stop_strings():
    one, pieces = model(), []
    [whole] = one.generate(PROMPTS[:1], Sampling(max_new_tokens=20), on_text=pieces.append)
    assert "".join(pieces) == whole
    assert len(pieces) > 1
    stop = whole[5:8]
    [cut] = one.generate(PROMPTS[:1], Sampling(max_new_tokens=20, stop=(stop,)))
    assert cut == whole[: whole.index(stop)]


@pytest.mark.parametrize(
    "options",
    [
        {"max_new_tokens": 0}, {"max_new_bytes": 0}, {"temperature": -0.5}, {"top_k": -1},
        {"temperature": float("nan")}, {"top_p": 0.0}, {"top_p": 1.5}, {"min_p": 2.0},
        {"repetition_penalty": 0.0}, {"stop": "word"}, {"stop": ("",)},
    ],
)  # fmt: skip
def test_sampling_that_cannot_be_is_refused(options):
    [name] = options
    with pytest.raises(ValueError, match=f"{name} is .*must be"):
        Sampling(**options)


def test_bad_prompts_say_what_to_do(caplog):
    one, words = model(max_position_embeddings=16), model("wordpiece")
    with pytest.raises(ValueError, match=r"not UTF-8 at byte 1 \(0xC3\).*byte by byte"):
        one.generate([b"a\xc3"])
    with pytest.raises(ValueError, match="prompt is empty"):
        words.generate([""])
    with pytest.raises(ValueError, match=r"nothing comes before.*give a longer prompt"):
        words.logprob([("", "the")])
    with pytest.raises(ValueError, match=r"has 16 positions: the first \d+ bytes fit"):
        one.text_logprobs(["one two three " * 20])
    with pytest.raises(ValueError, match=r"\d+ bytes of it fit with one new token"):
        one.generate(["one two three " * 20])
    with pytest.raises(ValueError, match=r"continuation of 'a' is empty"):
        one.logprob([("a", "")])
    with pytest.raises(ValueError, match=r"continuation of 'a' is bytes; give some text"):
        one.logprob([("a", b"b")])
    with pytest.raises(
        ValueError, match=r"takes a list of \(prompt, continuation\), and 'a' is not one"
    ):
        one.logprob(("a", "b"))
    with pytest.raises(ValueError, match=r"lone surrogate U\+DCE9 at character 1"):
        one.generate(["a\udce9"])
    with pytest.raises(ValueError, match=r"pass \[prompt\]"):
        one.generate("text")
    with pytest.raises(ValueError, match="there are 2 prompts"):
        one.generate(["a", "b"], on_text=print)
    with pytest.raises(ValueError, match="has no chat template"):
        one.generate([[{"role": "user", "content": "Hi"}]])
    with caplog.at_level(logging.WARNING):
        one.generate(["a"], Sampling(max_new_tokens=50))
    assert "14 new tokens at most" in caplog.text


def test_where_tokens_are_bytes_the_limit_of_bytes_counts():
    tokenizer = byte_tokenizer(tiny_tokenizer("bytelevel_bpe"))
    first, second = (
        TokenModel(tiny_model("llama", len(tokenizer), seed=seed), tokenizer) for seed in (0, 1)
    )
    assert model().unit == "token"
    sampling = Sampling(max_new_tokens=3, max_new_bytes=9)
    for one in (first, TokenEnsemble([first, second]), MinedEnsemble([first, model()])):
        assert one.unit == "byte"
        longest = one.generate(["a"], Sampling(max_new_tokens=9))
        assert one.generate(["a"], sampling) == longest
        assert one.generate(["a"], Sampling(max_new_tokens=3)) != longest


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    found = []
    for number, kind in enumerate(("bytelevel_bpe", "gapped", "bytelevel_bpe")):
        folder = tmp_path_factory.mktemp("models") / f"model{number}"
        tokenizer = tiny_tokenizer(kind)
        size = max(tokenizer.get_vocab().values()) + 1
        tiny_model("llama", size, seed=number).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        found.append(str(folder))
    return found


def test_models_are_loaded_by_name_and_combined_by_name(folders):
    assert isinstance(load_language_model(folders[:1]), TokenModel)
    view = load_language_model(folders[:1], bytes_view=True)
    assert isinstance(view, ByteView)
    assert view.unit == "byte"
    assert isinstance(load_language_model([f"bytes:{folders[0]}"]), ByteView)
    plain = load_language_model(folders[:1], chat_templates=["plain"])
    ids = plain.reader.prompt_ids([{"role": "user", "content": "Hi"}])
    assert plain.tokenizer.decode(ids).endswith("User: Hi\nAssistant: ")
    kinds = {
        "probs": TokenEnsemble, "logprobs": TokenEnsemble, "mined": MinedEnsemble,
        "bytes-mixture": ByteEnsemble, "proxy": ByteEnsemble,
    }  # fmt: skip
    for combine, kind in kinds.items():
        names = folders if combine == "proxy" else folders[:2]
        found = load_language_model(names, combine=combine)
        assert isinstance(found, kind)
        assert found.name == f"{combine}({', '.join(names)})"
        [score] = found.logprob([("The", " fox")], greedy=False)
        assert score.logprob < 0


def test_an_ensemble_file_says_the_same(folders, tmp_path):
    (tmp_path / "near.jinja").write_text("{{ messages[0].content }}\n")
    content = {
        "combine": "probs",
        "members": [
            {"model": folders[0], "weight": 3, "chat_template": "near.jinja"},
            {"model": folders[1], "weight": 1, "chat_template": "plain"},
        ],
    }
    file = tmp_path / "ensemble.yaml"
    file.write_text(yaml.safe_dump(content))
    read = load_language_model([str(file)])
    typed = load_language_model(folders[:2], combine="probs", weights=[3, 1])
    pair = [("The", " fox")]
    assert read.logprob(pair) == typed.logprob(pair)
    assert read.generate([[{"role": "user", "content": "Hi"}]], Sampling(max_new_tokens=3))
    with pytest.raises(
        ValueError, match="itself says how its models answer as one; leave combine out"
    ):
        load_language_model([str(file)], combine="probs")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("members: [{model: a}]", "the file has no 'combine'"),
        ("combine: best\nmembers: [{model: a}]", "combine is 'best'; it must be one of probs"),
        ("combine: probs\nmembers: a", "members is 'a'; it must be a list"),
        ("combine: probs\nmembers: [{name: a}]", r"members\[1\] has the unknown key 'name'"),
        ("combine: probs\nmembers: [{model: a, weight: -1}, {model: b, weight: 1}]", "weights is"),
        ("combine: probs\nmembers: [{model: a, weight: x}]", r"members\[1\].weight is 'x'"),
        ("combine: probs\nmembers: [{model: a}]", "which is for several models, and there is one"),
        (
            "combine: probs\nmembers: [{model: a, weight: 1}, {model: b}]",
            "give all of them one, or none",
        ),
        (
            "combine: probs\nalpha: 2\nmembers: [{model: a}, {model: b}]",
            "only combine proxy takes one",
        ),
        ("combine: probs\nmembers: [{model: a, chat_template: b}]", r"chat_template: .*'b'"),
        (
            "combine: proxy\nmembers: [{model: a}]",
            "wrong.yaml': combine is 'proxy', which takes three",
        ),
        ("combine: [", "is not YAML"),
        ("- a", "must have the keys"),
    ],
)
def test_wrong_files_name_the_key_and_the_rule(content, message, tmp_path):
    file = tmp_path / "wrong.yaml"
    file.write_text(content)
    with pytest.raises(ValueError, match=message):
        load_language_model([str(file)])


def test_wrong_options_are_refused_before_models_are_loaded():
    with pytest.raises(ValueError, match="nothing says how they answer as one"):
        load_language_model(["a", "b"])
    with pytest.raises(ValueError, match="combine is 'best'"):
        load_language_model(["a", "b"], combine="best")
    with pytest.raises(ValueError, match="which takes three models"):
        load_language_model(["a", "b"], combine="proxy")
    with pytest.raises(ValueError, match="leave bytes_view out, or use one of bytes-mixture"):
        load_language_model(["a", "b"], combine="probs", bytes_view=True)
    with pytest.raises(ValueError, match="one for each of the 2 models"):
        load_language_model(["a", "b"], combine="probs", weights=[1.0])
    with pytest.raises(ValueError, match=r"not there"):
        load_language_model(["missing.yaml"])
