"""`vae repeat`: does the same training give the same weights again?"""

from pathlib import Path

import click

from .common import json_option, relative, run_argument, runs_option, trust_option, wants_json
from .printing import out, out_json
from .train import open_to_train


@click.command(short_help="Train a finished run again and compare.")
@run_argument
@click.option("--name", help="Name of the new run folder.  [default: preset and time]")
@trust_option
@runs_option
@json_option
def repeat(run: str | None, name: str | None, root: Path) -> None:
    """Try `vae repeat`: train a finished run again, the newest by default, and compare the weights bit for bit.

    The exit status is 1 if they differ.
    """
    restored = open_to_train(run, root)

    from ..runs.repetition import repeat_run
    from ..runs.terminal import training_progress

    with training_progress(restored.recipe.config.train.known_epochs) as listener:
        repetition = repeat_run(restored, name=name, root=root, listener=listener)
    if wants_json():
        record = {"run": str(repetition.run.path), "agrees": repetition.agrees, "sha256": repetition.weights}
        out_json(record | {"differences": repetition.differences})
    else:
        out(f"run         {relative(repetition.run.path)}")
        out(f"weights     {'the same, bit for bit' if repetition.agrees else 'differ'}")
        for checkpoint, digests in repetition.weights.items():
            out(f"  {checkpoint:<10}{' → '.join(dict.fromkeys(digests))}")
        for key, (before, now) in repetition.differences.items():
            out(f"{key:<12}{before} → {now}")
        if not repetition.agrees and not repetition.differences:
            out("nothing that environment.json records differs")
    if not repetition.agrees:
        raise click.exceptions.Exit(1)
