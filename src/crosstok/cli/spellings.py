"""What other tools call an option or a command, and what crosstok calls it.

Flags are written here with dashes; `--max_steps` is read as `--max-steps` before. A reply applies
to a command that has every flag in it; of several replies the first that applies is given. A reply
that ends in a full stop is a sentence for all commands.
"""

import re
from collections.abc import Collection

_PRECISION = ("--precision",)
_DATA = ("--data",)
_MODEL = ("--model", "--student", "--source and --target")
_LENGTH = ("--max-length", "--max-new-tokens")
_WHOLE = "Models are trained whole on each device; start several with torchrun."

_ALIASES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("num-train-epochs num-epochs n-epochs epoch max-epochs", ("--epochs",)),
    (
        "max-train-steps num-train-steps train-steps num-steps steps total-steps iterations",
        ("--max-steps",),
    ),
    ("lr learn-rate peak-lr", ("--learning-rate",)),
    ("lr-scheduler-type scheduler schedule", ("--lr-scheduler",)),
    ("warmup-ratio warmup num-warmup-steps lr-warmup-steps", ("--warmup-steps",)),
    ("optim", ("--optimizer",)),
    ("wd", ("--weight-decay",)),
    ("grad-clip clip-grad clip-grad-norm gradient-clip-val", ("--max-grad-norm",)),
    ("adam-beta1 beta1", ("--trainer adam_beta1=VALUE",)),
    ("adam-beta2 beta2", ("--trainer adam_beta2=VALUE",)),
    ("adam-epsilon", ("--trainer adam_epsilon=VALUE",)),
    ("save-total-limit", ("--trainer save_total_limit=NUMBER",)),
    ("torch-compile compile", ("--trainer torch_compile=true",)),
    ("run-name", ("--trainer run_name=NAME",)),
    (
        "per-device-train-batch-size per-gpu-train-batch-size train-batch-size micro-batch-size "
        "batch",
        ("--batch-size",),
    ),
    (
        "gradient-accumulation grad-accum accumulate-grad-batches",
        ("--gradient-accumulation-steps",),
    ),
    ("bf16 bfloat16", ("--precision bf16",)),
    ("fp16 half float16", ("--precision fp16",)),
    ("fp32 float32", ("--precision fp32",)),
    ("dtype torch-dtype mixed-precision amp", _PRECISION),
    ("logging-steps log-steps log-interval logging-strategy", ("--log-every",)),
    ("save-steps save-interval save-strategy checkpoint-every", ("--save-every",)),
    ("eval-steps eval-interval eval-strategy evaluation-strategy", ("--eval-every",)),
    ("use-peft peft use-lora", ("--lora",)),
    ("lora-r lora-dim", ("--lora-rank",)),
    ("lora-dropout lora-target-modules", ("--lora, --lora-rank and --lora-alpha",)),
    (
        "load-in-4bit load-in-8bit",
        ("--teacher-options quantization_config.load_in_4bit=true",),
    ),
    (
        "attn-implementation use-flash-attention-2 flash-attn",
        ("--model-options attn_implementation=NAME",),
    ),
    (
        "model-name-or-path model-name model-id model-path pretrained base-model "
        "pretrained-model-name-or-path model-args",
        _MODEL,
    ),
    ("model", ("--student and --teacher", "--source and --target")),
    (
        "teacher-model-name-or-path teacher-model teacher-name teacher-path",
        ("--teacher", "--model (the model is its own teacher)"),
    ),
    (
        "student-model-name-or-path student-model student-name student-path",
        ("--student", "--model"),
    ),
    (
        "tokenizer-name tokenizer-name-or-path tokenizer-path target-tokenizer new-tokenizer",
        ("--tokenizer", "--target"),
    ),
    ("source source-model source-tokenizer", ("--source", "--model", "--student")),
    ("target target-model tokenizer", ("--tokenizer", "--target")),
    (
        "dataset-name dataset datasets train-file train-data train-dataset data-path data-dir "
        "data-files data-file input-file file",
        (*_DATA, "--prompt-file"),
    ),
    ("dataset-config-name dataset-config", ("--data NAME:CONFIGURATION",)),
    ("dataset-split dataset-train-split train-split", ("--split",)),
    ("dataset-text-field text-column text-column-name", ("--text-field",)),
    (
        "validation-file validation-data eval-dataset eval-file test-file do-eval",
        ("--eval-data", "--data"),
    ),
    ("output-dir output-path out-dir out save-dir save-path output-folder", ("--output", "--json")),
    ("overwrite-output-dir overwrite-output force", ("--overwrite",)),
    (
        "max-seq-length max-seq-len max-len block-size model-max-length sequence-length seq-len "
        "context-length cutoff-len max-model-len",
        _LENGTH,
    ),
    ("resume-from-checkpoint continue", ("--resume",)),
    ("random-seed data-seed manual-seed", ("--seed",)),
    ("dataloader-num-workers preprocessing-num-workers workers", ("--num-workers",)),
    ("wandb use-wandb wandb-project", ("--report-to wandb",)),
    ("hub-model-id push-to-hub-model-id", ("--push-to-hub",)),
    ("no-cuda use-cpu cpu", ("--device cpu",)),
    ("gpu cuda device-map", ("--device",)),
    ("completion-only-loss assistant-only-loss train-on-inputs", ("--loss-on",)),
    ("config config-file config-path yaml", ("--recipe",)),
    ("deepspeed fsdp", (_WHOLE,)),
    ("do-train", ("Every run trains; leave it out.",)),
    ("tasks", ("--task",)),
    ("fewshot n-shot num-shots", ("--num-fewshot",)),
    ("include-path", ("--task-folder",)),
    ("max-samples max-examples num-samples", ("--max-texts", "--num-return-sequences", "--limit")),
    ("per-device-eval-batch-size eval-batch-size", ("--batch-size",)),
    ("max-tokens max-new max-length num-tokens", ("--max-new-tokens", "--max-length")),
    ("do-sample", ("--temperature 1",)),
    ("num-beams", ("Answers are sampled or greedy; leave it out.",)),
    ("n num-completions num-generations", ("--num-return-sequences",)),
    ("stop-strings stop-sequences until", ("--stop",)),
    ("system-prompt system-instruction", ("--system",)),
    ("prompts input text", ("--prompt", "--data")),
)

