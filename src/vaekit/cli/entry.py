"""The command `vae`: its verbs in the order in which they are needed, and how it ends after an error or Ctrl-C."""

import os
import signal
import sys
import warnings
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager

import click

from ..errors import VAEError
from . import printing
from .check import check
from .common import say
from .compare import compare
from .encode import encode
from .evaluate import evaluate
from .explore import explore
from .export import export
from .impute import impute
from .latents import latent_map, latents, traverse
from .listings import data, presets
from .pictures import interpolate, reconstruct, sample
from .profile import profile
from .repeat import repeat
from .report import report
from .runs import info, runs
from .score import score
from .speedrun import speedrun
from .teach import teach
from .train import resume, train

VERBS = [
    train,
    resume,
    repeat,
    profile,
    sample,
    interpolate,
    reconstruct,
    latent_map,
    traverse,
    latents,
    encode,
    score,
    impute,
    explore,
    evaluate,
    compare,
    report,
    export,
    info,
    runs,
    data,
    presets,
    teach,
    check,
    speedrun,
]

SPIN_COUNT = "5000"  # with 1000 a quiet machine is half as fast, with 20000 a busy one four times slower


class InOrder(click.Group):
    """Commands in the order in which they are needed; `vae help VERB` is `vae VERB --help`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is called, its name, and the arguments that it gets."""
        if args[0] == "help" and args[1:]:
            args = [args[1], "--help"]
        elif args[0] == "help":
            printing.out_lines(ctx.get_help() + "\n")
            ctx.exit()
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, as they were defined."""
        return list(self.commands)


@click.group(
    cls=InOrder,
    commands=VERBS,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.version_option(package_name="vaekit", prog_name="vae")
@click.pass_context
def app(context: click.Context) -> None:
    """Try `vae train`: in a minute or two it trains a model on MNIST and draws new digits.

    Variational autoencoders: networks × posterior × prior × likelihood × objective.
    """
    if context.invoked_subcommand is None:
        printing.out_lines(context.get_help() + "\n")


def main() -> None:
    """Run the command line; an error that the caller can mend becomes one line and exit status 2."""
    spin_less(os.environ)
    with printing.streams(), _ctrl_c() as signals:
        try:
            status = _run()
        except Exception:
            if not signals:
                raise
            say("stopped")  # a library turned the KeyboardInterrupt into another exception
            status = 130
    sys.exit(status)


def spin_less(environment: MutableMapping[str, str]) -> None:
    """Let threads that wait for one another sleep soon, unless the user has said how they wait.

    By default GNU OpenMP keeps a processor busy until the other threads arrive. Where another program runs meanwhile,
    a step of 8 ms takes up to 1 s. torch reads the variable when it is imported.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


@contextmanager
def _ctrl_c() -> Iterator[list[int]]:
    """A list of the times that Ctrl-C was pressed within the block."""
    signals: list[int] = []

    def note(number: int, frame: object) -> None:
        signals.append(number)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before in (signal.default_int_handler, signal.SIG_DFL):  # shells have background jobs ignore it
        signal.signal(signal.SIGINT, note)
    try:
        yield signals
    finally:
        signal.signal(signal.SIGINT, before)


def _run() -> int:
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: say(f"warning: {message}")
            status = app(standalone_mode=False, prog_name="vae")
    except click.exceptions.Exit as stop:
        status = stop.exit_code
    except click.ClickException as error:
        from .usage_errors import explained

        _fail(explained(error, sys.argv[1:]))
    except VAEError as error:
        words = [f"--{name}" for name in error.arguments] + ([f"`vae {error.command}`"] if error.command else [])
        _fail(f"{error} ({', '.join(words)})" if words else str(error))
    except BrokenPipeError:  # whoever read has read enough
        printing.discard(sys.stdout)
        status = 0
    except OSError as error:  # the surroundings, at a place that does not say it better
        where = "" if error.filename is None else f"{error.filename}: "
        _fail(f"{where}{error.strerror or error}")
    except MemoryError:
        _fail("there is not enough memory for this; ask for fewer or smaller images, or a smaller model")
    except (KeyboardInterrupt, click.Abort) as stop:
        reached = str(stop.__cause__ or "")  # click hides a KeyboardInterrupt, and what it says, behind its own
        say(f"{reached}; `vae resume` continues" if reached else "stopped")
        status = 130
    return status if isinstance(status, int) else 0


def _fail(message: str) -> None:
    say(f"error: {message}")
    sys.exit(2)
