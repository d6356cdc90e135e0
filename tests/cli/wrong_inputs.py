"""Commands that are wrong in one thing each: what is asked, or a file.

Every row is the words of a command, what its error must name, and what the error must advise.
Words in braces stand for files and folders that `make_wrong_files` makes.
"""

import json
import shutil
from pathlib import Path

from tests.folders import save_model
from tests.tiny import SENTENCES, tiny_tokenizer

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 12345\n"

TRANSFER = "transfer --model {model} --tokenizer {tokenizer} --data {data} --output {out} "
DISTIL = "distil --teacher {model} --student {model} --data {data} --output {out} "
TRANSPLANT = "transplant --model {model} --tokenizer {tokenizer} --output {out} "
EVALUATE = "evaluate --model {model} "
GENERATE = "generate --model {model} "
INSPECT = "inspect --source {model} --target {tokenizer} "
MODELS = "inspect --teacher {model} --student {model} --data {data} "

# Asked wrongly: exit status 2.
ASKED = [
    ("trian", "trian", "Commands are"),
    ("eval --model m", "eval", "Use crosstok evaluate"),
    ("--lora transfer", "--lora", "Options follow a command"),
    ("transfer", "missing", "--model"),
    (TRANSFER + "--bf16", "--bf16", "Use --precision bf16"),
    (TRANSFER + "--num_train_epochs 3", "--num_train_epochs", "Use --epochs"),
    (TRANSFER + "--lr 1e-4", "--lr", "Use --learning-rate"),
    (TRANSFER + "--learning-rat 1", "--learning-rat", "did you mean '--learning-rate'"),
    (TRANSFER + "--max-steps", "--max-steps", "--help"),
    (TRANSFER + "extra", "extra", "needs quotes"),
    (TRANSFER + "--lora=yes", "--lora", "--help"),
    (TRANSFER + "--max-steps --lora", "--max-steps", "Give it one"),
    (TRANSFER + "--max-steps many", "max_steps = 'many'", "valid integer"),
    (TRANSFER + "--max-steps 0", "max_steps is 0", "at least 1"),
    (TRANSFER + "--max-steps 1.5", "max_steps = '1.5'", "integer"),
    (TRANSFER + "--learning-rate nan", "learning_rate is nan", "at least 0"),
    (TRANSFER + "--learning-rate inf", "learning_rate is inf", "finite"),
    (TRANSFER + "--learning-rate -1", "learning_rate is -1", "at least 0"),
    (TRANSFER + "--batch-size 0", "batch_size is 0", "Use 16"),
    (TRANSFER + "--seed -1", "seed is -1", "at least 0"),
    (TRANSFER + "--epochs 0", "epochs is 0", "above 0"),
    (TRANSFER + "--epochs 1 --max-steps 3", "max_steps is 3", "give only one"),
    (TRANSFER + "--epochs 1 --streaming", "epochs is 1", "Give max_steps"),
    (TRANSFER + "--num-workers 100000", "num_workers is 100000", "at most 1024"),
    (TRANSFER + "--precision bfloat16", "precision = 'bfloat16'", "did you mean 'bf16'"),
    (TRANSFER + "--method mena", "method = 'mena'", "did you mean 'mean'"),
    (TRANSFER + "--objective aml", "'aml'", "did you mean 'alm'"),
    (TRANSFER + "--objective alm+alm", "'alm' twice", "once"),
    (TRANSFER + "--objective nowhere:Loss", "nowhere:Loss", "Install the module"),
    (TRANSFER + "--options alm.temprature=5", "temprature", "did you mean 'temperature'"),
    (TRANSFER + "--options alm.temperature=-1", "temperature", "above 0"),
    (TRANSFER + "--options temperature=5", "temperature", "alm.temperature"),
    (TRANSFER + "--options alm", "alm", "KEY=VALUE"),
    (TRANSFER + "--options alm.temperature=[", "alm.temperature=[", "not YAML"),
    (TRANSFER + "--weights ulm=1", "'ulm'", "objectives are alm"),
    (TRANSFER + "--weights alm=nan --weighting fixed", "weights is nan", "at least 0"),
    (TRANSFER + "--lr-scheduler cosin", "'cosin'", "did you mean 'cosine'"),
    (TRANSFER + "--optimizer adamw", "'adamw'", "did you mean"),
    (TRANSFER + "--lora-rank 8", "lora_rank is 8", "Add lora"),
    (TRANSFER + "--trainer adam_beta_2=1", "adam_beta_2", "did you mean 'adam_beta2'"),
    (TRANSFER + "--trainer adam_beta2=2", "adam_beta2 is 2", "below 1"),
    (TRANSFER + "--trainer bf16=true", "bf16", "give precision"),
    (TRANSFER + "--loss-on users", "loss_on = 'users'", "'assistant'"),
    (TRANSFER + "--text-unit page", "text_unit = 'page'", "'paragraph'"),
    (TRANSFER + "--temperature 5", "temperature", "--options alm.temperature=5"),
    (TRANSFER + "--recipe {none}", "{none}", "give the path of a YAML file"),
    (TRANSFER + "--recipe {list.yaml}", "{list.yaml}", "`key: value` lines"),
    (TRANSFER + "--recipe {broken.yaml}", "{broken.yaml}", "line 2"),
    (TRANSFER + "--recipe {twice.yaml}", "{twice.yaml}", "leave one out"),
    (TRANSFER + "--recipe {unknown.yaml}", "'lora_rnk'", "did you mean 'lora_rank'"),
    (TRANSFER + "--recipe {binary.yaml}", "{binary.yaml}", "UTF-8"),
    (TRANSPLANT + "--method-options powr=2", "powr", "options are"),
    (DISTIL + "--tokenizer gpt2", "--tokenizer", "--help"),
    ("distil --model {model}", "--model", "Use --student and --teacher"),
    (EVALUATE + "--data {data} --tasks hellaswag", "--tasks", "Use --task"),
    (EVALUATE + "--data {data} --limit 0", "limit is 0", "at least 1"),
    (EVALUATE + "--data {data} --window-bytes -5", "window_bytes is -5", "at least 1"),
    (EVALUATE + "--data {data} --combine sum", "combine = 'sum'", "'probs'"),
    (EVALUATE + "--data {data} --device gpu", "'gpu'", "cpu"),
    (GENERATE, "missing: prompt", "--prompt"),
    (GENERATE + "--prompt a --top-p 3", "top_p is 3", "at most 1"),
    (GENERATE + "--prompt a --top-p 0.5", "top_p", "Add a temperature"),
    (GENERATE + "--prompt a --temperature warm", "temperature = 'warm'", "valid number"),
    (GENERATE + "--prompt a --max_tokens 5", "--max_tokens", "Use --max-new-tokens"),
    (GENERATE + "--prompt a --system be-brief", "system", "Add chat"),
    (GENERATE + "--prompt a --max-new-bytes 5", "max_new_bytes is 5", "Give max_new_tokens"),
    (GENERATE + "--model {model} --prompt a", "combine", "one of"),
    (GENERATE + "--chat --json", "json", "Add prompt"),
    (INSPECT, "data", "Give one"),
    (INSPECT + "--data {data} --text a", "data", "Give one"),
    (INSPECT + "--teacher {model} --text a", "teacher", "Leave one pair out"),
    (MODELS + "--batch-size 0", "batch_size is 0", "at least 1"),
    ("demo --quik", "--quik", "did you mean '--quick'"),
    ("env --jsn", "--jsn", "did you mean '--json'"),
]  # fmt: skip

