"""Bytes to floats, and grey to binary values; no other module does either.

Not for: serving batches (`batches`).
"""

from collections.abc import Callable
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .ondisk import Reader, Stored
from .value_kinds import ValueKind

BINARIZATIONS = ("none", "threshold", "per-epoch", "fixed")
FIXED_SEED = 20_080_623  # seed of "fixed": never change it, or nobody can repeat published numbers
_ROWS_AT_ONCE = 1000  # rows binarized at a time, so that the noise takes little memory


def to_unit(values: Tensor) -> Tensor:
    """Bytes as float32 in [0, 1], x = pixel / 255; other values unchanged."""
    return values.to(torch.float32).div_(255) if values.dtype == torch.uint8 else values


def to_floats(x: Tensor, value_kind: ValueKind, dtype: torch.dtype = torch.float32) -> Tensor:
    """Rows of any type as floating-point numbers: bytes as x / 255, or unscaled if they are counts.

    Arguments:
        x: Rows.
        value_kind: Meaning of the numbers.
        dtype: Type of the result for rows that are neither bytes to scale nor floating-point.
    """
    x = x if value_kind == "counts" else to_unit(x)
    return x if x.is_floating_point() else x.to(dtype)


def draw_binary(probabilities: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw 1 with these probabilities, else 0; without a generator, from torch's global stream."""
    if generator is None:
        return torch.bernoulli(probabilities)
    noise = torch.rand(probabilities.shape, generator=generator, device=generator.device)
    return (noise.to(probabilities.device) < probabilities).to(probabilities.dtype)


def repeatable(binarize: str) -> str:
    """The binarization of an evaluation, which must see the same values every time: "fixed" instead of "per-epoch"."""
    return "fixed" if binarize == "per-epoch" else binarize


def binarized(x: Tensor | Stored, binarize: str) -> Tensor | Stored:
    """Rows of the same type: binary for "threshold" and "fixed", which decide once; else unchanged.

    Bytes become 0 or 255. The fixed draw of a tensor uses one random stream. Each row on disk has its own stream, by
    its index in the file or folder.
    """
    if binarize not in ("threshold", "fixed"):
        return x
    if isinstance(x, Stored):
        return Stored(_Binarized(x.reader, _above_half if binarize == "threshold" else _own_draws), x.rows)
    if binarize == "threshold":
        return _above_half(x, np.empty(0, np.int64))
    generator = torch.Generator().manual_seed(FIXED_SEED)  # on the CPU, so that it is the same everywhere
    bits = torch.empty_like(x)
    for part, result in zip(torch.split(x, _ROWS_AT_ONCE), torch.split(bits, _ROWS_AT_ONCE), strict=True):
        result.copy_(_draw(part.cpu(), generator))
    return bits


@final
class _Binarized:
    """Reads rows and binarizes them; the result does not depend on the order of reading."""

    def __init__(self, reader: Reader, binary: Callable[[Tensor, NDArray[np.int64]], Tensor]) -> None:
        self.reader = reader
        self.binary = binary
        self.shape = reader.shape
        self.dtype = reader.dtype
        self.threads = reader.threads

    def read(self, rows: NDArray[np.int64]) -> Tensor:
        return self.binary(self.reader.read(rows), rows)


def _above_half(x: Tensor, _: NDArray[np.int64]) -> Tensor:
    is_bytes = x.dtype == torch.uint8
    return (x > (127 if is_bytes else 0.5)).to(x.dtype) * (255 if is_bytes else 1)


def _own_draws(x: Tensor, rows: NDArray[np.int64]) -> Tensor:
    for values, row in zip(x, rows.tolist(), strict=True):
        values.copy_(_draw(values, torch.Generator().manual_seed(FIXED_SEED + row)))
    return x


def _draw(x: Tensor, generator: torch.Generator) -> Tensor:
    ones = draw_binary(to_unit(x), generator)
    return ones * 255 if x.dtype == torch.uint8 else ones
