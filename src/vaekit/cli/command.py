"""The command `vae`: its verbs in order of use, and its exit after an error or Ctrl-C."""

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
from .data import data
from .encode import encode
from .evaluate import evaluate
from .explore import explore
from .export import export
from .impute import impute
from .latents import latent_map, latents, traverse
from .pictures import interpolate, reconstruct, sample
from .presets import presets
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

SPIN_COUNT = "1000"  # a step takes twice as long on a busy machine, with 5000 four times (benchmarks/waiting.json)

_OPTION_OF = {"annealing": "ais", "root": "runs"}  # arguments of the library whose options have other names

OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")  # in torch's errors


class InOrder(click.Group):
    """A group of commands that lists them in order of use; `vae help VERB` is `vae VERB --help`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The name of the called command, the command, and its arguments."""
        if args[0] == "help" and args[1:]:
            args = [args[1], "--help"]
        elif args[0] == "help":
            printing.out_lines(ctx.get_help() + "\n")
            ctx.exit()
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in order of definition."""
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

    With --json a command prints one line. `files` has the paths of what it wrote, `run` or `runs` the run folders, and
    `rows` the number of rows, which may be images. A table becomes a list with a record for each row.
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
    """Let waiting threads sleep soon, unless the environment sets how they wait.

    By default a thread of GNU OpenMP keeps its processor busy until the other threads arrive. Beside another busy
    program a step of 8 ms then takes up to 1 s. torch reads the variable when it is imported.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


@contextmanager
def _ctrl_c() -> Iterator[list[int]]:
    """Yield a list that gets an entry for each Ctrl-C within the block."""
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
        from .usage_errors import usage_message

        _fail(usage_message(error, sys.argv[1:]))
    except VAEError as error:
        options = _options_of(sys.argv[1:])
        words = [option for option in map(_option_of, error.arguments) if option in options]
        words += [f"`vae {error.command}`"] if error.command else []
        _fail(f"{error} ({', '.join(words)})" if words else str(error))
    except BrokenPipeError:  # the reader closed the pipe
        printing.discard(sys.stdout)
        status = 0
    except OSError as error:  # a file or a device failed, and no other code explains it
        where = "" if error.filename is None else f"{error.filename}: "
        _fail(f"{where}{error.strerror or error}")
    except (KeyboardInterrupt, click.Abort) as stop:  # before RuntimeError, since Abort is one
        reached = str(stop.__cause__ or "")  # click raises Abort from the KeyboardInterrupt, which has the message
        say(f"{reached}; `vae resume` continues" if reached else "stopped")
        status = 130
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in OUT_OF_MEMORY):
            raise
        _fail("there is not enough memory for this; ask for fewer or smaller rows, a smaller batch or a smaller model")
    return status if isinstance(status, int) else 0


def _options_of(arguments: list[str]) -> set[str]:
    """The options of the command that was typed."""
    verb = next((app.commands[word] for word in arguments if word in app.commands), app)
    return {option for parameter in verb.params for option in parameter.opts}


def _option_of(argument: str) -> str:
    """The option of the command line that sets an argument of the library."""
    return f"--{_OPTION_OF.get(argument, argument.replace('_', '-'))}"


def _fail(message: str) -> None:
    say(f"error: {message}")
    sys.exit(2)
