"""The command line: each verb parses, calls and prints.

stdout is the result, stderr is progress and errors. Exit status 2 is the caller's mistake, 1 is ours, 130 is Ctrl-C.
Nothing heavy is imported before a verb needs it: `--help` answers at once.
"""

import json
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .errors import VAEError

if TYPE_CHECKING:
    import torch

    from .config import Config
    from .model import LatentVariableModel
    from .run import Run
    from .train import Listener

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
log_option = click.option("--tensorboard", "log", is_flag=True, help="Also log for TensorBoard, in the run folder.")
run_argument = click.argument("run", required=False)


class InOrder(click.Group):
    """Commands in the order in which they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, as they were defined."""
        return list(self.commands)


@click.group(cls=InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="vaekit", prog_name="vae")
def app() -> None:
    """Try `vae train`: a minute or two later, look at digits that the model dreamed.

    Variational autoencoders: networks × posterior × prior × likelihood × objective.
    """


@app.command(short_help="Train a model into a run folder.")
@click.argument("preset", required=False)
@click.option("--config", "config_file", type=FILE, help="TOML file instead of a preset, such as a run's config.toml.")
@click.option("--data", help="Data set, which `vae data` lists; or a path: images.npy, images.npz or a folder.")
@click.option("--epochs", type=int, help="Passes over the training images.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any key of the config; may be repeated.")
@click.option("--name", help="Name of the run folder.  [default: preset and time]")
@click.option("--device", help="cpu, cuda, cuda:1, mps …  [default: the fastest here]")
@click.option("--seed", type=int, help="Seed of the whole run.  [default: 0]")
@click.option("--seeds", type=click.IntRange(1), help="Train so many replicates, with seeds --seed, --seed + 1, …")
@click.option("--deterministic", is_flag=True, help="Use deterministic algorithms only: on a GPU, too, the same bits.")
@click.option("--resume", "resumed", metavar="RUN", help="Go on with this run, as `vae resume` does.")
@click.option("--profile", "profiled", is_flag=True, help="Print where the time of a step goes, and write nothing.")
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
    deterministic: bool,
    resumed: str | None,
    profiled: bool,
    log: bool,
    trust: bool,
    root: Path,
    as_json: bool,
) -> None:
    """Try `vae train cvae --epochs 3`: train PRESET, "vae" by default, into a new run folder.

    `vae presets` lists the presets. Any part can be exchanged: --set prior.name=vamp --set objective.name=iwae
    --set objective.samples=8 --set model.condition=class. On two devices: torchrun --nproc-per-node=2 -m vae train.

    With --seeds 5 --name NAME: train NAME-seed0 … NAME-seed4, one after another; the same command goes on with a series
    that was interrupted. Evaluate each, then `vae compare --group PRESET` shows mean ± sd.
    """
    if (profiled or seeds) and "MASTER_ADDR" in os.environ:
        raise click.UsageError("--profile and --seeds are for one process; leave out torchrun")
    if _follows():
        _follow(trust)
        return

    from . import config as configs

    given = {"data.name": data, "train.epochs": epochs, "train.device": device, "train.seed": seed}
    given["train.deterministic"] = deterministic or None
    options = [*settings, *(f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None)]
    if resumed is not None:
        if preset or config_file or name or seeds:
            raise click.UsageError(
                "--resume goes on with a run and its config; leave out PRESET, --config, --name and --seeds"
            )
        _resume(resumed, options, log, trust, root, as_json)
        return
    config = configs.read(preset, config_file, options)
    _trust(trust)
    _prepare_cuda(config.train.deterministic)
    if profiled:
        _profile(config, trust, as_json)
        return

    from . import experiment
    from .progress import shown
    from .train import joined

    label = preset or (config_file.stem if config_file else "vae")
    if seeds is not None:
        _train_series(config, seeds, name, label, log, trust, root, as_json)
        return
    with shown(config.train.epochs) as listener, joined() as ranks:
        run = experiment.train(
            config, name=name, preset=label, root=root, listener=listener, log=log, trust=trust, ranks=ranks
        )
    _report(run, as_json)


