import pytest
import torch

from crosstok.alignment import nearest_tokens
from crosstok.inference import MinedEnsemble, Sampling, TokenModel
from crosstok.inference.mined_ensemble import _whole_characters
from tests.tiny import tiny_tokenizer, with_chat_template
from tests.tiny_models import tiny_model

PROMPTS = ["The quick brown", "He said that", "Die Katze schl\u00e4ft und"]


def model(kind, architecture="llama", seed=0):
    tokenizer = tiny_tokenizer(kind)
    size = max(tokenizer.get_vocab().values()) + 1
    return TokenModel(tiny_model(architecture, size, seed=seed), tokenizer)


@pytest.fixture(scope="module")
def pair():
    return [model("bytelevel_bpe"), model("spm_bpe", "gpt2", 1)]


def slow_scores(pivot, other, prompt, pivot_ids, text):
    """The definition: both read from the start, the other its own encoding of the text."""
    nearest = nearest_tokens(pivot.vocab, other.vocab).ids
    other_ids = [other.scorer.start]
    [spans] = other.reader.encoder([text], add_start=False, add_end=False)
    other_ids += spans.ids.tolist()
    with torch.no_grad():
        own = pivot.model(torch.tensor([pivot_ids])).logits[0, -1].double()
        mapped = other.model(torch.tensor([other_ids])).logits[0, -1].double()[nearest]
    return ((own.softmax(0) + mapped.softmax(0)) / 2).log()


def test_a_model_with_itself_is_the_model_on_what_its_encoder_writes():
    one = model("bytelevel_bpe")
    twice = MinedEnsemble([one, one])
    pairs = [("The quick", " brown fox"), ("", "A market")]
    for a, b in zip(one.logprob(pairs), twice.logprob(pairs), strict=True):
        assert b.logprob == pytest.approx(a.logprob, abs=1e-4)


def test_answers_are_those_of_full_recomputation(pair):
    pivot, other = pair
    expected = []
    for prompt in PROMPTS:
        ids, content = pivot.reader.prompt_ids(prompt), b""
        for _ in range(10):
            text = prompt + _whole_characters(content)
            chosen = int(slow_scores(pivot, other, prompt, ids, text).argmax())
            if chosen in pivot.stop_ids:
                break
            ids, content = [*ids, chosen], content + (pivot.vocab.token_bytes[chosen] or b"")
        expected.append(content.decode(errors="replace"))
    assert MinedEnsemble(pair).generate(PROMPTS, Sampling(max_new_tokens=10)) == expected


@pytest.mark.parametrize("turn", [1, -1])
def test_scores_ask_the_others_at_the_byte_where_each_token_begins(pair, turn):
    pivot, other = pair[::turn]
    prompt, continuation = "Le caf\u00e9 est", " d\u00e9j\u00e0 ferm\u00e9; 猫"
    [score] = MinedEnsemble([pivot, other]).logprob([(prompt, continuation)])
    [read] = pivot.read_pairs([(prompt, continuation)])
    whole, slow = (prompt + continuation).encode(), 0.0
    for step, start in enumerate(read.starts.tolist()):
        ids = read.ids[: read.first + step].tolist()
        text = whole[:start].decode(errors="ignore")
        scores = slow_scores(pivot, other, prompt, ids, text)
        slow += float(scores[read.ids[read.first + step]])
    assert score.logprob == pytest.approx(slow, abs=2e-4)


def test_each_reads_a_chat_in_its_own_template(pair):
    template = "{% for m in messages %}<|user|>{{ m.content }}{% endfor %}<|bot|>"
    chatty = with_chat_template("bytelevel_bpe", template, special_tokens=("<|user|>", "<|bot|>"))
    pivot = TokenModel(tiny_model("llama", len(chatty)), chatty)
    helper = TokenModel(pair[1].model, pair[1].tokenizer, chat_template="{{ messages[0].content }}")
    ensemble = MinedEnsemble([pivot, helper])
    chat = [{"role": "user", "content": "Hello"}]
    [text] = ensemble.generate([chat], Sampling(max_new_tokens=5))
    [score] = ensemble.logprob([(chat, text)])
    assert score.num_bytes == len(text.encode())


def test_half_a_character_waits():
    assert _whole_characters("caf\u00e9".encode()) == "caf\u00e9"
    assert _whole_characters("caf\u00e9".encode()[:-1]) == "caf"
    assert _whole_characters("猫".encode()[:2]) == ""
    assert _whole_characters(b"a\xff") == "a"
    assert _whole_characters(b"\xffa") == "\ufffda"
