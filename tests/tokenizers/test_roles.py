import logging
from pathlib import Path

import pytest

from crosstok.tokenizers import ByteVocab, load_tokenizer
from crosstok.tokenizers.roles import find_roles
from tests.tiny import tiny_tokenizer, with_chat_template

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}<start_of_turn>"
    "{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}"
)
PHI3 = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{{ eos_token }}"
)
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' }}\n{{ m.content }}{{ eos_token }}\n"
    "{% endfor %}"
)
HARMONY = (
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "<|start|>assistant<|channel|>final<|message|>"
    "{{ m.content }}{{ '<|return|>' if loop.last else '<|end|>' }}{% else %}"
    "<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
)
DEEPSEEK = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<|User|>{{ m.content }}"
    "{% elif m.role == 'assistant' %}<|Assistant|>{{ m.content }}{{ eos_token }}"
    "{% else %}{{ m.content }}{% endif %}{% endfor %}"
)
PLAIN = "{% for m in messages %}{{ m.role | upper }}: {{ m.content }} {% endfor %}"


def spelled(tokenizer):
    """Role -> the pieces that spell it."""
    return {r: tokenizer.convert_ids_to_tokens(ids) for r, ids in find_roles(tokenizer).items()}


def test_without_a_template_there_are_only_the_named_roles():
    assert find_roles(tiny_tokenizer("bytelevel_bpe")) == {"bos": (0,), "eos": (0,), "pad": (1,)}
    assert set(find_roles(tiny_tokenizer("wordpiece"))) == {"pad", "unk", "cls", "sep", "mask"}


@pytest.mark.parametrize("kind", ["bytelevel_bpe", "spm_bpe"])
def test_a_chatml_template(kind):
    # The old SentencePiece conversion puts its dummy prefix after every special token.
    newline = ["Ċ"] if kind == "bytelevel_bpe" else ["▁", "\n"]
    after_name = ["Ċ"] if kind == "bytelevel_bpe" else ["\n"]
    tokenizer = with_chat_template(kind, CHATML, special_tokens=("<|im_start|>", "<|im_end|>"))
    roles = spelled(tokenizer)
    assert roles["start_header"] == ["<|im_start|>"]
    assert roles["end_of_turn"] == ["<|im_end|>", *newline]
    assert roles["end_header"] == after_name
    for role in ("system", "user", "assistant"):
        assert tokenizer.backend_tokenizer.decode(find_roles(tokenizer)[role]).strip() == role


def test_a_llama_3_like_template():
    marks = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    roles = spelled(with_chat_template("bytelevel_bpe", LLAMA3, special_tokens=marks))
    assert roles["start_header"] == ["<|start_header_id|>"]
    assert roles["end_header"][0] == "<|end_header_id|>"
    assert "".join(roles["end_header"][1:]) == "ĊĊ"
    assert roles["end_of_turn"] == ["<|eot_id|>"]
    assert {"".join(roles[role]) for role in ("system", "user", "assistant")} == {
        "system",
        "user",
        "assistant",
    }


def test_a_gemma_like_template_has_no_system_and_calls_the_assistant_model():
    marks = ("<start_of_turn>", "<end_of_turn>")
    roles = spelled(with_chat_template("spm_bpe", GEMMA, special_tokens=marks))
    assert roles["start_header"] == ["<start_of_turn>"]
    assert roles["end_of_turn"] == ["<end_of_turn>", "▁", "\n"]
    assert roles["end_header"] == ["\n"]
    assert "".join(roles["assistant"]).strip("▁") == "model"
    assert "".join(roles["user"]).strip("▁") == "user"
    assert "system" not in roles


@pytest.mark.parametrize(("template", "end"), [(PHI3, ["<|end|>", "Ċ"]), (ZEPHYR, None)])
def test_templates_whose_header_is_one_token_a_role(template, end):
    marks = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
    roles = spelled(with_chat_template("bytelevel_bpe", template, special_tokens=marks))
    assert roles["end_of_turn"] == (end or ["<|endoftext|>", "Ċ"])
    assert roles["end_header"] == ["Ċ"]
    assert "start_header" not in roles
    assert [roles[r] for r in ("system", "user", "assistant")] == [[m] for m in marks[:3]]


