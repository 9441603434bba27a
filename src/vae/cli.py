"""The command line: each verb parses, calls and prints.

stdout is the result, stderr is progress and errors. Exit status 2 is the caller's mistake, 1 is ours, 130 is Ctrl-C.
Nothing heavy is imported before a verb needs it: `--help` answers at once.
"""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .errors import VAEError

if TYPE_CHECKING:
    import torch

    from .model import LatentVariableModel
    from .run import Run

FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)

runs_option = click.option(
    "--runs",
    "root",
    type=FOLDER,
    default=Path("runs"),
    envvar="VAE_RUNS",
    show_default=True,
    help="Folder of all runs.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
trust_option = click.option("--trust", is_flag=True, help="Import parts of your own, given as module:Name.")
seed_option = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the noise.")
device_option = click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps …")
output_option = click.option("-o", "--output", type=FILE, help=".png, .npy or .npz; into the run folder by default.")
run_argument = click.argument("run", required=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="vaekit", prog_name="vae")
def app() -> None:
    """Try `vae train`: half a minute later, look at digits that the model dreamed.

    Variational autoencoders: networks × posterior × prior × likelihood × objective.
    """


@app.command()
@click.argument("preset", required=False)
@click.option("--config", "config_file", type=FILE, help="TOML file instead of a preset, such as a run's config.toml.")
@click.option("--data", help="Data set; `vae data` lists them.")
@click.option("--epochs", type=int, help="Passes over the training images.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any key of the config; may be repeated.")
@click.option("--name", help="Name of the run folder.  [default: preset and time]")
@click.option("--device", help="cpu, cuda, cuda:1, mps …  [default: the fastest here]")
@click.option("--seed", type=int, help="Seed of the whole run.  [default: 0]")
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
    trust: bool,
    root: Path,
    as_json: bool,
) -> None:
    """Try `vae train cvae --epochs 3`: train PRESET, "vae" by default, into a new run folder.

    `vae presets` lists the presets. Any part can be exchanged: --set prior.name=vamp --set objective.name=iwae
    --set objective.samples=8 --set model.condition=class.
    """
    from . import config as configs

    given = {"data.name": data, "train.epochs": epochs, "train.device": device, "train.seed": seed}
    options = [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
    config = configs.read(preset, config_file, [*settings, *options])
    _trust(trust)

    from . import experiment
    from .progress import shown

    label = preset or (config_file.stem if config_file else "vae")
    with shown(config.train.epochs) as listener:
        run = experiment.train(config, name=name, preset=label, root=root, listener=listener, trust=trust)
    _report(run, as_json)


@app.command()
@run_argument
@trust_option
@runs_option
@json_option
def resume(run: str | None, trust: bool, root: Path, as_json: bool) -> None:
    """Try `vae resume`: go on with an interrupted run, the newest by default, as if nothing had happened."""
    found = _open(run, root)
    _trust(trust)

    from . import experiment
    from .progress import shown

    with shown(int(found.config["train"]["epochs"])) as listener:
        experiment.resume(found, listener=listener, trust=trust)
    _report(found, as_json)


@app.command()
@run_argument
@click.option("-n", "count", type=click.IntRange(1), default=64, show_default=True, help="How many images.")
@click.option("--class", "label", help="Class of the images, by number or name; for a conditional model.")
@click.option("--noise", is_flag=True, help="Sample the pixels too, instead of showing their means.")
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
    trust: bool,
    root: Path,
) -> None:
    """Try `vae sample -n 16 -o digits.png`: draw new images from RUN, the newest by default."""
    found = _open(run, root)
    path = output or found.picture(f"sample-{seed}{f'-class-{label}' if label else ''}.png")
    model, generator = _load(found, device, seed, trust)
    c = _class(found, model, label, count)
    _save(model.sample(count, c, generator=generator, noise=noise), path)


