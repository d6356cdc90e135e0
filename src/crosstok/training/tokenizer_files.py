"""A tokenizer saved beside a model, so that plain ``AutoTokenizer`` gives that tokenizer back.

For some model types (``qwen2``, ``phi3`` and others) transformers distrusts the class that a folder
names, and rebuilds the model family's own tokenizer from the folder's vocabulary: other normaliser,
other splitting, other specials, without a word. A folder whose tokenizer brings code of its own is
exempt, and is loaded as it is written where that code is not trusted. So where the plain load does
not give the tokenizer back, a class that adds nothing is named, and shipped for whoever trusts it.
"""

import json
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from crosstok.tokenizers.encoding import encode_alike

_PROBE = "A  b\n\n Café, don't\tx=1234; 猫は  <s> <|endoftext|> ﬁ "
_MODULE = "tokenization_verbatim"
_CODE = '''"""The tokenizer of tokenizer.json, as it is written there."""

from transformers import PreTrainedTokenizerFast


class VerbatimTokenizer(PreTrainedTokenizerFast):
    pass
'''


def save_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Save a tokenizer into a folder that holds a model's configuration, and check that it loads.

    Raises:
        ValueError: plain ``AutoTokenizer`` gives another tokenizer back, whatever is written.
    """
    tokenizer.save_pretrained(folder)
    if _loads_as(folder, tokenizer):
        return
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config["auto_map"] = {"AutoTokenizer": [None, f"{_MODULE}.VerbatimTokenizer"]}
    file.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / f"{_MODULE}.py").write_text(_CODE, encoding="utf-8")
    if not _loads_as(folder, tokenizer):
        raise ValueError(
            f"the tokenizer {tokenizer.name_or_path!r} does not come back from AutoTokenizer as it "
            f"was saved beside this model ({folder / 'config.json'}): this version of transformers "
            "puts the model family's own in its place. Save with another version of transformers."
        )


def _loads_as(folder: Path, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the plain load has the same ids, specials and cuts."""
    loaded = AutoTokenizer.from_pretrained(folder)
    same_ids = loaded.get_vocab() == tokenizer.get_vocab()
    same_specials = all(
        getattr(loaded, name) == getattr(tokenizer, name)
        for name in ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id")
    )
    one, other = loaded.backend_tokenizer, tokenizer.backend_tokenizer
    alike = encode_alike(one, other, _PROBE, add_special_tokens=True)
    return bool(same_ids and same_specials and alike)
