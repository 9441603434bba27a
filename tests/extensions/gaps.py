"""Vectors of which some values are missing, a data set of somebody else: named "gaps:load" in a config."""

import hashlib

import torch

from vaekit.data import Dataset, Split
from vaekit.data.loading import load as dataset  # what `proof` trains on: whatever the config names

__all__ = ["dataset", "load"]

SIZE, ROWS = 6, 96


def load() -> Dataset:
    """96 vectors on a noisy plane in R⁶, a third of their values missing: 64 to train on, 16 and 16."""
    generator = torch.Generator().manual_seed(0)
    plane = torch.randn(2, SIZE, generator=generator)
    values = torch.randn(ROWS, 2, generator=generator) @ plane + 0.1 * torch.randn(ROWS, SIZE, generator=generator)
    observed = torch.rand(ROWS, SIZE, generator=generator) > 1 / 3
    values = values.masked_fill(~observed, 1e6)  # which nobody must see
    labels = torch.zeros(ROWS, dtype=torch.int64)
    parts = [Split(values[a:b], labels[a:b], observed[a:b]) for a, b in ((0, 64), (64, 80), (80, 96))]
    checksum = hashlib.sha256(values.numpy().data).hexdigest()
    return Dataset("gaps", *parts, classes=("all",), checksum=checksum, kind="vector")