@app.command(short_help="Go on with an interrupted run.")
@run_argument
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Go on with another train.learning_rate, …")
@log_option
@trust_option
@runs_option
@json_option
def resume(run: str | None, settings: tuple[str, ...], log: bool, trust: bool, root: Path, as_json: bool) -> None:
    """Try `vae resume`: go on with an interrupted run, the newest by default, as if nothing had happened."""
    _resume(run, settings, log, trust, root, as_json)


@app.command(short_help="Train a finished run again and compare.")
@run_argument
@click.option("--name", help="Name of the new run folder.  [default: preset and time]")
@trust_option
@runs_option
@json_option
def repeat(run: str | None, name: str | None, trust: bool, root: Path, as_json: bool) -> None:
    """Try `vae repeat`: train a finished run again, the newest by default, and compare the weights bit for bit.

    The exit status is 1 if they differ.
    """
    found = _open(run, root)
    _trust(trust)
    _prepare_cuda(_within(found.config, "train", "deterministic"))

    from . import experiment
    from .progress import shown

    with shown(experiment.config_of(found).train.epochs) as listener:
        again = experiment.repeat(found, name=name, root=root, listener=listener, trust=trust)
    if as_json:
        record = {"run": str(again.run.path), "agrees": again.agrees, "sha256": again.weights}
        click.echo(json.dumps(record | {"differences": again.differences}, ensure_ascii=False))
    else:
        click.echo(f"run         {_relative(again.run.path)}")
        click.echo(f"weights     {'the same, bit for bit' if again.agrees else 'differ'}")
        for kind, digests in again.weights.items():
            click.echo(f"  {kind:<10}{' → '.join(dict.fromkeys(digests))}")
        for key, (before, now) in again.differences.items():
            click.echo(f"{key:<12}{before} → {now}")
        if not again.agrees and not again.differences:
            click.echo("nothing that environment.json records differs")
    if not again.agrees:
        raise click.exceptions.Exit(1)


@app.command(short_help="Draw new images.")
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


@app.command(short_help="Walk between latents.")
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


@app.command(short_help="Show test images beside their reconstructions.")
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


@app.command(short_help="Measure a run: likelihood, latents, samples.")
@run_argument
@click.option("--split", default="test", show_default=True, help="Which images: test, validation or train.")
@click.option("--samples", type=int, default=5000, show_default=True, help="Importance samples for each image.")
@click.option("--images", type=int, help="Only the first images, for a quick look.  [default: all]")
@click.option("--ais", is_flag=True, help="Annealed importance sampling of some images too: tighter, and slow.")
@click.option("--temperatures", type=int, help="Steps of --ais: the more, the tighter.  [default: 200]")
@click.option("--data", "data_name", help="Another data set than the run's.")
@click.option("--memory", default="1G", show_default=True, metavar="SIZE", help="What decoding may take, about.")
@seed_option
@device_option
@trust_option
@runs_option
@json_option
def evaluate(
    run: str | None,
    split: str,
    samples: int,
    images: int | None,
    ais: bool,
    temperatures: int | None,
    data_name: str | None,
    memory: str,
    seed: int,
    device: str,
    trust: bool,
    root: Path,
    as_json: bool,
) -> None:
    """Try `vae evaluate --samples 100`: measure RUN, the newest by default, and write evaluation.json into its folder.

    Every number comes with its standard error over images and with what kind of number it is. What was finished before
    an interruption is used. With 5000 samples, the default and what papers report, 10,000 images take a while on a CPU.
    """
    if temperatures is not None and not ais:
        raise click.UsageError("--temperatures goes with --ais")
    found, limit = _open(run, root), _bytes(memory)
    model, _ = _load(found, device, seed, trust)

    from .evaluate.ais import Annealing
    from .evaluate.progress import shown
    from .evaluate.runs import evaluate_run

    options: dict[str, Any] = {"data_name": data_name, "split": split, "samples": samples, "images": images}
    annealing = Annealing() if temperatures is None else Annealing(temperatures=temperatures)
    options |= {"annealing": annealing if ais else None, "memory": limit, "seed": seed}
    try:
        with shown() as listener:
            result = evaluate_run(found, model, **options, listener=listener)
    except KeyboardInterrupt:
        message = (
            f"vae: stopped; what is finished is kept, and `vae evaluate {found.name}` with the same options goes on"
        )
        click.echo(message, err=True)
        raise click.exceptions.Exit(130) from None
    if as_json:
        click.echo(json.dumps({"run": str(found.path), **_finite(result.to_json())}, ensure_ascii=False))
        return
    _table([{"": v.name, "value": str(v), "unit": v.unit, "kind": v.kind} for v in result.values])
    if result.details.get("classes"):
        click.echo()
        _table([{"class": name, **_rounded(row)} for name, row in result.details["classes"].items()])
    protocol = {key: value for key, value in result.protocol.items() if key != "checksum"}
    click.echo("\nprotocol    " + "; ".join(f"{key}: {value}" for key, value in protocol.items()))
    for sentence in result.warnings:
        click.echo(f"beware      {sentence}")
    click.echo(f"run         {_relative(found.path)}")
    if result.details["pictures"]:
        click.echo(f"pictures    {', '.join(result.details['pictures'])}")


