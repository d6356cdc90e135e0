"""Chat templates that read thoughts, calls, tools and options, each in its own way."""

from __future__ import annotations

from functools import cache

from crosstok.chats import ExampleEncoder, parse_example
from crosstok.tokenizers import TextEncoder
from tests.tiny import with_chat_template

_CALLS = """\
{%- for call in m.tool_calls or [] %}
{{- '\n<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson + '}\n</tool_call>' }}
{%- endfor %}"""
_PROMPT = "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
_TURN = "{%- for m in messages %}{{- '<|im_start|>' + m['role'] + '\n' }}"

# Thoughts in `reasoning_content`, calls with a mapping, tools, and an option.
REASONING = (
    "{%- if tools %}{{ '<|im_start|>tools\n' + (tools | tojson) + '<|im_end|>\n' }}{% endif %}"
    "{%- if effort is defined %}{{ 'Effort: ' + effort + '\n' }}{% endif %}"
    + _TURN
    + """\
{%- if m['role'] == 'assistant' and m.reasoning_content %}
{{- '<think>\n' + m.reasoning_content + '\n</think>\n\n' }}{% endif %}
{{- m['content'] or '' }}"""
    + _CALLS
    + "{{- '<|im_end|>\n' }}{%- endfor %}"
    + _PROMPT
)
# The same in another field, without the line breaks.
THINKING_FIELD = (
    REASONING.replace("m.reasoning_content", "m.thinking")
    .replace("'<think>\n'", "'<reason>'")
    .replace("'\n</think>\n\n'", "'</reason>'")
)
# Thoughts are a part of the content (as in Magistral's templates).
PARTS = (
    _TURN
    + """\
{%- if m['content'] is string %}{{ m['content'] }}{% else %}
{%- for part in m['content'] %}
{%- if part['type'] == 'thinking' %}{{ '[THINK]' + part['thinking'] + '[/THINK]' }}
{%- else %}{{ part['text'] }}{% endif %}
{%- endfor %}{% endif %}
{{- '<|im_end|>\n' }}{%- endfor %}"""
    + _PROMPT
)
# Thoughts of the last turn only, trimmed; the prompt opens them.
LAST_ONLY = REASONING.replace(
    "m.reasoning_content %}", "m.reasoning_content and loop.last %}"
).replace("m.reasoning_content +", "(m.reasoning_content | trim) +").replace(
    "'<|im_start|>assistant\n' }}{% endif %}", "'<|im_start|>assistant\n<think>\n' }}{% endif %}"
)  # fmt: skip
# Arguments must be a string, as in DeepSeek's templates.
JSON_ARGUMENTS = REASONING.replace("arguments | tojson", "arguments")
# Roles and contents only.
SIMPLE = _TURN + "{{- m['content'] + '<|im_end|>\n' }}{%- endfor %}" + _PROMPT

TEMPLATES = {
    "reasoning": REASONING, "thinking field": THINKING_FIELD, "parts": PARTS,
    "last only": LAST_ONLY, "json arguments": JSON_ARGUMENTS, "simple": SIMPLE,
}  # fmt: skip
ASKED = {"role": "user", "content": "What is 6*7?"}
THOUGHT = "Six times seven is forty-two."
ANSWER = {"role": "assistant", "content": "42", "reasoning_content": THOUGHT}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Fes"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@cache
def encoder_of(name: str, kind: str = "bytelevel_bpe") -> ExampleEncoder:
    tokenizer = with_chat_template(
        kind, TEMPLATES[name], special_tokens=("<|im_start|>", "<|im_end|>")
    )
    return ExampleEncoder(TextEncoder(tokenizer))


def encode(encoder: ExampleEncoder, row: dict, loss_on: str = "assistant"):
    return encoder([parse_example(row, "row 1")], loss_on=loss_on)[0]


def rendered(encoder: ExampleEncoder, row: dict) -> str:
    """The text of all tokens."""
    return encoder.encoder.tokenizer.decode(encode(encoder, row).ids)


def learned(encoder: ExampleEncoder, row: dict, loss_on: str = "assistant") -> str:
    """The text of the tokens that the loss covers."""
    spans = encode(encoder, row, loss_on)
    ids = spans.ids if spans.loss_mask is None else spans.ids[spans.loss_mask]
    return encoder.encoder.tokenizer.decode(ids)
