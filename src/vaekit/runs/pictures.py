"""The pictures in a run's folder: of its data, of every epoch, and of the trained model.

Not for: how a picture is made (`plot`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import plot
from ..data import Batches, Dataset, Split
from ..model import LatentVariableModel
from ..store import Run
from ..training import Progress, Record


def draw_data(data: Dataset, run: Run) -> Path:
    """Write a picture of training images into a run folder."""
    return _save(run, "training", plot.grid(_float(_spread(data.train, 64))))


class EpochPictures:
    """Writes a picture of the same latents after every epoch."""

    def __init__(self, model: LatentVariableModel, run: Run) -> None:
        self.model, self.run = model, run

    def step(self, progress: Progress, batches: int | None, means: Mapping[str, float]) -> None:
        """Nothing: only whole epochs are drawn."""

    def epoch(self, record: Record) -> None:
        """Write one."""
        model = self.model.eval()
        c = torch.arange(64) % model.context_size if model.context_size else None
        images = model.sample(64, c, generator=torch.Generator().manual_seed(0))
        _save(self.run, f"epoch-{record['epoch']:03d}", plot.grid(images))


def draw_pictures(model: LatentVariableModel, data: Dataset, run: Run, *, seed: int = 0) -> list[Path]:
    """Write the pictures of a trained model into its run folder."""

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    first = Split(data.test.images[:32], data.test.labels[:32])
    pictures: dict[str, Any] = {"reconstructions": plot.reconstructions(model, _float(first), first.labels)}
    if model.context_size:
        pictures["classes"] = plot.grid(plot.per_class(model, generator=generator()), columns=10)
        pictures["one-of-each"] = plot.grid(plot.one_each(model, generator=generator()), columns=model.context_size)
        c: Tensor | None = torch.arange(64) % model.context_size
        walks = torch.arange(12) % model.context_size
    else:
        c = walks = None
    pictures["samples"] = plot.grid(model.sample(64, c, generator=generator()))
    pictures["interpolation"] = plot.grid(plot.interpolation(model, c=walks, generator=generator()), columns=12)
    pictures["curves"] = plot.curves(run.metrics())
    return [_save(run, name, picture) for name, picture in pictures.items()]


def _save(run: Run, name: str, picture: Any) -> Path:
    path = run.picture(f"{name}.png")
    plot.save(picture, path)
    return path


def _spread(split: Split, n: int) -> Split:
    """Images from all over a split, which may be sorted by class."""
    step = max(1, len(split) // n)
    return Split(split.images[: n * step : step], split.labels[: n * step : step])


def _float(split: Split) -> Tensor:
    return next(iter(Batches(split, batch_size=len(split)))).x