@app.command()
@run_argument
@click.option("--rows", type=click.IntRange(1), default=12, show_default=True, help="Walks, one a row.")
@click.option("--steps", type=click.IntRange(2), default=12, show_default=True, help="Images in a walk.")
@click.option("--between", type=int, nargs=2, metavar="I J", help="Walk once, between test images number I and J.")
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
    trust: bool,
    root: Path,
) -> None:
    """Try `vae interpolate --between 3 18`: walk in straight lines between latents of RUN, the newest by default."""
    from . import plot

    found = _open(run, root)
    suffix = "-{}-{}".format(*between) if between else f"-{seed}"
    path = output or found.picture(f"interpolate{suffix}{f'-class-{label}' if label else ''}.png")
    model, generator = _load(found, device, seed, trust)
    if between:
        images, labels = _test_images(found, between)
        c = (labels if label is None else _class(found, model, label, 2)) if model.context_size else None
        pictures = plot.interpolation(model, steps=steps, between=(images[0], images[1]), c=c)
    else:
        c = _class(found, model, label, rows, cycle=True)
        pictures = plot.interpolation(model, rows=rows, steps=steps, c=c, generator=generator)
    _save(pictures, path, columns=steps)


@app.command()
@run_argument
@click.option("-n", "count", type=click.IntRange(1), default=32, show_default=True, help="How many test images.")
@output_option
@device_option
@trust_option
@runs_option
def reconstruct(run: str | None, count: int, output: Path | None, device: str, trust: bool, root: Path) -> None:
    """Try `vae reconstruct -n 8`: show test images beside what RUN, the newest by default, makes of them."""
    from . import plot

    found = _open(run, root)
    path = output or found.picture("reconstruct.png")
    model, _ = _load(found, device, 0, trust)
    images, labels = _test_images(found, range(count))
    _save(plot.reconstructions(model, images, labels if model.context_size else None), path)


@app.command()
@run_argument
@runs_option
@json_option
def info(run: str | None, root: Path, as_json: bool) -> None:
    """Try `vae info`: what RUN, the newest by default, is made of and how it went."""
    facts = _facts(_open(run, root))
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False))
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            value = "  ".join(f"{key} {_short(part)}" for key, part in value.items())
        elif isinstance(value, list):
            value = "  ".join(map(str, value))
        click.echo(f"{name:<12}{_short(value)}")


@app.command()
@runs_option
@json_option
def runs(root: Path, as_json: bool) -> None:
    """Try `vae runs`: list the runs, newest first."""
    from .run import list_runs

    rows = [_summary(run) for run in list_runs(root)]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    _table(rows)


@app.command()
@json_option
def data(as_json: bool) -> None:
    """Try `vae data`: list the data sets, and which of them are here."""
    from .data import available

    rows = [
        {
            "name": entry.name,
            "train": entry.train,
            "validation": entry.validation,
            "test": entry.test,
            "shape": "×".join(map(str, entry.shape)),
            "classes": entry.num_classes,
            "present": "yes" if entry.present else "no",
            "where": str(entry.where or ""),
        }
        for entry in available()
    ]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    _table(rows)


@app.command()
@click.argument("name", required=False)
@json_option
def presets(name: str | None, as_json: bool) -> None:
    """Try `vae presets vae`: list the presets, or print the TOML of one."""
    from . import config

    if name is not None:
        click.echo(config.preset_text(name), nl=False)
        return
    rows = []
    for preset in config.preset_names():
        header, found = config.preset_header(preset), config.read(preset)
        parts = (found.encoder, found.posterior, found.prior, found.likelihood, found.objective)
        rows.append(
            {"name": preset, "paper": header.get("paper", ""), "what": header["about"]}
            | {"parts": " × ".join(part.name for part in parts)}
        )
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    _table(rows)


def main() -> None:
    """Run the command line; errors that the caller can mend become one line and status 2."""
    try:
        status = app(standalone_mode=False)
    except click.exceptions.Exit as stop:
        status = stop.exit_code
    except click.ClickException as error:
        _fail(" ".join(error.format_message().split()))
    except VAEError as error:
        _fail(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except (KeyboardInterrupt, click.Abort) as stop:
        reached = str(stop.__cause__ or "")  # click hides a KeyboardInterrupt, and what it says, behind its own
        click.echo(f"vae: {reached}; `vae resume` goes on" if reached else "vae: stopped", err=True)
        status = 130
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str) -> None:
    click.echo(f"vae: error: {message}", err=True)
    sys.exit(2)


def _trust(trust: bool) -> None:
    if trust and "" not in sys.path:
        sys.path.insert(0, "")  # modules beside the caller, as `python -m` finds them


def _open(run: str | None, root: Path) -> "Run":
    from .run import Run

    return Run.open(run, root=root)


