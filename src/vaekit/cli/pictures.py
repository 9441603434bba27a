"""`vae sample`, `vae interpolate` and `vae reconstruct`: pictures of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import DataError, unknown
from .common import (
    device_option,
    draws_pictures,
    load_model,
    open_run,
    output_option,
    run_argument,
    runs_option,
    seed_option,
    trust_option,
)

if TYPE_CHECKING:
    import torch

    from ..model import LatentVariableModel
    from ..store import Run


@click.command(short_help="Draw new images.")
@run_argument
@click.option("-n", "count", type=click.IntRange(1), default=64, show_default=True, help="How many images.")
@click.option("--class", "label", help="Class of the images, by number or name; for a conditional model.")
@click.option("--noise", is_flag=True, help="Sample the pixels instead of showing their means.")
@output_option
@seed_option
@device_option
@trust_option
@runs_option
def sample(
    run: str | None,
    count: int,
    label: str | None,
    noise: bool,
    output: Path | None,
    seed: int,
    device: str,
    root: Path,
) -> None:
    """Try `vae sample -n 16 -o digits.png`: draw new images from RUN, the newest by default."""
    found = open_run(run, root)
    path = _check_suffix(found, output or _picture(found, f"sample-{seed}", label))
    model, generator = load_model(found, device, seed)
    c = _class(found, model, label, count)
    _save(model.sample(count, c, generator=generator, noise=noise), path)


@click.command(short_help="Draw walks between latents.")
@run_argument
@click.option("--rows", type=click.IntRange(1), default=12, show_default=True, help="How many walks; each is one row.")
@click.option("--steps", type=click.IntRange(2), default=12, show_default=True, help="Images in a walk.")
@click.option("--between", type=int, nargs=2, metavar="I J", help="Draw one walk, between test images number I and J.")
@click.option("--class", "label", help="Class of the images; for a conditional model.  [default: one class a row]")
@output_option
@seed_option
@device_option
@trust_option
@runs_option
def interpolate(
    run: str | None,
    rows: int,
    steps: int,
    between: tuple[int, int] | None,
    label: str | None,
    output: Path | None,
    seed: int,
    device: str,
    root: Path,
) -> None:
    """Try `vae interpolate --between 3 18`: draw straight walks between latents of RUN, the newest by default."""
    from .. import plot

    found = open_run(run, root)
    suffix = "-{}-{}".format(*between) if between else f"-{seed}"
    path = _check_suffix(found, output or _picture(found, f"interpolate{suffix}", label))
    model, generator = load_model(found, device, seed)
    if between:
        images, labels = _test_images(found, between)
        c = (labels if label is None else _class(found, model, label, 2)) if model.context_size else None
        pictures = plot.interpolation(model, steps=steps, between=(images[0], images[1]), c=c)
    else:
        c = _class(found, model, label, rows, cycle=True)
        pictures = plot.interpolation(model, rows=rows, steps=steps, c=c, generator=generator)
    _save(pictures, path, columns=steps)


@click.command(short_help="Show test images beside their reconstructions.")
@run_argument
@click.option("-n", "count", type=click.IntRange(1), default=32, show_default=True, help="How many test images.")
@output_option
@device_option
@trust_option
@runs_option
def reconstruct(run: str | None, count: int, output: Path | None, device: str, root: Path) -> None:
    """Try `vae reconstruct -n 8`: show test images beside their reconstructions by RUN, the newest by default."""
    from .. import plot

    found = open_run(run, root)
    path = _check_suffix(found, output or _picture(found, "reconstruct", None))
    model, _ = load_model(found, device, 0)
    images, labels = _test_images(found, range(count))
    _save(plot.reconstructions(model, images, labels if model.context_size else None), path)


def _picture(run: "Run", name: str, label: str | None) -> Path:
    suffix = ".png" if draws_pictures(run) else ".npy"
    return run.picture(f"{name}{f'-class-{label}' if label else ''}{suffix}")


def _class(
    run: "Run", model: "LatentVariableModel", label: str | None, n: int, *, cycle: bool = False
) -> "torch.Tensor | None":
    """Classes of n images: one for all; or, for a conditional model without one, 0, 1, 2 … where they may cycle."""
    import torch

    if label is None and (cycle or not model.context_size):
        return torch.arange(n) % model.context_size if model.context_size else None
    if label is None:
        known = ", ".join(map(str, run.recorded("data", "classes", kind=list)))
        raise DataError(f"run {run.name} is conditional; choose one with --class ({known})")
    if not model.context_size:
        raise DataError(f"run {run.name} is unconditional; leave out --class {label}")
    names = [str(name) for name in run.recorded("data", "classes", kind=list)][: model.context_size]
    if label in names:
        return torch.full((n,), names.index(label))
    if label.isdecimal() and int(label) < model.context_size:
        return torch.full((n,), int(label))
    raise DataError(unknown("class", label, names))


def _test_images(run: "Run", indices: Sequence[int]) -> "tuple[torch.Tensor, torch.Tensor | None]":
    """Some test images, and what a conditional model is told about them: a context, or else their classes."""
    import torch

    from ..data.batches import whole
    from ..runs.restore import data_of

    split = data_of(run).test
    for index in indices:
        if not 0 <= index < len(split):
            raise DataError(f"test images are numbered 0 to {len(split) - 1}, got {index}")
    batch = whole(split.rows(torch.tensor(list(indices))))
    return batch.x, batch.labels if batch.c is None else batch.c


def _check_suffix(run: "Run", path: Path) -> Path:
    """A path that the run's data can be written to.

    Raises:
        DataError: A PNG of what are no images.
    """
    if path.suffix.lower() == ".png" and not draws_pictures(run):
        raise DataError(f"the data of run {run.name} are no images, and {path.name} is a picture; write .npy or .npz")
    return path


def _save(images: "torch.Tensor", path: Path, columns: int | None = None) -> None:
    from .. import plot

    plot.save(images, path, columns=columns)
    click.echo(str(path))
