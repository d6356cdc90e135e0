"""Chat templates by name (the built-in ``plain``, or a file), and how they are run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

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


class TemplateFailure(Exception):
    """The template raised an error; carries the message of that error."""


class ChatTemplate:
    """A tokenizer's chat template, or another one instead of it."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, chat_template: str | None) -> None:
        """Store the arguments.

        Raises:
            ValueError: the tokenizer has no template and none is passed.
        """
        self._tokenizer, self._template = tokenizer, chat_template
        if chat_template is None and not getattr(tokenizer, "chat_template", None):
            name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
            raise ValueError(
                f"tokenizer {name!r} has no chat template, and chat data needs one. Name a file "
                f"with a Jinja template ({TEMPLATE_OPTIONS}), or 'plain' for 'User: ...' and "
                "'Assistant: ...' with the end-of-sequence token."
            )

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> str:
        """Run the template with the variables in `options`.

        Raises:
            TemplateFailure: it raised an error, or returned something other than text.
        """
        try:
            rendered = self._tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                tools=list(tools) if tools else None,
                chat_template=self._template,
                tokenize=False,
                **(options or {}),
            )
        except Exception as error:  # a template is a program, which may raise anything
            raise TemplateFailure(f"{type(error).__name__}: {error}") from error
        if not isinstance(rendered, str):
            raise TemplateFailure(f"it renders {type(rendered).__name__} instead of text")
        return rendered
