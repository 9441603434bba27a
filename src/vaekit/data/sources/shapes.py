"""The data set "shapes": small coloured shapes, drawn here so that every factor is known.

Not for: measuring how a model separates the factors (`vaekit.evaluation.latent_space.disentanglement`).
"""

import hashlib
import math

import torch
from torch import Tensor

from ..dataset import Split
from .torchvision_sets import Content

FACTORS = {"shape": 3, "colour": 3, "scale": 3, "rotation": 8, "x": 6, "y": 6}  # name → number of values
SIDE, FINER = 32, 4  # pixels of a side; points per pixel along each axis (a pixel is the mean of its points)
RADII = (4.0, 5.5, 7.0)  # pixels
SHAPE_COLOURS = ((255, 64, 64), (64, 255, 64), (76, 115, 255))
STEP = 3  # pixels between two places
ORDER_SEED = 1802  # seed of the order of the rows, which decides between training and test


def every_shape() -> tuple[Tensor, Tensor]:
    """All 7,776 images, uint8, shape (N, 3, 32, 32), and their factors, int64, shape (N, 6), in the order of `FACTORS`.

    No shape looks like itself when it is turned, so that the image shows every factor.
    """
    shape, colour, scale, rotation, x, y = factors = torch.cartesian_prod(*map(torch.arange, FACTORS.values())).T
    masks = torch.stack([_mask(kind, radius, turn) for kind in range(3) for radius in RADII for turn in range(8)])
    centred = masks[(shape * len(RADII) + scale) * 8 + rotation]
    first = -(STEP * (FACTORS["x"] - 1) // 2)
    index = torch.arange(SIDE)
    rows = (index - (first + STEP * y)[:, None]) % SIDE
    columns = (index - (first + STEP * x)[:, None]) % SIDE
    moved = centred.gather(1, rows[:, :, None].expand(-1, -1, SIDE)).gather(2, columns[:, None].expand(-1, SIDE, -1))
    images = moved[:, None] * torch.tensor(SHAPE_COLOURS)[colour][:, :, None, None]
    return images.round().to(torch.uint8), factors.T.contiguous()


def _mask(kind: int, radius: float, turn: int) -> Tensor:
    """The part of each pixel that a centred shape covers, shape (32, 32)."""
    points = (torch.arange(SIDE * FINER) + 0.5) / FINER - SIDE / 2
    below, right = torch.meshgrid(points, points, indexing="ij")
    angle = 2 * math.pi * turn / FACTORS["rotation"]
    u = (right * math.cos(angle) + below * math.sin(angle)) / radius
    v = (below * math.cos(angle) - right * math.sin(angle)) / radius
    if kind == 0:  # a triangle, taller than wide
        inside = (v > -1) & (v < 0.8) & (u.abs() < 0.3 * (v + 1))
    elif kind == 1:  # half of a disc
        inside = (u.square() + v.square() < 1) & (v > 0)
    else:  # the letter L
        inside = ((u > -0.6) & (u < -0.1) & (v.abs() < 0.8)) | ((u.abs() < 0.6) & (v > 0.3) & (v < 0.8))
    by_pixel: Tensor = inside.float().unflatten(0, (SIDE, FINER)).unflatten(2, (SIDE, FINER))
    return by_pixel.mean((1, 3))


def read_shapes(train: int) -> Content:
    """The images in a fixed random order, the first `train` to train on; the class is the shape."""
    images, factors = every_shape()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(ORDER_SEED))
    images, labels = images[order], factors[order, 0]
    checksum = hashlib.sha256(images.numpy().data).hexdigest()
    return Content(Split(images[:train], labels[:train]), Split(images[train:], labels[train:]), checksum, every_shape)
