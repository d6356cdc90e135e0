"""Two processes train to the weights of one with the same global batch."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from crosstok.recipes import DistilRecipe, recipe_yaml
from tests.training.conftest import save_model

SCRIPT = Path(__file__).parent / "two_ranks.py"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run(folder: Path, recipe, num_ranks: int) -> dict[str, torch.Tensor]:
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


@pytest.mark.slow
def test_two_ranks_equal_one(recipe, tmp_path):
    weights = [
        run(
            tmp_path,
            recipe(
                objective="alm+cross_entropy",
                output=str(tmp_path / f"ranks{num_ranks}"),
                batch_size=4 // num_ranks,
                max_steps=3,
                eval_data=recipe().data,
                eval_every=2,
                eval_texts=3,
            ),
            num_ranks,
        )
        for num_ranks in (1, 2)
    ]
    compare(*weights)
    one, other = (held_out_lines(tmp_path / f"ranks{num_ranks}") for num_ranks in (1, 2))
    assert [line["step"] for line in one] == [0, 2, 3]
    assert one == [pytest.approx(line, rel=1e-5) for line in other]


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["hidden_states", "dskd"])
def test_projectors_are_trained_alike_by_two_ranks(model_folder, texts_file, tmp_path, objective):
    """Hidden states alone leave the student's output matrix without a gradient, too."""
    teacher = save_model(tmp_path / "teacher", hidden_size=48, head_dim=12)
    weights = [
        run(
            tmp_path,
            DistilRecipe(
                teacher=[str(teacher)],
                student=str(model_folder),
                data=str(texts_file),
                output=str(tmp_path / f"ranks{num_ranks}"),
                objective=objective,
                batch_size=4 // num_ranks,
                max_length=48,
                max_steps=3,
                learning_rate=1e-3,
                num_workers=0,
                report_to="none",
            ),
            num_ranks,
        )
        for num_ranks in (1, 2)
    ]
    compare(*weights)


def held_out_lines(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "eval_texts_bits_per_byte" in line]


def compare(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-5, atol=1e-7)
