"""Chat templates of the shapes that are in use, written here, on tiny tokenizers of many kinds."""

from __future__ import annotations

from functools import cache

from crosstok.tokenizers import ExampleEncoder, TextEncoder, load_tokenizer, resolve_chat_template
from tests.tiny import with_chat_template

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


def _build(name: str):
    match name:
        case "llama3":
            tokens = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
            return with_chat_template(
                "bytelevel_bpe", LLAMA_3, special_tokens=tokens,
                bos_token="<|begin_of_text|>", eos_token="<|eot_id|>",
            )  # fmt: skip
        case "gemma":
            tokens = ("<bos>", "<start_of_turn>", "<end_of_turn>")
            return with_chat_template("unigram", GEMMA, special_tokens=tokens, bos_token="<bos>")
        case "phi3":
            tokens = ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
            return with_chat_template("spm_bpe", PHI_3, special_tokens=tokens, rstrip=True)
        case "chatml":
            return with_chat_template("gapped", CHATML, special_tokens=_CHATML_TOKENS)
        case "chatml_spm":
            return with_chat_template("spm_bpe", CHATML, special_tokens=_CHATML_TOKENS)
        case "thinking":
            return with_chat_template("bytelevel_bpe", THINKING, special_tokens=_CHATML_TOKENS)
        case "inst":
            return with_chat_template("spm_bpe", INST)
        case "channels":
            tokens = ("<|start|>", "<|message|>", "<|end|>", "<|return|>")
            return with_chat_template("unigram", CHANNELS, special_tokens=tokens)
        case "bare":
            return with_chat_template("bytelevel_bpe", BARE)
        case "plain_spm":
            return with_chat_template("spm_bpe", resolve_chat_template("plain"))
        case _:
            return with_chat_template("bytelevel_bpe", resolve_chat_template("plain"))


SHAPES = (
    "llama3", "gemma", "phi3", "chatml", "chatml_spm", "inst", "channels", "plain", "plain_spm",
    "bare",
)  # fmt: skip
REAL = ("qwen2.5", "mistral-7b-instruct-v0.2")


@cache
def shape_encoder(name: str) -> ExampleEncoder:
    return ExampleEncoder(TextEncoder(_build(name)))


@cache
def real_encoder(shared, name: str) -> ExampleEncoder:
    return ExampleEncoder(TextEncoder(load_tokenizer(str(shared / "data" / "tokenizers" / name))))
