"""Seeds."""

import random

import torch


def reset_seed(number: int) -> None:
    """Seed Python's `random` and torch, on every device."""
    random.seed(number)
    torch.manual_seed(number)
