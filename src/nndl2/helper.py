"""What the assignment's notebook calls: pictures, training, one-hot labels, a parameter count.

Self-contained but for `vae.loss_function`, which is looked up when training starts, so that a student's own `vae.py`
is found first. Not for: training in earnest, which is `vaekit.fit`.
"""

from collections.abc import Iterable
from math import ceil, isqrt, nan, sqrt
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    import numpy as np

__all__ = ["count_params", "hello_helper", "one_hot", "show_images", "train_vae"]


def hello_helper() -> None:
    """Say hello, to show that the import works."""
    print("Hello from helper.py!")


def count_params(model: nn.Module) -> int:
    """Number of parameters, each element counted."""
    return sum(p.numel() for p in model.parameters())


def one_hot(labels: Tensor, class_size: int) -> Tensor:
    """One-hot rows, float32, shape (N, class_size), for integer labels of shape (N,).

    >>> one_hot(torch.tensor([2, 0]), 3)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    return nn.functional.one_hot(labels.long(), class_size).float()


def show_images(images: "Tensor | np.ndarray") -> None:
    """Show a batch of grey images in a square grid, side ⌈√N⌉, as a new matplotlib figure.

    Arguments:
        images: Shape (N, 1, H, W), or (N, D) with D a square number; on any device, with or without a gradient.

    Raises:
        ValueError: The shape is not one of these, or there are 0 images.
    """
    import matplotlib.pyplot as plt  # half a second that training does without

    tiles = _tiles(images)
    n, height, width = tiles.shape
    side = ceil(sqrt(n))
    # One picture of all tiles: an axis for each takes seconds for a hundred. NaN is transparent: gaps and empty tiles.
    grid = tiles.new_full((side * side, height + 1, width + 1), nan)
    grid[:n, :height, :width] = tiles
    canvas = grid.unflatten(0, (side, side)).transpose(1, 2).flatten(2).flatten(0, 1)[:-1, :-1]
    size = 2 + side / 2
    _, axes = plt.subplots(figsize=(size, size), layout="constrained")
    axes.imshow(canvas.numpy(), cmap="gray")
    axes.axis("off")


def _tiles(images: "Tensor | np.ndarray") -> Tensor:
    """The images on the CPU, shape (N, H, W)."""
    tiles = torch.as_tensor(images).detach().float().cpu()
    if tiles.ndim == 2 and isqrt(tiles.shape[1]) ** 2 == tiles.shape[1]:
        tiles = tiles.unflatten(1, (1, isqrt(tiles.shape[1]), -1))
    if tiles.ndim != 4 or tiles.shape[1] != 1 or not tiles.numel():
        shape = tuple(tiles.shape)
        raise ValueError(f"images must have shape (N, 1, H, W), or (N, D) with D a square number, N ≥ 1; got {shape}")
    return tiles.squeeze(1)


def train_vae(
    epoch: int, model: nn.Module, train_loader: Iterable[tuple[Tensor, Tensor]], *, cond: bool = False
) -> None:
    """Train for one epoch on the model's own device, and print the loss of the last minibatch.

    As in the course the optimizer is Adam(lr = 1e-3), new in each call, so its moments are forgotten between epochs.

    Arguments:
        epoch: Number to print.
        model: Maps x, or (x, c) if `cond`, to (x_hat, μ, log σ²).
        train_loader: Minibatches of images (N, 1, H, W) in [0, 1] and integer labels (N,).
        cond: Pass one-hot labels as c; the model's `num_classes` of them, or 10.

    Raises:
        ValueError: The loader is empty.
    """
    from vae import loss_function

    device = next(model.parameters()).device
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss = None
    model.train()
    for images, labels in train_loader:
        x = images.to(device)
        inputs = (x, one_hot(labels, getattr(model, "num_classes", 10)).to(device)) if cond else (x,)
        x_hat, mu, logvar = model(*inputs)
        loss = loss_function(x_hat, x, mu, logvar)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if loss is None:
        raise ValueError("train_loader is empty; an iterator can be used for one epoch only, a DataLoader for many")
    print(f"Train Epoch: {epoch} \tLoss: {loss.item():.6f}")
