"""ALM (arXiv 2503.20083) in a plain PyTorch loop.

    python examples/own_loop.py

The teacher is the small model that comes with crosstok. The student is a copy of it with another
tokenizer, which is trained here on the training text.
"""

import inspect
import textwrap
from importlib.resources import files

import torch

import crosstok
from crosstok.demo.target_tokenizer import build_target_tokenizer
from crosstok.models import load_model
from crosstok.tokenizers import TextEncoder, load_tokenizer
from crosstok.transplants import transplant


def main(steps: int = 20) -> tuple[float, float]:
    """Train; returns the loss on held-out texts before and after."""
    torch.manual_seed(0)
    source = inspect.getsource(textwrap)
    texts = [source[i : i + 300] for i in range(0, len(source), 300)]
    folder = str(files("crosstok.demo") / "model")
    teacher, student = (load_model(folder, dtype=torch.float32) for _ in range(2))
    tokenizer = build_target_tokenizer(texts)
    transplant(student, TextEncoder(load_tokenizer(folder)), TextEncoder(tokenizer))

    loss_fn = crosstok.DistillationLoss(student, teacher, student_tokenizer=tokenizer)
    optimizer = torch.optim.AdamW(student.parameters(), lr=5e-4)
    train, held_out = texts[:-8], texts[-8:]
    before = loss_fn(held_out).item()
    for step in range(steps):
        loss = loss_fn([train[(4 * step + i) % len(train)] for i in range(4)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step:2d}: {loss.item():.3f} a chunk")
    after = loss_fn(held_out).item()
    print(f"held-out texts: {before:.3f} a chunk before, {after:.3f} after")
    return before, after


if __name__ == "__main__":
    main()
