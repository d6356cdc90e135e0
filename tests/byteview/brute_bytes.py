"""The byte view by its definition: every token sequence written down, the encoder asked of each."""

from __future__ import annotations

import numpy as np
import torch

from crosstok.tokenizers import ByteVocab


def is_utf8(content):
    return "\ufffd" not in content.decode(errors="replace")


class Brute:
    """Sums over covers, for a toy model; nothing here is clever."""

    def __init__(self, model, tokenizer, target):
        self.model, self.tokenizer, self.target = model, tokenizer, target
        self.vocab = ByteVocab.from_tokenizer(tokenizer)
        self.text_ids = [i for i, content in enumerate(self.vocab.token_bytes) if content]
        self.is_bytes = any(not is_utf8(self.vocab.token_bytes[i]) for i in self.text_ids)
        self.strips = self.joined(tokenizer.encode("a", add_special_tokens=False)) == b" a"
        self.known: dict[tuple[int, ...], np.ndarray] = {}

    def joined(self, ids):
        return b"".join(self.vocab.token_bytes[i] for i in ids)

    def decode(self, ids):
        content = self.joined(ids)
        return content.removeprefix(b" ") if self.strips else content

    def is_canonical(self, ids):
        """Whether the encoder writes these tokens first for some text."""
        if self.is_bytes:  # which need not be text: the merges know no text
            pieces = "".join(self.tokenizer.convert_ids_to_tokens(list(ids)))
            return [
                token.id for token in self.tokenizer.backend_tokenizer.model.tokenize(pieces)
            ] == [*ids]
        text = self.decode(ids).decode()
        alphabet = {c for i in self.text_ids for c in self.vocab.token_bytes[i].decode()}
        for more in ("", "\ue000", *alphabet):
            found = self.tokenizer.encode(text + more, add_special_tokens=False)
            known = [i for i in found if i in self.text_ids]
            whole = text if len(known) < len(found) else text + more
            # Metaspace reads " a" as "a": such a text is not what its tokens say.
            if found[: len(ids)] == [*ids] and self.decode(known) == whole.encode():
                return True
        return False

    def probabilities(self, ids):
        """Of every next token under the target, and of the end."""
        ids = tuple(ids)
        if ids not in self.known:
            with torch.no_grad():
                row = torch.tensor([[self.vocab.document_start, *ids]])
                logits = self.model(row).logits[0, -1, : len(self.vocab)]
            p = torch.softmax(logits.double(), 0).numpy()
            if self.target != "all":
                for i in self.text_ids:
                    if not self.is_canonical([*ids, i]):
                        p[i] = 0.0
            if self.target == "canonical_renormalized":
                p = p / p.sum()
            self.known[ids] = p
        return self.known[ids]

    def covers(self, prefix, ids=(), weight=1.0):
        """(token sequence, probability) of every cover of some bytes."""
        content = self.decode(ids)
        if content == prefix and (ids or not prefix):
            yield ids, weight
            return
        p = self.probabilities(ids)
        for i in self.text_ids:
            after = self.decode((*ids, i))
            if p[i] == 0:
                continue
            if len(after) > len(prefix) and after.startswith(prefix):
                yield (*ids, i), weight * p[i]
            elif prefix.startswith(after):
                yield from self.covers(prefix, (*ids, i), weight * p[i])

    def prefix(self, content):
        return sum(weight for _, weight in self.covers(content))

    def spelt(self, content, ids=(), weight=1.0):
        """(token sequence, probability) of all that spell exactly these bytes."""
        if self.decode(ids) == content:
            yield ids, weight
        p = self.probabilities(ids)
        for i in self.text_ids:
            after = self.decode((*ids, i))
            is_longer = len(after) > len(self.decode(ids)) or not ids
            if p[i] and is_longer and content.startswith(after):
                yield from self.spelt(content, (*ids, i), weight * p[i])

    def next_bytes(self, content, alphabet):
        """[257] probabilities, normalised."""
        mass = np.zeros(257)
        for byte in alphabet:
            mass[byte] = self.prefix(content + bytes([byte]))
        for ids, weight in self.spelt(content):
            p = self.probabilities(ids)
            mass[256] += weight * sum(p[i] for i in self.vocab.special_ids)
        return mass / mass.sum()
