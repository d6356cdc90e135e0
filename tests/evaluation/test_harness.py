"""lm-eval asks; models, byte views and ensembles answer. Nothing here reaches a hub."""

import json
import math
from pathlib import Path

import datasets
import pytest
import torch
import yaml
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tokenizers.processors import TemplateProcessing

from crosstok.evaluation import EvaluationError, EvaluationOptions, evaluate
from crosstok.evaluation.harness import CrosstokLM, register
from crosstok.evaluation.tasks import Tasks
from crosstok.inference import Sampling
from crosstok.inference.byte_ensemble import ByteEnsemble, ByteMember, ByteView
from crosstok.inference.token_model import TokenModel
from crosstok.tokenizers import byte_tokenizer
from tests.tiny import SENTENCES, tiny_tokenizer, with_chat_template
from tests.tiny_models import tiny_model

CHOICES = [
    {"query": "The dog", "choices": ["does not mind", "sleeps", "and the fox"], "gold": 0},
    {"query": "In the morning she", "choices": ["walked", "was the best of times"], "gold": 1},
    {"query": "Кошка", "choices": ["спит на диване", "ждёт"], "gold": 1},
]
DOCUMENTS = [{"text": SENTENCES[0]}, {"text": SENTENCES[6] + SENTENCES[11]}, {"text": "Yes."}]
QUESTIONS = [{"q": text[:20], "a": "x"} for text in SENTENCES[:3]]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)  # seconds


