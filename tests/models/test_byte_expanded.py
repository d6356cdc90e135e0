"""Input expansion: the subwords that are found, and one model however it is run."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModelForCausalLM

from crosstok.byteview import ByteModel
from crosstok.models import (
    expand_inputs,
    extra_inputs,
    hidden_states,
    load_model,
    output_head,
    subword_lookup,
    token_scores,
)
from crosstok.models.caches import cache_of
from crosstok.tokenizers import ByteVocab
from crosstok.tokenizers.byte_tokenizer import byte_tokenizer
from tests.texts import SAMPLE, texts
from tests.tiny import tiny_tokenizer
from tests.tiny_models import ARCHITECTURES, tiny_model

END, PAD, NUM_IDS = 256, 257, 258
BYTES = ByteVocab(
    token_bytes=(*(bytes([byte]) for byte in range(256)), None, None),
    special_ids=frozenset((END, PAD)),
    roles={"bos": (END,), "eos": (END,), "pad": (PAD,)},
    special_tokens={END: "<|endoftext|>", PAD: "<|only here|>"},
)
KINDS = ("bytelevel_bpe", "spm_bpe", "unigram", "gapped")
RUN = ("llama", "qwen2", "gemma2", "gemma3", "gpt2", "mistral")  # with a cache and without


def source_vocab(kind: str = "bytelevel_bpe") -> ByteVocab:
    return ByteVocab.from_tokenizer(tiny_tokenizer(kind))


def vocab_of(*contents: bytes) -> ByteVocab:
    return ByteVocab(contents, frozenset(), {})


def slow_subwords(vocab: ByteVocab, ids: list[int]) -> list[int]:
    """The twin: at every byte, the bytes since the last special token, cut shorter and shorter."""
    specials = {text: id_ for id_, text in vocab.special_tokens.items()}
    found, begin = [], 0
    for i, id_ in enumerate(ids):
        if id_ >= 256:
            begin = i + 1
            found.append(specials.get(BYTES.special_tokens[id_], -1))
            continue
        ends = [bytes(ids[start : i + 1]) for start in range(begin, i + 1)]
        found.append(next((vocab.ids_of(end)[0] for end in ends if vocab.ids_of(end)), -1))
    return found


def expanded(architecture: str = "llama", **overrides):
    """A tiny model over bytes that sees the subwords of the byte-level tokenizer."""
    model = tiny_model(architecture, NUM_IDS, **overrides)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        original = 0.5 * torch.randn(len(source_vocab()), 32)
    return expand_inputs(model, original, source_vocab(), BYTES)


def rows(*contents: bytes, left: bool = False, fill: int = 0) -> tuple[Tensor, Tensor]:
    """Ids and mask, padded."""
    width = max(map(len, contents))
    ids = torch.full((len(contents), width), fill)
    mask = torch.zeros_like(ids)
    for row, content in enumerate(contents):
        place = slice(width - len(content), width) if left else slice(0, len(content))
        ids[row, place] = torch.tensor(list(content))
        mask[row, place] = 1
    return ids, mask


def logits(model, ids: Tensor, **more) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids, **more).logits


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(pieces=st.lists(texts, min_size=1, max_size=3))
def test_every_byte_gets_the_longest_subword_that_ends_there(kind, pieces):
    vocab = source_vocab(kind)
    ids = [END]
    for number, piece in enumerate(pieces):
        ids += [*piece.encode(), END if number % 2 else PAD]
    found = subword_lookup(vocab, BYTES)(torch.tensor([ids]))
    assert found.tolist() == [slow_subwords(vocab, ids)]


def test_subwords_of_more_than_16_bytes_are_found_whole():
    """Not as in the method's published code, where such a subword is known by its last 16 bytes:
    there 16 spaces had the embedding of 64, or of 16, depending on the implementation."""
    vocab = vocab_of(b" ", b" " * 16, b" " * 64, b"x", b"a long token of 24 bytes")
    find = subword_lookup(vocab, BYTES)
    spaces = find(torch.full((1, 70), ord(" ")))[0]
    assert spaces[:15].tolist() == [0] * 15
    assert spaces[15:63].tolist() == [1] * 48
    assert spaces[63:].tolist() == [2] * 7
    found = find(torch.tensor([list(b"xng token of 24 bytes|a long token of 24 bytes")]))[0]
    assert (found == 4).nonzero().tolist() == [[45]]


def test_no_subword_reaches_across_a_special_token_or_padding():
    vocab = ByteVocab((b"a", b"b", b"ab", None), frozenset((3,)), {}, {3: "<|endoftext|>"})
    find = subword_lookup(vocab, BYTES)
    a, b = b"ab"
    assert find(torch.tensor([[a, b, END, b, a, PAD, b]])).tolist() == [[0, 2, 3, 1, 0, -1, 1]]
    ids, mask = torch.tensor([[a, b, b, a, b]]), torch.tensor([[0, 1, 1, 1, 0]])
    assert find(ids, mask).tolist() == [[-1, 1, 1, 0, -1]]


def test_rows_do_not_see_each_other():
    find = subword_lookup(vocab_of(b"a", b"b", b"ab"), BYTES)
    assert find(torch.tensor([list(b"ba"), list(b"ba")])).tolist() == [[1, 0], [1, 0]]


def test_bytes_without_a_subword_and_rows_beyond_the_tokenizer_get_nothing():
    find = subword_lookup(vocab_of(b"a"), BYTES, num_ids=300)
    assert find(torch.tensor([[ord("a"), ord("x"), END, 299]])).tolist() == [[0, -1, -1, -1]]


def test_of_ids_with_equal_bytes_the_one_that_the_encoder_writes_is_taken():
    vocab = ByteVocab((b"a", b"a"), frozenset(), {}, shadowed_ids=frozenset((0,)))
    assert subword_lookup(vocab, BYTES)(torch.tensor([[ord("a")]])).tolist() == [[1]]


def test_the_work_grows_with_the_length_and_not_with_its_square(monkeypatch):
    find = subword_lookup(vocab_of(b" ", b" " * 64, b"x"), BYTES)
    plain, looked_up = torch.searchsorted, []

    def counted(edges, keys):
        looked_up.append(len(keys))
        return plain(edges, keys)

    monkeypatch.setattr(torch, "searchsorted", counted)
    work = []
    for length in (1000, 2000):
        looked_up.clear()
        find(torch.full((1, length), ord(" ")))
        assert len(looked_up) <= 65
        work.append(sum(looked_up))
    assert work[0] <= 65 * 1000
    assert work[1] - work[0] == 65 * 1000


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_both_embeddings_pass_the_models_own_embedding_module(architecture):
    """So that Gemma scales both; the output matrix is found as in any model."""
    model = expanded(architecture)
    ids, _ = rows(SAMPLE.encode()[:200])
    own = model.get_input_embeddings()
    scale = float((own(ids[:, :1]) / own.weight[ids[:, :1]]).detach().mean())
    assert scale == pytest.approx(32**0.5 if "gemma" in architecture else 1.0, rel=1e-5)
    found = extra_inputs(model)(ids)["expansion_ids"]
    subwords = model.subwords[found.clamp(min=0)] * (found >= 0)[..., None]
    inputs = scale * (own.weight[ids] + subwords)
    with torch.no_grad():
        by_hand = model.backbone(inputs_embeds=inputs).logits
    torch.testing.assert_close(logits(model, ids), by_hand, rtol=1e-4, atol=1e-4)
    output_head(model)


def test_original_rows_keep_their_dtype_and_train_no_more():
    original = torch.randn(len(source_vocab()) + 3, 32).bfloat16()
    model = expand_inputs(tiny_model("llama", NUM_IDS), original, source_vocab(), BYTES)
    assert model.subwords.dtype == torch.bfloat16
    assert len(model.subwords) == len(source_vocab())
    assert not [name for name, _ in model.named_parameters() if "subword" in name]
    logits_ = model(input_ids=rows(b"Hello world")[0]).logits
    logits_.sum().backward()
    assert model.get_input_embeddings().weight.grad.abs().sum() > 0


@pytest.mark.parametrize("architecture", RUN)
def test_padding_on_either_side_changes_nothing(architecture):
    model = expanded(architecture)
    contents = b"the quick brown fox", b" jumps", b"o"
    for left in (False, True):
        ids, mask = rows(*contents, left=left, fill=ord("e"))
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        together = logits(model, ids, attention_mask=mask, position_ids=positions)
        for row, content in enumerate(contents):
            alone = logits(model, rows(content)[0])[0]
            torch.testing.assert_close(together[row][mask[row] == 1], alone, rtol=1e-4, atol=1e-4)


def recomputed(model, prompt: bytes, num_new: int) -> list[int]:
    """Greedy bytes, every step from the first byte on."""
    ids = list(prompt)
    for _ in range(num_new):
        ids.append(int(logits(model, torch.tensor([ids]), use_cache=False)[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.filterwarnings("error::FutureWarning")
@pytest.mark.parametrize("architecture", RUN)
def test_generating_with_a_cache_is_recomputing(architecture):
    model = expanded(architecture)
    prompts = b"the quick brown fox", "Größe, naïve café 猫".encode()[:-1], b"a"
    ids, mask = rows(*prompts, left=True)
    made = model.generate(ids, attention_mask=mask, max_new_tokens=24, do_sample=False)
    for row, prompt in enumerate(prompts):
        assert made[row, ids.shape[1] :].tolist() == recomputed(model, prompt, 24)


@pytest.mark.parametrize(
    "how",
    [
        {"num_beams": 3},
        {"do_sample": True, "top_k": 20},
        {"prompt_lookup_num_tokens": 3},
        {"cache_implementation": "static", "disable_compile": True},
        {"num_beams": 2, "num_return_sequences": 2, "do_sample": True},
    ],
    ids=lambda how: next(iter(how)),
)
def test_searching_sampling_and_guessing_ahead_are_recomputing(how):
    model = expanded()
    ids, mask = rows(b"one two one two one", *([] if "prompt_lookup_num_tokens" in how else [b"x"]))
    ids, mask = (ids.flip(1), mask.flip(1)) if len(ids) == 2 else (ids, mask)  # pad on the left
    outcomes = []
    for use_cache in (True, "prompt_lookup_num_tokens" in how):
        torch.manual_seed(0)
        how = how if use_cache else {k: v for k, v in how.items() if "cache" not in k}
        outcomes.append(
            model.generate(
                ids, attention_mask=mask, max_new_tokens=16, use_cache=use_cache, **how
            ).tolist()
        )
    if "prompt_lookup_num_tokens" in how:
        assert outcomes[0][0][ids.shape[1] :] == recomputed(model, b"one two one two one", 16)
    assert outcomes[0] == outcomes[1]


def test_a_step_of_generation_looks_back_no_further_than_the_longest_subword(monkeypatch):
    model = expanded()
    lookup, widths = type(model.lookup), []
    plain = lookup.__call__
    monkeypatch.setattr(
        lookup, "__call__", lambda self, ids, mask=None: widths.append(ids.shape[1])
        or plain(self, ids, mask),
    )  # fmt: skip
    model.generate(rows(SAMPLE.encode()[:300])[0], max_new_tokens=8)
    longest = max(len(content or b"") for content in source_vocab().token_bytes)
    assert widths == [300] + [longest] * 7


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_a_continued_cache_needs_the_subwords_of_what_is_new(name):
    model = expanded()
    ids, _ = rows(b"the quick brown fox jumps")
    given = {name: cache_of(model(input_ids=ids[:, :12], use_cache=True))}
    with pytest.raises(TypeError, match=r"cannot see the bytes.*pass expansion_ids"):
        model(input_ids=ids[:, 12:], **given)
    rest = logits(model, ids[:, 12:], expansion_ids=model.lookup(ids)[:, 12:], **given)
    torch.testing.assert_close(rest, logits(model, ids)[:, 12:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"inputs_embeds": torch.zeros(1, 4, 32)}, "takes input_ids"),
        ({"attention_mask": torch.zeros(1, 1, 4, 4)}, r"not \[B T\]"),
        ({"position_ids": torch.tensor([[0, 1, 0, 1]])}, "several texts in one row"),
        ({"cu_seq_lens_q": torch.tensor([0, 2, 4])}, "several texts in one row"),
    ],
)
def test_what_subwords_cannot_be_found_in_is_refused(more, message):
    with pytest.raises(TypeError, match=message):
        expanded()(input_ids=rows(b"abcd")[0], **more)


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_branches_that_share_a_cache_are_recomputing(architecture):
    tokenizer = byte_tokenizer(tiny_tokenizer("bytelevel_bpe"))
    model = expanded(architecture)
    shared, plain = (ByteModel(model, tokenizer, share_kv=share) for share in (True, False))
    for text in (" the quick brown fox", " the quack", "é"):
        ours, theirs = (view.logprob(text, prompt="one two") for view in (shared, plain))
        assert ours == pytest.approx(theirs, rel=1e-4)
    with torch.no_grad():
        ids = torch.tensor([[END, *"one two é".encode()]])
        logprobs = model(input_ids=ids).logits[0].log_softmax(-1)
    wanted = sum(float(logprobs[i - 1, ids[0, i]]) for i in range(8, 11))
    assert shared.logprob(" é", prompt="one two") == pytest.approx(wanted, rel=1e-4)


def test_subwords_found_beforehand_change_nothing():
    model = expanded()
    ids, mask = rows(b"the quick brown fox", b"jumps")
    found = extra_inputs(model)(ids, mask)["expansion_ids"]
    torch.testing.assert_close(
        hidden_states(model, ids, mask, expansion_ids=found), hidden_states(model, ids, mask)
    )
    head = output_head(model)
    ours, theirs = (
        token_scores(model, head, ids, mask, expansion_ids=given) for given in (found, None)
    )
    torch.testing.assert_close(ours.token_logprobs, theirs.token_logprobs)
    assert extra_inputs(tiny_model("llama", 8)) is None


LOAD_EVERYWHERE = """
import sys
sys.modules["crosstok"] = None  # importing it raises from here on
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
for folder in sys.argv[1:]:
    try:
        AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False)
        raise SystemExit("loaded without trust_remote_code")
    except ValueError as error:
        assert "trust_remote_code=True" in str(error), error
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, trust_remote_code=True, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], (folder, info)
    ids = torch.tensor([list(b"the quick brown fox")])
    kept = torch.load(folder + "/wanted.pt")
    torch.testing.assert_close(model(input_ids=ids).logits, kept["logits"])
    assert model.generate(ids, max_new_tokens=12).tolist() == kept["made"]
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    assert tokenizer("the quick brown fox")["input_ids"] == ids[0].tolist()
    model.save_pretrained(folder + "/again")
    again = AutoModelForCausalLM.from_pretrained(folder + "/again", trust_remote_code=True)
    torch.testing.assert_close(again(input_ids=ids).logits, kept["logits"])
    print("loaded", folder)
