"""Tables of the examination of a teacher and a student, from ``Examination.as_json``."""

from collections.abc import Iterator, Mapping
from typing import Any

from crosstok.reports.tables import Figures, Row

NONE = "—"

# Row by key of ``examples``.
_CAUSES = {
    "cut_bytes": "{:,} bytes lie beyond max_length",
    "unknown_bytes": "{:,} bytes are an unknown token to one side",
    "changed_bytes": "{:,} bytes are changed or dropped by a normaliser or template",
    "unmatched_bytes": "{:,} bytes are in no chunk for another reason",
    "tool_call_tokens": "{:,} tokens of calls and thoughts, which each template spells its own way",
    "template_tokens": "{:,} tokens that the student's template alone writes",
}


def examination_figures(numbers: Mapping[str, Any]) -> list[Figures]:
    """Make the tables, in order; empty ones are left out."""
    title = f"{numbers['teacher']}  teaches  {numbers['student']}"
    tables = [Figures(title, list(_pair(numbers)))]
    if numbers["template"]:
        header = ("piece", "teacher writes", "student writes", "matching")
        tables.append(Figures("chat templates", list(map(_piece, numbers["template"])), header))
    lost = list(_not_learned(numbers)) or [("nothing: every byte of the sample is in a chunk",)]
    tables.append(Figures("not learned from the teacher", lost))
    if numbers["steps"]:
        tables.append(_steps(numbers["steps"]))
    return tables


def advice_command(advice: Mapping[str, Any]) -> str:
    """Write the advice as flags of the command line."""
    options = "".join(
        f" --options {name}={'null' if value is None else value}"
        for name, value in advice["options"].items()
    )
    also = f" (or {' or '.join(advice['also'])})" if advice["also"] else ""
    return f"--objective {advice['objective']}{options}{also}"


def _pair(numbers: Mapping[str, Any]) -> Iterator[Row]:
    examples, vocabulary = numbers["examples"], numbers["vocabulary"]
    for side in ("teacher", "student"):
        yield side, _model(numbers["models"][side], vocabulary[f"{side}_ids"])
    kind = "chats" if numbers["kind"] == "chat" else "windows of text"
    yield (
        "sample",
        f"{examples['examples']:,} of {numbers['num_rows']:,} {kind} of "
        f"{numbers['data']}, {examples['bytes']:,} bytes to learn",
    )
    tokens = f"teacher {examples['teacher_tokens']:,}, student {examples['student_tokens']:,}"
    yield "tokens", tokens
    yield ()
    yield "coverage", f"{examples['coverage']:.4%} of bytes lie in a chunk"
    yield (
        "one-to-one",
        f"{examples['one_to_one_chunks']:.1%} of {examples['chunks']:,} chunks, "
        f"{examples['one_to_one_student_tokens']:.1%} of the student's tokens, "
        f"{examples['one_to_one_teacher_tokens']:.1%} of the teacher's",
    )
    yield (
        "shared vocabulary",
        f"{vocabulary['shared_ids']:,} ids, Jaccard index "
        f"{vocabulary['jaccard']:.3f}; {examples['teacher_only_tokens']:.2%} of the teacher's "
        "tokens are not in it",
    )
    yield "teacher's mass on it", _mass(numbers["mass"])
    yield "end of turn, of text", _ends(examples)


def _model(model: Mapping[str, Any] | None, num_ids: int) -> str:
    if model is None:
        return f"{num_ids:,} ids; tokenizer only, its model was not loaded"
    return f"{num_ids:,} ids, {model['parameters'] / 1e6:,.1f}M parameters"


def _mass(mass: Mapping[str, Any] | None) -> str:
    if mass is None:
        return f"{NONE} (needs the teacher's model)"
    shown = f"{mass['everywhere']:.3%} of its probability, at {mass['num_tokens']:,} tokens"
    if mass["one_to_one"] is None:
        return shown
    return f"{shown}; {mass['one_to_one']:.3%} at the one-to-one ones"


def _ends(examples: Mapping[str, Any]) -> str:
    if not examples["student_ends"] and not examples["teacher_ends"]:
        return f"{NONE} (none in the sample)"
    return f"{examples['matched_ends']:,} of {examples['student_ends']:,} matched"


def _piece(piece: Mapping[str, str]) -> Row:
    sides = {"left only": "teacher only", "right only": "student only"}
    matching = sides.get(piece["matching"], piece["matching"])
    return piece["piece"], _spelled(piece["left"]), _spelled(piece["right"]), matching


def _spelled(text: str) -> str:
    return text.replace("\n", "⏎") if text else NONE


def _not_learned(numbers: Mapping[str, Any]) -> Iterator[Row]:
    examples, vocabulary = numbers["examples"], numbers["vocabulary"]
    for name, form in _CAUSES.items():
        if examples[name]:
            yield (form.format(examples[name]),)
    only = vocabulary["teacher_ids"] - vocabulary["shared_ids"]
    if only:
        lacking = "ids of the teacher that the student lacks (alm alone compares their bytes)"
        yield (f"{only:,} {lacking}",)


def _steps(steps: list[Mapping[str, Any]]) -> Figures:
    first = steps[0]
    return Figures(
        f"a step on {first['device']}: the {first['examples']} longest examples",
        list(map(_step, steps)),
        ("objective", "teacher", "student", "AdamW", "step", "tokens/s", "peak memory"),
        frozenset(range(1, 7)),
    )


def _step(step: Mapping[str, Any]) -> Row:
    memory = step["peak_memory_gib"]
    return (
        step["objective"],
        *(f"{step[f'{part}_seconds']:.3f} s" for part in ("teacher", "student", "optimizer")),
        f"{step['seconds']:.3f} s",
        f"{step['student_tokens'] / step['seconds']:,.0f}",
        NONE if memory is None else f"{memory:.2f} GiB",
    )