@pytest.fixture
def task_folder(tmp_path) -> str:
    """Three tasks with local data: choice, rolling, answers."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    write_task(
        folder, "choice", CHOICES,
        output_type="multiple_choice", doc_to_text="{{query}}", doc_to_choice="{{choices}}",
        doc_to_target="{{gold}}", metric_list=[{"metric": "acc"}, {"metric": "acc_norm"}],
    )  # fmt: skip
    write_task(
        folder, "rolling", DOCUMENTS,
        output_type="loglikelihood_rolling", doc_to_text="", doc_to_target="{{text}}",
        metric_list=[{"metric": "bits_per_byte"}],
    )  # fmt: skip
    write_task(
        folder, "answers", QUESTIONS,
        output_type="generate_until", doc_to_text="{{q}}", doc_to_target="{{a}}",
        generation_kwargs={"until": ["e"], "max_gen_toks": 6},
        metric_list=[{"metric": "exact_match"}],
    )  # fmt: skip
    return str(folder)


def write_task(folder, name, rows, **task):
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task |= {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(task))


def parts(kind="bytelevel_bpe", seed=0, tokenizer=None, **overrides):
    tokenizer = tokenizer or tiny_tokenizer(kind)
    size = max(tokenizer.get_vocab().values()) + 1
    return tiny_model("llama", size, seed=seed, **overrides), tokenizer


def language_models():
    """One of each kind: tokens, bytes, several as one."""
    first, second = parts(), parts("unigram", seed=1)
    members = [ByteMember(*first, name="first"), ByteMember(*second, name="second")]
    return {
        "token": TokenModel(*first, name="first"),
        "byte": ByteView(*first, name="view"),
        "ensemble": ByteEnsemble(members, "bytes-mixture"),
    }


LANGUAGE_MODELS = language_models()
each_model = pytest.mark.parametrize("kind", LANGUAGE_MODELS)


def harness(model, **options) -> CrosstokLM:
    return CrosstokLM(model, show_progress=False, **options)


def requests(kind, *arguments) -> list[Instance]:
    return [Instance(kind, {}, argument, i) for i, argument in enumerate(arguments)]


def logprob(model, prompt, continuation) -> float:
    (score,) = model.logprob([(prompt, continuation)])
    return score.logprob


@each_model
def test_tasks_give_what_a_hand_computes(kind, task_folder):
    model = LANGUAGE_MODELS[kind]
    names = ["choice", "rolling", "answers"]
    manager = TaskManager(include_path=task_folder, include_defaults=False)
    results = simple_evaluate(harness(model), tasks=names, task_manager=manager, bootstrap_iters=0)
    figures, samples = results["results"], results["samples"]
    right, right_by_length = 0, 0
    for row in CHOICES:
        scores = [logprob(model, row["query"], f" {choice}") for choice in row["choices"]]
        by_length = [s / len(c) for s, c in zip(scores, row["choices"], strict=True)]
        right += max(scores) == scores[row["gold"]]
        right_by_length += max(by_length) == by_length[row["gold"]]
    assert figures["choice"]["acc,none"] == pytest.approx(right / len(CHOICES))
    assert figures["choice"]["acc_norm,none"] == pytest.approx(right_by_length / len(CHOICES))
    nats = -sum(logprob(model, "", row["text"]) for row in DOCUMENTS)
    num_bytes = sum(len(row["text"].encode()) for row in DOCUMENTS)
    expected = nats / math.log(2) / num_bytes
    assert figures["rolling"]["bits_per_byte,none"] == pytest.approx(expected, rel=1e-6)
    sampling = Sampling(max_new_tokens=6, max_new_bytes=24, stop=("e",))
    answers = model.generate([row["q"] for row in QUESTIONS], sampling)
    assert [sample["filtered_resps"][0] for sample in samples["answers"]] == answers


def test_a_plain_model_answers_as_lm_eval_has_it():
    tokenizer = with_chat_template("bytelevel_bpe", None)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", tokenizer.bos_token_id)]
    )
    model, _ = parts(tokenizer=tokenizer)
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, add_bos_token=True, batch_size=4)
    ours = harness(TokenModel(model, tokenizer))
    pairs = [(row["query"], f" {choice}") for row in CHOICES for choice in row["choices"]]
    asked = requests("loglikelihood", *pairs, ("", SENTENCES[0]), ("Hello", " world!"))
    for (mine, greedy), (other, other_greedy) in zip(
        ours.loglikelihood(asked), theirs.loglikelihood(asked, disable_tqdm=True), strict=True
    ):
        assert mine == pytest.approx(other, abs=1e-4)
        assert greedy == other_greedy
    prompts = [(text[:9], {"until": ["."], "max_gen_toks": 8}) for text in SENTENCES]
    asked = requests("generate_until", *prompts)
    assert ours.generate_until(asked) == theirs.generate_until(asked, disable_tqdm=True)


def test_documents_are_worth_what_lm_eval_has_them():
    model, tokenizer = parts()
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4)
    asked = requests("loglikelihood_rolling", *((text,) for text in SENTENCES))
    assert harness(TokenModel(model, tokenizer)).loglikelihood_rolling(asked) == pytest.approx(
        theirs.loglikelihood_rolling(asked, disable_tqdm=True), abs=1e-3
    )


def test_the_greedy_continuation_is_told():
    model = LANGUAGE_MODELS["token"]
    (text,) = model.generate(["The dog"], Sampling(max_new_tokens=1))
    asked = requests("loglikelihood", ("The dog", text or "."), ("The dog", " zzzz"))
    assert [greedy for _, greedy in harness(model).loglikelihood(asked)] == [True, False]


@pytest.mark.parametrize("kind", ["token", "byte"])
def test_a_long_document_counts_every_byte_once(kind):
    model, tokenizer = parts(max_position_embeddings=48)
    made = TokenModel(model, tokenizer) if kind == "token" else ByteView(model, tokenizer)
    scored: list[str] = []

    class Watching:
        name, unit, max_length = made.name, made.unit, made.max_length

        def text_logprobs(self, texts):
            scores = made.text_logprobs(texts)
            scored.extend(texts)
            return scores

    def total_of(text, **options) -> float:
        scored.clear()
        asked = requests("loglikelihood_rolling", (text,), ("",))
        total, empty = harness(Watching(), **options).loglikelihood_rolling(asked)
        assert empty == 0
        return total

    text = " ".join(SENTENCES)
    for options in ({}, {"window_bytes": 40}):
        total = total_of(text, **options)
        assert "".join(scored) == text
        assert len(scored) > 5
        assert total == pytest.approx(sum(s.logprob for s in made.text_logprobs(scored)), rel=1e-6)


def test_a_request_that_does_not_fit_is_an_error():
    model = TokenModel(*parts(max_position_embeddings=16))
    with pytest.raises(ValueError, match=r"16 positions: the first \d+ bytes fit"):
        harness(model).loglikelihood(requests("loglikelihood", (SENTENCES[0], SENTENCES[1])))


def test_options_of_answers_become_those_of_sampling():
    seen = []

    class Recording:
        name, unit, max_length = "recording", "byte", 64

        def generate(self, prompts, sampling):
            seen.append((len(prompts), sampling))
            return ["text"] * len(prompts)

    drawn = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "max_tokens": 5, "until": "\n"}
    greedy = {"until": ["\n", "END"], "temperature": 0.7, "do_sample": False, "num_beams": 1}
    lm = harness(Recording(), batch_size=2, seed=3)
    asked = requests(
        "generate_until", ("a", drawn), ("b", greedy), ("c", drawn), ("d", drawn), ("e", {})
    )
    assert lm.generate_until(asked) == ["text"] * 5
    assert sorted(count for count, _ in seen) == [1, 1, 1, 2]
    by_stop = {sampling.stop: sampling for _, sampling in seen}
    assert by_stop["\n",] == Sampling(
        max_new_tokens=5, max_new_bytes=20, temperature=0.7, top_p=0.9, stop=("\n",), seed=4
    )
    assert by_stop["\n", "END"].is_greedy
    assert by_stop[()].max_new_tokens == 256
    with pytest.raises(ValueError, match=r"\{'num_beams': 4\}, which crosstok does not know"):
        lm.generate_until(requests("generate_until", ("a", {"num_beams": 4})))


def test_a_limit_of_tokens_is_four_times_as_many_bytes_also_where_tokens_are_bytes():
    tokenizer = byte_tokenizer(tiny_tokenizer("bytelevel_bpe"))
    model = tiny_model("llama", len(tokenizer))
    with torch.no_grad():
        model.get_output_embeddings().weight[256:] = 0  # the end is never the likeliest
    for one in (TokenModel(model, tokenizer), ByteView(model, tokenizer)):
        asked = requests("generate_until", ("The", {"until": ["zz"], "max_gen_toks": 3}))
        [answer] = harness(one).generate_until(asked)
        assert [answer] == one.generate(["The"], Sampling(max_new_tokens=12, stop=("zz",)))


def test_a_chat_reaches_the_model_as_messages(task_folder):
    template = (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}<|assistant|>"
    )
    specials = ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
    tokenizer = with_chat_template("bytelevel_bpe", template, special_tokens=specials)
    model = TokenModel(*parts(tokenizer=tokenizer))
    manager = TaskManager(include_path=task_folder, include_defaults=False)
    results = simple_evaluate(
        harness(model), tasks=["choice", "answers"], task_manager=manager, bootstrap_iters=0,
        apply_chat_template=True,
    )  # fmt: skip
    (sample, *_) = results["samples"]["choice"]
    messages = [{"role": "user", "content": CHOICES[0]["query"]}]
    expected = [logprob(model, messages, choice) for choice in CHOICES[0]["choices"]]
    assert [score for score, _ in sample["filtered_resps"]] == pytest.approx(expected)
    messages = [{"role": "user", "content": QUESTIONS[0]["q"]}]
    (answer,) = model.generate([messages], Sampling(max_new_tokens=6, stop=("e",)))
    assert results["samples"]["answers"][0]["filtered_resps"] == [answer]
    with pytest.raises(ValueError, match="gen_prefix"):
        harness(model).apply_chat_template(messages, add_generation_prompt=False)


def test_lm_eval_finds_the_model_by_name(tmp_path):
    model, tokenizer = parts()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    register()
    register()
    lm = get_model("crosstok").create_from_arg_string(
        f"pretrained={tmp_path / 'model'},bytes_view=True",
        {"batch_size": 1, "device": "cuda:0"},  # lm-eval's default on every machine
    )
    register()
    assert type(lm) is CrosstokLM
    assert lm.get_model_info()["unit"] == "byte"
    with pytest.raises(ValueError, match=r"no options for loading: \['alpha'\]"):
        CrosstokLM(LANGUAGE_MODELS["byte"], alpha=2)


def test_answers_are_kept_in_the_cache_of_lm_eval(tmp_path, task_folder):
    class Counting:
        name, unit, max_length = "counting", "token", 512
        asked = 0

        def logprob(self, pairs):
            self.asked += len(pairs)
            return LANGUAGE_MODELS["token"].logprob(pairs)

    model = Counting()
    manager = TaskManager(include_path=task_folder, include_defaults=False)
    for _ in range(2):
        simple_evaluate(
            harness(model), tasks=["choice"], task_manager=manager, bootstrap_iters=0,
            use_cache=str(tmp_path / "answers"),
        )  # fmt: skip
    assert model.asked == sum(len(row["choices"]) for row in CHOICES)


def test_evaluate_puts_tasks_to_every_kind_of_model(task_folder):
    model, tokenizer = parts()
    models = [("plain", model, tokenizer), *LANGUAGE_MODELS.values()]
    samples = Path(task_folder) / "samples"
    options = EvaluationOptions(
        task_folder=task_folder, limit=2, batch_size=1, log_samples=str(samples)
    )
    found = evaluate(models, tasks=["choice", "roll*"], options=options, show_progress=False)[
        "models"
    ]
    assert [entry["model"] for entry in found] == ["plain", "first", "view", *[found[3]["model"]]]
    assert found[0]["tasks"] == found[1]["tasks"]
    figures = found[2]["tasks"]
    assert figures["choice"]["items"] == figures["rolling"]["items"] == 2
    assert figures["choice"]["metrics"]["acc"]["higher_is_better"] is True
    assert figures["rolling"]["metrics"]["bits_per_byte"]["higher_is_better"] is False
    assert json.loads(json.dumps(found)) == found
    logged = (samples / "view" / "samples_choice.jsonl").read_text().splitlines()
    assert [json.loads(line)["doc"]["query"] for line in logged] == [
        row["query"] for row in CHOICES[:2]
    ]


def test_what_is_wrong_with_a_task_is_said(task_folder, monkeypatch):
    monkeypatch.setattr(  # to read lm-eval's own files takes seconds
        "lm_eval.tasks.TaskManager",
        lambda include_path, include_defaults=False: TaskManager(
            include_path=include_path, include_defaults=False
        ),
    )
    options = EvaluationOptions(task_folder=task_folder)
    with pytest.raises(ValueError, match=r"'choise' is unknown in .*Is it choice\?.*task_folder"):
        Tasks(["choise"], options)
    with pytest.raises(ValueError, match="there is no folder 'nowhere'"):
        Tasks(["choice"], EvaluationOptions(task_folder="nowhere"))
    far = Path(task_folder) / "far.yaml"
    far.write_text("task: far\ndataset_path: someone/far-away\ntest_split: test\n")
    with pytest.raises(ValueError, match=r"'far' cannot be loaded: .* give a task_folder"):
        Tasks(["far"], options)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'crosstok\[eval\]'"):
        Tasks(["choice"], options)


def test_a_task_that_cannot_be_answered_leaves_the_rest(task_folder):
    short = TokenModel(*parts(max_position_embeddings=4), name="short")
    with pytest.raises(EvaluationError, match=r"short, tasks: .* bytes fit") as caught:
        evaluate(
            [LANGUAGE_MODELS["token"], short], tasks=["choice"],
            options=EvaluationOptions(task_folder=task_folder), show_progress=False,
        )  # fmt: skip
    first, second = caught.value.result["models"]
    assert first["tasks"]
    assert second["tasks"] == {}
