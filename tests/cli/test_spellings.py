"""Flags and commands as other tools call them, and what crosstok answers."""

import pytest

from crosstok.cli import app
from crosstok.cli.spellings import COMMANDS, REPLIES, flags_in, what_instead
from tests.commands import commands_with_flags

FLAGS = commands_with_flags(app)
ALL_FLAGS = set().union(*FLAGS.values())
# Flags that replies may name although no command has them yet.
PLANNED = {"--push-to-hub"}


def test_every_flag_that_a_reply_names_exists():
    named = {flag for replies in REPLIES.values() for reply in replies for flag in flags_in(reply)}
    assert named - PLANNED <= ALL_FLAGS


def test_every_command_that_a_reply_names_exists():
    for reply in COMMANDS.values():
        command, *flags = reply.split(" or ")[0].split()
        assert command in FLAGS or command in ("--version", "--help")
        assert set(flags) <= FLAGS.get(command, set())


def test_no_flag_of_ours_is_corrected():
    for name, flags in FLAGS.items():
        for alias in REPLIES.keys() & flags:
            assert alias in flags, (name, alias)


EVERYWHERE = {
    "--epochs": "",
    "--num_train_epochs": "Use --epochs.",
    "--lr": "Use --learning-rate.",
    "--bf16": "Use --precision bf16.",
    "--fp16": "Use --precision fp16.",
    "--per_device_train_batch_size": "Use --batch-size.",
    "--gradient_accumulation_steps": "",
    "--logging_steps": "Use --log-every.",
    "--save_steps": "Use --save-every.",
    "--eval_steps": "Use --eval-every.",
    "--use_peft": "Use --lora.",
    "--lora_r": "Use --lora-rank.",
    "--model_name_or_path": "Use --",
    "--dataset_name": "Use --data.",
    "--train_file": "Use --data.",
    "--output_dir": "Use --output.",
    "--overwrite_output_dir": "Use --overwrite.",
    "--max_seq_length": "Use --max-length.",
    "--warmup_ratio": "Use --warmup-steps.",
    "--learning_rate": "",
    "--seed": "",
    "--report_to": "",
    "--resume_from_checkpoint": "Use --resume.",
    "--teacher_model_name_or_path": "Use --",
}


@pytest.mark.parametrize("spelled", EVERYWHERE)
@pytest.mark.parametrize("command", ["transfer", "distil"])
def test_flags_of_other_trainers_are_answered_with_the_right_one(crosstok, command, spelled):
    code, out, err = crosstok(command, spelled, "1")
    assert (code, out) == (2, "")
    reply = EVERYWHERE[spelled]
    if reply:
        assert f"error: No such option: {spelled}. {reply}" in err
    else:
        assert "No such option" not in err
        assert "missing: " in err


@pytest.mark.parametrize(
    ("command", "spelled", "reply"),
    [
        ("distil", "--model", "Use --student and --teacher."),
        ("distil", "--model_name_or_path", "Use --student."),
        ("transfer", "--model_name_or_path", "Use --model."),
        ("transfer", "--target", "Use --tokenizer."),
        ("transfer", "--deepspeed", "Models are trained whole on each device;"),
        ("evaluate", "--tasks", "Use --task."),
        ("evaluate", "--model_args", "Use --model."),
        ("evaluate", "--output_path", "Use --json."),
        ("evaluate", "--dtype", "Use --precision."),
        ("generate", "--max_tokens", "Use --max-new-tokens."),
        ("generate", "--do_sample", "Use --temperature 1."),
        ("generate", "--n", "Use --num-return-sequences."),
        ("inspect", "--tokenizer", "Use --target."),
        ("transplant", "--output_dir", "Use --output."),
        ("demo", "--output_dir", "Use --output."),
    ],
)
def test_a_reply_names_what_the_command_has(crosstok, command, spelled, reply):
    code, _, err = crosstok(command, spelled, "1")
    assert code == 2
    assert f"No such option: {spelled}. {reply}" in err


def test_where_a_command_has_nothing_of_the_kind_nothing_is_suggested():
    assert what_instead("--lr", FLAGS["evaluate"]) is None
    assert what_instead("--lr", FLAGS["transfer"]) == "Use --learning-rate."


def test_underscores_are_dashes_but_not_in_values(crosstok):
    code, _, err = crosstok(
        "evaluate", "--num_fewshot=2", "--text_field", "my_text", "--precision=x_y"
    )
    assert code == 2
    assert "precision = 'x_y'" in err


def test_a_flag_is_not_taken_for_the_value_of_another(crosstok):
    code, _, err = crosstok("transfer", "--output", "--lora")
    assert code == 2
    assert "Option --output needs a value, and --lora follows." in err
    code, _, err = crosstok("generate", "--model=m", "--prompt=--lora", "--top-p", "3")
    assert "top_p is 3" in err


@pytest.mark.parametrize(
    ("word", "reply"),
    [
        ("distl", ": did you mean 'distil'?"),
        ("train", ". Use crosstok transfer or crosstok distil."),
        ("eval", ". Use crosstok evaluate."),
        ("chat", ". Use crosstok generate --chat."),
        ("qqq", ". Commands are "),
    ],
)
def test_an_unknown_command_is_answered_with_the_right_one(crosstok, word, reply):
    code, out, err = crosstok(word, "--model", "m")
    assert (code, out) == (2, "")
    assert f"error: No such command: {word}{reply}" in err


def test_an_option_before_the_command_is_answered(crosstok):
    code, _, err = crosstok("--model", "m", "evaluate")
    assert code == 2
    assert "No such option: --model. Options follow a command: crosstok COMMAND --model" in err


@pytest.mark.parametrize("command", [(), *((name,) for name in FLAGS)])
def test_h_is_help(crosstok, command):
    short, long = crosstok(*command, "-h"), crosstok(*command, "--help")
    assert short == long
    assert short[0] == 0
    assert "Usage: crosstok" in short[1]
