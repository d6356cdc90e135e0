"""A whole ALM step against the student's fine-tuning step plus the teacher's forward pass.

One run, the same texts, interleaved, ratio of medians. The fine-tuning step is transformers' own
loss on the student's tokens with AdamW; the teacher's forward pass computes its logits, as in any
distillation.

    OMP_NUM_THREADS=1 python benchmarks/step.py
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from common import SHARED, check_folder, made_by, write_results
from transformers import TrainingArguments

from crosstok.chats import ExampleEncoder
from crosstok.corpora import load_corpus
from crosstok.models import load_model
from crosstok.objectives import ALM, CrossEntropy, FixedWeights, GradientMagnitude
from crosstok.teachers import LocalTeacher
from crosstok.tokenizers import TextEncoder, load_tokenizer
from crosstok.training import AlignedCollator, DistillationTrainer, Student
from crosstok.training.windows import window_starts
from crosstok.transplants import transplant

RESULTS = Path("benchmarks/step_cpu_202611.md")
OBJECTIVES = {
    "alm": ([ALM()], FixedWeights()),
    "alm+cross_entropy": ([ALM(), CrossEntropy()], GradientMagnitude()),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--targets", nargs="+", default=["small-spm-bpe-bytefallback-8k", "gpt2"])
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    check_folder(parser, "--shared", arguments.shared)
    rows = [measure(arguments, target, name) for target in arguments.targets for name in OBJECTIVES]
    write_results(RESULTS, report(arguments, rows))
    print(RESULTS.read_text())


def measure(arguments: argparse.Namespace, target_name: str, objective: str) -> str:
    """Measure one line of the table."""
    model_folder = str(arguments.shared / "models/llama-6m-bpe4k")
    source = TextEncoder(load_tokenizer(model_folder))
    target = TextEncoder(load_tokenizer(str(arguments.shared / "data/tokenizers" / target_name)))
    teacher_model = load_model(model_folder, dtype=torch.float32)
    student_model = load_model(model_folder, dtype=torch.float32)
    transplant(student_model, source, target)
    trainer = DistillationTrainer(
        Student(student_model, target),
        [LocalTeacher(teacher_model, source.byte_vocab)],
        *OBJECTIVES[objective],
        TrainingArguments(
            output_dir=tempfile.mkdtemp(), report_to=[], use_cpu=True, label_names=[]
        ),
    )
    optimizer = torch.optim.AdamW(student_model.parameters(), lr=1e-4)
    sides = ExampleEncoder(target), (ExampleEncoder(source),)
    collator = AlignedCollator(*sides, arguments.length)
    batch = collator(rows_of(arguments))

    def ours() -> None:
        (scored,), count = trainer.get_batch_samples(iter([batch]), 1, torch.device("cpu"))
        trainer.training_step(student_model, scored, count)
        optimizer.step()
        optimizer.zero_grad()

    def measuring() -> None:  # a step that also measures the objectives' gradients, every tenth
        trainer.state.global_step = 0
        ours()
        trainer.state.global_step = 1

    def fine_tuning() -> None:
        student_model.train()
        labels = batch["student_ids"].masked_fill(batch["student_attention_mask"] == 0, -100)
        student_model(
            batch["student_ids"], attention_mask=batch["student_attention_mask"], labels=labels
        ).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    @torch.no_grad()
    def teacher_forward() -> None:
        teacher_model(batch["teacher_ids"], attention_mask=batch["teacher_attention_mask"])

    medians = median_seconds(
        {
            "measuring": measuring,
            "ours": ours,
            "fine_tuning": fine_tuning,
            "teacher": teacher_forward,
        },
        arguments.repeats,
    )
    mean = 0.9 * medians["ours"] + 0.1 * medians["measuring"]
    ratio = mean / (medians["fine_tuning"] + medians["teacher"])
    return (
        f"| {target_name} | {objective} | {mean:.3f} | {medians['fine_tuning']:.3f} | "
        f"{medians['teacher']:.3f} | {ratio:.2f} |"
    )


def median_seconds(works: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Time each in turn, in several rounds; the first round is for warming up."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def rows_of(arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Windows of Wikipedia text that fill a batch."""
    folder = arguments.shared / "data/corpora/english_wikipedia_2019"
    rows = []
    for text in load_corpus(str(folder / "validation.jsonl.xz")).texts(arguments.batch_size):
        end = window_starts(text, int(3.1 * arguments.length))[1]
        rows.append({"text": text[:end], "row": 0, "is_end": False})
    return rows


def report(arguments: argparse.Namespace, rows: list[str]) -> str:
    head = [
        "# A training step against fine-tuning plus the teacher's forward pass",
        "",
        made_by("OMP_NUM_THREADS=1 python benchmarks/step.py", "one thread, fp32"),
        "",
        f"Llama of 6M parameters, full fine-tuning, {arguments.batch_size} x {arguments.length} "
        f"tokens; seconds, medians of {arguments.repeats} interleaved repeats. Target: at most "
        "1.15.",
        "",
        "| target | objective | our step | fine-tuning step | teacher's forward | ratio |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *rows]) + "\n"


if __name__ == "__main__":
    main()
