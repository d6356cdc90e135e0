import pytest

from crosstok.alignment import align, overlapping_tokens
from crosstok.chats import ExampleEncoder, parse_example
from crosstok.objectives.token_pairs import one_to_one_mask
from crosstok.reports import ExampleCounts, compare_vocabularies, shared_teacher_ids
from crosstok.tokenizers import TextEncoder
from crosstok.training import AlignedCollator, batch_of
from crosstok.training.rows import encode_rows
from tests.chats.chat_shapes import shape_encoder
from tests.tiny import KINDS, SENTENCES, tiny_tokenizer

SIDES = {kind: ExampleEncoder(TextEncoder(tiny_tokenizer(kind))) for kind in KINDS}
WINDOWS = [
    {"text": " ".join(SENTENCES[i:]), "row": i, "is_end": i % 2 == 0} for i in range(len(SENTENCES))
]
CALL = {"id": "abcdef123", "type": "function", "function": {"name": "get", "arguments": {"a": 1}}}


def chat_row(i: int) -> dict[str, object]:
    turns = [
        '{"role": "user", "content": "How are you? <|im_end|>"}',
        f'{{"role": "assistant", "content": "I am fine, thank you. {i} café"}}',
    ]
    return {"example": f'{{"messages": [{", ".join(turns * 2)}]}}', "where": f"row {i}", "row": i}


CHATS = [chat_row(i) for i in range(4)]


def count(rows, teacher, student, max_length=10_000, loss_on="assistant", teacher_max_length=None):
    vocabs = teacher.encoder.byte_vocab, student.encoder.byte_vocab
    counts = ExampleCounts(*vocabs, max_length, teacher_max_length)
    for theirs, ours in zip(*encode_rows(rows, (teacher, student), loss_on), strict=True):
        counts.add(theirs, ours, align(theirs, ours, *vocabs))
    return counts.numbers


@pytest.mark.parametrize("loss_on", ["assistant", "last", "all"])
@pytest.mark.parametrize("max_length", [24, 10_000])
@pytest.mark.parametrize(
    ("rows", "teacher", "student"),
    [
        (WINDOWS, SIDES["bytelevel_bpe"], SIDES["spm_bpe"]),
        (WINDOWS, SIDES["wordpiece"], SIDES["unigram"]),
        (WINDOWS, SIDES["unigram"], SIDES["wordpiece"]),
        (CHATS, shape_encoder("llama3"), shape_encoder("gemma")),
        (CHATS, shape_encoder("chatml"), shape_encoder("plain_spm")),
    ],
)  # fmt: skip
def test_the_numbers_are_those_of_the_batches_that_training_sees(
    rows, teacher, student, max_length, loss_on
):
    numbers = count(rows, teacher, student, max_length, loss_on, max_length + 5)
    collated = AlignedCollator(student, (teacher,), max_length, max_length + 5, loss_on)(rows)
    batch = batch_of(collated)
    assert numbers.examples == len(rows)
    assert numbers.bytes == int(batch.num_bytes.sum() + collated["cut_bytes"].sum())
    assert numbers.cut_bytes == int(collated["cut_bytes"].sum())
    covered, kept = int(batch.covered_bytes.sum()), int(batch.num_bytes.sum())
    assert numbers.coverage == pytest.approx(covered / kept if kept else 0.0)
    assert numbers.chunks == int(batch.chunk_mask.sum())
    one_to_one = int(one_to_one_mask(batch).sum())
    tokens = int(batch.student_loss_mask.sum()), int(batch.teacher_loss_mask.sum())
    assert (numbers.student_tokens, numbers.teacher_tokens) == tokens
    assert numbers.one_to_one_chunks == pytest.approx(one_to_one / max(1, numbers.chunks))
    assert numbers.one_to_one_student_tokens == pytest.approx(one_to_one / max(1, tokens[0]))
    assert numbers.one_to_one_teacher_tokens == pytest.approx(one_to_one / max(1, tokens[1]))
    reasons = numbers.unknown_bytes + numbers.changed_bytes + numbers.unmatched_bytes
    assert reasons == kept - covered


