"""Chat templates of the shapes that are in use, written here, on tiny tokenizers of many kinds."""

from __future__ import annotations

from functools import cache

from crosstok.chats import ExampleEncoder, resolve_chat_template
from crosstok.tokenizers import TextEncoder, load_tokenizer
from tests.tiny import Kind, with_chat_template

LLAMA_3 = """\
{{- bos_token }}
{%- if messages[0]['role'] != 'system' %}
{{- '<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n\n' }}
{{- '<|eot_id|>' }}
{%- endif %}
{%- for message in messages %}
    {%- if message['tool_calls'] %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
        {%- for call in message.tool_calls %}
            {{- '{"name": "' + call.function.name + '", "parameters": ' }}
            {{- call.function.arguments | tojson }}
            {{- "}" }}
        {%- endfor %}
        {{- '<|eot_id|>' }}
    {%- elif message['role'] == 'tool' %}
        {{- '<|start_header_id|>ipython<|end_header_id|>\n\n' + message['content'] + '<|eot_id|>' }}
    {%- else %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}
        {%- if loop.first and message['role'] == 'system' %}
            {{- 'Cutting Knowledge Date: December 2023\n\n' }}
        {%- endif %}
        {{- message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}
"""

GEMMA = """\
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}
{%- endif %}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant/user/...') }}
    {%- endif %}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
    {{- '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}
"""

PHI_3 = """\
{%- for message in messages %}
    {{- '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}
"""

CHATML = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
"""

INST = """\
{%- if messages[0]['role'] == 'system' %}
    {%- set system = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = '' %}
{%- endif %}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}
        {{- bos_token + '[INST] ' + (system if loop.first else '') + message['content'] }}
        {{- ' [/INST]' }}
    {%- else %}
        {{- ' ' + message['content'] + ' ' + eos_token }}
    {%- endif %}
{%- endfor %}
"""

# The last turn ends in another token than those before it.
CHANNELS = """\
{%- for message in messages %}
    {{- '<|start|>' + message['role'] + '<|message|>' + message['content'] }}
    {{- '<|return|>' if loop.last and message['role'] == 'assistant' else '<|end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start|>assistant<|message|>' }}{% endif %}
"""

# Takes the thoughts out of every turn of the assistant but the last.
THINKING = """\
{%- for message in messages %}
    {%- set content = message['content'] %}
    {%- if message['role'] == 'assistant' and not loop.last and '</think>' in content %}
        {%- set content = content.split('</think>')[-1].lstrip('\n') %}
    {%- endif %}
    {{- '<|im_start|>' + message['role'] + '\n' }}
    {%- if loop.last and message['role'] == 'assistant' and '</think>' not in content %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
    {{- content + '<|im_end|>\n' }}
{%- endfor %}
"""

# No special token anywhere: a token may hold the end of a content and the template's line breaks.
BARE = """\
{%- for message in messages %}
    {{- message['role'] | capitalize + ': ' + message['content'] + '

' }}
{%- endfor %}
"""

_CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")


_LLAMA_TOKENS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")

# Name: kind of tokenizer, template, special tokens that are added, the tokenizer's names for them.
_SHAPES: dict[str, tuple[Kind, str, tuple[str, ...], dict[str, str]]] = {
    "llama3": (
        "bytelevel_bpe", LLAMA_3, _LLAMA_TOKENS,
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
    ),
    "gemma": (
        "unigram", GEMMA, ("<bos>", "<start_of_turn>", "<end_of_turn>"), {"bos_token": "<bos>"},
    ),
    "phi3": ("spm_bpe", PHI_3, ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>"), {}),
    "chatml": ("gapped", CHATML, _CHATML_TOKENS, {}),
    "chatml_spm": ("spm_bpe", CHATML, _CHATML_TOKENS, {}),
    "inst": ("spm_bpe", INST, (), {}),
    "channels": (
        "unigram", CHANNELS, ("<|start|>", "<|message|>", "<|end|>", "<|return|>"), {},
    ),
    "plain": ("bytelevel_bpe", resolve_chat_template("plain"), (), {}),
    "plain_spm": ("spm_bpe", resolve_chat_template("plain"), (), {}),
    "bare": ("bytelevel_bpe", BARE, (), {}),
    "thinking": ("bytelevel_bpe", THINKING, _CHATML_TOKENS, {}),
}  # fmt: skip
SHAPES = tuple(name for name in _SHAPES if name != "thinking")
REAL = ("qwen2.5", "mistral-7b-instruct-v0.2")


@cache
def shape_encoder(name: str) -> ExampleEncoder:
    kind, template, tokens, names = _SHAPES[name]
    tokenizer = with_chat_template(
        kind, template, special_tokens=tokens, rstrip=name == "phi3", **names
    )
    return ExampleEncoder(TextEncoder(tokenizer))


@cache
def real_encoder(shared, name: str) -> ExampleEncoder:
    return ExampleEncoder(TextEncoder(load_tokenizer(str(shared / "data" / "tokenizers" / name))))
