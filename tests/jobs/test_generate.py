"""`crosstok generate`: what is shown for one prompt, several, chats, and what is refused when."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import crosstok.jobs.generate as job
from crosstok import cli
from crosstok.inference import RULES, Sampling, load_language_model
from crosstok.inference.answers import AnswerText, begun_character
from crosstok.jobs.generate import Chat, generate
from crosstok.recipes import GenerateRecipe, RecipeError
from tests.tiny import tiny_tokenizer, with_chat_template
from tests.tiny_models import tiny_model

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MARKS = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
SHORT = ("--max-new-tokens", 4)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """Three models of different tokenizers, one that chats, one that is short of positions."""
    folder = tmp_path_factory.mktemp("models")
    chatty = with_chat_template("bytelevel_bpe", TEMPLATE, special_tokens=MARKS)
    tokenizers = {
        "one": tiny_tokenizer("bytelevel_bpe"),
        "two": tiny_tokenizer("spm_bpe"),
        "three": tiny_tokenizer("bytelevel_bpe"),
        "startless": tiny_tokenizer("wordpiece"),
        "chatty": chatty,
        "short": chatty,
    }
    for seed, (name, tokenizer) in enumerate(tokenizers.items()):
        positions = 24 if name == "short" else 256
        model = tiny_model("llama", len(tokenizer), seed=seed, max_position_embeddings=positions)
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return {name: folder / name for name in tokenizers}


@pytest.fixture
def crosstok(monkeypatch, capsys):
    """Run `crosstok generate` in this process; exit status, standard output and standard error."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["crosstok", "generate", *map(str, arguments)])
        logging.getLogger().handlers.clear()
        with pytest.raises(SystemExit) as status:
            cli.main()
        out, err = capsys.readouterr()
        return int(status.value.code or 0), out, err

    return run


@pytest.fixture
def no_models(monkeypatch):
    """Loading a model is a failure."""

    def fail(*args, **kwargs):
        raise AssertionError("a model is loaded")

    monkeypatch.setattr(job, "load_language_model", fail)


def answered(model: Path, prompt: object, **values: object) -> str:
    """What the object that answers gives."""
    return load_language_model([str(model)]).generate([prompt], Sampling(**values))[0]


def test_one_prompt_is_shown_with_its_continuation(crosstok, models):
    code, out, _ = crosstok("--model", models["one"], "--prompt", "The dog", *SHORT)
    assert (code, out) == (
        0, "The dog" + answered(models["one"], "The dog", max_new_tokens=4) + "\n",
    )  # fmt: skip


def test_several_prompts_are_labelled(crosstok, models):
    flags = ("--model", models["one"], "--prompt", "The dog", "--prompt", "He said", *SHORT)
    code, out, _ = crosstok(*flags)
    texts = [p + answered(models["one"], p, max_new_tokens=4) for p in ("The dog", "He said")]
    assert (code, out) == (0, f"--- 1 ---\n{texts[0]}\n--- 2 ---\n{texts[1]}\n")


def test_lines_of_json(crosstok, models):
    flags = ("--model", models["one"], "--prompt", "The dog", "--prompt", "Кошка", "--json", *SHORT)
    code, out, _ = crosstok(*flags)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert rows == [
        {"prompt": prompt, "answer": answered(models["one"], prompt, max_new_tokens=4)}
        for prompt in ("The dog", "Кошка")
    ]


def test_several_answers_to_one_prompt_are_draws_of_their_own(crosstok, models):
    flags = ("--model", models["one"], "--prompt", "The dog", "--temperature", 1,
             "--num-return-sequences", 3, "--json", *SHORT)  # fmt: skip
    first, again = crosstok(*flags)[1], crosstok(*flags)[1]
    assert first == again
    assert len({json.loads(line)["answer"] for line in first.splitlines()}) == 3
    label = crosstok(*[flag for flag in flags if flag != "--json"])[1].splitlines()[0]
    assert label == "--- 1, answer 1 ---"


