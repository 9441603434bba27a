"""Batches as a model wants them, on its device, and the true −ELBO over them."""

import math
from collections.abc import Iterable
from typing import Any

import torch

from ..errors import DataError, DeviceError
from ..model import LatentVariableModel
from ..objectives import Objective
from ..rng import seeded
from .ranks import ALONE, Ranks


@torch.no_grad()
def validate(
    model: LatentVariableModel,
    loader: Iterable[Any],
    objective: Objective | None = None,
    *,
    epoch: float = math.inf,
    seed: int = 0,
    ranks: Ranks = ALONE,
) -> dict[str, float]:
    """The true −ELBO of a model over a loader, with the same noise at every call.

    Arguments:
        model: The model.
        loader: Batches.
        objective: What the model is trained for; where that is no bound, its value is taken too, with its number of
            samples. Otherwise one sample an image.
        epoch: Where the objective's schedules stand; at their end by default.
        seed: Of the noise.
        ranks: Between whom every batch is divided; all of them call this with the same batches.

    Returns:
        `neg_elbo`, `rate` and `distortion`, means in nats per image; and `loss`, where the objective is no bound.
    """
    was_training = model.training
    other = objective if objective is not None and not objective.is_bound else None
    samples = other.samples if other else 1
    model.eval()
    sums = torch.zeros(4, dtype=widest(model.device), device=model.device)
    with seeded(torch.Generator().manual_seed(seed)):
        for batch in loader:
            share = ranks.share(batch, samples)
            rows = model.to_model(share.batch)
            x, c = rows.x, rows.c
            with share.noise:
                draw = model.draw(x, samples, c)
                rate, distortion = draw.rate().sum(), draw.distortion.sum()
                loss = -other(draw, epoch).sum() if other else torch.zeros_like(rate)
            sums += share.counted(torch.stack((rate, distortion, loss, rate.new_full((), len(x)))).to(sums.dtype))
    model.train(was_training)
    rate_sum, distortion_sum, loss_sum, images = ranks.add(sums).tolist()
    if not images:
        raise DataError("the loader gave no batch; it must be a sequence of batches, not an iterator")
    return {
        "neg_elbo": (rate_sum + distortion_sum) / images,
        "rate": rate_sum / images,
        "distortion": distortion_sum / images,
    } | ({"loss": loss_sum / images} if other else {})


def find_device(name: str = "auto") -> torch.device:
    """A device by name; "auto" is CUDA where there is one, then MPS, then the CPU.

    Raises:
        DeviceError: no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        found = torch.device(name)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError):
        here = ["cpu", *(["mps"] if torch.backends.mps.is_available() else [])]
        here += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        raise DeviceError(f"device {name!r} is not here; available: {', '.join(here)}") from None
    return found


def widest(device: torch.device) -> torch.dtype:
    """The type to add up in: the widest one that the device has."""
    return torch.float32 if device.type == "mps" else torch.float64
