"""Batches: both sides cut at the same byte, what is not predicted left out, nothing lost unseen."""

import numpy as np
import pytest
import torch

from crosstok.chats import ExampleEncoder
from crosstok.tokenizers import TextEncoder
from crosstok.training import AlignedCollator
from crosstok.training.windows import window_starts
from tests.texts import SAMPLE
from tests.tiny import SENTENCES, tiny_tokenizer

BPE = TextEncoder(tiny_tokenizer("bytelevel_bpe"))
SPM = TextEncoder(tiny_tokenizer("spm_bpe"))
UNIGRAM = TextEncoder(tiny_tokenizer("unigram"))  # has no start token


def collate(student, teacher, max_length, examples, **options):
    """The collator's tensors, those of the only teacher under their plain names."""
    teachers = () if teacher is None else (ExampleEncoder(teacher),)
    collator = AlignedCollator(ExampleEncoder(student), teachers, max_length, **options)
    return {name.removesuffix(".0"): tensor for name, tensor in collator(examples).items()}


def rows(*texts: str, is_end: bool = True):
    return [{"text": text, "row": i, "is_end": is_end} for i, text in enumerate(texts)]


def test_chunks_with_an_unpredicted_token_are_left_out():
    batch = collate(SPM, UNIGRAM, 64, rows("Hello world"))
    assert batch["student_chunk_ids"][0, 0] == -1  # bos
    assert batch["teacher_chunk_ids"][0, 0] == -1  # the first text token: nothing predicts it
    first = int(batch["chunk_mask"][0].nonzero()[0])
    assert (
        not (batch["student_chunk_ids"][0] < first)[1:]
        .logical_and(batch["student_chunk_ids"][0, 1:] >= 0)
        .any()
    )


@pytest.mark.parametrize("limit", [8, 16, 33])
def test_both_sides_hold_the_same_text(limit):
    batch = collate(SPM, BPE, limit, rows(SAMPLE, *SENTENCES))
    assert batch["student_ids"].shape[1] <= limit
    assert batch["teacher_ids"].shape[1] <= limit
    for i, text in enumerate((SAMPLE, *SENTENCES)):
        kept = int(batch["num_bytes"][i])
        for encoder, side in ((SPM, "student"), (BPE, "teacher")):
            ids = batch[f"{side}_ids"][i][batch[f"{side}_attention_mask"][i].bool()].tolist()
            spelled = b"".join(encoder.byte_vocab.token_bytes[id_] or b"" for id_ in ids)
            assert spelled.removeprefix(b" ").startswith(text.encode()[:kept].removeprefix(b" "))
            assert len(spelled) in (kept, kept + 1)
        assert kept + int(batch["cut_bytes"][i]) == len(text.encode())


def test_every_chunk_of_the_batch_exists_on_both_sides():
    batch = collate(SPM, BPE, 24, rows(*SENTENCES))
    for i in range(len(SENTENCES)):
        chunks = set(batch["chunk_mask"][i].nonzero().flatten().tolist())
        for side in ("student", "teacher"):
            assert set(batch[f"{side}_chunk_ids"][i].tolist()) - {-1} == chunks


def test_the_document_end_is_only_there_where_the_text_ends():
    end = SPM.byte_vocab.document_end
    open_, closed = (
        collate(SPM, BPE, 64, rows("Hello", is_end=is_end)) for is_end in (False, True)
    )
    assert end not in open_["student_ids"][0]
    assert closed["student_ids"][0, -1] == end
    assert closed["chunk_is_special"][0, -1]
    assert closed["chunk_mask"][0, -1]


def test_empty_and_tiny_texts_make_a_batch():
    batch = collate(SPM, BPE, 8, rows("", "a"))
    assert batch["student_ids"].shape[0] == 2
    assert collate(UNIGRAM, UNIGRAM, 8, rows("", is_end=False))["student_ids"].shape == (
        1,
        1,
    )


def test_without_a_teacher_there_are_no_teacher_tokens():
    batch = collate(SPM, None, 16, rows("Hello world"))
    assert batch["teacher_ids"].shape == (1, 0)
    assert batch["student_loss_mask"].sum() == batch["student_attention_mask"].sum() - 1


def test_the_length_of_a_teacher_that_is_not_there_cuts_nothing():
    alone = collate(SPM, None, 64, rows(*SENTENCES))
    batch = collate(SPM, None, 64, rows(*SENTENCES), teacher_max_length=5)
    assert torch.equal(batch["student_ids"], alone["student_ids"])


def test_windows_join_to_the_text_and_keep_to_their_length():
    text = " ".join(SENTENCES) * 3
    starts = window_starts(text, 100)
    ends = [*starts[1:], len(text)]
    assert "".join(text[a:b] for a, b in zip(starts, ends, strict=True)) == text
    assert max(b - a for a, b in zip(starts, ends, strict=True)) <= 100
    assert sum(text[a] in " \n" for a in starts[1:]) > 0.9 * (len(starts) - 1)


def test_a_text_without_spaces_is_cut_all_the_same():
    starts = window_starts("x" * 1000, 64)
    assert np.diff(starts).tolist() == [64] * (len(starts) - 1)


def test_batches_are_tensors_only():
    assert all(isinstance(v, torch.Tensor) for v in collate(SPM, BPE, 8, rows("a")).values())


def test_padding_is_an_id_of_either_vocabulary():
    gapped = TextEncoder(tiny_tokenizer("gapped"))  # its specials lie beyond the other's ids
    batch = collate(gapped, UNIGRAM, 64, rows("a", "Hello there, general reader."))
    assert int(batch["teacher_ids"].max()) < len(UNIGRAM.byte_vocab.token_bytes)
    batch = collate(UNIGRAM, gapped, 64, rows("a", "Hello there, general reader."))
    assert int(batch["student_ids"].max()) < len(UNIGRAM.byte_vocab.token_bytes)