def test_a_stop_string_ends_the_answer(crosstok, models):
    whole = answered(models["one"], "The dog", max_new_tokens=12)
    stop = whole[3:5]
    code, out, _ = crosstok(
        "--model", models["one"], "--prompt", "The dog", "--max-new-tokens", 12, "--stop", stop
    )
    assert (code, out) == (0, "The dog" + whole[: whole.index(stop)] + "\n")


def test_a_file_is_continued_as_it_stands_behind_the_prompts(crosstok, models, tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_bytes("Le café\r\n".encode())
    code, out, _ = crosstok(
        "--model", models["one"], "--prompt", "a", "--prompt-file", file, "--json", *SHORT
    )
    assert code == 0
    assert [json.loads(line)["prompt"] for line in out.splitlines()] == ["a", "Le café\r\n"]


def test_bytes_may_end_inside_a_character(crosstok, models, tmp_path):
    """The answer begins with the whole character, however it goes on."""
    file = tmp_path / "cut.txt"
    file.write_bytes("Le café".encode()[:-1])
    flags = ("--prompt-file", file, "--max-new-bytes", 6)
    code, out, err = crosstok("--model", models["one"], "--bytes", *flags, "--json")
    assert code == 0, err
    row = json.loads(out)
    assert bytes.fromhex(row["prompt_hex"]) == file.read_bytes()
    assert row["prompt"] == "Le caf"
    code, out, _ = crosstok("--model", models["one"], "--bytes", *flags)
    assert (code, out) == (0, f"Le caf{row['answer']}\n")
    text = AnswerText(begun=begun_character(file.read_bytes()))
    text.add("é?".encode()[1:], is_last=True)
    assert text.text == "é?"
    assert begun_character(b"a\xff\xe4\xb8") == b"\xe4\xb8"


@pytest.mark.parametrize("combine", RULES)
def test_several_models_answer_as_one(crosstok, models, combine):
    names = {"mined": ("one", "two"), "proxy": ("one", "two", "three")}.get(
        combine, ("one", "three")
    )
    given = [part for name in names for part in ("--model", models[name])]
    extra = ["--alpha", 0.5] if combine == "proxy" else []
    code, out, err = crosstok(*given, "--combine", combine, *extra, "--prompt", "The dog", *SHORT)
    assert code == 0, err
    model = load_language_model(
        [str(models[name]) for name in names], combine=combine, alpha=0.5 if extra else 1.0
    )
    assert out == f"The dog{model.generate(['The dog'], Sampling(max_new_tokens=4))[0]}\n"


def test_a_file_that_defines_an_ensemble(crosstok, models, tmp_path):
    file = tmp_path / "pair.yaml"
    members = [{"model": str(models[name]), "weight": w} for name, w in (("one", 2), ("three", 1))]
    file.write_text(yaml.safe_dump({"combine": "probs", "members": members}))
    code, out, _ = crosstok("--model", file, "--prompt", "The dog", *SHORT)
    flags = ("--model", models["one"], "--model", models["three"], "--combine", "probs")
    same = crosstok(*flags, "--weight", 2, "--weight", 1, "--prompt", "The dog", *SHORT)
    assert (code, out) == same[:2]
    assert code == 0


def test_an_answer_to_a_chat_is_shown_alone(crosstok, models):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    code, out, _ = crosstok(
        "--model", models["chatty"], "--chat", "--system", "Be brief.", "--prompt", "Hello", *SHORT
    )
    assert (code, out) == (0, answered(models["chatty"], messages, max_new_tokens=4) + "\n")


def test_each_model_may_have_a_template_of_its_own(crosstok, models, tmp_path):
    flags = ("--model", models["chatty"], "--model", models["one"], "--combine", "bytes-mixture",
             "--chat", "--prompt", "Hello", *SHORT)  # fmt: skip
    given = ("--chat-template", "own", "--chat-template", "plain")
    code, out, err = crosstok(*flags, *given)
    assert code == 0, err
    assert out.endswith("\n")
    code, out, err = crosstok(*flags)
    assert (code, out) == (1, "")
    assert f"'{models['one']}' has no chat template" in err
    assert "Give chat_template" in err


def test_a_chat_from_piped_input(models):
    """As typed: answers alone on standard output, all else on standard error, exit status 0."""
    lines = [
        "Hello",
        "",
        "/reset",
        "/what",
        "half a \udcc3 character",
        "Hello",
        "/quit",
        "not read",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "crosstok.cli", "generate", "--model", models["chatty"], "--chat",
         "--max-new-tokens", "4"],
        input="\n".join(lines).encode(errors="surrogateescape"), capture_output=True, check=False,
        env={**os.environ, "PYTHONUTF8": "1"},
    )  # fmt: skip
    out, err = done.stdout.decode(), done.stderr.decode()
    answer = answered(models["chatty"], [{"role": "user", "content": "Hello"}], max_new_tokens=4)
    assert (done.returncode, out) == (0, f"{answer}\n" * 2), err
    assert "Chat with" in err
    assert "there is no /what" in err
    assert "not UTF-8 at byte 7 (0xC3)" in err
    assert "Traceback" not in err


