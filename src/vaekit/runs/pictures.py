"""The pictures in a run's folder: of its data, of every epoch, and of the trained model.

Of signals (`Dataset.kind`) there are curves; of data that are neither, only the means by epoch are drawn.

Not for: how a picture is made (`plot`).
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import plot
from ..data import Batch, Dataset, Split
from ..data.batches import as_one_batch
from ..data.pixels import repeatable
from ..distributions import UnitSphere, is_discrete, support_in
from ..errors import RunError
from ..model import LatentVariableModel
from ..store import Run
from ..training import Listener, Record
from .picture_writer import PictureWriter

ENCODED = 1000  # test images whose latents are drawn
SIGNALS = 16  # in a picture


@dataclass(frozen=True)
class Scene:
    """The input of a panel.

    Arguments:
        model: A trained model.
        data: The data set that it was trained on.
        run: The run of the model.
        seed: Seed of all random numbers.
        binarize: How grey values become binary, as in the config.
    """

    model: LatentVariableModel
    data: Dataset
    run: Run
    seed: int
    binarize: str = "none"

    def generator(self) -> torch.Generator:
        """The random stream of one panel."""
        return torch.Generator().manual_seed(self.seed)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.data.classes

    @cached_property
    def is_discrete(self) -> bool:
        """Whether the latents are discrete."""
        with torch.no_grad():
            return is_discrete(self.model.prior(self.model.context(0 if self.model.context_size else None, 1)))

    @cached_property
    def on_sphere(self) -> bool:
        """Whether latents are directions; then no latent can change alone."""
        return isinstance(support_in(self.model.prior(self.model.context(self.test.c, len(self.test)))), UnitSphere)

    @cached_property
    def test(self) -> Batch:
        """At most `ENCODED` test rows, as the model takes them."""
        return self.as_seen(self.data.test.thinned(ENCODED))

    def as_seen(self, split: Split) -> Batch:
        """Rows as the model takes them."""
        batch = as_one_batch(split, value_kind=self.model.value_kind, binarize=repeatable(self.binarize))
        return self.model.to_model(batch)

    @cached_property
    def carried(self) -> plot.Carried:
        """The amount that each latent carries."""
        return plot.carried(self.model, self.test.x, self.test.c)


@dataclass(frozen=True)
class Panel:
    """A picture of a trained model.

    Arguments:
        name: Name of its file.
        draw: Draws the picture.
        suffix: Suffix of its file.
        of_images: Whether it shows images.
        of_signals: Whether it shows signals instead.
        of_classes: Whether it shows the classes of a conditional model.
        of_latents: Whether it shows single latents; these must have densities.
        between: Whether it shows points between latents; these must not be discrete.
    """

    name: str
    draw: Callable[[Scene], Any]
    suffix: str = ".png"
    of_images: bool = True
    of_signals: bool = False
    of_classes: bool = False
    of_latents: bool = False
    between: bool = False

    def fits(self, scene: Scene) -> bool:
        """Whether there is such a picture of this model and these data."""
        is_shown = scene.data.kind == ("signal" if self.of_signals else "image")
        has_latents = len(scene.model.latent_shape) == 1 and len(scene.data.test) > 1 and not scene.on_sphere
        return (
            (is_shown or not (self.of_images or self.of_signals))
            and (bool(scene.model.context_size) or not self.of_classes)
            and (has_latents or not self.of_latents)
            and (not self.between or not scene.is_discrete)
        )


def _reconstructions(scene: Scene) -> Any:
    batch = scene.as_seen(scene.data.test.thinned(32))
    return plot.reconstructions(scene.model, batch.x, batch.c)


def _classes(scene: Scene) -> Any:
    picture = plot.per_class(scene.model, names=scene.names, generator=scene.generator())
    return picture.titled("A row for each class, a column for each style")


def _one_of_each(scene: Scene) -> Any:
    return plot.one_each(scene.model, names=scene.names, generator=scene.generator())


def _samples(scene: Scene) -> Any:
    return plot.samples(scene.model, names=scene.names, generator=scene.generator())


def _signals(scene: Scene) -> Any:
    x = scene.model.sample(SIGNALS, _cycled(scene.model, SIGNALS), generator=scene.generator())
    return plot.signals(x, title="Drawn from the prior")


def _signal_reconstructions(scene: Scene) -> Any:
    batch = scene.as_seen(scene.data.test.thinned(SIGNALS))
    x_hat = scene.model.reconstruct(scene.model.seen(batch.x, batch.observed), batch.c)
    return plot.signals(_with_gaps(batch), x_hat, names=("test signal", "reconstruction"))


def _with_gaps(batch: Batch) -> Tensor:
    return batch.x if batch.observed is None else batch.x.masked_fill(~batch.observed, torch.nan)


def _interpolation(scene: Scene) -> Any:
    c = _cycled(scene.model, 12)
    names = [] if c is None else [scene.names[i] if i < len(scene.names) else str(i) for i in c.tolist()]
    space = support_in(scene.model.prior(scene.model.context(c, 12)))
    title = "Straight lines" if space is None else f"Shortest ways {space.where}"
    picture = plot.interpolation(scene.model, c=c, names=names, generator=scene.generator())
    return picture.titled(f"{title} between two latents of the prior")


def _walk(scene: Scene) -> Any:
    return plot.walk(scene.model, c=_cycled(scene.model, 16), generator=scene.generator())


def _map(scene: Scene) -> Any:
    return plot.manifold(scene.model, scene.test.x, scene.test.c, per_latent=scene.carried)


def _traversals(scene: Scene) -> Any:
    return plot.traversals(scene.model, scene.test.x, scene.test.c, per_latent=scene.carried)


def _kl(scene: Scene) -> Any:
    return plot.kl_per_latent(scene.model, scene.test.x, scene.test.c, per_latent=scene.carried)


def _latents(scene: Scene) -> Any:
    labels = scene.test.labels if scene.data.num_classes > 1 else None
    return plot.latents(scene.model, scene.test.x, labels, c=scene.test.c, names=scene.names)


def _curves(scene: Scene) -> Any:
    return plot.curves(scene.run.metrics(), row=scene.data.row)


def _epochs(scene: Scene) -> Any:
    return plot.epochs(scene.run)


PANELS = (
    Panel("reconstructions", _reconstructions),
    Panel("classes", _classes, of_classes=True),
    Panel("one-of-each", _one_of_each, of_classes=True),
    Panel("samples", _samples),
    Panel("interpolation", _interpolation, between=True),
    Panel("walk", _walk, suffix=".gif", between=True),
    Panel("map", _map, of_latents=True, between=True),
    Panel("traversals", _traversals, of_latents=True, between=True),
    Panel("kl", _kl, of_latents=True),
    Panel("latents", _latents, of_latents=True),
    Panel("epochs", _epochs, suffix=".gif"),
    Panel("samples", _signals, of_signals=True),
    Panel("reconstructions", _signal_reconstructions, of_signals=True),
    Panel("curves", _curves, of_images=False),
)


def draw_pictures(
    model: LatentVariableModel, data: Dataset, run: Run, writer: PictureWriter, *, seed: int = 0, binarize: str = "none"
) -> None:
    """Draw the pictures of a trained model, and write them into its run folder while the caller goes on.

    A picture that cannot be drawn is left out with a warning: a finished training must not fail because of it.
    """
    writer.wait()  # the film of the epochs is made of their files
    scene = Scene(model.eval(), data, run, seed, binarize)
    for panel in PANELS:
        if panel.fits(scene):
            with _left_out(panel.name):
                picture = panel.draw(scene)
                writer.do(partial(_save_panel, run, panel, picture))


def _save_panel(run: Run, panel: Panel, picture: Any) -> None:
    with _left_out(panel.name):
        _save(run, f"{panel.name}{panel.suffix}", picture)


@contextmanager
def _left_out(name: str) -> Iterator[None]:
    """Within the block an error becomes a warning, unless the disk is full."""
    try:
        yield
    except RunError:
        raise
    except Exception as error:
        warnings.warn(f"the picture {name!r} cannot be drawn for this model: {error}", stacklevel=3)


def draw_data(data: Dataset, run: Run) -> Path | None:
    """Write a picture of training rows into a run folder, if they are images or signals."""
    if data.kind == "signal":
        return _save(
            run, "training.png", plot.signals(_with_gaps(as_one_batch(data.train.thinned(SIGNALS), value_kind="real")))
        )
    if data.kind != "image":
        return None
    return _save(run, "training.png", plot.grid(as_one_batch(data.train.thinned(64)).x))


def epoch_pictures(model: LatentVariableModel, data: Dataset, run: Run, writer: PictureWriter) -> list[Listener]:
    """Listeners that draw a picture after every epoch; none, if the data are not images."""
    return [EpochPictures(model, run, writer, data.classes)] if data.kind == "image" else []


class EpochPictures(Listener):
    """Draws a picture of the same latents after every epoch."""

    def __init__(
        self, model: LatentVariableModel, run: Run, writer: PictureWriter, names: tuple[str, ...] = ()
    ) -> None:
        self.model = model
        self.run = run
        self.writer = writer
        self.names = names

    def resumed(self, record: Record) -> None:
        """Draw the picture of the last epoch, if the training was killed before it was written."""
        if not self.run.picture(_epoch_name(record["epoch"])).exists():
            self.epoch(record)

    def epoch(self, record: Record) -> None:
        """Draw the picture of this epoch; it is written during the next one."""
        epoch = record["epoch"]
        picture = _draw_epoch(self.model, self.names, epoch)
        self.writer.do(partial(_save, self.run, _epoch_name(epoch), picture))


def _draw_epoch(model: LatentVariableModel, names: tuple[str, ...], number: int) -> plot.Picture:
    generator = torch.Generator().manual_seed(0)
    return plot.samples(model.eval(), names=names, generator=generator).titled(f"Epoch {number}")


def _epoch_name(number: int) -> str:
    return f"epoch-{number:03d}.png"


def _cycled(model: LatentVariableModel, n: int) -> Tensor | None:
    """Classes of n images, one after another; None for an unconditional model."""
    return torch.arange(n) % model.context_size if model.context_size else None


def _save(run: Run, name: str, picture: Any) -> Path:
    path = run.picture(name)
    plot.save(picture, path)
    return path