def _load(run: "Run", device: str, seed: int, trust: bool) -> "tuple[LatentVariableModel, torch.Generator]":
    _trust(trust)
    import torch

    from . import experiment

    return experiment.load(run, device=device, trust=trust), torch.Generator().manual_seed(seed)


def _class(run: "Run", model: "LatentVariableModel", label: str | None, n: int, *, cycle: bool = False) -> "torch.Tensor | None":
    """Classes of n images: one for all; or, for a conditional model without one, 0, 1, 2 … where they may cycle."""
    import torch

    from .errors import DataError, unknown

    if label is None and (cycle or not model.context_size):
        return torch.arange(n) % model.context_size if model.context_size else None
    if label is None:
        names = ", ".join(run.environment["data"]["classes"])
        raise DataError(f"run {run.name} is conditional; choose one with --class ({names})")
    if not model.context_size:
        raise DataError(f"run {run.name} is unconditional; leave out --class {label}")
    names = run.environment["data"]["classes"]
    if label in names:
        return torch.full((n,), names.index(label))
    if label.isdecimal() and int(label) < model.context_size:
        return torch.full((n,), int(label))
    raise DataError(unknown("class", label, names))


def _test_images(run: "Run", indices: Any) -> "tuple[torch.Tensor, torch.Tensor]":
    import torch

    from . import data
    from .errors import DataError

    split = data.load(run.config["data"]["name"]).test
    chosen = list(indices)
    for index in chosen:
        if not 0 <= index < len(split):
            raise DataError(f"test images are numbered 0 to {len(split) - 1}, got {index}")
    index = torch.tensor(chosen)
    subset = data.Split(split.images[index], split.labels[index])
    images, labels = next(iter(data.Batches(subset, batch_size=len(chosen))))
    return images, labels


def _save(images: "torch.Tensor", path: Path, columns: int | None = None) -> None:
    from . import plot

    plot.save(images, path, columns=columns)
    click.echo(str(path))


def _report(run: "Run", as_json: bool) -> None:
    test = run.read_json("test.json")
    pictures = sorted((run.path / "samples").glob("*.png"))
    shown = [path for path in pictures if not path.name.startswith("epoch-")]
    if as_json:
        click.echo(json.dumps({"run": str(run.path), "test": test, "pictures": [str(path) for path in shown]}))
        return
    parts = f"rate {test['rate']:.2f}, distortion {test['distortion']:.2f}"
    click.echo(f"test −ELBO {test['neg_elbo']:.2f} nats per image ({parts})")
    click.echo(f"run         {_relative(run.path)}")
    click.echo(f"pictures    {_relative(run.path / 'samples')}/: {', '.join(path.name for path in shown)}")


def _relative(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _summary(run: "Run") -> dict[str, Any]:
    import time

    metrics, config = run.metrics(), run.config
    scores = [m["validation_neg_elbo"] for m in metrics if m.get("validation_neg_elbo") is not None]
    return {
        "name": run.name,
        "preset": run.environment.get("preset", ""),
        "data": config.get("data", {}).get("name", ""),
        "epochs": f"{len(metrics)}/{config.get('train', {}).get('epochs', '?')}",
        "validation −ELBO": f"{min(scores):.2f}" if scores else "",
        "state": run.status,
        "age": _age(time.time() - run.created.timestamp()),
    }


def _facts(run: "Run") -> dict[str, Any]:
    config = run.config
    facts: dict[str, Any] = {"run": str(run.path), **_summary(run)}
    facts |= {kind: config[kind] for kind in ("encoder", "posterior", "prior", "decoder", "likelihood", "objective")}
    facts |= {"model": config["model"], "train": config["train"]}
    facts |= {key: run.environment.get(key) for key in ("parameters", "device", "torch", "command")}
    if (run.path / "test.json").is_file():
        facts["test"] = run.read_json("test.json")
    return facts


def _short(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) and abs(value) >= 1 else f"{value}"


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _table(rows: list[dict[str, Any]]) -> None:
    """Print rows as aligned columns, without a library so that listings answer at once."""
    if not rows:
        return
    names = list(rows[0])
    texts = [names, *([str(row[name]) for name in names] for row in rows)]
    widths = [max(len(text[i]) for text in texts) for i in range(len(names))]
    for text in texts:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(text, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
