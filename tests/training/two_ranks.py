"""Run by test_ranks.py in one or two processes: a tiny transfer from a recipe file."""

import sys

import torch

from crosstok.recipes import TransferRecipe, load_recipe
from crosstok.transfer import transfer

if __name__ == "__main__":
    torch.set_num_threads(1)
    transfer(load_recipe(TransferRecipe, sys.argv[1], {}))
