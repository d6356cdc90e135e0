"""What a bug report needs: versions and devices of the machine, without paths and secrets."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = (
    *("crosstok", "torch", "transformers", "tokenizers", "accelerate", "datasets", "safetensors"),
    *("huggingface-hub", "numpy", "pydantic", "typer", "rich", "peft", "lm-eval", "tensorboard"),
)
_PREFIXES = (
    *(
        "CROSSTOK_",
        "HF_",
        "HUGGINGFACE_",
        "TRANSFORMERS_",
        "TOKENIZERS_",
        "DATASETS_",
        "ACCELERATE_",
    ),
    *(
        "TORCH",
        "PYTORCH_",
        "CUDA_",
        "NCCL_",
        "OMP_",
        "MKL_",
        "OPENBLAS_",
        "ROCR_",
        "HIP_",
        "WANDB_",
    ),
    *("PYTHONPATH", "WORLD_SIZE", "LOCAL_RANK", "NO_COLOR"),
)


def describe_environment() -> dict[str, Any]:
    """Versions, platform, devices, their precisions, threads, and names of variables that are set.

    Values of variables are left out, as they may hold tokens and paths.
    """
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": {name: _version(name) for name in PACKAGES},
        **_devices(),
        "variables": sorted(name for name in os.environ if name.startswith(_PREFIXES)),
    }


def as_block(found: dict[str, Any]) -> str:
    """The description as lines in a code block of Markdown, to be pasted into a report."""
    rows = {**{k: v for k, v in found.items() if k != "packages"}, **found["packages"]}
    width = max(map(len, rows))
    lines = (f"{name:{width}}  {_in_words(value)}".rstrip() for name, value in rows.items())
    return "\n".join(["```", *lines, "```"])


def _in_words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_in_words, value)) or "none"
    return str(value)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _devices() -> dict[str, Any]:
    try:
        import torch
    except Exception as error:  # an installation that is broken is what the report is about
        return {"devices": [f"torch cannot be imported: {type(error).__name__}"]}
    devices = [f"cpu ({torch.backends.cpu.get_cpu_capability()}): fp32, bf16"]
    for number in range(torch.cuda.device_count()):
        one = torch.cuda.get_device_properties(number)
        has_bf16 = torch.cuda.is_bf16_supported()
        precisions = "fp32, fp16, bf16" if has_bf16 else "fp32, fp16"
        devices.append(
            f"cuda:{number} ({one.name}, {one.total_memory / 2**30:.0f} GiB): {precisions}"
        )
    if torch.backends.mps.is_available():
        devices.append("mps: fp32, fp16")
    return {
        "devices": devices,
        "cuda": torch.version.cuda or "not in this build of torch",
        "threads": torch.get_num_threads(),
        "processors": os.cpu_count() or 1,
    }