# Asked rightly, of a file that is not what it should be: exit status 1.
FILES = [
    (TRANSFER.replace("{model}", "{typo}"), "{typo}", "Correct the path"),
    (TRANSFER.replace("{tokenizer}", "{typo}"), "{typo}", "Correct the path"),
    (TRANSFER.replace("{data}", "{none}"), "{none}", "Check the path"),
    (TRANSFER.replace("{out}", "{full}"), "{full}", "Choose"),
    (TRANSFER.replace("{model}", "{cut}"), "{cut}", "Fetch it again"),
    (TRANSFER.replace("{model}", "{lfs}"), "{lfs}", "git lfs pull"),
    (TRANSFER.replace("{model}", "{adapter}"), "{adapter}", "Merge it"),
    (TRANSFER.replace("{model}", "{empty}"), "{empty}", "save_pretrained"),
    (TRANSFER.replace("{tokenizer}", "{empty}"), "{empty}", "save_pretrained"),
    (TRANSFER.replace("{tokenizer}", "{badtok}"), "{badtok}", "Fetch it again"),
    (TRANSPLANT.replace("{model}", "{badcfg}"), "{badcfg}", "Fetch it again"),
    (TRANSPLANT.replace("{model}", "{gguf}"), "{gguf}", "Name the model"),
    (TRANSPLANT.replace("{model}", "{data}"), "{data}", "Give the folder"),
    (DISTIL.replace("--teacher {model}", "--teacher {typo}"), "{typo}", "Correct the path"),
    (DISTIL.replace("--student {model}", "--student {cut}"), "{cut}", "Fetch it again"),
    (EVALUATE.replace("{model}", "{typo}") + "--data {data}", "{typo}", "Correct the path"),
    (EVALUATE.replace("{model}", "{badcfg}") + "--data {data}", "{badcfg}", "Fetch it again"),
    (EVALUATE + "--data {none}", "{none}", "Check the path"),
    (EVALUATE + "--data {data} --exam {none}", "{none}", "Check the path"),
    (GENERATE.replace("{model}", "{typo}") + "--prompt a", "{typo}", "Correct the path"),
    (GENERATE.replace("{model}", "{lfs}") + "--prompt a", "{lfs}", "git lfs pull"),
    (GENERATE.replace("{model}", "{none.yaml}") + "--prompt a", "{none.yaml}", "path"),
    (GENERATE + "--prompt-file {none}", "{none}", "path"),
    (INSPECT.replace("{model}", "{typo}") + "--text a", "{typo}", "Correct the path"),
    (INSPECT.replace("{model}", "{badtok}") + "--text a", "{badtok}", "Fetch it again"),
    (MODELS.replace("--teacher {model}", "--teacher {typo}"), "{typo}", "Correct the path"),
]  # fmt: skip


