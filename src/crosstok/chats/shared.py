"""Read examples as all encoders read them, so that their spans are of one text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from crosstok.chats.conversations import Conversation, PromptCompletion, strings_of_calls
from crosstok.chats.encoder import Example, ExampleEncoder
from crosstok.chats.marks import places_of_calls
from crosstok.tokenizers.shared_view import in_form, shared_form


def shared_examples(examples: Sequence[Example], *encoders: ExampleEncoder) -> list[Example]:
    """Return the examples as all of these encoders read them.

    The texts are in the form that the tokenizers share (`shared_texts`); contents of a role lose
    the white space at their ends if one of the templates trims that role. Thoughts, and the names
    and arguments of calls, are part of the text if all of the templates write them.
    """
    form = shared_form(*(side.encoder for side in encoders))
    has_chat = any(isinstance(example, Conversation) for example in examples)
    trimmed = frozenset().union(*(e.chat.trims for e in encoders)) if has_chat else frozenset()

    def read(text: str) -> str:
        return in_form(text, form)

    shared: list[Example] = []
    for example in examples:
        if isinstance(example, str):
            shared.append(read(example))
        elif isinstance(example, PromptCompletion):
            shared.append(
                replace(example, prompt=read(example.prompt), completion=read(example.completion))
            )
        else:
            shared.append(_shared(example, encoders, trimmed, read))
    return shared


def _shared(
    conversation: Conversation,
    encoders: Sequence[ExampleEncoder],
    trimmed: frozenset[str],
    read: Callable[[str], str],
) -> Conversation:
    conversation = _with_thoughts(conversation, encoders)
    texts = conversation.texts
    strings = []
    for text in texts:
        role = conversation.messages[text.message]["role"] if text.kind == "content" else text.kind
        strings.append(read(text.string.strip() if role in trimmed else text.string))
    if any(text.string != string for text, string in zip(texts, strings, strict=True)):
        conversation = conversation.with_texts(strings)
    return _with_calls(conversation, encoders, read)


def _with_thoughts(conversation: Conversation, encoders: Sequence[ExampleEncoder]) -> Conversation:
    """Share the thoughts that all templates write."""
    shared = frozenset(conversation.thoughts)
    for encoder in encoders:
        if shared:
            asked = replace(conversation, shared_thoughts=shared)
            placed = encoder.chat.renderer.skeleton(asked).placed_texts()
            shared = frozenset(text.message for text in placed if text.kind == "thought")
    return replace(conversation, shared_thoughts=shared) if shared else conversation


def _with_calls(
    conversation: Conversation, encoders: Sequence[ExampleEncoder], read: Callable[[str], str]
) -> Conversation:
    """Share the names and arguments of calls that all templates write, in the same order."""
    shared = {
        index: [n for n, string in enumerate(strings_of_calls(message)) if read(string) == string]
        for index, message in enumerate(conversation.messages)
        if message.get("tool_calls")
    }
    for encoder in encoders if shared else ():
        written = encoder.chat.calls(conversation)
        shared = {
            index: list(places_of_calls(conversation.messages[index], written[index], numbers))
            for index, numbers in shared.items()
            if index in written
        }
    pairs = frozenset((index, number) for index, numbers in shared.items() for number in numbers)
    return replace(conversation, shared_calls=pairs) if pairs else conversation
