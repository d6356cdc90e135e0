"""Encode chat examples to ids with byte spans: one text, each tokenizer with its own template.

The text that two tokenizers share is the contents of the messages (with the thoughts and calls that
all templates write), joined in order, so that their spans align whether or not the templates agree.
Text of a template is zero-width and has a role: ``bos``, ``end_of_turn``, ``header_user`` ..., or
`TEMPLATE` for text that is never matched.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Int64

from crosstok.chats.conversations import Conversation, PromptCompletion
from crosstok.chats.left_out import LeftOut
from crosstok.chats.marks import END_OF_TURN, TOOL_CALL, Part, TemplateMarks, places_of_calls
from crosstok.chats.renderer import ChatRenderer, Skeleton
from crosstok.chats.spans import Learned, StructuredPiece, spans_of_pieces
from crosstok.chats.structure import SpecialText, StructureEncoder
from crosstok.choices import LossOn
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
        self._named: frozenset[tuple[str, str]] = frozenset()

    def __getstate__(self) -> dict[str, Any]:
        named = self._named if self._chat is None else frozenset(self._chat.left_out.named)
        return {"encoder": self.encoder, "chat_template": self.chat_template, "named": named}

    def __setstate__(self, state: dict[str, Any]) -> None:
        named = state.pop("named")
        self.__init__(**state)  # type: ignore[misc]
        self._named = named

    @property
    def chat(self) -> _Chat:
        """The template with its marks, read on first use.

        Raises:
            ValueError: the tokenizer has no chat template, or it cannot render user, assistant,
                user, assistant.
        """
        if self._chat is None:
            self._chat = _Chat(self.encoder, self.chat_template, self._named)
        return self._chat

    def __call__(self, examples: Sequence[Example], *, loss_on: LossOn) -> list[Spans]:
        """Encode a batch of examples.

        Args:
            examples: conversations, prompts with completions, or plain texts.
            loss_on: what `Spans.loss_mask` marks in a conversation: "assistant": every assistant
                turn after the prompt, with its end, its thoughts and its tool calls; "last": only
                the last of these turns; "all": every token. Turns that the row excludes from the
                loss are never marked. In a prompt with a completion it marks the tokens
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

        What the template leaves out (thoughts, fields of messages, tools, options) is logged with
        the number of turns that have it.

        Raises:
            ValueError: the template cannot render a conversation; the message names the row.
        """
        found = False
        for example in examples:
            if isinstance(example, Conversation):
                found = True
                self.chat.renderer.skeleton(example)
                self.chat.left_out.look(example, self.chat.renderer)
        if found:
            self.chat.left_out.report(is_final=True)


class _Chat:
    """One chat template: its renderer, its marks, and the encoder of its renderings."""

    def __init__(
        self,
        encoder: TextEncoder,
        chat_template: str | None,
        named: frozenset[tuple[str, str]] = frozenset(),
    ) -> None:
        self.renderer = ChatRenderer(encoder.tokenizer, chat_template)
        self.marks = TemplateMarks.learn(self.renderer, encoder.tokenizer)
        self.trims = self.renderer.trims() | self._swallowed(encoder)
        self.structure = StructureEncoder(encoder)
        name = getattr(encoder.tokenizer, "name_or_path", "") or type(encoder.tokenizer).__name__
        self.left_out = LeftOut(name, named)
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
        for conversation in conversations:
            self.left_out.look(conversation, self.renderer, is_first_time=True)
        self.left_out.report(is_final=False)
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
                    conversation.texts,
                    self._vocab,
                    _learned(conversation, loss_on),
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

    def calls(self, conversation: Conversation) -> dict[int, str]:
        """Return what the template writes for the calls of messages."""
        return {
            piece.message: piece.text
            for piece in self._structured(replace(conversation, shared_calls=frozenset()))
            if piece.role == TOOL_CALL and piece.message is not None
        }

    def _structured(self, conversation: Conversation) -> list[StructuredPiece]:
        skeleton, pieces = self.renderer.pieces(conversation)
        all_texts = conversation.texts
        gaps, texts = [""], []
        for string, number, skipped in pieces:
            if number is None:
                gaps[-1] += string
                continue
            text = all_texts[number]
            left_out = text.string[:skipped] if skipped else ""
            num_skipped = len(self.structure.special_text.unquote(left_out).encode())
            texts.append(StructuredPiece(string, None, text.message, number, num_skipped))
            gaps.append("")
        parts = self._parts(skeleton, gaps, conversation)
        structured: list[StructuredPiece] = []
        for index, gap in enumerate(parts):
            for string, role, message in gap:
                if role == TOOL_CALL and message is not None and conversation.shared_calls:
                    structured += _pieces_of_calls(conversation, message, string)
                else:
                    structured.append(StructuredPiece(string, role, message))
            structured += texts[index : index + 1]
        return structured

    def _parts(
        self, skeleton: Skeleton, gaps: list[str], conversation: Conversation
    ) -> list[list[Part]]:
        """Split the template's text into parts; they are cached if the text is the skeleton's."""
        kept = self._layouts.get(skeleton)
        if kept is not None and kept[0] == gaps:
            return kept[1]
        parts = self.marks.split(gaps, skeleton.placed_texts(), conversation.messages)
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


def _pieces_of_calls(
    conversation: Conversation, message: int, string: str
) -> list[StructuredPiece]:
    """Split what a template writes for the calls of a message at the strings that are shared."""
    shared = [number for index, number in sorted(conversation.shared_calls) if index == message]
    numbers = [
        number
        for number, text in enumerate(conversation.texts)
        if (text.message, text.kind) == (message, "call")
    ]
    pieces, place = [], 0
    found = places_of_calls(conversation.messages[message], string, shared)
    for call, number in zip(shared, numbers, strict=True):
        if call in found:
            begin, end = found[call]
            pieces += [
                StructuredPiece(string[place:begin], TOOL_CALL, message),
                StructuredPiece(string[begin:end], None, message, number),
            ]
            place = end
    pieces.append(StructuredPiece(string[place:], TOOL_CALL, message))
    return [piece for piece in pieces if piece.text]


def _learned(conversation: Conversation, loss_on: LossOn) -> Learned:
    turns = [
        index
        for index, message in enumerate(conversation.messages)
        if message["role"] == "assistant"
        and index >= conversation.num_prompt_messages
        and index not in conversation.untrained
    ]
    if loss_on == "all":
        return Learned(None, conversation.untrained)
    return Learned(turns[-1:] if loss_on == "last" else turns)


def _straddled_ends(
    pieces: Sequence[StructuredPiece], ends: Int64[np.ndarray, " T"], conversation: Conversation
) -> list[int]:
    """Find the characters where an assistant's content ends inside a token."""
    texts = conversation.texts
    cuts = []
    place = character = 0
    for piece in pieces:
        character += len(piece.text)
        place += len(piece.text.encode())
        if piece.number is None or not piece.text or texts[piece.number].kind != "content":
            continue
        if conversation.messages[texts[piece.number].message]["role"] == "assistant":
            found = np.searchsorted(ends, place)
            if found == len(ends) or ends[found] != place:
                cuts.append(character)
    return cuts


def holds_special(conversation: Conversation, special: SpecialText) -> bool:
    """Return whether the data of a conversation contains the string of a special token."""
    if any(special.is_in(content) for content in conversation.contents):
        return True
    extra = [m for m in conversation.messages if len(m) > 2]
    more = [extra, conversation.tools, conversation.options]
    return any(more) and special.is_in(json.dumps(more, ensure_ascii=False, default=str))


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
    options = changed(conversation.options)
    return replace(conversation, messages=messages, tools=tools, options=options)
