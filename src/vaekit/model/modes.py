"""Evaluation mode, and buffers as they are, for the length of a block."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Within the block modules are in evaluation mode, and no gradient is recorded unless the block turns it on."""
    were_training = {part: part.training for module in modules for part in module.modules()}
    for module in modules:
        module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, was_training in were_training.items():
            part.training = was_training  # `train` would change the parts of a part too


@contextmanager
def buffers_kept(*modules: nn.Module) -> Iterator[None]:
    """After the block the buffers of modules, such as those of batch norm, are as before."""
    before = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
