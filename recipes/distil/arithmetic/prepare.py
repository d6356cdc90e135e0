"""Make what the experiment starts from: data, two tokenizers, a teacher and a weak student.

    python recipes/distil/arithmetic/prepare.py --work out/arithmetic

About 10 minutes on one CPU core with AVX-512 bf16. What is there already is not made again. The
teacher sees 20,000 worked problems (with --gsm8k also the training set of GSM8K), the student as
many others, for fewer steps. Everything is seeded; `training.json` beside each model says what it
was made with and what it reaches.
"""

import argparse
import json
import lzma
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from exam import take_exam
from models import (
    STUDENT,
    TEACHER,
    Example,
    Schedule,
    Shape,
    encode_chats,
    new_model,
    save,
    train,
)
from problems import problems, write_rows
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast
from vocabularies import train_student_tokenizer, train_teacher_tokenizer

NUM_ROWS = {"teacher": 20_000, "student": 20_000, "validation": 210, "test": 420}
SEEDS = {"teacher": 1, "student": 2, "validation": 3, "test": 4}
NUM_STUDENT_ROWS, FIRST_STUDENT_SEED = 10_000, 1000
TEACHER_SCHEDULE = Schedule(steps=2000, batch_size=32, learning_rate=2e-3)
STUDENT_SCHEDULE = Schedule(steps=1600, batch_size=32, learning_rate=3e-3)
GSM8K = Path("data/corpora/instructions/gsm8k_train.jsonl.xz")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("out/arithmetic"))
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--gsm8k", action="store_true", help="also show the teacher GSM8K")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    prepare(arguments.work, arguments.shared / GSM8K if arguments.gsm8k else None)


def prepare(work: Path, gsm8k: Path | None) -> None:
    """Every stage, skipping those that are done."""
    make_data(work / "data")
    make_student_rows(work, 0)
    make_tokenizers(work)
    if not (work / "teacher/training.json").is_file():
        make_teacher(work, gsm8k)
    if not (work / "student/training.json").is_file():
        make_student(work)


def make_data(folder: Path) -> None:
    """Rows of every split, as chats."""
    for name, num in NUM_ROWS.items():
        file = folder / f"{name}.jsonl"
        if not file.is_file():
            split = name if name in ("validation", "test") else "train"
            write_rows(file, [p.row() for p in problems(split, num, SEEDS[name])])


def make_student_rows(work: Path, seed: int) -> None:
    """What the student is taught on: other rows for every seed."""
    file = work / f"data/student-{seed}.jsonl"
    if not file.is_file():
        rows = problems("train", NUM_STUDENT_ROWS, FIRST_STUDENT_SEED + seed)
        write_rows(file, [problem.row() for problem in rows])


def make_tokenizers(work: Path) -> None:
    """Both trained on the teacher's rows, without GSM8K; the roles are words they know."""
    if (work / "tokenizers/student/tokenizer.json").is_file():
        return
    texts = [
        m["content"] for row in read_rows(work / "data/teacher.jsonl") for m in row["messages"]
    ]
    texts += ["user", "assistant", "model"] * 1000
    train_teacher_tokenizer(texts).save_pretrained(work / "tokenizers/teacher")
    train_student_tokenizer(texts).save_pretrained(work / "tokenizers/student")


def make_teacher(work: Path, gsm8k: Path | None) -> None:
    """Train on all kinds of problems."""
    tokenizer = AutoTokenizer.from_pretrained(work / "tokenizers/teacher")
    rows = read_rows(work / "data/teacher.jsonl")
    if gsm8k is not None:
        rows += gsm8k_rows(gsm8k)
    examples = encode_chats(tokenizer, rows)
    facts = {"rows": len(examples), "gsm8k": gsm8k is not None}
    make_model(work, "teacher", tokenizer, TEACHER, (examples, TEACHER_SCHEDULE), facts)


def make_student(work: Path) -> None:
    """Train on problems of its own, for long enough to answer some."""
    tokenizer = AutoTokenizer.from_pretrained(work / "tokenizers/student")
    examples = encode_chats(tokenizer, read_rows(work / "data/student.jsonl"))
    facts = {"rows": len(examples), "gsm8k": False}
    make_model(work, "student", tokenizer, STUDENT, (examples, STUDENT_SCHEDULE), facts)


def make_model(
    work: Path,
    name: str,
    tokenizer: PreTrainedTokenizerFast,
    shape: Shape,
    training: tuple[list[Example], Schedule],
    facts: dict[str, Any],
) -> None:
    """Train, save, examine and note down."""
    examples, schedule = training
    model = new_model(tokenizer, shape, schedule.seed)
    seconds = train(model, examples, schedule, bf16=True)
    end_of_turn = {"teacher": "<|im_end|>", "student": "<end_of_turn>"}[name]
    save(model, tokenizer, work / name, end_of_turn)
    reloaded = LlamaForCausalLM.from_pretrained(work / name)
    result = asdict(take_exam(reloaded, tokenizer, read_rows(work / "data/test.jsonl")))
    record = {
        **facts,
        "tokens_a_row": sum(len(e["input_ids"]) for e in examples) / len(examples),
        "parameters": model.num_parameters(),
        "vocabulary": len(tokenizer),
        "shape": asdict(shape),
        "schedule": asdict(schedule),
        "seconds": round(seconds),
        "exam": {key: value for key, value in result.items() if key != "answers"},
        "answers": result["answers"][:14],
    }
    (work / name / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    print(name, json.dumps(record["exam"]))


def gsm8k_rows(file: Path) -> list[dict[str, Any]]:
    """GSM8K's training set as chats: calculator notes taken out, answers in our words."""
    rows = []
    with lzma.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            work, number = re.sub(r"<<.*?>>", "", row["answer"]).split("\n#### ")
            answer = f"{work} The answer is {number}."
            messages = [
                {"role": "user", "content": row["question"]},
                {"role": "assistant", "content": answer},
            ]
            rows.append({"messages": messages})
    return rows


def read_rows(file: Path) -> list[dict[str, Any]]:
    """One row a line."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