@app.command(short_help="One table over evaluated runs and seeds.")
@click.argument("run", nargs=-1)
@click.option(
    "--group", "presets", multiple=True, metavar="PRESET", help="All evaluated runs of a preset; may be repeated."
)
@click.option("--column", "columns", multiple=True, metavar="NAME", help="Which numbers, such as nll; may be repeated.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["markdown", "latex", "csv", "json"]),
    default="markdown",
    show_default=True,
    help="How to print it.",
)
@runs_option
@json_option
def compare(
    run: tuple[str, ...], presets: tuple[str, ...], columns: tuple[str, ...], style: str, root: Path, as_json: bool
) -> None:
    """Try `vae compare vae cvae`: runs side by side, mean ± sd over seeds, and which differences are within noise.

    Each RUN was evaluated before. Runs that differ only in their seed are one row; differences are to the first row.
    """
    from .evaluate.compare import compare as compared
    from .evaluate.compare import evaluated

    chosen = [_open(name, root) for name in run] + [found for preset in presets for found in evaluated(preset, root)]
    table = compared(chosen, columns=columns)
    if as_json or style == "json":
        click.echo(json.dumps(_finite(table.to_json()), ensure_ascii=False))
        return
    writers = {"markdown": table.to_markdown, "latex": table.to_latex, "csv": table.to_csv}
    click.echo(writers[style](), nl=False)


@app.command(short_help="What a run is made of and how it went.")
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
        click.echo(f"{name:<18}{_short(value)}")


@app.command(short_help="List the runs, or clean up.")
@click.option("--clean", multiple=True, metavar="WHAT", help="Remove: failed, interrupted, damaged or a run's name.")
@click.option("--yes", is_flag=True, help="Remove without asking.")
@runs_option
@json_option
def runs(clean: tuple[str, ...], yes: bool, root: Path, as_json: bool) -> None:
    """Try `vae runs`: list the runs, newest first.

    With --clean, which may be repeated: say which runs would be removed, ask, and remove them.
    """
    rows = _rows(root)
    if clean:
        rows = _clean(rows, clean, yes, root)
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        if row["state"] == "damaged":
            click.echo(f"vae: warning: {row['fault']}", err=True)
    _table([{key: value for key, value in row.items() if key != "fault"} for row in rows])


@app.command(short_help="List the data sets.")
@json_option
def data(as_json: bool) -> None:
    """Try `vae data`: list the data sets, and which of them are here.

    Your own images go by their path: `vae train conv-vae --data PATH`, where PATH is images.npy (with labels in
    images-labels.npy, if there are any), images.npz, or a folder of images whose subfolders are classes.
    """
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


@app.command(short_help="List the presets, or print one.")
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
    with _ctrl_c() as asked:
        try:
            status = _run()
        except Exception:
            if not asked:
                raise
            _say("stopped")  # a library made something else of it
            status = 130
    sys.exit(status)


