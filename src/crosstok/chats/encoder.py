"""Encode chat examples to ids with byte spans: one text, each tokenizer with its own template.

The text that two tokenizers share is the contents of the messages, joined in order, so that their
spans align whether or not the templates agree. Text of a template is zero-width and has a role:
``bos``, ``end_of_turn``, ``header_user`` ..., or `TEMPLATE` for text that is never matched.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Int64

from crosstok.chats.conversations import Conversation, PromptCompletion
from crosstok.chats.marks import END_OF_TURN, Part, TemplateMarks
from crosstok.chats.renderer import ChatRenderer, Skeleton
from crosstok.chats.spans import StructuredPiece, spans_of_pieces
from crosstok.chats.structure import SpecialText, StructureEncoder
from crosstok.choices import LossOn
from crosstok.tokenizers.shared_view import in_form, shared_form
from crosstok.tokenizers.spans import Spans, TextEncoder

Example: TypeAlias = Conversation | PromptCompletion | str

_MAX_LAYOUTS = 512


class ExampleEncoder:
    """Encodes conversations (with the tokenizer's chat template), prompts and plain texts.

    The ids of a conversation equal ``apply_chat_template(messages, tokenize=True)`` with two
    exceptions: the string of a special token in a content is encoded as text, and a token always
    ends where an assistant's content ends, as it does when a model writes it. Can be pickled.
    """

    def __init__(self, encoder: TextEncoder, chat_template: str | None = None) -> None:
        """Store the arguments; the template is read on first use.

        Args:
            encoder: the tokenizer's encoder of plain text.
            chat_template: text of a template to use instead of the tokenizer's own.
        """
        self.encoder = encoder
        self.chat_template = chat_template
        self._chat: _Chat | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"encoder": self.encoder, "chat_template": self.chat_template}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @property
    def chat(self) -> _Chat:
        """The template with its marks, read on first use.

        Raises:
            ValueError: the tokenizer has no chat template, or it cannot render user, assistant,
                user, assistant.
        """
        if self._chat is None:
            self._chat = _Chat(self.encoder, self.chat_template)
        return self._chat

    def __call__(self, examples: Sequence[Example], *, loss_on: LossOn) -> list[Spans]:
        """Encode a batch of examples.

        Args:
            examples: conversations, prompts with completions, or plain texts.
            loss_on: what `Spans.loss_mask` marks in a conversation: "assistant": every assistant
                turn after the prompt, with its end and its tool calls; "last": only the last of
                these turns; "all": every token. In a prompt with a completion it marks the tokens
                that hold a byte of the completion, and its end; in plain text, every token.

        Raises:
            ValueError: the template cannot render a conversation; the message names the row.
        """
        chats = [example for example in examples if isinstance(example, Conversation)]
        texts = [
            example if isinstance(example, str) else example.text
            for example in examples
            if not isinstance(example, Conversation)
        ]
        encoded_chats = iter(self.chat.encode(chats, loss_on) if chats else [])
        encoded_texts = iter(self.encoder(texts) if texts else [])
        spans = []
        for example in examples:
            if isinstance(example, Conversation):
                spans.append(next(encoded_chats))
            elif isinstance(example, str) or loss_on == "all":
                spans.append(next(encoded_texts))
            else:
                spans.append(_completion_only(next(encoded_texts), example))
        return spans

    def check(self, examples: Iterable[Example]) -> None:
        """Render the skeleton of every conversation, so that template errors are raised early.

        Raises:
            ValueError: the template cannot render a conversation; the message names the row.
        """
        for example in examples:
            if isinstance(example, Conversation):
                self.chat.renderer.skeleton(example)


def shared_examples(examples: Sequence[Example], *encoders: ExampleEncoder) -> list[Example]:
    """Return the examples as all of these encoders read them.

    The texts are in the form that the tokenizers share (`shared_texts`); contents of
    a role lose the white space at their ends if one of the templates trims that role.
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
            contents = [
                read(text.strip() if message["role"] in trimmed else text)
                for message, text in zip(example.messages, example.contents, strict=True)
            ]
            same = tuple(contents) == example.contents
            shared.append(example if same else example.with_contents(contents))
    return shared


class _Chat:
    """One chat template: its renderer, its marks, and the encoder of its renderings."""

    def __init__(self, encoder: TextEncoder, chat_template: str | None) -> None:
        self.renderer = ChatRenderer(encoder.tokenizer, chat_template)
        self.marks = TemplateMarks.learn(self.renderer, encoder.tokenizer)
        self.trims = self.renderer.trims() | self._swallowed(encoder)
        self.structure = StructureEncoder(encoder)
        self._vocab = encoder.byte_vocab
        end = encoder.tokenizer.eos_token_id
        self._end = encoder.byte_vocab.document_end if end is None else int(end)
        self._layouts: dict[Skeleton, tuple[list[str], list[list[Part]]]] = {}

    def _swallowed(self, encoder: TextEncoder) -> frozenset[str]:
        """Find the roles whose contents lose white space to the special before them (rstrip)."""
        decoder = encoder.tokenizer.backend_tokenizer.get_added_tokens_decoder()
        greedy = tuple(token.content for token in decoder.values() if token.rstrip)
        found = {r for r, header in self.marks.headers.items() if header.rstrip().endswith(greedy)}
        return frozenset(found | ({"developer"} if "system" in found else set()))

    def encode(self, conversations: Sequence[Conversation], loss_on: LossOn) -> list[Spans]:
        laid_out = [self.lay_out(conversation) for conversation in conversations]
        spans: list[Spans | None] = [None] * len(conversations)
        for respelt in (False, True):
            rows = [row for row, (_, is_respelt) in enumerate(laid_out) if is_respelt == respelt]
            strings = ["".join(p.text for p in laid_out[row][0]) for row in rows]
            encoded = self.structure(strings, respelt=respelt) if rows else []
            for row, string, one in zip(rows, strings, encoded, strict=True):
                pieces = laid_out[row][0]
                conversation = conversations[row]
                cuts = _straddled_ends(pieces, one.ends, conversation)
                if cuts:
                    one = self.structure.encode_cut(string, cuts, respelt=respelt)
                spans[row] = spans_of_pieces(
                    one,
                    pieces,
                    conversation.contents,
                    self._vocab,
                    None if loss_on == "all" else _trained_messages(conversation, loss_on),
                    self._appended_end(conversation, pieces),
                )
        return [one for one in spans if one is not None]

    def lay_out(self, conversation: Conversation) -> tuple[list[StructuredPiece], bool]:
        """Return the pieces of a rendering, and whether its special tokens are respelt."""
        special = self.structure.special_text
        if not holds_special(conversation, special):
            return self._structured(conversation), False
        quoted = map_strings(conversation, special.quote)
        return [
            replace(
                piece,
                text=special.unquote(
                    piece.text if piece.role is None else special.respell(piece.text)
                ),
            )
            for piece in self._structured(quoted)
        ], True

    def _structured(self, conversation: Conversation) -> list[StructuredPiece]:
        skeleton, pieces = self.renderer.pieces(conversation)
        gaps, contents = [""], []
        for text, message, skipped in pieces:
            if message is None:
                gaps[-1] += text
                continue
            left_out = conversation.contents[message][:skipped] if skipped else ""
            num_skipped = len(self.structure.special_text.unquote(left_out).encode())
            contents.append(StructuredPiece(text, None, message, num_skipped))
            gaps.append("")
        parts = self._parts(skeleton, gaps, conversation)
        structured: list[StructuredPiece] = []
        for index, gap in enumerate(parts):
            structured += [StructuredPiece(text, role, message) for text, role, message in gap]
            structured += contents[index : index + 1]
        return structured

    def _parts(
        self, skeleton: Skeleton, gaps: list[str], conversation: Conversation
    ) -> list[list[Part]]:
        """Split the template's text into parts; they are cached if the text is the skeleton's."""
        kept = self._layouts.get(skeleton)
        if kept is not None and kept[0] == gaps:
            return kept[1]
        parts = self.marks.split(gaps, skeleton.messages(), conversation.messages)
        if gaps == skeleton.gaps():
            self._layouts[skeleton] = (gaps, parts)
            if len(self._layouts) > _MAX_LAYOUTS:
                del self._layouts[next(iter(self._layouts))]
        return parts

    def _appended_end(
        self, conversation: Conversation, pieces: Sequence[StructuredPiece]
    ) -> int | None:
        """Return the id that ends the last turn if the template writes no end there, else None."""
        last = len(conversation.messages) - 1
        if conversation.messages[last]["role"] != "assistant" or self.marks.last_end_of_turn:
            return None
        ended = any(piece.role == END_OF_TURN and piece.message == last for piece in pieces)
        return None if ended else self._end


def _completion_only(spans: Spans, example: PromptCompletion) -> Spans:
    mask: Bool[np.ndarray, " T"] = spans.ends > len(example.prompt.encode())
    for index, role in spans.specials:
        mask[index] = role == "eos"
    return replace(spans, loss_mask=mask)


def _trained_messages(conversation: Conversation, loss_on: LossOn) -> frozenset[int]:
    turns = [
        index
        for index, message in enumerate(conversation.messages)
        if message["role"] == "assistant" and index >= conversation.num_prompt_messages
    ]
    return frozenset(turns[-1:] if loss_on == "last" else turns)


def _straddled_ends(
    pieces: Sequence[StructuredPiece], ends: Int64[np.ndarray, " T"], conversation: Conversation
) -> list[int]:
    """Find the characters where an assistant's content ends inside a token."""
    cuts = []
    place = character = 0
    for piece in pieces:
        character += len(piece.text)
        place += len(piece.text.encode())
        if piece.role is not None or piece.message is None or not piece.text:
            continue
        if conversation.messages[piece.message]["role"] == "assistant":
            found = np.searchsorted(ends, place)
            if found == len(ends) or ends[found] != place:
                cuts.append(character)
    return cuts


def holds_special(conversation: Conversation, special: SpecialText) -> bool:
    """Return whether the data of a conversation contains the string of a special token."""
    if any(special.is_in(content) for content in conversation.contents):
        return True
    extra = [m for m in conversation.messages if len(m) > 2]
    if not extra and conversation.tools is None:
        return False
    return special.is_in(json.dumps([extra, conversation.tools], ensure_ascii=False, default=str))


def map_strings(conversation: Conversation, change: Callable[[str], str]) -> Conversation:
    """Apply a change to every string in the data of a conversation except the roles."""

    def changed(value: Any) -> Any:
        if isinstance(value, str):
            return change(value)
        if isinstance(value, Mapping):
            return {key: changed(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [changed(item) for item in value]
        return value

    messages = tuple({**changed(m), "role": m["role"]} for m in conversation.messages)
    tools = None if conversation.tools is None else tuple(changed(conversation.tools))
    return replace(conversation, messages=messages, tools=tools)
