"""`Drawing`: the run and the picture options of a verb that draws, as one record; its classes, test images and file."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigError, DataError, unknown
from .common import FILE, json_option, print_files
from .run_options import ChosenRun, takes_run

if TYPE_CHECKING:
    import torch

    from ..data import Batch
    from ..model import LatentVariableModel
    from ..plot import Picture

MOST_VALUES = 1 << 26  # pixel values that one command draws at most: 256 MiB

_COLOURS = (
    click.option("--invert", is_flag=True, help="Show black as white and white as black."),
    click.option("--cmap", metavar="NAME", help="A colour map of matplotlib for grey images, such as magma."),
)


@dataclass(frozen=True)
class Drawing(ChosenRun):
    """A run to draw from, with the options of the picture and its file.

    Arguments:
        restored, device, seed: See `ChosenRun`.
        output: File to write; None for a file in the run folder.
        invert: Whether to show black as white.
        cmap: Name of a colour map for grey images.
    """

    output: Path | None = None
    invert: bool = False
    cmap: str | None = None

    @property
    def class_names(self) -> list[str]:
        """Names of the classes of the run's data."""
        return list(self.data_record.classes)

    def path(self, name: str, label: str | None = None) -> Path:
        """The file to write: by default a picture of images or an array of other data. Signals can be a picture too.

        Arguments:
            name: Name of the file in the run folder, without suffix.
            label: The class that is drawn.

        Raises:
            ConfigError: The path is the file of the run's data.
            DataError: These data cannot be written with this suffix; or --invert or --cmap is given for an array or
                for data that are not images.
        """
        from ..plot.saving import ARRAY_SUFFIXES, IMAGE_SUFFIXES
        from ..store.files import slug

        are_images = self.data_record.shows_images
        has_pictures = are_images or self.data_record.kind == "signal"
        suffix = ".png" if are_images else ".npy"
        path = self.output or self.run.picture_to_write(f"{name}{f'-class-{slug(label)}' if label else ''}{suffix}")
        self.check_output(path)
        is_array = path.suffix.lower() in ARRAY_SUFFIXES
        for option, is_given in {"--invert": self.invert, "--cmap": self.cmap is not None}.items():
            if is_given and (is_array or not are_images):
                what = f"{path.name} is an array" if is_array else f"the data of run {self.run.name} are not images"
                raise DataError(f"{option} is for pictures of images, but {what}; leave it out")
        pictures = (*IMAGE_SUFFIXES, ".gif") if are_images else IMAGE_SUFFIXES
        if path.suffix.lower() not in (*pictures, *ARRAY_SUFFIXES):
            known = (*pictures, *ARRAY_SUFFIXES) if has_pictures else ARRAY_SUFFIXES
            raise DataError(
                f"cannot write {path.name!r}: what run {self.run.name} draws is written as {', '.join(known)}; change "
                "the suffix"
            )
        if not is_array and not has_pictures:
            raise DataError(
                f"the data of run {self.run.name} are neither images nor signals, and {path.name} is a picture; write "
                ".npy or .npz"
            )
        return path

    def classes(self, model: "LatentVariableModel", label: str | None, n: int) -> "torch.Tensor | None":
        """The classes of n images to draw; None for an unconditional model.

        Arguments:
            model: The run's model.
            label: Name or number of the class of all images; None for each class in turn.
            n: Number of images.

        Raises:
            DataError: The model has no such class.
        """
        import torch

        if label is None:
            return torch.arange(n) % model.context_size if model.context_size else None
        if not model.context_size:
            raise DataError(f"run {self.run.name} is unconditional; leave out --class {label}")
        names = self.class_names[: model.context_size]
        if label in names:
            return torch.full((n,), names.index(label))
        if label.isdecimal() and int(label) < model.context_size:
            return torch.full((n,), int(label))
        raise DataError(unknown("class", label, names))

    def check_room(self, count: int, path: Path) -> None:
        """Refuse more images than fit in memory, or more signals than fit in a picture, before they are drawn.

        Arguments:
            count: How many.
            path: The file to write.

        Raises:
            ConfigError: The images do not fit.
            DataError: The signals do not fit.
        """
        from ..plot.line_plots import MOST_SIGNALS
        from ..plot.saving import ARRAY_SUFFIXES

        is_picture = path.suffix.lower() not in ARRAY_SUFFIXES
        if self.data_record.kind == "signal" and is_picture and count > MOST_SIGNALS:
            raise DataError(f"a picture holds 1 to {MOST_SIGNALS} signals, got {count}; draw fewer, or write .npy")
        shape = self.data_record.event_shape
        most = max(1, MOST_VALUES // max(1, math.prod(shape)))
        if count > most:
            raise ConfigError(f"{count} images of shape {shape} are too many at once, at most {most}")

    def test_images(self, model: "LatentVariableModel", indices: "Sequence[int] | torch.Tensor") -> "Batch":
        """Test images by index, as the model sees them.

        Raises:
            DataError: There is no image of an index.
        """
        import torch

        from ..evaluation.single_rows.named_rows import seen_batch

        split, rows = self.restored.dataset().test, torch.as_tensor(indices)
        for index in rows[(rows < 0) | (rows >= len(split))].tolist():
            known = f"test images are numbered 0 to {len(split) - 1}" if len(split) else "there are 0 test images"
            raise DataError(f"{known}, got {index}")
        return seen_batch(self.restored, model, split.rows(rows))

    def spread_test_images(self, model: "LatentVariableModel", most: int, *, first: int | None = None) -> "Batch":
        """At most `most` evenly spread test images, as the model sees them; image number `first` comes before them."""
        import torch

        from ..data.dataset import evenly_spread

        rows = evenly_spread(len(self.restored.dataset().test), most)
        return self.test_images(model, rows if first is None else torch.cat((torch.tensor([first]), rows)))

    def save(self, picture: "Picture", path: Path) -> None:
        """Write a picture, and print its path. An array of signals of one channel lacks the channel: (n, L)."""
        from .. import plot

        if self.data_record.kind == "signal":
            x = picture.images
            if path.suffix.lower() in (".npy", ".npz"):
                plot.save(x.squeeze(-2) if self.data_record.event_shape[0] == 1 else x, path)
            else:  # reconstructions lie beside their signals
                plot.save(plot.signals(*(x.unbind(1) if x.ndim == 4 else (x,))), path)
            print_files(path, run=str(self.run.path), rows=len(x))
            return
        styled = picture.styled(invert=self.invert, cmap=self.cmap) if self.invert or self.cmap else picture
        plot.save(styled, path)
        print_files(path, run=str(self.run.path), rows=len(picture.images))


def drawing_options(
    *, colours: bool = True, seeded: bool = True, tables: bool = False
) -> Callable[..., Callable[..., Any]]:
    """Give a command the options of a `Drawing`, and the record as its argument `drawing`.

    Arguments:
        colours: Whether there are --invert and --cmap.
        seeded: Whether there is --seed.
        tables: Whether the command also writes tables.
    """
    suffixes = ".png, .jpg, .svg, .gif, .npy or .npz" + (
        "; for a table, .csv, .tsv, .parquet or .npy" if tables else ""
    )
    output_option = click.option("-o", "--output", type=FILE, help=f"File: {suffixes}.  [default: in the run folder]")
    options = [*(_COLOURS if colours else ()), output_option]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        return takes_run(Drawing, "drawing", options, seeded=seeded)(json_option(command))

    return decorate
