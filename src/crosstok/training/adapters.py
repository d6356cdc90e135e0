"""A student trained by LoRA, saved as an adapter that peft loads.

The embeddings are trained whole. Where the model that the adapter is for can be loaded by its name,
they are saved in the adapter, as peft saves embeddings. Where it cannot, because it was
transplanted or started from random weights, that model is saved beside the adapter, in the folder
``base``, with its trained embeddings.
"""

from pathlib import Path

from torch import nn

from crosstok.models import SavedDtypes
from crosstok.models.saved_dtypes import save_weights
from crosstok.training.student import Student
from crosstok.training.tokenizer_files import save_tokenizer

BASE = "base"


def save_adapter(
    folder: Path, student: Student, *, dtypes: SavedDtypes, base: str | None, place: str
) -> None:
    """Write the student's adapter, and what it is for, into a folder.

    Args:
        folder: where the files are written.
        student: trained by LoRA, and settled.
        dtypes: of embeddings and base; adapters are saved as they were trained, in fp32.
        base: name or folder of the model that the adapter is for; None saves it in ``base``.
        place: where that model will be, for ``adapter_config.json``.
    """
    model, adapters = student.model, student.adapters
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        nn.Module.to(module, dtypes.main)
    adapters.peft_config["default"].base_model_name_or_path = place
    adapters.save_pretrained(folder, save_embedding_layers=base is not None)
    if base is not None:
        if model.generation_config is not None:
            model.generation_config.save_pretrained(folder)
        return
    plain = adapters.unload()
    save_weights(folder / BASE, plain, dtypes)
    save_tokenizer(folder / BASE, student.encoder.tokenizer)


def loading_lines(base: str | None, place: str, *, has_code: bool) -> str:
    """Lines of Python that load the adapter.

    Args:
        base: name of the model that the adapter is for; None if it is in ``base``.
        place: the adapter's folder, or its repository on the hub.
        has_code: the base loads with ``trust_remote_code=True`` only.
    """
    trust = ", trust_remote_code=True" if has_code else ""
    root, fetch = f'"{place}"', ""
    if base is None and not place.startswith("path/"):
        fetch = f'folder = snapshot_download("{place}")\n'
        root = "folder"
    found = f'"{base}"' if base is not None else f'{root} + "/{BASE}"'
    fetching = "from huggingface_hub import snapshot_download\n" if fetch else ""
    return (
        f"{fetching}from peft import PeftModel\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f"{fetch}base = AutoModelForCausalLM.from_pretrained({found}{trust})\n"
        f"model = PeftModel.from_pretrained(base, {root})\n"
        f"tokenizer = AutoTokenizer.from_pretrained({root})\n"
    )
