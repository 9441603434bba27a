"""The pictures in a run's folder: of its data, of every epoch, and of the trained model.

Images and signals (`Dataset.kind`) are drawn. For data of another kind there are only the curves of the training.

Not for: how a picture is made (`plot`).
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
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

ENCODED_ROWS = 1000  # test images whose latents are drawn
SIGNALS = 16  # in a picture


@dataclass(frozen=True)
class PanelInput:
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
        """At most `ENCODED_ROWS` test rows, as the model takes them."""
        return self.as_seen(self.data.test.thinned(ENCODED_ROWS))

    def as_seen(self, split: Split) -> Batch:
        """Rows as the model takes them."""
        batch = as_one_batch(split, value_kind=self.model.value_kind, binarize=repeatable(self.binarize))
        return self.model.to_model(batch)

    @cached_property
    def carried(self) -> plot.Carried:
        """How much each latent carries; see `plot.carried`."""
        return plot.carried(self.model, self.test.x, self.test.c)


def has_images(inputs: PanelInput) -> bool:
    """Whether pictures can show the data as images."""
    return inputs.data.shows_images


def has_signals(inputs: PanelInput) -> bool:
    """Whether the data are signals."""
    return inputs.data.kind == "signal"


def has_classes(inputs: PanelInput) -> bool:
    """Whether a conditional model draws images."""
    return has_images(inputs) and bool(inputs.model.context_size)


def has_single_latents(inputs: PanelInput) -> bool:
    """Whether latents can change one by one, and there are images of them."""
    is_vector = len(inputs.model.latent_shape) == 1
    return has_images(inputs) and is_vector and len(inputs.data.test) > 1 and not inputs.on_sphere


def can_interpolate(inputs: PanelInput) -> bool:
    """Whether there are images of points between two latents."""
    return has_images(inputs) and not inputs.is_discrete


def can_traverse(inputs: PanelInput) -> bool:
    """Whether latents can change one by one, by any amount, and there are images of them."""
    return has_single_latents(inputs) and not inputs.is_discrete


def always(inputs: PanelInput) -> bool:
    """True: every run has a training, whose curves are drawn."""
    return True


@dataclass(frozen=True)
class Panel:
    """A picture of a trained model.

    Arguments:
        name: Name of its file.
        draw: Draws the picture.
        fits: Whether this picture can be drawn of a model and its data.
        suffix: Suffix of its file.
    """

    name: str
    draw: Callable[[PanelInput], Any]
    fits: Callable[[PanelInput], bool]
    suffix: str = ".png"


def _reconstructions(inputs: PanelInput) -> Any:
    batch = inputs.as_seen(inputs.data.test.thinned(32))
    return plot.reconstructions(inputs.model, batch.x, batch.c)


def _classes(inputs: PanelInput) -> Any:
    picture = plot.per_class(inputs.model, names=inputs.names, generator=inputs.generator())
    return picture.titled("A row for each class, a column for each style")


def _one_of_each(inputs: PanelInput) -> Any:
    return plot.one_each(inputs.model, names=inputs.names, generator=inputs.generator())


def _samples(inputs: PanelInput) -> Any:
    return plot.samples(inputs.model, names=inputs.names, generator=inputs.generator())


def _signals(inputs: PanelInput) -> Any:
    x = inputs.model.sample(SIGNALS, _cycled(inputs.model, SIGNALS), generator=inputs.generator())
    return plot.signals(x, title="Drawn from the prior")


def _signal_reconstructions(inputs: PanelInput) -> Any:
    batch = inputs.as_seen(inputs.data.test.thinned(SIGNALS))
    x_hat = inputs.model.reconstruct(batch.x, batch.c, observed=batch.observed)
    return plot.signals(_with_gaps(batch), x_hat, names=("test signal", "reconstruction"))


def _with_gaps(batch: Batch) -> Tensor:
    return batch.x if batch.observed is None else batch.x.masked_fill(~batch.observed, torch.nan)


def _interpolation(inputs: PanelInput) -> Any:
    c = _cycled(inputs.model, 12)
    names = [] if c is None else [inputs.names[i] if i < len(inputs.names) else str(i) for i in c.tolist()]
    space = support_in(inputs.model.prior(inputs.model.context(c, 12)))
    title = "Straight lines" if space is None else f"Shortest paths {space.where}"
    picture = plot.interpolation(inputs.model, c=c, names=names, generator=inputs.generator())
    return picture.titled(f"{title} between two latents of the prior")


def _walk(inputs: PanelInput) -> Any:
    return plot.walk(inputs.model, c=_cycled(inputs.model, 16), generator=inputs.generator())


def _map(inputs: PanelInput) -> Any:
    return plot.manifold(inputs.model, inputs.test.x, inputs.test.c, per_latent=inputs.carried)


def _traversals(inputs: PanelInput) -> Any:
    return plot.traversals(inputs.model, inputs.test.x, inputs.test.c, per_latent=inputs.carried)


def _kl(inputs: PanelInput) -> Any:
    return plot.kl_per_latent(inputs.model, inputs.test.x, inputs.test.c, per_latent=inputs.carried)


def _latents(inputs: PanelInput) -> Any:
    labels = inputs.test.labels if inputs.data.num_classes > 1 else None
    return plot.latents(inputs.model, inputs.test.x, labels, c=inputs.test.c, names=inputs.names)


def _curves(inputs: PanelInput) -> Any:
    return plot.curves(inputs.run.metrics(), row_word=inputs.data.row_word)


def _epochs(inputs: PanelInput) -> Any:
    return plot.epochs(inputs.run)


PANELS = (
    Panel("reconstructions", _reconstructions, has_images),
    Panel("classes", _classes, has_classes),
    Panel("one-of-each", _one_of_each, has_classes),
    Panel("samples", _samples, has_images),
    Panel("interpolation", _interpolation, can_interpolate),
    Panel("walk", _walk, can_interpolate, suffix=".gif"),
    Panel("map", _map, can_traverse),
    Panel("traversals", _traversals, can_traverse),
    Panel("kl", _kl, has_single_latents),
    Panel("latents", _latents, has_single_latents),
    Panel("epochs", _epochs, has_images, suffix=".gif"),
    Panel("samples", _signals, has_signals),
    Panel("reconstructions", _signal_reconstructions, has_signals),
    Panel("curves", _curves, always),
)


def draw_pictures(
    model: LatentVariableModel, data: Dataset, run: Run, writer: PictureWriter, *, seed: int = 0, binarize: str = "none"
) -> None:
    """Draw the pictures of a trained model, and write them into its run folder while the caller goes on.

    A picture that cannot be drawn is left out with a warning: a finished training must not fail because of it.
    """
    writer.wait()  # the film of the epochs is made of their files
    inputs = PanelInput(model.eval(), data, run, seed, binarize)
    for panel in PANELS:
        with _warning_instead(panel.name):
            if panel.fits(inputs):
                picture = panel.draw(inputs)
                writer.do(partial(_save_panel, run, panel, picture))


def _save_panel(run: Run, panel: Panel, picture: Any) -> None:
    with _warning_instead(panel.name):
        _save(run, f"{panel.name}{panel.suffix}", picture)


@contextmanager
def _warning_instead(name: str) -> Iterator[None]:
    """Within the block an error becomes a warning, unless the disk is full: a picture must not end a training."""
    try:
        yield
    except RunError:
        raise
    except Exception as error:
        warnings.warn(f"the picture {name!r} cannot be drawn for this model: {error}", stacklevel=3)


def draw_data(data: Dataset, run: Run) -> None:
    """Write a picture of training rows into a run folder, if they are images or signals."""
    with _warning_instead("training"):
        if data.kind == "signal":
            signals = as_one_batch(data.train.thinned(SIGNALS), value_kind="real")
            _save(run, "training.png", plot.signals(_with_gaps(signals)))
        elif data.shows_images:
            _save(run, "training.png", plot.grid(as_one_batch(data.train.thinned(64)).x))


def epoch_pictures(model: LatentVariableModel, data: Dataset, run: Run, writer: PictureWriter) -> list[Listener]:
    """Listeners that draw a picture after every epoch; none, if no picture can show the data as images."""
    return [EpochPictures(model, run, writer, data.classes)] if data.shows_images else []


class EpochPictures(Listener):
    """Draws a picture of the same latents after every epoch, until one cannot be drawn or written."""

    def __init__(
        self, model: LatentVariableModel, run: Run, writer: PictureWriter, names: tuple[str, ...] = ()
    ) -> None:
        self.model = model
        self.run = run
        self.writer = writer
        self.names = names
        self.can_draw = True
        self.can_write = True  # set by the writer's thread

    def resumed(self, record: Record) -> None:
        """Draw the picture of the last epoch, if the training was killed before it was written."""
        if not self.run.picture_to_write(_epoch_name(record["epoch"])).exists():
            self.epoch(record)

    def epoch(self, record: Record) -> None:
        """Draw the picture of this epoch; it is written during the next one."""
        if not (self.can_draw and self.can_write):
            return
        self.can_draw = False
        name = _epoch_name(record["epoch"])
        with _warning_instead(name):
            picture = _draw_epoch(self.model, self.names, record["epoch"])
            self.can_draw = True
            self.writer.do(partial(self._write, name, picture))

    def _write(self, name: str, picture: plot.Picture) -> None:
        is_written = False
        with _warning_instead(name):
            _save(self.run, name, picture)
            is_written = True
        if not is_written:
            self.can_write = False


def _draw_epoch(model: LatentVariableModel, names: tuple[str, ...], number: int) -> plot.Picture:
    generator = torch.Generator().manual_seed(0)
    return plot.samples(model.eval(), names=names, generator=generator).titled(f"Epoch {number}")


def _epoch_name(number: int) -> str:
    return f"epoch-{number:03d}.png"


def _cycled(model: LatentVariableModel, n: int) -> Tensor | None:
    """Classes of n images, one after another; None for an unconditional model."""
    return torch.arange(n) % model.context_size if model.context_size else None


def _save(run: Run, name: str, picture: Any) -> None:
    plot.save(picture, run.picture_to_write(name))
