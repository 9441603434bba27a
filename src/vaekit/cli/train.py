"""`vae train` and `vae resume`: on one device, or as one of several processes that torchrun starts."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .common import (
    FILE,
    is_worker,
    json_option,
    log_option,
    open_run,
    relative,
    run_argument,
    runs_option,
    trust_option,
    within,
)
from .profile import print_profile
from .series import train_series

if TYPE_CHECKING:
    from ..config import Config
    from ..store import Run


@click.command(short_help="Train a model into a run folder.")
@click.argument("preset", required=False)
@click.option(
    "--config", "config_file", type=FILE, help="TOML file to use instead of a preset, such as a run's config.toml."
)
@click.option("--data", help="Data set, which `vae data` lists; or a path: images.npy, images.npz or a folder.")
@click.option("--epochs", type=int, help="How often to go through the training images.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set any key of the config; may be repeated."
)
@click.option("--name", help="Name of the run folder.  [default: preset and time]")
@click.option("--device", help="cpu, cuda, cuda:1, mps …  [default: the fastest here]")
@click.option("--seed", type=int, help="Seed of everything random.  [default: 0]")
@click.option("--seeds", type=click.IntRange(1, 10_000), help="Train this many copies, with seeds SEED, SEED+1, …")
@click.option("--jobs", type=click.IntRange(1), default=1, help="Train this many of --seeds at the same time.")
@click.option(
    "--deterministic", is_flag=True, help="Use deterministic algorithms only; then a GPU gives the same bits too."
)
@click.option("--resume", "resumed", metavar="RUN", help="Continue this run, as `vae resume` does.")
@click.option(
    "--profile", "profiled", is_flag=True, help="Print where the time of a training step goes; train nothing."
)
@log_option
@trust_option
@runs_option
@json_option
def train(
    preset: str | None,
    config_file: Path | None,
    data: str | None,
    epochs: int | None,
    settings: tuple[str, ...],
    name: str | None,
    device: str | None,
    seed: int | None,
    seeds: int | None,
    jobs: int,
    deterministic: bool,
    resumed: str | None,
    profiled: bool,
    log: bool,
    root: Path,
    as_json: bool,
) -> None:
    """Try `vae train cvae --epochs 3`: train PRESET, "vae" by default, into a new run folder.

    `vae presets` lists the presets. Any part can be replaced: --set prior.name=vamp --set objective.name=iwae
    --set objective.samples=8 --set model.condition=class. On two devices: torchrun --nproc-per-node=2 -m vaekit train.

    With --seeds 5 --name NAME: train NAME-seed0 … NAME-seed4, one after another, or with --jobs 2 two at a time, each
    with half of the threads. The same command continues an interrupted series. Evaluate each, then
    `vae compare --group PRESET` shows mean ± sd.
    """
    if (profiled or seeds) and "MASTER_ADDR" in os.environ:
        raise click.UsageError("--profile and --seeds are for one process; leave out torchrun")
    if jobs > 1 and not seeds:
        raise click.UsageError("--jobs goes with --seeds")
    if is_worker():
        _work()
        return

    from .. import config as configs

    given = {"data.name": data, "train.epochs": epochs, "train.device": device, "train.seed": seed}
    given["train.deterministic"] = deterministic or None
    options = [*settings, *(f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None)]
    if resumed is not None:
        if preset or config_file or name or seeds:
            raise click.UsageError(
                "--resume continues a run with its config; leave out PRESET, --config, --name and --seeds"
            )
        _resume(resumed, options, log, root, as_json)
        return
    config = configs.read(preset, config_file, options)
    _prepare_cuda(config.train.deterministic)
    if profiled:
        print_profile(config, as_json)
        return
    label = preset or (config_file.stem if config_file else "vae")
    if seeds is not None:
        train_series(config, seeds, jobs, name, label, log, root, as_json)
        return
    _train(config, name, label, log, root, as_json)


@click.command(short_help="Continue an interrupted run.")
@run_argument
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change train.epochs, train.learning_rate, …; may be repeated.",
)
@log_option
@trust_option
@runs_option
@json_option
def resume(run: str | None, settings: tuple[str, ...], log: bool, root: Path, as_json: bool) -> None:
    """Try `vae resume`: continue an interrupted run, the newest by default.

    The weights become the very same as without the interruption.
    """
    _resume(run, settings, log, root, as_json)


def open_to_train(run: str | None, root: Path) -> "Run":
    """Open a run to train it further or again, and prepare this process for it."""
    found = open_run(run, root)
    _prepare_cuda(within(found.config, "train", "deterministic"))
    return found


def _train(config: "Config", name: str | None, preset: str, log: bool, root: Path, as_json: bool) -> None:
    from ..runs import lifecycle
    from ..training import joined
    from .progress import shown

    with shown(config.train.epochs) as listener, joined() as ranks:
        run = lifecycle.train(config, name=name, preset=preset, root=root, listener=listener, log=log, ranks=ranks)
    _report(run, as_json)


def _resume(run: str | None, settings: Sequence[str], log: bool, root: Path, as_json: bool) -> None:
    if is_worker():
        _work()
        return
    found = open_to_train(run, root)

    from .. import config
    from ..runs import lifecycle
    from ..training import joined
    from .progress import shown

    epochs = config.changed(config.of_run(found), settings).train.epochs
    with shown(epochs) as listener, joined() as ranks:
        lifecycle.resume(found, settings=settings, listener=listener, log=log, ranks=ranks)
    _report(found, as_json)


def _work() -> None:
    _prepare_cuda(True)

    from ..runs import lifecycle
    from ..training import joined

    with joined() as ranks:
        lifecycle.work(ranks)


def _prepare_cuda(deterministic: object) -> None:
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which it reads when it starts


def _report(run: "Run", as_json: bool) -> None:
    test = run.read_json("test.json")
    pictures = sorted((run.path / "samples").glob("*.png"))
    shown = [path for path in pictures if not path.name.startswith("epoch-")]
    if as_json:
        click.echo(json.dumps({"run": str(run.path), "test": test, "pictures": [str(path) for path in shown]}))
        return
    parts = f"rate {test['rate']:.2f}, distortion {test['distortion']:.2f}"
    click.echo(f"test −ELBO {test['neg_elbo']:.2f} nats per image ({parts})")
    click.echo(f"run         {relative(run.path)}")
    click.echo(f"pictures    {relative(run.path / 'samples')}/: {', '.join(path.name for path in shown)}")
