"""Jobs in several processes, started by torch's launcher."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from crosstok.recipes import DistilRecipe, recipe_yaml

SCRIPT = Path(__file__).parent / "two_ranks.py"


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run(folder: Path, recipe, num_ranks: int) -> dict[str, torch.Tensor]:
    """Train by a recipe in so many processes; the weights that are saved."""
    file = folder / f"{num_ranks}.yaml"
    file.write_text(recipe_yaml(recipe))
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={num_ranks}"]
    job = "distil" if isinstance(recipe, DistilRecipe) else "transfer"
    process = subprocess.run(
        [*command, f"--master-port={free_port()}", str(SCRIPT), job, str(file)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return load_file(Path(recipe.output) / "model.safetensors")


def compare(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Two sets of weights are equal up to rounding."""
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-5, atol=1e-7)
