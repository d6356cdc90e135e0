"""Run by test_ranks.py in one or two processes: a tiny transfer or distillation from a recipe."""

import sys

import torch

from crosstok.distil import distil
from crosstok.recipes import DistilRecipe, TransferRecipe, load_recipe
from crosstok.transfer import transfer

if __name__ == "__main__":
    torch.set_num_threads(1)
    job, file = sys.argv[1:]
    if job == "distil":
        distil(load_recipe(DistilRecipe, file, {}))
    else:
        transfer(load_recipe(TransferRecipe, file, {}))