REPLIES: dict[str, tuple[str, ...]] = {
    f"--{name}": replies for names, replies in _ALIASES for name in names.split()
}
"""What to use instead of a flag of another tool, the best first."""

COMMANDS: dict[str, str] = {
    **dict.fromkeys(
        ("train", "finetune", "fine-tune", "sft", "run"), "transfer or crosstok distil"
    ),
    **dict.fromkeys(("kd", "gkd", "teach"), "distil"),
    **dict.fromkeys(("eval", "lm-eval", "lm_eval", "bench", "benchmark", "compare"), "evaluate"),
    **dict.fromkeys(("convert", "init", "swap", "retokenize"), "transplant"),
    **dict.fromkeys(("tokenize", "tokenizer", "tokenizers", "align", "doctor", "pair"), "inspect"),
    **dict.fromkeys(("complete", "predict", "infer", "sample"), "generate"),
    **dict.fromkeys(("chat", "talk"), "generate --chat"),
    **dict.fromkeys(("version",), "--version"),
    **dict.fromkeys(("help",), "--help"),
    **dict.fromkeys(("info", "doctor-env", "sysinfo"), "env"),
}
"""What to use instead of a command that crosstok does not have."""


def flags_in(reply: str) -> list[str]:
    """``["--source", "--target"]`` of ``"--source and --target"``."""
    return re.findall(r"--[\w-]+", reply)


def what_instead(flag: str, flags: Collection[str]) -> str | None:
    """Say what a command has instead of a flag of another tool; None where nothing is known.

    Args:
        flag: with dashes, such as ``--num-train-epochs``.
        flags: those of the command.
    """
    for reply in REPLIES.get(flag, ()):
        if reply.endswith("."):
            return reply
        if all(one in flags for one in flags_in(reply)):
            return f"Use {reply}."
    return None