@contextmanager
def _ctrl_c() -> Iterator[list[int]]:
    """A list of the times that Ctrl-C was pressed within the block."""
    asked: list[int] = []

    def note(number: int, frame: object) -> None:
        asked.append(number)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # a shell may have the interrupts of its background jobs ignored
        signal.signal(signal.SIGINT, note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def _run() -> int:
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: _say(f"warning: {message}")
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
        _say(f"{reached}; `vae resume` goes on" if reached else "stopped")
        status = 130
    return status if isinstance(status, int) else 0


def _fail(message: str) -> None:
    _say(f"error: {message}")
    sys.exit(2)


def _say(message: str) -> None:
    if not _follows():
        click.echo(f"vae: {message}", err=True)


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


def _prepare_cuda(deterministic: object) -> None:
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which it reads when it starts


def _resume(run: str | None, settings: Sequence[str], log: bool, trust: bool, root: Path, as_json: bool) -> None:
    if _follows():
        _follow(trust)
        return
    found = _open(run, root)
    _trust(trust)
    _prepare_cuda(_within(found.config, "train", "deterministic"))

    from . import config, experiment
    from .progress import shown
    from .train import joined

    epochs = config.changed(experiment.config_of(found), settings).train.epochs
    with shown(epochs) as listener, joined() as ranks:
        experiment.resume(found, settings=settings, listener=listener, log=log, trust=trust, ranks=ranks)
    _report(found, as_json)


def _follows() -> bool:
    """Whether this is one of the processes that torchrun has started, and not the first, which alone speaks."""
    return "MASTER_ADDR" in os.environ and os.environ.get("RANK", "0") != "0"


def _follow(trust: bool) -> None:
    _trust(trust)
    _prepare_cuda(True)

    from . import experiment
    from .train import joined

    with joined() as ranks:
        experiment.follow(ranks, trust=trust)


def _profile(config: "Config", trust: bool, as_json: bool) -> None:
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # or it tells of devices that are not there

    from .profiling import profile_training

    found = profile_training(config, trust=trust)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
        return
    click.echo(f"{found.milliseconds:.2f} ms a step ({', '.join(f'{k} {v}' for k, v in found.setting.items())})\n")
    _table([{"phase": name, "share": f"{100 * share:5.1f} %"} for name, share in found.phases.items()])
    click.echo()
    _table(
        [
            {"operator": name, "ms a step": f"{milliseconds:8.3f}", "calls a step": f"{calls:g}"}
            for name, (milliseconds, calls) in found.operators.items()
        ]
    )


def _train_series(
    config: "Config", seeds: int, name: str | None, preset: str, log: bool, trust: bool, root: Path, as_json: bool
) -> None:
    from .progress import shown
    from .replicates import series_name, spread, train_replicates

    series = name or series_name(preset)

    @contextmanager
    def announce(i: int, seed: int, label: str) -> Iterator["Listener"]:
        click.echo(f"replicate {i + 1} of {seeds}: seed {seed}, run {label}", err=True)
        with shown(config.train.epochs) as listener:
            yield listener

    try:
        options: dict[str, Any] = {"preset": preset, "root": root, "announce": announce, "log": log, "trust": trust}
        found = train_replicates(config, seeds, name=series, **options)
    except KeyboardInterrupt as stop:
        command = shlex.join(["vae", *sys.argv[1:], *([] if name else ["--name", series])])
        click.echo(f"vae: {str(stop) or 'stopped'}; `{command}` goes on with the series", err=True)
        raise click.exceptions.Exit(130) from None
    tests = [run.read_json("test.json") for run in found]
    over = {term: spread([test[term] for test in tests]) for term in ("neg_elbo", "rate", "distortion")}
    if as_json:
        click.echo(json.dumps({"runs": [str(run.path) for run in found], "test": over}))
        return
    for run, test in zip(found, tests, strict=True):
        click.echo(f"test −ELBO {test['neg_elbo']:.2f} nats per image, {_relative(run.path)}")
    mean, sd, n = over["neg_elbo"].values()
    click.echo(f"mean        {mean:.2f}" + (f" ± {sd:.2f} (sd over {n} seeds)" if n > 1 else ""))


def _class(
    run: "Run", model: "LatentVariableModel", label: str | None, n: int, *, cycle: bool = False
) -> "torch.Tensor | None":
    """Classes of n images: one for all; or, for a conditional model without one, 0, 1, 2 … where they may cycle."""
    import torch

    from .errors import DataError, unknown

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


def _test_images(run: "Run", indices: Any) -> "tuple[torch.Tensor, torch.Tensor]":
    import torch

    from . import data, experiment
    from .errors import DataError

    split = data.load(**experiment.config_of(run).data.loading).test
    chosen = list(indices)
    for index in chosen:
        if not 0 <= index < len(split):
            raise DataError(f"test images are numbered 0 to {len(split) - 1}, got {index}")
    index = torch.tensor(chosen)
    subset = data.Split(split.images[index], split.labels[index])
    images, labels = next(iter(data.Batches(subset, batch_size=len(chosen))))
    return images, labels


def _bytes(text: str) -> int:
    """A number of bytes from "500M" or "4G"."""
    from .errors import ConfigError

    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    number, unit = (text[:-1], units[text[-1].upper()]) if text[-1:].upper() in units else (text, 1)
    try:
        return int(float(number) * unit)
    except (ValueError, OverflowError):
        raise ConfigError(f"--memory must be a size such as 500M or 4G, got {text!r}") from None


def _rounded(row: dict[str, float]) -> dict[str, str]:
    return {f"{name} (%)": f"{value:.1f}" for name, value in row.items()}


def _finite(value: dict[str, Any]) -> Any:
    from .run import files

    return files.finite(value)


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
    scores = [m["validation_neg_elbo"] for m in metrics if isinstance(m.get("validation_neg_elbo"), int | float)]
    asked = _within(run.environment, "sessions", -1, "epochs") or _within(config, "train", "epochs") or "?"
    return {
        "name": run.name,
        "preset": str(run.environment.get("preset", "")),
        "data": str(_within(config, "data", "name") or ""),
        "epochs": f"{len(metrics)}/{asked}",
        "validation −ELBO": f"{min(scores):.2f}" if scores else "",
        "state": run.status,
        "age": _age(time.time() - run.created.timestamp()),
    }


def _facts(run: "Run") -> dict[str, Any]:
    config = run.config
    facts: dict[str, Any] = {"run": str(run.path), **_summary(run)}
    sections = ("encoder", "posterior", "prior", "decoder", "likelihood", "objective", "model", "train")
    facts |= {section: config.get(section) for section in sections}
    facts |= {key: run.environment.get(key) for key in ("parameters", "device", "torch", "command")}
    if changed := [session["settings"] for session in run.sessions if session["settings"]]:
        facts["changed"] = changed
    if (run.path / "test.json").is_file():
        facts["test"] = run.read_json("test.json")
    return facts


def _within(value: Any, *steps: str | int) -> Any:
    """What a nested value has at a place, or None."""
    for step in steps:
        try:
            value = value[step]
        except (IndexError, KeyError, TypeError):
            return None
    return value


def _rows(root: Path) -> list[dict[str, Any]]:
    """A summary of every run in a folder, the damaged ones last."""
    from .run import find_runs

    found, faults = find_runs(root)
    rows = []
    for run in found:
        try:
            rows.append(_summary(run))
        except VAEError as error:
            faults[run.path] = str(error)
    blank = dict.fromkeys(("preset", "data", "epochs", "validation −ELBO"), "")
    damaged = {"state": "damaged", "age": ""}
    return rows + [{"name": path.name, **blank, **damaged, "fault": fault} for path, fault in faults.items()]


def _clean(rows: list[dict[str, Any]], what: Sequence[str], yes: bool, root: Path) -> list[dict[str, Any]]:
    """Remove the runs that were asked for; their rows."""
    from .errors import RunError, unknown
    from .run import delete

    states, names = ("failed", "interrupted", "damaged"), {row["name"] for row in rows}
    for word in what:
        if word not in names and word not in states:
            raise RunError(unknown("run", word, [*names, *states]))
    chosen = [row for row in rows if row["name"] in what or row["state"] in what]
    for row in chosen:
        if row["state"] == "running":
            raise RunError(f"run {row['name']} is being trained; stop that first")
    for row in chosen:
        size = sum(file.lstat().st_size for file in (root / row["name"]).rglob("*")) / 1e6
        click.echo(f"{row['name']}  {row['state']}  {row['epochs']} epochs  {row['age']} old  {size:.1f} MB", err=True)
    if not chosen:
        click.echo("there is nothing to remove", err=True)
    elif not yes and not click.confirm(f"Remove {len(chosen)} of the {len(rows)} runs in {root}?", err=True):
        return []
    for row in chosen:
        delete(root / row["name"])
    return chosen


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
