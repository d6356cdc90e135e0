"""The laws of a transplant on one model: permuted ids, and two spellings of a configuration."""

import json
import random
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from tokenizers import Tokenizer
from transformers import AutoConfig, PreTrainedTokenizerFast

from crosstok.models import load_model
from crosstok.models.ties import is_tied
from crosstok.tokenizers import TextEncoder
from crosstok.transplants import transplant
from tests.tiny import tiny_tokenizer

TOLERANCE = 1e-3
"""Of log-probabilities in fp32 of models whose log-probabilities differ by several nats."""


def permuted(
    tokenizer: PreTrainedTokenizerFast, *, seed: int = 0
) -> tuple[PreTrainedTokenizerFast, list[int]]:
    """The tokenizer with its ids shuffled, and the new id of every old one."""
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    vocab = described["model"]["vocab"]
    names = {added["content"]: added["id"] for added in described["added_tokens"]} | vocab
    order = list(range(1 + max(names.values())))
    random.Random(seed).shuffle(order)
    described["model"]["vocab"] = {piece: order[index] for piece, index in vocab.items()}
    for added in described["added_tokens"]:
        added["id"] = order[added["id"]]
    described["added_tokens"].sort(key=lambda added: added["id"])
    roles = {
        f"{role}_token": token
        for role in ("bos", "eos", "pad", "unk")
        if (token := getattr(tokenizer, f"{role}_token"))
    }
    backend = Tokenizer.from_str(json.dumps(described))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **roles), order


@cache
def permuted_pair() -> tuple[TextEncoder, TextEncoder, tuple[int, ...]]:
    """A tokenizer, the same with its ids shuffled, and the new id of every old one."""
    tokenizer = tiny_tokenizer("bytelevel_bpe")
    other, order = permuted(tokenizer)
    return TextEncoder(tokenizer), TextEncoder(other), tuple(order)


def permutation_gap(model: Any, folder: Path) -> float:
    """The largest difference of log-probabilities after a transplant to permuted ids, in nats.

    The model is also made again from its configuration and its weights, as who loads it would.

    Raises:
        ValueError: the model is refused.
    """
    source, target, order = permuted_pair()
    new = torch.tensor(order)
    ids = torch.randint(2, len(order), (2, 12), generator=torch.Generator().manual_seed(1))
    before = _logprobs(model, ids)
    transplant(model, source, target)
    model.config.save_pretrained(folder)
    again = type(model)(type(model.config).from_pretrained(folder)).float().eval()
    again.load_state_dict(model.state_dict())
    found = [_logprobs(one, new[ids])[..., new] for one in (model, again)]
    return max(float((after - before).abs().max()) for after in found)


def _logprobs(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits.double().log_softmax(-1)


def takes(model_type: str, **fields: Any) -> bool:
    """Whether the architecture's configuration may hold these values."""
    try:
        AutoConfig.for_model(model_type, **fields)
    except StrictDataclassError:
        return False
    return True


def spelled_otherwise(folder: Path, other: Path) -> list[str]:
    """A copy of a folder with the same weights and another spelling of its configuration.

    Returns:
        What is spelled otherwise.
    """
    shutil.copytree(folder, other)
    file = other / "config.json"
    config = json.loads(file.read_text())
    changes = []
    for part in (config, config.get("text_config") or {}):
        if part.get("dtype"):
            part["torch_dtype"] = part.pop("dtype")
            changes.append("torch_dtype")
        if isinstance(part.get("eos_token_id"), int) and takes(
            part["model_type"], eos_token_id=[0, 1]
        ):
            part["eos_token_id"] = [part["eos_token_id"]]
            changes.append("list of ends")
        rope = part.get("rope_parameters") or {}
        if set(rope) == {"rope_theta", "rope_type"} and rope["rope_type"] == "default":
            part["rope_theta"], part["rope_scaling"] = rope["rope_theta"], None
            del part["rope_parameters"]
            changes.append("rope_theta")
        flipped = not part.get("tie_word_embeddings", True)
        if "tie_word_embeddings" in part and takes(part["model_type"], tie_word_embeddings=flipped):
            part["tie_word_embeddings"] = flipped
            changes.append("ties")
    file.write_text(json.dumps(config))
    return changes


def spellings_differ(model: Any, folder: Path) -> str:
    """What differs between the outcomes of two spellings; empty: nothing does."""
    source, target, _ = permuted_pair()
    model.save_pretrained(folder / "one")
    spelled_otherwise(folder / "one", folder / "two")
    outcomes = []
    for name in ("one", "two"):
        loaded = load_model(str(folder / name))
        transplant(loaded, source, target)
        outcomes.append((is_tied(loaded), loaded.state_dict()))
    (tied, one), (other_tied, two) = outcomes
    if tied != other_tied:
        return "one is tied"
    if one.keys() != two.keys():
        return f"names {sorted(one.keys() ^ two.keys())[:3]}"
    return ", ".join(name for name in one if not torch.equal(one[name], two[name]))
