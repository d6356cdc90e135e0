"""Chat templates by name: the built-in ``plain``, or a file."""

from pathlib import Path

PLAIN_TEMPLATE = """\
{%- if bos_token and bos_token != eos_token %}{{ bos_token }}{% endif %}
{%- if tools %}{{ 'Tools: ' + (tools | tojson) + '\\n' }}{% endif %}
{%- for message in messages %}
    {{- message['role'] | capitalize + ': ' }}
    {%- if message['content'] %}{{ message['content'] }}{% endif %}
    {%- if message['tool_calls'] %}{{ message['tool_calls'] | tojson }}{% endif %}
    {%- if message['role'] == 'assistant' and eos_token %}{{ eos_token }}{% endif %}
    {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}
"""


def resolve_chat_template(name_or_file: str) -> str:
    """Return the text of a chat template: the built-in "plain", or the content of a Jinja file.

    "plain" writes ``User: ...``, ``Assistant: ...`` and the tokenizer's eos, so it works with any
    tokenizer.

    Raises:
        ValueError: there is no such file.
    """
    if name_or_file == "plain":
        return PLAIN_TEMPLATE
    path = Path(name_or_file).expanduser()
    if not path.is_file():
        raise ValueError(
            f"chat template {name_or_file!r} is neither 'plain' nor a file. Give a file with a "
            "Jinja template (models name theirs chat_template.jinja)."
        )
    return path.read_text(encoding="utf-8")


TEMPLATE_OPTIONS = "option chat_template; for a teacher, teacher_chat_template"
