"""`vae train` and `vae resume`: on one device, or as one of several processes that torchrun starts."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .common import (
    headline,
    is_worker,
    json_option,
    relative,
    run_argument,
    runs_option,
    tensorboard_option,
    terms_of,
    test_of,
    trust_option,
    two_decimals,
    wants_json,
)
from .config_options import ConfigOptions, config_options, renamed_option
from .printing import out, out_json
from .run_options import resolved, restored_run
from .series import train_series
from .tables import INDENT, print_entry

if TYPE_CHECKING:
    from ..config.recipe import Recipe
    from ..runs.restore import RestoredRun
    from ..store import Run


@click.command(short_help="Train a model into a run folder.")
@config_options
@click.option("--name", help="Name of the run folder.  [default: preset and time]")
@click.option("--seeds", type=click.IntRange(1, 10_000), help="Train this many copies, with seeds SEED, SEED+1, …")
@click.option("--jobs", type=click.IntRange(1, 1024), default=1, help="Train this many of --seeds at the same time.")
@renamed_option("--resume", "vae resume RUN", metavar="RUN")
@renamed_option("--profile", "vae profile PRESET", is_flag=True)
@tensorboard_option
@trust_option
@runs_option
@json_option
def train(
    options: ConfigOptions, name: str | None, seeds: int | None, jobs: int, tensorboard: bool, root: Path
) -> None:
    """Try `vae train cvae --epochs 3`: train PRESET into a new run folder.

    By default PRESET is vae, or table-vae for a table. `vae presets` lists the presets. Any part can be replaced:
    --set prior.name=vamp --set objective.name=iwae --set objective.samples=8 --set model.condition=class. On two
    devices: torchrun --nproc-per-node=2 -m vaekit train.

    With --seeds 5 --name NAME: train NAME-seed0 … NAME-seed4, one after another, or with --jobs 2 two at a time, each
    with half of the threads. The same command continues an interrupted series. Evaluate each, then
    `vae compare --group PRESET` shows mean ± sd.
    """
    if seeds and "MASTER_ADDR" in os.environ:
        raise click.UsageError("--seeds is for one process; leave out torchrun")
    if jobs > 1 and not seeds:
        raise click.UsageError("--jobs goes with --seeds")
    if is_worker():
        _work()
        return
    config = options.config()
    _prepare_cuda(config.train.deterministic)

    recipe = resolved(config)
    if seeds is not None:
        train_series(
            recipe, seeds=seeds, jobs=jobs, name=name, preset=options.label, tensorboard=tensorboard, root=root
        )
        return
    _train(recipe, name, options.label, tensorboard, root)


@click.command(short_help="Continue an interrupted run.")
@run_argument
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change train.epochs, train.learning_rate, …; may be repeated.",
)
@tensorboard_option
@trust_option
@runs_option
@json_option
def resume(run: str | None, settings: tuple[str, ...], tensorboard: bool, root: Path) -> None:
    """Try `vae resume`: continue an interrupted run, the newest by default.

    The final weights are the same as without the interruption.
    """
    if is_worker():
        _work()
        return
    restored = open_to_train(run, root)

    from .. import config
    from ..runs import lifecycle
    from ..runs.terminal import training_progress
    from ..training import joined

    sections = config.tables_of(settings)
    epochs = config.changed(restored.recipe.config, sections).train.known_epochs
    with training_progress(epochs) as listener, joined() as ranks:
        lifecycle.resume_run(restored, sections=sections, listener=listener, tensorboard=tensorboard, ranks=ranks)
    _report(restored.run)


def open_to_train(run: str | None, root: Path) -> "RestoredRun":
    """Restore a run to train it further or again, and prepare this process for it."""
    restored = restored_run(run, root)
    _prepare_cuda(restored.recipe.config.train.deterministic)
    return restored


def _train(recipe: "Recipe", name: str | None, preset: str, tensorboard: bool, root: Path) -> None:
    from ..runs import lifecycle
    from ..runs.terminal import training_progress
    from ..training import joined

    with training_progress(recipe.config.train.known_epochs) as listener, joined() as ranks:
        run = lifecycle.train_run(
            recipe, name=name, preset=preset, root=root, listener=listener, tensorboard=tensorboard, ranks=ranks
        )
    _report(run)


def _work() -> None:
    _prepare_cuda(True)

    from ..runs import lifecycle
    from ..training import joined

    with joined() as ranks:
        lifecycle.train_as_worker(ranks)


def _prepare_cuda(deterministic: object) -> None:
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # CUDA reads it at its start


def _report(run: "Run") -> None:
    from ..runs.data_record import DataRecord

    test = test_of(run)
    if wants_json():
        out_json({"run": str(run.path), "test": test})
        return
    paths = sorted(path for path in (run.path / "samples").glob("*.*") if path.suffix in (".png", ".gif"))
    pictures = [path for path in paths if not path.name.startswith("epoch-")]
    parts = ", ".join(f"{name} {two_decimals(test[name])}" for name in terms_of(test)[1:])
    out(headline(test) + (f" ({parts})" if parts else ""))
    out(f"run         {relative(run.path)}")
    first = next((path for path in pictures if path.stem == "samples"), pictures[0] if pictures else None)
    if first is not None:
        more = f" and {len(pictures) - 1} more" if pictures[1:] else ""
        print_entry("pictures", f"in it, samples/{first.name}{more}", INDENT)
    of_images = DataRecord.of(run).shows_images
    advice = "`vae explore` opens it in a browser" if of_images else "`vae encode` writes its latents"
    print_entry("next", f"`vae evaluate` measures it, {advice}", INDENT)
