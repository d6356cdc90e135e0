"""The promised spellings, what goes where, and what each bad input is told."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from crosstok import __version__, cli
from tests.tiny import SENTENCES, tiny_tokenizer
from tests.tiny_models import tiny_model

FEW_STEPS = ("--max-steps", "2", "--batch-size", "4", "--max-length", "48", "--learning-rate",
             "1e-3", "--num-workers", "0", "--log-every", "1", "--report-to", "none")  # fmt: skip


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """A tiny model, two tokenizers, texts and an exam."""
    folder = tmp_path_factory.mktemp("cli")
    for kind in ("bytelevel_bpe", "spm_bpe"):
        tiny_tokenizer(kind).save_pretrained(folder / kind)
    tiny_tokenizer("bytelevel_bpe").save_pretrained(folder / "model")
    tiny_model("llama", len(tiny_tokenizer("bytelevel_bpe"))).save_pretrained(folder / "model")
    rows = [{"text": " ".join(SENTENCES[i % 14 :]) + f" {i}"} for i in range(12)]
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "files").mkdir()
    for name in ("one", "two"):
        (folder / "files" / f"{name}.txt").write_text(f"file {name}\n" + "\n".join(SENTENCES))
    pair = {"good": "The dog does not mind.", "bad": "The dog mind not does."}
    (folder / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    return folder


def transfer_flags(made: Path, output: Path, **changes: object) -> list[object]:
    flags = {
        "model": made / "model", "tokenizer": made / "spm_bpe", "data": made / "texts.jsonl",
        "output": output, **changes,
    }  # fmt: skip
    named = [(f"--{name.replace('_', '-')}", value) for name, value in flags.items()]
    return ["transfer", *(part for pair in named for part in pair), *FEW_STEPS]


def test_help_and_mistakes_are_answered_without_loading_torch():
    code = (
        "import sys, crosstok.cli, crosstok.recipes\n"
        "loaded = {'torch', 'transformers', 'datasets', 'numpy'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    assert time.perf_counter() - start < 5  # on a busy machine; 0.4 s on a free one


def test_a_transfer_leaves_only_its_results_on_standard_output(made, tmp_path):
    command = [sys.executable, "-m", "crosstok.cli", *transfer_flags(made, tmp_path / "out")]
    environment = {**os.environ, "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [*map(str, command), "--objective", "alm+cross_entropy", "--num-workers", "2"],
        capture_output=True, text=True, env=environment, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *table, saved = done.stdout.splitlines()
    assert saved == f"saved to {tmp_path / 'out'}"
    assert all(line[0] in "┏┡├└┌│┗" for line in table), done.stdout
    assert "tokens per second" in done.stdout
    recipe_lines, _, progress = done.stderr.partition("step 1/2")
    assert yaml.safe_load(recipe_lines.split("runs on")[0])["objective"] == "alm+cross_entropy"
    assert "step 2/2" in progress
    assert "Traceback" not in done.stderr


def test_flags_win_over_the_recipe_and_the_whole_recipe_is_told_and_saved(crosstok, made, tmp_path):
    file = tmp_path / "recipe.yaml"
    values = {"objective": "cross_entropy", "max-steps": 9, "learning_rate": "2e-3", "seed": 7}
    file.write_text(yaml.safe_dump(values))
    output = tmp_path / "out"
    flags = transfer_flags(made, output, recipe=file)
    flags[flags.index("--learning-rate") : flags.index("--learning-rate") + 2] = []
    code, _, err = crosstok(*flags)
    assert code == 0, err
    saved = yaml.safe_load((output / "recipe.yaml").read_text())
    assert err.startswith((output / "recipe.yaml").read_text())
    assert (saved["objective"], saved["max_steps"], saved["seed"]) == ("cross_entropy", 2, 7)
    assert saved["learning_rate"] == 0.002
    assert saved["weight_decay"] == 0.0


def test_every_promised_flag_of_transfer(crosstok, made, tmp_path):
    more = ("--objective", "alm", "--lora", "--seed", "3", "--resume")
    code, out, err = crosstok(*transfer_flags(made, tmp_path / "out"), *more)
    assert code == 0, err
    assert "nothing to resume" in err
    assert "rows copied" in out


@pytest.mark.parametrize("method", [(), ("--method", "fvt"), ("--method", "mean")])
def test_transplant(crosstok, made, tmp_path, method):
    code, out, err = crosstok(
        "transplant", "--model", made / "model", "--tokenizer", made / "spm_bpe",
        "--output", tmp_path / "out", *method,
    )  # fmt: skip
    assert code == 0, err
    assert f"saved to {tmp_path / 'out'}" in out
    assert "method: " in err
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_evaluate_writes_the_promised_json(crosstok, made, tmp_path):
    code, out, err = crosstok(
        "evaluate", "--model", made / "model", "--model", made / "model",
        "--data", made / "texts.jsonl", "--data", made / "files" / "one.txt",
        "--exam", made / "pairs.jsonl", "--teacher", made / "model",
        "--max-texts", 3, "--no-start-every-window", "--json", tmp_path / "deep" / "figures.json",
    )  # fmt: skip
    assert code == 0, err
    figures = json.loads((tmp_path / "deep" / "figures.json").read_text())
    assert list(figures) == ["models"]
    named = [str(made / "model"), f"{made / 'model'}-2"]
    assert [entry["model"] for entry in figures["models"]] == named
    entry = figures["models"][0]
    assert list(entry["data"]) == ["texts", "one"]
    assert {"bits_per_byte", "bytes", "tokens"} <= entry["data"]["texts"].keys()
    assert {"accuracy", "stderr", "items"} <= entry["exams"]["pairs"].keys()
    assert "texts: bits per byte" in out
    assert "start_every_window: false" in err


def test_evaluate_reads_a_recipe(crosstok, made, tmp_path):
    file = tmp_path / "evaluate.yaml"
    file.write_text(yaml.safe_dump({"model": str(made / "model"), "max_texts": 2}))
    code, out, err = crosstok("evaluate", "--recipe", file, "--data", made / "texts.jsonl")
    assert code == 0, err
    assert "bits per byte" in out


def test_inspect_a_text(crosstok, made, tmp_path):
    code, out, err = crosstok(
        "inspect", "--source", made / "bytelevel_bpe", "--target", made / "spm_bpe",
        "--text", "the café", "--json", tmp_path / "pair.json",
        "--html", tmp_path / "new" / "pair.html",
    )  # fmt: skip
    assert code == 0, err
    page = (tmp_path / "new" / "pair.html").read_text(encoding="utf-8")
    assert "100.0000% of bytes" in page
    numbers = json.loads((tmp_path / "pair.json").read_text())
    promised = {"coverage", "coverage_by_file", "chunks", "source_tokens", "target_tokens",
                "bytes", "overlapping_tokens", "one_to_one_share"}  # fmt: skip
    assert promised <= numbers.keys()
    assert (numbers["bytes"], numbers["coverage"]) == (9, 1.0)
    assert re.search(r"^source  .*\|$", out, re.MULTILINE)
    assert "overlapping tokens" in out


def test_inspect_counts_by_file(crosstok, made, tmp_path):
    code, _, err = crosstok(
        "inspect", "--source", made / "bytelevel_bpe", "--target", made / "model",
        "--data", made / "files", "--json", tmp_path / "pair.json",
    )  # fmt: skip
    assert code == 0, err
    numbers = json.loads((tmp_path / "pair.json").read_text())
    assert numbers["coverage_by_file"] == {"one": 1.0, "two": 1.0}
    assert numbers["one_to_one_share"] == 1.0


def test_generate_writes_the_prompt_and_its_continuation(crosstok, made):
    flags = ("generate", "--model", made / "model", "--prompt", "The dog", "--max-new-tokens", 5,
             "--temperature", 1.0)  # fmt: skip
    texts = [crosstok(*flags, "--seed", seed)[:2] for seed in (1, 1, 2)]
    assert all(code == 0 and out.startswith("The dog") for code, out in texts)
    assert texts[0] == texts[1] != texts[2]


def test_demo_can_be_asked_for(crosstok):
    code, out, _ = crosstok("demo", "--help")
    assert code == 0
    assert "--output" in out


def test_version(crosstok):
    assert crosstok("--version") == (0, f"crosstok {__version__}\n", "")


# Flags that are wrong, and what the message says. {made} and {tmp} are folders.
BAD_ASKING = [
    (
        ["transfer", "--model", "m"],
        "missing: tokenizer, data, output. Give them as options (--tokenizer,",
    ),
    (["inspect", "--source", "a", "--target", "b"], "needs either data"),
    (
        ["inspect", "--source", "a", "--target", "b", "--data", "d", "--text", "t"],
        "either data (texts to",
    ),
    (
        ["evaluate", "--data", "d"],
        "missing: model. Give it as an option (--model on the command line)",
    ),
    (["transfer", "--max-steps", "many"], "max_steps = 'many': Input should be a valid integer"),
    (["transfer", "--learning_rat", "1"], "No such option"),
    (["transfer", "--precision", "fp8"], "'fp8'"),
    (["transfer", "--recipe", "nowhere.yaml"], "there is no recipe 'nowhere.yaml'"),
    (["distl"], "No such command"),
    (["distil", "--temperature", "5"], "give --options alm.temperature=5."),
    (
        ["transfer", "--no-debias", "--max-slope", "inf"],
        "give --options alm.debias=false --options alm.max_slope=null.",
    ),
    (["distil", "--options", "strict"], "KEY=VALUE"),
]


@pytest.mark.parametrize(("flags", "message"), BAD_ASKING)
def test_asking_in_a_way_that_cannot_be_is_status_2(crosstok, flags, message):
    code, out, err = crosstok(*flags)
    assert (code, out) == (2, "")
    assert message in err.replace("\n", " ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "max_step: 3\n",
            "unknown recipe key 'max_step' in RECIPE: did you mean 'max_steps'? Keys",
        ),
        ("qqq: 3\n", "unknown recipe key 'qqq' in RECIPE. Keys are: "),
        ("max_steps: three\n", "max_steps = 'three': Input should be a valid integer"),
        ("- a list\n", "must hold `key: value` lines"),
        ("a: [\n", "is not YAML"),
    ],
)
def test_a_recipe_that_is_none_is_named(crosstok, made, tmp_path, text, message):
    file = tmp_path / "r.yaml"
    file.write_text(text)
    flags = transfer_flags(made, tmp_path / "out", recipe=file)
    flags[flags.index("--max-steps") : flags.index("--max-steps") + 2] = []
    code, out, err = crosstok(*flags)
    assert (code, out) == (2, "")
    assert message.replace("RECIPE", str(file)) in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("aml", "unknown objective 'aml': did you mean 'alm'?"),
        ("alm+alm", "names 'alm' twice"),
    ],
)
def test_an_unknown_objective(crosstok, made, tmp_path, objective, message):
    code, out, err = crosstok(*transfer_flags(made, tmp_path / "out"), "--objective", objective)
    assert (code, out) == (2, "")
    assert message in err
    assert not (tmp_path / "out").exists()


def write(file: Path, content: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return file


def bad_inputs(tmp: Path) -> dict[str, tuple[dict[str, object], str]]:
    """Name to changed flags and the message."""
    (tmp / "nothing").mkdir()
    slow = write(tmp / "slow" / "tokenizer_config.json", '{"tokenizer_class": "ByT5Tokenizer"}')
    tiny_model("llama", 100).save_pretrained(tmp / "small")
    tiny_tokenizer("bytelevel_bpe").save_pretrained(tmp / "small")
    tiny_tokenizer("bytelevel_bpe").save_pretrained(tmp / "only-tokenizer")
    write(tmp / "full" / "thesis.tex", "years of work")
    return {
        "an empty folder as model": ({"model": tmp / "nothing"}, "nothing' holds no model: "),
        "a folder without a model": (
            {"model": tmp / "only-tokenizer"}, "holds no model: there is no config.json in it"),
        "a slow tokenizer": ({"tokenizer": slow.parent}, "is a slow tokenizer (ByT5Tokenizer)"),
        "more ids than rows": (
            {"model": tmp / "small"}, "need 512 rows, but the embedding matrix of"),
        "an empty file": ({"data": write(tmp / "e.jsonl", "")}, "e.jsonl is empty"),
        "broken JSON": (
            {"data": write(tmp / "b.jsonl", '{"text": "a"}\n{"text"\n')}, "line 2: broken JSON"),
        "no such field": (
            {"data": write(tmp / "f.jsonl", '{"body": "a", "id": 1}\n')},
            "has no field 'text'. Its fields are: 'body', 'id'."),
        "no text at all": (
            {"data": write(tmp / "n.jsonl", '{"text": 1}\n{"text": ""}\n')}, "none of its 2 rows"),
        "no such file": ({"data": tmp / "no.jsonl"}, "There is no file or folder"),
        "a full output folder": ({"output": tmp / "full"}, "already holds thesis.tex. Choose"),
    }  # fmt: skip


def test_bad_input_is_named_with_the_next_step_and_costs_nothing(crosstok, made, tmp_path):
    for name, (changes, message) in bad_inputs(tmp_path).items():
        output = tmp_path / "out"
        code, out, err = crosstok(*transfer_flags(made, changes.pop("output", output), **changes))
        assert (code, out) == (1, ""), name
        assert message in err, name
        assert "Traceback" not in err, name
        assert not output.exists(), name
    assert (tmp_path / "full" / "thesis.tex").read_text() == "years of work"


def test_bad_input_of_the_other_commands(crosstok, made, tmp_path):
    inputs = bad_inputs(tmp_path)
    slow, message = inputs["a slow tokenizer"]
    code, _, err = crosstok(
        "inspect", "--source", slow["tokenizer"], "--target", made / "model", "--text", "a"
    )
    assert code == 1
    assert message in err
    for name in ("a folder without a model", "an empty folder as model"):
        changes, message = inputs[name]
        for command, *flags in (
            ("generate", "--prompt", "a"),
            ("transplant", "--tokenizer", made / "spm_bpe", "--output", tmp_path / "out"),
            ("evaluate", "--data", made / "texts.jsonl"),
        ):
            code, out, err = crosstok(command, "--model", changes["model"], *flags)
            assert (code, out) == (1, ""), (command, err)
            assert message in err
    assert not (tmp_path / "out").exists()
    for name in ("an empty file", "broken JSON", "no such field", "no such file"):
        changes, message = inputs[name]
        for flags in (
            ("evaluate", "--model", made / "model"),
            ("inspect", "--source", made / "model", "--target", made / "spm_bpe"),
        ):
            code, _, err = crosstok(*flags, "--data", changes["data"])
            assert code == 1, (name, err)
            assert message in err


def test_what_was_computed_before_an_error_is_shown_and_written(crosstok, made, tmp_path):
    bad_inputs(tmp_path)
    code, out, err = crosstok(
        "evaluate", "--model", made / "model", "--model", tmp_path / "small",
        "--data", made / "texts.jsonl", "--json", tmp_path / "figures.json",
    )  # fmt: skip
    assert code == 1
    assert "need 512 rows" in err
    assert "bits per byte" in out
    first, second = json.loads((tmp_path / "figures.json").read_text())["models"]
    assert first["data"]["texts"]["bits_per_byte"] > 0
    assert second["data"] == {}


@pytest.mark.parametrize("command", ["transfer", "streaming", "evaluate", "inspect"])
def test_rows_without_text_are_counted_where_one_sees_it(crosstok, made, tmp_path, command):
    rows = [{"text": " ".join(SENTENCES)}, {"text": ""}, {"text": 5}, {"text": None}]
    data = write(tmp_path / "mixed.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    model = ("--model", made / "model")
    flags = {
        "transfer": transfer_flags(made, tmp_path / "out", data=data),
        "streaming": [*transfer_flags(made, tmp_path / "out", data=data), "--streaming"],
        "evaluate": ["evaluate", *model, "--data", data],
        "inspect": ["inspect", "--source", made / "model", "--target", made / "spm_bpe",
                    "--data", data],
    }[command]  # fmt: skip
    code, out, err = crosstok(*flags)
    assert code == 0, err
    expected = "1 row without text skipped so far" if command == "streaming" else (
        "3 rows without text skipped of 4"
    )  # fmt: skip
    assert f"{data}: {expected}" in err
    assert "skipped" not in out


def test_an_error_in_the_program_keeps_its_traceback(crosstok, monkeypatch, made):
    import crosstok.jobs.generate as job

    def broken(*args, **kwargs):
        raise RuntimeError("a defect")

    monkeypatch.setattr(job, "load_language_model", broken)
    monkeypatch.setattr(sys, "argv", ["crosstok", "generate", "--model", str(made / "model"),
                                      "--prompt", "a"])  # fmt: skip
    with pytest.raises(RuntimeError, match="a defect"):
        cli.main()