def test_a_template_that_ends_the_last_turn_in_another_way():
    marks = ("<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|return|>")
    roles = spelled(with_chat_template("bytelevel_bpe", HARMONY, special_tokens=marks))
    assert roles["end_of_turn"] == ["<|end|>"]
    assert (roles["start_header"], roles["end_header"]) == (["<|start|>"], ["<|message|>"])
    assert "".join(roles["assistant"]) == "assistant<|channel|>final"
    assert "".join(roles["user"]) == "user"


def test_a_template_that_ends_only_the_assistants_turn():
    marks = ("<|User|>", "<|Assistant|>")
    roles = spelled(with_chat_template("spm_bpe", DEEPSEEK, special_tokens=marks))
    assert roles["end_of_turn"] == ["</s>"]
    assert (roles["user"], roles["assistant"]) == (["<|User|>"], ["<|Assistant|>"])
    assert "system" not in roles


def test_a_template_of_plain_text_has_no_chat_roles():
    assert set(spelled(with_chat_template("bytelevel_bpe", PLAIN))) == {"bos", "eos", "pad"}


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('not today') }}", "not today"),
        ("hello", "every message's content"),
        ("{% for m in messages %}", "TemplateSyntaxError"),
    ],
)
def test_a_template_that_cannot_be_read_is_reported(template, reason, caplog):
    with caplog.at_level(logging.WARNING, logger="crosstok"):
        roles = find_roles(with_chat_template("bytelevel_bpe", template))
    assert set(roles) == {"bos", "eos", "pad"}
    assert reason in caplog.text


def test_finding_roles_leaves_the_tokenizer_as_it_was():
    tokenizer = with_chat_template("spm_bpe", GEMMA, special_tokens=("<start_of_turn>",))
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(7)
    backend.enable_padding(length=9)
    backend.encode_special_tokens = True
    before = backend.to_str()
    find_roles(tokenizer)
    assert backend.to_str() == before
    assert backend.encode_special_tokens


def test_the_roles_of_real_templates(shared: Path):
    qwen = load_tokenizer(str(shared / "data" / "tokenizers" / "qwen2.5"))
    roles = spelled(qwen)
    assert {role: roles[role] for role in ("start_header", "end_header", "end_of_turn")} == {
        "start_header": ["<|im_start|>"],
        "end_header": ["Ċ"],
        "end_of_turn": ["<|im_end|>", "Ċ"],
    }
    assert [roles[r] for r in ("system", "user", "assistant")] == [
        ["system"],
        ["user"],
        ["assistant"],
    ]
    mistral = load_tokenizer(str(shared / "data" / "tokenizers" / "mistral-7b-instruct-v0.2"))
    assert spelled(mistral) == {
        "bos": ["<s>"],
        "eos": ["</s>"],
        "unk": ["<unk>"],
        "end_of_turn": ["</s>"],
    }


def test_documents_of_a_chat_tokenizer_without_bos_are_parted_by_its_pad(shared):
    """Qwen's eos ends a turn; its documents were parted by <|endoftext|>, which is its pad."""
    vocab = ByteVocab.from_tokenizer(load_tokenizer(str(shared / "data/tokenizers/qwen2.5")))
    end_of_text = vocab.roles["pad"][0]
    assert vocab.roles["eos"][0] != end_of_text
    assert vocab.document_start == vocab.document_end == end_of_text


def test_a_last_turn_that_ends_in_a_token_of_its_own_is_told_apart():
    template = (
        "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}"
        "{{ '<|return|>' if loop.last and m.role == 'assistant' else '<|end|>' }}{% endfor %}"
    )
    tokens = ("<|start|>", "<|message|>", "<|end|>", "<|return|>")
    tokenizer = with_chat_template("bytelevel_bpe", template, special_tokens=tokens)
    roles = find_roles(tokenizer)
    spelled = {role: tokenizer.convert_ids_to_tokens(ids) for role, ids in roles.items()}
    assert spelled["end_of_turn"] == ["<|end|>"]
    assert spelled["end_of_chat"] == ["<|return|>"]