def make_wrong_files(folder: Path) -> dict[str, str]:
    """Good and bad files and folders by the names that rows call them."""
    model = save_model(folder / "model")
    tiny_tokenizer("spm_bpe").save_pretrained(folder / "tokenizer")
    rows = "".join(json.dumps({"text": " ".join(SENTENCES)}) + "\n" for _ in range(4))
    written = {
        "data.jsonl": rows,
        "list.yaml": "- model\n",
        "broken.yaml": "model: [\n",
        "twice.yaml": "seed: 1\nseed: 2\n",
        "unknown.yaml": "lora_rnk: 3\n",
        "model.gguf": "GGUF",
        "full/thesis.tex": "years of work",
        "adapter/adapter_config.json": '{"base_model_name_or_path": "org/base"}',
    }
    for name, content in written.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    (folder / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (folder / "empty").mkdir()
    damages = {
        "cut": ("model.safetensors", (model / "model.safetensors").read_bytes()[:5000]),
        "lfs": ("model.safetensors", LFS.encode()),
        "badcfg": ("config.json", b'{"a": '),
        "badtok": ("tokenizer.json", b'{"a": '),
    }
    for name, (file, content) in damages.items():
        shutil.copytree(model, folder / name)
        (folder / name / file).write_bytes(content)
    named = ("model", "tokenizer", "full", "adapter", "empty", *damages)
    files = ("list.yaml", "broken.yaml", "twice.yaml", "unknown.yaml", "binary.yaml")
    return {
        **{name: str(folder / name) for name in (*named, *files)},
        "data": str(folder / "data.jsonl"),
        "gguf": str(folder / "model.gguf"),
        "typo": str(folder / "modle"),
        "none": str(folder / "nowhere" / "nothing.jsonl"),
        "none.yaml": str(folder / "none.yaml"),
        "out": str(folder / "out"),
    }


def fill(text: str, files: dict[str, str]) -> str:
    """Put the files in their places."""
    for name, path in files.items():
        text = text.replace("{" + name + "}", path)
    return text
