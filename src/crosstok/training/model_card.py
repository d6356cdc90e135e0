"""The README of a saved model: front matter for the hub, how it was made, what was measured.

No path of this machine is in it: folders and files go by their last part. Names of files and of
metrics come from outside, so what Markdown or YAML would read in them is escaped.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData, hf_hub_download
from huggingface_hub.repocard_data import EvalResult

_LICENSE = ("license", "license_name", "license_link")
_PLACE = "path/to/this/folder"
_PARTS = re.compile(r"([:=,])")  # of KIND:NAME, DATA:CONFIGURATION, NAME=VALUE


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a card says.

    Attributes:
        title: name of the model.
        lines: how it was made, in Markdown; names in them are of `code`.
        results: figures by name.
        recipe: every option, by name.
        base_model: what was trained, by name or folder; None where it began with random weights.
        datasets: what it was trained on, by name, file or folder.
        tag: of the job.
        relation: of the model to its base, in the words of the hub.
        has_code: it loads with ``trust_remote_code=True`` only.
        repository: where it will be on the hub, if it is uploaded.
        loading: lines of Python that load it; by default those of a model.
    """

    title: str
    lines: Sequence[str]
    recipe: Mapping[str, Any]
    base_model: str | None
    results: Mapping[str, Any] = field(default_factory=dict)
    datasets: Sequence[str] = ()
    tag: str = "tokenizer-transfer"
    relation: str = "finetune"
    has_code: bool = False
    repository: str | None = None
    loading: str | None = None

    def text(self) -> str:
        """The README."""
        head = f"---\n{self.front_matter().to_yaml()}\n---\n\n"
        return str(ModelCard(head + self._body(), ignore_metadata_errors=True))

    def front_matter(self) -> ModelCardData:
        """What the hub reads: names of the hub only, and the licence of the base model's card."""
        base = _on_hub(self.base_model) if self.base_model is not None else None
        source = {} if self.base_model is None else card_data(self.base_model)
        if base is None and isinstance(source.get("base_model"), str):
            base = source["base_model"]  # of a model that was made here from one of the hub
        more: dict[str, Any] = {name: source[name] for name in _LICENSE if source.get(name)}
        if base is not None:
            more["base_model_relation"] = self.relation
        datasets = [name.partition(":")[0] for name in map(_on_hub, self.datasets) if name]
        results = self._eval_results()
        return ModelCardData(
            base_model=base,
            datasets=datasets or None,
            library_name="peft" if self.relation == "adapter" else "transformers",
            pipeline_tag="text-generation",
            tags=["crosstok", self.tag],
            model_name=self.title if results else None,
            eval_results=results or None,
            **more,
        )

    def _eval_results(self) -> list[EvalResult]:
        return [
            EvalResult(
                task_type="text-generation",
                dataset_type=texts,
                dataset_name=texts,
                metric_type="bits_per_byte",
                metric_name="bits per byte",
                metric_value=value,
            )
            for name, value in self.results.items()
            if (texts := _held_out(name)) and isinstance(value, float) and math.isfinite(value)
        ]

    def _body(self) -> str:
        facts = "\n".join(f"- {line}" for line in self.lines)
        rows = "".join(
            f"| {escape(name)} | {escape(_shown(value))} |\n"
            for name, value in self.results.items()
        )
        measured = f"## Measured while training\n\n| | |\n|---|---|\n{rows}\n" if rows else ""
        recipe = yaml.safe_dump(public(self.recipe), sort_keys=False, allow_unicode=True)
        fence = _fence(recipe)
        return (
            f"# {escape(self.title)}\n\n{facts}\n\nLoads without crosstok:\n\n"
            f"```python\n{self.loading or self._loading()}```\n\n{measured}"
            f"## Recipe\n\n{fence}yaml\n{recipe}{fence}\n"
        )

    def _loading(self) -> str:
        trust = ", trust_remote_code=True" if self.has_code else ""
        place = self.repository or _PLACE
        return (
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f'model = AutoModelForCausalLM.from_pretrained("{place}"{trust})\n'
            f'tokenizer = AutoTokenizer.from_pretrained("{place}"{trust})\n'
        )


def card_data(model: str) -> dict[str, Any]:
    """The front matter of a model's own card; empty where it has none that can be read."""
    folder = Path(model).expanduser()
    try:
        file = (
            folder / "README.md"
            if folder.is_dir()
            else Path(hf_hub_download(model, "README.md", etag_timeout=3))
        )
        if not file.read_text(encoding="utf-8").startswith("---"):
            return {}  # the hub's client would warn
        data: dict[str, Any] = ModelCard.load(file, ignore_metadata_errors=True).data.to_dict()
    except Exception:  # no card, no network, or front matter that is not YAML
        return {}
    return data


def public(value: Any) -> Any:
    """A value of a recipe without paths of this machine: files and folders by their last part."""
    if isinstance(value, Mapping):
        return {name: public(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [public(inner) for inner in value]
    return public_name(value) if isinstance(value, str) else value


def public_name(name: str) -> str:
    """A name on the hub as it is; of a file or folder its last part."""
    if "://" in name or "\n" in name:
        return name
    if _is_local(name):
        return Path(name).expanduser().absolute().name
    parts = [_last(part) if _is_local(part) else part for part in _PARTS.split(name)]
    return "".join(parts)


def code(name: str) -> str:
    """A name as code in Markdown, on one line, without paths of this machine."""
    shown = " ".join(public_name(name).split())
    ticks = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    space = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{ticks}{space}{shown}{space}{ticks}"


def listed(names: Sequence[str]) -> str:
    """Names as code, joined: ``a.jsonl`` and ``b.jsonl``."""
    return " and ".join(map(code, names))


def escape(text: str) -> str:
    """Text on one line in which Markdown, also in a table, finds nothing of its own."""
    line = " ".join(text.split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*|\[\]])", r"\\\1", line)


def _is_local(name: str) -> bool:
    path = Path(name).expanduser()
    try:
        is_there = bool(name) and path.exists()
    except (OSError, ValueError):  # a name too long for a file
        return False
    return is_there or path.is_absolute() or name.startswith(("./", "../", "~", ".\\", "..\\"))


def _last(name: str) -> str:
    return Path(name).expanduser().absolute().name


def _on_hub(name: str) -> str | None:
    """The name, if it can be one on the hub."""
    looks = re.fullmatch(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?", name)
    is_file = _is_local(name) or Path(name).suffix in _FILES
    return None if looks is None or is_file else str(name)  # a plain one, of an object's name too


_FILES = {".jsonl", ".json", ".parquet", ".txt", ".csv", ".tsv", ".xz", ".gz", ".zst", ".arrow"}


def _held_out(name: str) -> str:
    """``wiki`` of ``eval_wiki_bits_per_byte``; empty for what is not of held-out texts."""
    texts = name.removeprefix("eval_").removesuffix("_bits_per_byte")
    return texts if name == f"eval_{texts}_bits_per_byte" else ""


def _fence(text: str) -> str:
    return "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