class Echo:
    """Answers with the number of messages; an error where the user says so."""

    name, unit = "echo", "token"

    def generate(self, prompts, sampling, *, on_text):
        [messages] = prompts
        said = messages[-1]["content"]
        if said == "interrupt":
            raise KeyboardInterrupt
        on_text(f"{len(messages)}")
        if said == "too long":
            raise ValueError("no room")
        on_text(f", seed {sampling.seed}")
        return [f"{len(messages)}, seed {sampling.seed}"]


def talk(*lines: str, **options: object) -> tuple[str, list[str]]:
    written: list[str] = []
    recipe = GenerateRecipe(model="m", chat=True, **options)
    answers = Chat(Echo(), recipe, written.append).hold(iter(lines))
    return "".join(written), [answer.text for answer in answers]


def test_a_chat_remembers_until_it_is_told_to_forget():
    shown, answers = talk("a", "b", "/reset", "c")
    assert answers == ["1, seed 0", "3, seed 1", "1, seed 2"]
    assert shown == "".join(f"{answer}\n" for answer in answers)
    assert talk("a", "/reset", "b", system="Be brief.")[1] == ["2, seed 0", "2, seed 1"]


def test_a_turn_that_fails_is_told_and_forgotten(caplog):
    shown, answers = talk("a", "too long", "b")
    assert answers == ["1, seed 0", "3, seed 1"]
    assert shown == "1, seed 0\n3\n3, seed 1\n"
    assert "no room (/reset forgets what was said.)" in caplog.text


def test_an_interrupt_ends_a_chat_cleanly():
    assert talk("a", "interrupt", "b")[1] == ["1, seed 0"]


def test_what_looks_like_a_command_can_be_said(caplog):
    assert talk("/etc/hosts is what?", " /reset me")[1] == ["1, seed 0", "3, seed 1"]
    assert talk("/etc", " /etc")[1] == ["1, seed 0"]


def test_a_chat_that_outgrows_the_model_goes_on_behind_a_reset(models):
    recipe = GenerateRecipe(model=str(models["short"]), chat=True, max_new_tokens=2)
    lines = iter(["The dog does not mind at all", *["He said that he would come"] * 3, "/reset",
                  "Hello"])  # fmt: skip
    answers = generate(recipe, write=lambda text: None, lines=lines)
    assert answers[-1].prompt == "Hello"
    assert len(answers) < 5


