import math

import numpy as np
import pytest

from crosstok.evaluation import read_exam, take_exam
from crosstok.evaluation.exams import join
from tests.tiny import KINDS

PAIRS = [
    {"good": "The dog does not mind.", "bad": "The dog do not mind."},
    {"good": "How are you today?", "bad": "How is you today?"},
]
CHOICES = [
    {
        "query": "In the morning she walked to the",
        "choices": ["market", "cheese and", "a"],
        "gold": 0,
    },
    {"query": "Answer: ", "choices": ["A", "B"], "gold": 1},
]
SCHEMAS = [
    {"context_options": ["The dog said", "The reader said"], "continuation": "hello.", "gold": 1}
]
CLOZES = [
    {"context": "It was the best of times, it was the worst of", "continuation": "times"},
    {"context": "1+1=", "continuation": "2"},
]


def naive_option(scorer, context, continuation, naive_logprobs):
    """Log-likelihood of the tokens that end behind the context, and whether all are greedy."""
    context, continuation = join(context, continuation)
    (spans,) = scorer.encode([context + continuation])
    start = [] if scorer.start is None else [scorer.start]
    ids = [*start, *spans.ids]
    table = naive_logprobs(scorer, ids)
    total, greedy = 0.0, True
    for token, end in enumerate(spans.ends):
        place = token + len(start)
        if (not context or end > len(context.encode())) and place > 0:
            total += table[place - 1][ids[place]]
            greedy &= bool(table[place - 1].argmax() == ids[place])
    return total, greedy, len(continuation.encode())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [PAIRS, CHOICES, SCHEMAS, CLOZES])
def test_scores_equal_full_logits(make_model, naive_logprobs, kind, rows):
    model = make_model(kind)
    scorer, items = model.scorer, read_exam(rows, "exam")
    right = right_by_sum = 0
    bits = num_bytes = 0.0
    for item in items:
        scored = [naive_option(scorer, *option, naive_logprobs) for option in item.options]
        sums = np.array([total for total, _, _ in scored])
        widths = np.array([width for _, _, width in scored])
        by_sum = sums.argmax() == item.gold
        right_by_sum += by_sum
        bits, num_bytes = bits - sums[0] / math.log(2), num_bytes + widths[0]
        if item.form == "cloze":
            right += scored[0][1]
        else:
            right += (sums / widths).argmax() == item.gold if item.form == "choice" else by_sum
    figures = take_exam(model, items).as_json()
    accuracy = right / len(items)
    assert figures["accuracy"] == accuracy
    assert figures["items"] == len(items)
    assert figures["stderr"] == pytest.approx(math.sqrt(accuracy * (1 - accuracy) / len(items)))
    assert figures.get("accuracy_sum", right_by_sum / len(items)) == right_by_sum / len(items)
    if items[0].form == "cloze":
        assert figures["bits_per_byte"] == pytest.approx(bits / num_bytes, rel=1e-5)


def test_greedy_continuations_are_right(make_model, naive_logprobs):
    model = make_model()
    scorer = model.scorer
    context = "The quick brown fox"
    (spans,) = scorer.encode([context])
    table = naive_logprobs(scorer, [scorer.start, *spans.ids, 0])
    texts = [scorer.byte_vocab.token_bytes[i] or b"" for i in np.argsort(-table[-1])]
    best = next(t.decode() for t in texts if t.isascii() and t.strip())
    good = [{"context": context, "continuation": best}]
    (joined,) = scorer.encode(["".join(join(context, best))])
    expected = joined.ids[-1] == table[-1].argmax() and len(joined.ids) == len(spans.ids) + 1
    assert take_exam(model, read_exam(good, "exam")).accuracy == float(expected)


def test_a_tie_is_not_right(make_model):
    same = [{"query": "The dog", "choices": ["sat down", "sat down"], "gold": 0}]
    assert take_exam(make_model(), read_exam(same, "exam")).accuracy == 0.0


def test_batch_size_changes_no_answer(make_model):
    items = read_exam(CHOICES * 3, "exam")
    models = [make_model(tokens_per_batch=size) for size in (1, 8192)]
    answers = [take_exam(model, items).as_json() for model in models]
    assert answers[0] == answers[1]


def test_long_contexts_lose_their_beginning(make_model):
    row = {"context": "It was the age of wisdom. " * 20 + "It was the age of", "continuation": "x"}
    short = {"context": "It was the age of", "continuation": "x"}
    model = make_model(max_length=16)
    assert take_exam(model, read_exam([row], "exam")).truncated == 1
    assert take_exam(model, read_exam([short], "exam")).truncated == 0


@pytest.mark.parametrize(
    ("context", "continuation", "expected"),
    [
        ("The sky is", "blue", " blue"),
        ("25 - 759 =", " -734", " -734"),
        ("25-759=", "-734", "-734"),
        ("Question: how?\n", "so", "so"),
        ("空は", "青い", "青い"),
        ("", "whole text", "whole text"),
    ],
)
def test_one_space_joins_what_has_none(context, continuation, expected):
    assert join(context, continuation) == (context, expected)


def test_the_other_choice_forms_are_put_as_choices():
    question = {"question": "Why?", "choices": ["a", "b"], "gold": 1}
    cause = {"premise": "It rained.", "question": "cause", "choices": ["c", "d"], "gold": 0}
    effect = {**cause, "question": "effect"}
    items = read_exam([question, cause, effect], "exam")
    query = "Question: Why?\nAnswer:"
    assert items[0].options == ((query, "a"), (query, "b"))
    assert items[1].options == (("c", "It rained."), ("d", "It rained."))
    assert items[2].options == (("It rained.", "c"), ("It rained.", "d"))


def test_a_limit_takes_evenly_spaced_items():
    rows = [{"context": str(number), "continuation": "x"} for number in range(10)]
    contexts = [item.options[0][0] for item in read_exam(rows, "exam", limit=4)]
    assert contexts == ["0", "2", "5", "7"]
    assert len(read_exam(rows, "exam", limit=99)) == 10


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "exam e.jsonl holds no row"),
        ([{"prompt": "a", "answer": "b"}], r"row 1: keys \['answer', 'prompt'\].*pair: good, bad"),
        ([PAIRS[0], CLOZES[0]], "row 2 has the form cloze, and the rows before it have pair"),
        ([{**CHOICES[0], "gold": 3}], r"gold is 3; .* 0 to 2"),
        ([{**CHOICES[0], "gold": "A"}], r"gold is 'A'"),
        ([{**CHOICES[0], "choices": ["a"]}], r"choices is \['a'\]; it must be a list of at least"),
        ([{**CLOZES[0], "continuation": " "}], r"continuation is ' '; it must be text"),
        ([{**PAIRS[0], "bad": None}], r"bad is None"),
        (
            [{"premise": "p", "question": "why", "choices": ["a", "b"], "gold": 0}],
            "question is 'why'; with a premise",
        ),
    ],
)
def test_rows_that_are_no_exam_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        read_exam(rows, "e.jsonl")


def test_a_limit_must_be_positive():
    with pytest.raises(ValueError, match="limit is 0; it must be at least 1"):
        read_exam(PAIRS, "exam", limit=0)
