"""Two processes train to the weights of one with the same global batch."""

import json
from pathlib import Path

import pytest

from crosstok.recipes import DistilRecipe
from tests.folders import save_model
from tests.jobs.launch import compare, run
from tests.tiny import SENTENCES


@pytest.mark.slow
def test_two_ranks_equal_one(recipe, tmp_path):
    exam = tmp_path / "order.jsonl"
    rows = [{"good": text, "bad": " ".join(sorted(text.split()))} for text in SENTENCES]
    exam.write_text("".join(json.dumps(row) + "\n" for row in rows))
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
                eval_exam=str(exam),
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
