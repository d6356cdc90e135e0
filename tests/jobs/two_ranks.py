"""Run by test_ranks.py in one or two processes: a tiny transfer or distillation from a recipe.

In float64: Adam's first steps make of a gradient's last digits the whole of a weight's change.
"""

import sys

import torch

from crosstok.jobs import distil, teachers, transfer
from crosstok.recipes import DistilRecipe, TransferRecipe, load_recipe

if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.nn.Module.float = torch.nn.Module.double
    teachers.compute_dtype = lambda *_: torch.float64
    name, file = sys.argv[1:]
    if name == "distil":
        distil.distil(load_recipe(DistilRecipe, file, {}))
    else:
        transfer.transfer(load_recipe(TransferRecipe, file, {}))