def test_one_to_one_shares_by_hand():
    teacher, student = SIDES["bytelevel_bpe"], SIDES["unigram"]
    row = {"text": "the dog and the fox", "row": 0, "is_end": True}
    numbers = count([row], teacher, student)
    theirs, ours = (side.encoder([row["text"]])[0] for side in (teacher, student))
    alignment = align(theirs, ours, teacher.encoder.byte_vocab, student.encoder.byte_vocab)
    singles = 0
    for chunk in range(alignment.num_chunks):
        inside = [
            [token for token, found in enumerate(ids) if found == chunk]
            for ids in (alignment.source_chunk_ids, alignment.target_chunk_ids)
        ]
        is_predicted = 0 not in (inside[0][0], inside[1][0])
        singles += is_predicted and list(map(len, inside)) == [1, 1]
    assert 0 < singles < len(ours)
    assert numbers.one_to_one_student_tokens == pytest.approx(singles / (len(ours) - 1))
    assert numbers.one_to_one_teacher_tokens == pytest.approx(singles / (len(theirs) - 1))
    assert (numbers.teacher_ends, numbers.student_ends, numbers.matched_ends) == (1, 1, 1)


def test_bytes_that_are_not_learned_have_a_cause():
    lossless, lower = SIDES["bytelevel_bpe"], SIDES["wordpiece"]
    row = {"text": "the Dog and नम", "row": 0, "is_end": True}
    numbers = count([row], lossless, lower)
    assert numbers.unknown_bytes >= len("नम".encode())
    assert numbers.changed_bytes >= len("Dog")
    assert numbers.coverage < 1
    assert (numbers.student_ends, numbers.teacher_ends, numbers.matched_ends) == (0, 1, 0)
    cut = count(WINDOWS, lossless, SIDES["spm_bpe"], max_length=20)
    assert cut.cut_bytes > 0
    assert cut.cut_share == cut.cut_bytes / cut.bytes
    assert cut.coverage == 1.0


def test_text_of_templates_and_tool_calls_is_counted_apart():
    teacher, student = shape_encoder("chatml"), shape_encoder("llama3")
    plain = count(CHATS, teacher, student)
    assert plain.tool_call_tokens == 0
    assert plain.template_tokens > 0  # the date that only this template writes
    assert plain.matched_ends == plain.student_ends == 2 * len(CHATS)
    messages = [
        {"role": "user", "content": "weather"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "sunny", "tool_call_id": "abcdef123"},
        {"role": "assistant", "content": "It is sunny."},
    ]
    example = parse_example({"messages": messages}, "row 0")
    (ours,) = student([example], loss_on="assistant")
    vocab = student.encoder.byte_vocab
    counts = ExampleCounts(vocab, vocab, 1000)
    counts.add(ours, ours, align(ours, ours, vocab, vocab))
    assert counts.numbers.tool_call_tokens > 0


def test_shared_vocabulary_and_tokens_that_the_student_lacks():
    teacher, student = SIDES["bytelevel_bpe"], SIDES["unigram"]
    vocabs = teacher.encoder.byte_vocab, student.encoder.byte_vocab
    numbers = compare_vocabularies(*vocabs)
    words = [{token for token in vocab.token_bytes if token is not None} for vocab in vocabs]
    both = len(words[0] & words[1]) + 1  # the end of a document
    assert numbers.shared_ids == both
    union = numbers.teacher_ids + numbers.student_ids - both
    assert numbers.jaccard == pytest.approx(both / union)
    assert not numbers.is_same
    shared = set(shared_teacher_ids(*vocabs).tolist())
    assert shared >= set(overlapping_tokens(*vocabs).source_ids.tolist())
    counted = count(WINDOWS, teacher, student)
    theirs, _ = encode_rows(WINDOWS, (teacher, student), "all")
    predicted = [id_ for spans in theirs for id_ in spans.ids[1:].tolist()]
    lacking = sum(id_ not in shared for id_ in predicted) / len(predicted)
    assert counted.teacher_only_tokens == pytest.approx(lacking)


@pytest.mark.parametrize("kind", KINDS)
def test_one_tokenizer_with_itself_shares_everything(kind):
    side = SIDES[kind]
    vocab = side.encoder.byte_vocab
    numbers = compare_vocabularies(vocab, vocab)
    assert numbers.is_same
    assert numbers.jaccard == 1.0
    assert numbers.shared_ids == numbers.teacher_ids == numbers.student_ids
    counted = count(WINDOWS, side, side)
    assert counted.one_to_one_chunks > 0.99  # a dummy prefix is a token of its own
    assert counted.teacher_only_tokens == 0.0


def test_nothing_has_no_coverage():
    vocab = SIDES["unigram"].encoder.byte_vocab
    numbers = ExampleCounts(vocab, vocab, 10).numbers
    assert (numbers.coverage, numbers.chunks, numbers.cut_share) == (0.0, 0, 0.0)
