"""The pictures in a run's folder: of its data, of every epoch, and of the trained model.

Pictures of images are drawn where the data are images, `Dataset.kind`; of other data only the curves are.

Not for: how a picture is made (`plot`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import plot
from ..data import Dataset
from ..data.batches import whole
from ..model import LatentVariableModel
from ..store import Run
from ..training import Listener, Progress, Record


@dataclass(frozen=True)
class Scene:
    """What a panel is drawn from.

    Arguments:
        model: A trained model.
        data: What it was trained on.
        run: Its run.
        seed: Of all that is random.
    """

    model: LatentVariableModel
    data: Dataset
    run: Run
    seed: int

    def generator(self) -> torch.Generator:
        """The random stream of one panel."""
        return torch.Generator().manual_seed(self.seed)


@dataclass(frozen=True)
class Panel:
    """A picture of a trained model.

    Arguments:
        name: Of its file.
        draw: Makes it.
        of_images: Whether it shows images.
        of_classes: Whether it shows the classes that a conditional model is told.
    """

    name: str
    draw: Callable[[Scene], Any]
    of_images: bool = True
    of_classes: bool = False

    def fits(self, scene: Scene) -> bool:
        """Whether there is such a picture of this model and these data."""
        has_images = scene.data.kind == "image"
        return (has_images or not self.of_images) and (bool(scene.model.context_size) or not self.of_classes)


def _reconstructions(scene: Scene) -> Tensor:
    first = scene.data.test.rows(slice(32))
    batch = scene.model.to_model(whole(first))
    return plot.reconstructions(scene.model, batch.x, batch.c)


def _classes(scene: Scene) -> Tensor:
    return plot.grid(plot.per_class(scene.model, generator=scene.generator()), columns=10)


def _one_of_each(scene: Scene) -> Tensor:
    return plot.grid(plot.one_each(scene.model, generator=scene.generator()), columns=scene.model.context_size)


def _samples(scene: Scene) -> Tensor:
    return plot.grid(scene.model.sample(64, _cycled(scene.model, 64), generator=scene.generator()))


def _interpolation(scene: Scene) -> Tensor:
    walks = plot.interpolation(scene.model, c=_cycled(scene.model, 12), generator=scene.generator())
    return plot.grid(walks, columns=12)


def _curves(scene: Scene) -> Any:
    return plot.curves(scene.run.metrics())


PANELS = (
    Panel("reconstructions", _reconstructions),
    Panel("classes", _classes, of_classes=True),
    Panel("one-of-each", _one_of_each, of_classes=True),
    Panel("samples", _samples),
    Panel("interpolation", _interpolation),
    Panel("curves", _curves, of_images=False),
)


def draw_pictures(model: LatentVariableModel, data: Dataset, run: Run, *, seed: int = 0) -> list[Path]:
    """Write the pictures of a trained model into its run folder."""
    scene = Scene(model, data, run, seed)
    return [_save(run, panel.name, panel.draw(scene)) for panel in PANELS if panel.fits(scene)]


def draw_data(data: Dataset, run: Run) -> Path | None:
    """Write a picture of training images into a run folder, if the data are images."""
    if data.kind != "image":
        return None
    return _save(run, "training", plot.grid(whole(data.train.spread(64)).x))


def epoch_pictures(model: LatentVariableModel, data: Dataset, run: Run) -> list[Listener]:
    """Who draws a picture after every epoch: nobody, if the data are no images."""
    return [EpochPictures(model, run)] if data.kind == "image" else []


class EpochPictures:
    """Writes a picture of the same latents after every epoch."""

    def __init__(self, model: LatentVariableModel, run: Run) -> None:
        self.model = model
        self.run = run

    def step(self, progress: Progress, batches: int | None, means: Mapping[str, float]) -> None:
        """Nothing: only whole epochs are drawn."""

    def epoch(self, record: Record) -> None:
        """Write one."""
        model = self.model.eval()
        images = model.sample(64, _cycled(model, 64), generator=torch.Generator().manual_seed(0))
        _save(self.run, f"epoch-{record['epoch']:03d}", plot.grid(images))


def _cycled(model: LatentVariableModel, n: int) -> Tensor | None:
    """Classes of n images, one after another; None for an unconditional model."""
    return torch.arange(n) % model.context_size if model.context_size else None


def _save(run: Run, name: str, picture: Any) -> Path:
    path = run.picture(f"{name}.png")
    plot.save(picture, path)
    return path