# Flags that cannot be, and what is told. {one} and {two} are models.
REFUSED = [
    ("--model {one}", "missing: prompt or prompt_file"),
    ("--model {one} --model {two} --prompt a", "add combine with one of probs, logprobs, mined"),
    ("--model {one} --combine probs --prompt a", "combine is 'probs', which is for several"),
    ("--model {one} --model {two} --combine mined --bytes --prompt a", "leave bytes out, or use"),
    ("--model {one} --alpha 2 --prompt a", "only combine proxy takes one; leave alpha out"),
    ("--model {one} --model {two} --combine proxy --prompt a", "takes three models"),
    ("--model {one} --combine proxy --prompt a", "takes three models"),
    ("--model {one} --weight 2 --prompt a", "a single model takes no weight; leave weight out"),
    ("--model {one} --model {two} --combine probs --weight 2 --prompt a", "one for each of the 2"),
    ("--model {one} --model {two} --combine probs --weight 0 --weight 1 --prompt a", "above 0"),
    ("--model {one} --target canonical --prompt a", "add bytes"),
    ("--model {one} --max-new-bytes 3 --prompt a", "Give max_new_tokens"),
    ("--model {one} --bytes --repetition-penalty 2 --prompt a", "nearly all of which soon occur"),
    ("--model {one} --prompt a --system b", "system can only be given with chat"),
    ("--model {one} --chat --json", "json cannot be given for a conversation"),
    ("--model {one} --prompt a --top-k 5 --min-p 0.1", "top_k, min_p can only be given where"),
    ("--model {one} --prompt a --temperature -1", "temperature is -1.0; it must be at least 0"),
    ("--model {one} --prompt a --max-new-tokens 0", "max_new_tokens is 0; it must be at least 1"),
    ("--model {one} --prompt a --combine average", "'average'"),
    ("--model {one} --model e.yaml --prompt a", "e.yaml defines an ensemble, and there are other"),
    ("--model e.yaml --bytes --prompt a", "answer as one; leave bytes out"),
    ("--model {one} --chat --chat-template own --chat-template own --prompt a",
     "chat_template has 2 entries for 1 models"),
]  # fmt: skip


@pytest.mark.parametrize(("flags", "message"), REFUSED)
def test_what_cannot_be_is_told_before_anything_is_loaded(crosstok, no_models, flags, message):
    code, out, err = crosstok(*flags.format(one="nowhere/one", two="nowhere/two").split())
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())


def test_bad_input_is_told_before_models_are_loaded(crosstok, no_models, models, tmp_path):
    latin = tmp_path / "latin.txt"
    latin.write_bytes("The café".encode("latin-1"))
    one = ("--model", models["one"])
    cases = {
        ("--prompt-file", latin): "is not UTF-8 at byte 7 (0xE9). A model that reads tokens",
        ("--prompt", "caf\udce9"): "prompt is not UTF-8 at byte 3 (0xE9)",
        ("--prompt", "a\ud800"): "prompt holds the lone surrogate U+D800 at character 1",
        ("--prompt-file", tmp_path / "no.txt"): "there is no prompt file",
        ("--chat", "--prompt-file", latin): "A chat is text: repair it.",
        ("--chat", "--prompt", "a"): "has no chat template, and chat needs one",
        ("--chat",): "has no chat template, and chat needs one",
        ("--chat", "--chat-template", "chatml"): "chat template 'chatml' is neither 'plain' nor",
    }
    for flags, message in cases.items():
        code, out, err = crosstok(*one, *flags)
        assert (code, out) == (1, ""), flags
        assert message in err, flags
    code, _, err = crosstok("--model", models["startless"], "--prompt", "")
    assert code == 1
    assert "startless': the prompt is empty and this tokenizer has no bos or eos" in err
    code, _, err = crosstok("--model", tmp_path / "no.yaml", "--prompt", "a")
    assert code == 1
    assert "no.yaml' is not there" in err
    both = tmp_path / "both.yaml"
    members = [{"model": str(models[name])} for name in ("chatty", "one")]
    both.write_text(yaml.safe_dump({"combine": "bytes-mixture", "members": members}))
    code, _, err = crosstok("--model", both, "--chat", "--prompt", "Hi")
    assert code == 1
    assert f"Give it chat_template in {both}: a file (Jinja), or plain" in err


@pytest.mark.parametrize("flags", [(), ("--bytes",)])
def test_a_prompt_that_does_not_fit_says_how_much_does(crosstok, models, flags):
    code, out, err = crosstok("--model", models["short"], "--prompt", "word " * 60, *flags, *SHORT)
    assert (code, out) == (1, "")
    assert "bytes" in err
    assert "fit" in err


def test_python_sees_the_same_refusals():
    with pytest.raises(RecipeError, match="add combine"):
        generate(GenerateRecipe(model=["a", "b"], prompt="c"))
