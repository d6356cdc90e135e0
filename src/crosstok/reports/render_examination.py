"""Pictures of the examination of a teacher and a student. Computes nothing but shares of sums."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_LEVELS = {"error": "bold red", "warning": "yellow", "note": "dim"}
_NONE = "—"

# Label and what it means, by key of ``not_learned``.
_CAUSES = {
    "cut_bytes": "{:,} bytes lie behind max_length",
    "unknown_bytes": "{:,} bytes are an unknown token to one side",
    "changed_bytes": "{:,} bytes are changed or dropped by a normaliser or template",
    "unmatched_bytes": "{:,} bytes are in no chunk for another reason",
    "tool_call_tokens": "{:,} tokens of tool calls, which each template spells its own way",
    "template_tokens": "{:,} tokens that the student's template alone writes",
}


def print_examination(console: Console, numbers: Mapping[str, Any]) -> None:
    """Print what ``Examination.as_json`` gives: tables, advice, and a line for each flag."""
    console.print(_pair(numbers))
    if numbers["template"]:
        console.print(_template(numbers["template"]))
    console.print(_not_learned(numbers))
    if numbers["steps"]:
        console.print(_steps(numbers["steps"]))
    _print_advice(console, numbers["advice"])
    for flag in numbers["flags"]:
        line = f"[{_LEVELS[flag['level']]}]{flag['level']}:[/] {escape(flag['message'])}"
        console.print(line, highlight=False, soft_wrap=True)


def _pair(numbers: Mapping[str, Any]) -> Table:
    examples, vocabulary = numbers["examples"], numbers["vocabulary"]
    title = f"{escape(numbers['teacher'])}  teaches  {escape(numbers['student'])}"
    table = Table(title=title, show_header=False)
    for side in ("teacher", "student"):
        table.add_row(side, _model(numbers["models"][side], vocabulary[f"{side}_ids"]))
    kind = "chats" if numbers["kind"] == "chat" else "windows of text"
    table.add_row(
        "sample", f"{examples['examples']:,} of {numbers['num_rows']:,} {kind} of "
        f"{escape(numbers['data'])}, {examples['bytes']:,} bytes to learn",
    )  # fmt: skip
    table.add_row(
        "tokens", f"teacher {examples['teacher_tokens']:,}, student {examples['student_tokens']:,}"
    )
    table.add_section()
    table.add_row("coverage", f"{examples['coverage']:.4%} of bytes lie in a chunk")
    table.add_row(
        "one-to-one", f"{examples['one_to_one_chunks']:.1%} of {examples['chunks']:,} chunks, "
        f"{examples['one_to_one_student_tokens']:.1%} of the student's tokens, "
        f"{examples['one_to_one_teacher_tokens']:.1%} of the teacher's",
    )  # fmt: skip
    table.add_row(
        "shared vocabulary", f"{vocabulary['shared_ids']:,} ids, Jaccard index "
        f"{vocabulary['jaccard']:.3f}; {examples['teacher_only_tokens']:.2%} of the teacher's "
        "tokens are not in it",
    )  # fmt: skip
    table.add_row("teacher's mass on it", _mass(numbers["mass"]))
    table.add_row("end of turn, of text", _ends(examples))
    return table


def _model(model: Mapping[str, Any] | None, num_ids: int) -> str:
    if model is None:
        return f"{num_ids:,} ids; tokenizer only, its model was not loaded"
    return f"{num_ids:,} ids, {model['parameters'] / 1e6:,.1f}M parameters"


def _mass(mass: Mapping[str, Any] | None) -> str:
    if mass is None:
        return f"{_NONE} (needs the teacher's model)"
    shown = f"{mass['everywhere']:.3%} of its probability, at {mass['num_tokens']:,} tokens"
    if mass["one_to_one"] is None:
        return shown
    return f"{shown}; {mass['one_to_one']:.3%} at the one-to-one ones"


def _ends(examples: Mapping[str, Any]) -> str:
    if not examples["student_ends"] and not examples["teacher_ends"]:
        return f"{_NONE} (none in the sample)"
    return f"{examples['matched_ends']:,} of {examples['student_ends']:,} matched"


def _template(pieces: list[Mapping[str, str]]) -> Table:
    table = Table(title="chat templates")
    for name in ("piece", "teacher writes", "student writes", "matching"):
        table.add_column(name, overflow="fold")
    sides = {"left only": "teacher only", "right only": "student only"}
    for piece in pieces:
        matching = sides.get(piece["matching"], piece["matching"])
        texts = (_spelled(piece["left"]), _spelled(piece["right"]))
        table.add_row(escape(piece["piece"]), *texts, matching)
    return table


def _spelled(text: str) -> str:
    return escape(text.replace("\n", "⏎")) if text else _NONE


def _not_learned(numbers: Mapping[str, Any]) -> Table:
    table = Table(title="not learned from the teacher", show_header=False)
    examples, vocabulary = numbers["examples"], numbers["vocabulary"]
    for name, form in _CAUSES.items():
        if examples[name]:
            table.add_row(form.format(examples[name]))
    only = vocabulary["teacher_ids"] - vocabulary["shared_ids"]
    if only:
        table.add_row(
            f"{only:,} ids of the teacher that the student lacks (alm alone compares their bytes)"
        )
    if not table.row_count:
        table.add_row("nothing: every byte of the sample is in a chunk")
    return table


def _steps(steps: list[Mapping[str, Any]]) -> Table:
    first = steps[0]
    table = Table(title=f"a step on {first['device']}: the {first['examples']} longest examples")
    table.add_column("objective")
    for name in ("teacher", "student", "AdamW", "step", "tokens/s", "peak memory"):
        table.add_column(name, justify="right")
    for step in steps:
        memory = step["peak_memory_gib"]
        table.add_row(
            escape(step["objective"]),
            *(f"{step[f'{part}_seconds']:.3f} s" for part in ("teacher", "student", "optimizer")),
            f"{step['seconds']:.3f} s",
            f"{step['student_tokens'] / step['seconds']:,.0f}",
            _NONE if memory is None else f"{memory:.2f} GiB",
        )
    return table


def _print_advice(console: Console, advice: Mapping[str, Any]) -> None:
    options = "".join(
        f" --options {name}={'null' if value is None else value}"
        for name, value in advice["options"].items()
    )
    also = f" (or {' or '.join(advice['also'])})" if advice["also"] else ""
    shown = f"[bold green]recommended:[/] --objective {advice['objective']}{options}{also}"
    console.print(shown, highlight=False, soft_wrap=True)
    console.print(f"  because {escape(advice['reason'])}", highlight=False, soft_wrap=True)
    for hint in advice["hints"]:
        console.print(f"[dim]hint:[/] {escape(hint)}", highlight=False, soft_wrap=True)