"""


def test_folders_load_where_crosstok_cannot_be_imported(tmp_path):
    folders = []
    for architecture in ("gemma2", "qwen2"):
        model, ids = expanded(architecture), rows(b"the quick brown fox")[0]
        folder = tmp_path / architecture
        model.save_pretrained(folder)
        byte_tokenizer(tiny_tokenizer("bytelevel_bpe")).save_pretrained(folder)
        assert not list(folder.glob("*.bin"))
        wanted = {"logits": logits(model, ids), "made": model.generate(ids, max_new_tokens=12)}
        torch.save(wanted | {"made": wanted["made"].tolist()}, folder / "wanted.pt")
        folders.append(str(folder))
    process = subprocess.run(
        [sys.executable, "-c", LOAD_EVERYWHERE, *folders],
        capture_output=True,
        text=True,
        env={"HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"},
    )
    assert process.returncode == 0, process.stderr[-2000:]
    assert process.stdout.count("loaded") == len(folders)


@pytest.mark.parametrize("architecture", RUN)
def test_crosstok_loads_such_folders_by_its_own_code(tmp_path, architecture):
    model, ids = expanded(architecture), rows(b"the quick brown fox")[0]
    model.save_pretrained(tmp_path)
    (tmp_path / "modeling_byte_expanded.py").write_text("raise SystemExit('executed')")
    assert torch.equal(logits(load_model(str(tmp_path)), ids), logits(model, ids))
    halved = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert halved.subwords.dtype == torch.bfloat16
    assert halved.edge_keys.dtype == torch.int64


def test_other_vocabularies_and_matrices_are_refused():
    model = tiny_model("llama", NUM_IDS)
    original = torch.randn(len(source_vocab()), 32)
    with pytest.raises(ValueError, match=r"is for models over bytes.*b'"):
        expand_inputs(model, original, source_vocab(), source_vocab("spm_bpe"))
    with pytest.raises(ValueError, match="input matrix that the model had before"):
        expand_inputs(model, original[:-1], source_vocab(), BYTES)
    with pytest.raises(ValueError, match="keeps its vocabulary of bytes"):
        expanded().resize_token_embeddings(300)
