"""`vae evaluate`: measure a run, and give every number its error."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import ConfigError
from .common import COUNT, DATA, WithFormerName, exit_after_interrupt, json_option, print_files, relative, wants_json
from .printing import out
from .run_options import ChosenRun, run_options
from .tables import INDENT, print_entry, print_protocol, print_table

if TYPE_CHECKING:
    from ..evaluation import Evaluation
    from ..evaluation.likelihood.ais import Annealing
    from ..evaluation.measure_contract import Options
    from ..store import Run


@click.command(short_help="Measure a run: likelihood, latents, samples.")
@click.option("--split", default="test", show_default=True, help="Which rows: test, validation or train.")
@click.option(
    "--samples",
    type=COUNT,
    default=100,
    show_default=True,
    help="Importance samples; papers take 5000.",
)
@click.option("--all", "everything", is_flag=True, help="Print every number, with its kind.")
@click.option(
    "--rows",
    "--images",
    "row_count",
    cls=WithFormerName,
    type=COUNT,
    help="Evaluate this many evenly spread rows, for a quick look.  [default: all]",
)
@click.option("--ais", is_flag=True, help="Also run annealed importance sampling on 50 rows: tighter, but slow.")
@click.option("--temperatures", type=COUNT, help="Steps of --ais: more of them give a tighter bound.  [default: 200]")
@click.option("--data", "data_name", type=DATA, help="Evaluate on other data than the run's: on all rows of a path.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "auto"]),
    default="fp32",
    show_default=True,
    help="Precision of decoding; a lower one is faster, and its error is corrected.",
)
@click.option(
    "--memory", default="1G", show_default=True, metavar="SIZE", help="About how much memory decoding may take."
)
@run_options
@json_option
def evaluate(
    chosen: ChosenRun,
    split: str,
    samples: int,
    everything: bool,
    row_count: int | None,
    ais: bool,
    temperatures: int | None,
    data_name: str | None,
    precision: str,
    memory: str,
) -> None:
    """Try `vae evaluate`: measure RUN, the newest by default, and write evaluation.json into its folder.

    With --rows, --split or --data the result goes into a file of its own, such as evaluation-100-rows.json. The
    evaluation of all test rows, which `vae compare`, `vae report` and `vae export` show, stays as it is.

    Every number has its standard error over rows; --all prints them all and says which are bounds. An interrupted
    evaluation continues where it stopped. Papers report --samples 5000, which takes a while on a CPU. On a processor
    with bfloat16, --precision bf16 takes half of that time and bounds the same likelihood.
    """
    annealing = _annealing(ais, temperatures)
    limit = _bytes(memory)
    from ..evaluation.measure_contract import Options
    from ..explorer.run_page import write_report

    options = Options(
        split=split,
        samples=samples,
        rows=row_count,
        annealing=annealing,
        memory=limit,
        seed=chosen.seed,
        precision=precision,
    )
    result = _evaluation(chosen, options, data_name)
    page = write_report([chosen.run], chosen.run.path_to_write("report.html"))
    _print_result(chosen.run, result, page, everything)


def _evaluation(chosen: ChosenRun, options: "Options", data_name: str | None) -> "Evaluation":
    """Evaluate the run, and show the progress."""
    from ..evaluation.run_evaluation import evaluate_run
    from ..runs.terminal import stage_progress

    model, _ = chosen.model()
    try:
        with stage_progress() as listener:
            return evaluate_run(chosen.restored, model, options, data_name=data_name, listener=listener)
    except KeyboardInterrupt:
        remedy = f"`vae evaluate {chosen.run.name}` with the same options continues"
        exit_after_interrupt(f"stopped; finished parts are kept, and {remedy}")


def _print_result(run: "Run", result: "Evaluation", page: Path, everything: bool) -> None:
    numbers, pictures = run.path / result.details["file"], [run.path / name for name in result.details["pictures"]]
    if wants_json():
        print_files(numbers, page, *pictures, run=str(run.path), **result.to_json())
        return
    if everything:
        _print_all(result)
    else:
        _print_blocks(result)
    for sentence in result.warnings:
        print_entry("beware", sentence, INDENT)
    out(f"run         {relative(run.path)}")
    for picture in pictures:
        out(f"picture     {relative(picture)}")
    out(f"report      {relative(page)}")
    out(f"numbers     {relative(numbers)}")


def _print_blocks(result: "Evaluation") -> None:
    """Print the numbers that most people want, a short block for each measure, at most 80 columns wide."""
    from ..evaluation.model_evaluation import MEASURES

    for measure in MEASURES:
        shown = [
            (line.label, f"{value} {value.unit}".strip(), line.meaning)
            for line in measure.lines
            if (value := line.value_in(result.values)) is not None
        ]
        if shown:
            label_width, value_width = (2 + max(len(cells[i]) for cells in shown) for i in (0, 1))
            out(f"{measure.title}: {measure.caption}")
            for label, text, meaning in shown:
                out(f"  {label:<{max(25, label_width)}}{text:<{value_width}}{meaning}".rstrip())
            out()


def _print_all(result: "Evaluation") -> None:
    print_table(
        [{"": value.name, "value": str(value), "unit": value.shown_unit, "kind": value.kind} for value in result.values]
    )
    if result.details.get("classes"):
        out()
        print_table([{"class": name, **_rounded(row)} for name, row in result.details["classes"].items()])
    out()
    print_protocol(result.protocol)


def _annealing(ais: bool, temperatures: int | None) -> "Annealing | None":
    """The options of annealing, or None without --ais."""
    if temperatures is not None and not ais:
        raise click.UsageError("--temperatures goes with --ais")
    if not ais:
        return None
    from ..evaluation.likelihood.ais import Annealing

    return Annealing() if temperatures is None else Annealing(temperatures=temperatures)


def _bytes(text: str) -> int:
    """A number of bytes from "500M" or "4G"."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    number, unit = (text[:-1], units[text[-1].upper()]) if text[-1:].upper() in units else (text, 1)
    try:
        return int(float(number) * unit)
    except (ValueError, OverflowError):
        raise ConfigError(f"--memory must be a size such as 500M or 4G, got {text!r}") from None


def _rounded(row: dict[str, float]) -> dict[str, str]:
    return {f"{name} (%)": f"{value:.1f}" for name, value in row.items()}
