"""`vae train --seeds`: replicates of one config, one after another or several at the same time."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .common import exit_after_interrupt, headline, relative, terms_of, test_of, two_decimals, wants_json
from .printing import out, out_json
from .tables import INDENT, print_entry

if TYPE_CHECKING:
    from ..config.recipe import Recipe


def train_series(
    recipe: "Recipe",
    *,
    seeds: int,
    jobs: int,
    name: str | None,
    preset: str,
    tensorboard: bool,
    root: Path,
) -> None:
    """Train replicates, and print how they compare."""
    from ..runs.series import mean_and_sd, series_name, train_replicates
    from ..runs.terminal import Replicates

    series = name or series_name(preset)
    announce = Replicates(recipe.config.train.known_epochs, seeds, side_by_side=jobs > 1).announce
    try:
        trained = train_replicates(
            recipe,
            seeds,
            name=series,
            jobs=jobs,
            preset=preset,
            root=root,
            announce=announce,
            tensorboard=tensorboard,
        )
    except KeyboardInterrupt as stop:
        command = shlex.join(["vae", *sys.argv[1:], *([] if name else ["--name", series])])
        exit_after_interrupt(f"{str(stop) or 'stopped'}; `{command}` continues the series")
    tests = [test_of(run) for run in trained]
    over = {term: mean_and_sd([test[term] for test in tests]) for term in terms_of(tests[0])}
    if wants_json():
        out_json({"runs": [str(run.path) for run in trained], "test": over})
        return
    for run, test in zip(trained, tests, strict=True):
        out(f"{headline(test)}, {relative(run.path)}")
    mean, sd, n = next(iter(over.values())).values()
    out(f"mean        {two_decimals(mean)}" + (f" ± {two_decimals(sd)} (sd over {n} seeds)" if n > 1 else ""))
    print_entry("next", f"`vae evaluate {trained[0].name}` and the others, then `vae compare`", INDENT)
