"""Write `docs/results.md` from the JSONs: `python benchmarks/published/results.py`; a test keeps them equal."""

import importlib
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import tables
from rows import HERE, Row, Variant

PAGE = HERE.parents[1] / "docs" / "results.md"
SCRIPTS = (
    "bits_back",
    "vae_1l",
    "iwae_1l",
    "iwae_2l",
    "rainforth",
    "conditional_iwae",
    "vamp",
    "sigma_vae",
    "ais",
)

INTRODUCTION = """# Published figures, and ours

Each of our figures comes from a recorded run: a script of `benchmarks/published/` trains and evaluates by the command
line and writes a JSON beside itself, from which this page is generated. "The paper's" is its whole protocol; whatever
is shorter is called ours, and a worse figure is expected of it. ± is the standard error over test images where there is
one training, and the standard deviation over trainings where there are several. Nats and bits are of −log p(x): less is
better, except in the last row, which is a difference.
"""


def rows() -> dict[str, Row]:
    """The rows, by the name of their scripts."""
    return {script: importlib.import_module(script).ROW for script in SCRIPTS}


def page() -> str:
    """The whole document."""
    found = rows()
    table = ["| row | figure | published | ours | schedule | seeds |", "|---|---|---:|---:|---|---:|"]
    for row in found.values():
        table += [line for variant in row.variants for line in _lines(row, variant)]
    parts = [INTRODUCTION, "\n".join(table), *(_section(script, row) for script, row in found.items())]
    parts.append(tables.section())
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _lines(row: Row, variant: Variant) -> list[str]:
    results = [result for result in row.recorded() if result["variant"] == variant.label]
    begin = f"| {row.title} | {variant.label} | {variant.published:g} {row.unit} |"
    if not results:
        return [f"{begin} not run | | |"]
    return [f"{begin} {_ours(result)} | {result['schedule']} | {result['ours']['n']} |" for result in results]


def _ours(result: dict[str, Any]) -> str:
    mean, sd, _ = result["ours"].values()
    error = result["values"][0]["standard_error"] if sd is None else sd
    small = abs(mean) < 10
    return f"{mean:.3f} ± {error:.3f}" if small else f"{mean:.2f} ± {error:.2f}"


def _section(script: str, row: Row) -> str:
    lines = [f"## {row.title}", "", f"{row.paper}. Published figures: {row.source}.", "", f"Protocol: {row.protocol}."]
    for result in row.recorded():
        lines += ["", *_record(row, result)]
    if row.note:
        lines += ["", row.note]
    ran = {result["variant"] for result in row.recorded() if result["schedule"] == "the paper's"}
    missing = [variant.label for variant in row.variants if variant.label not in ran]
    if missing:
        names = " ".join(f'"{label}"' for label in missing)
        command = f"$ python benchmarks/published/{script}.py --variants {names}"
        lines += ["", f"Not run by the paper's protocol: {', '.join(missing)}. Cost: {row.cost}.", ""]
        lines += ["```console", command, "```"]
    return "\n".join(lines)


def _record(row: Row, result: dict[str, Any]) -> list[str]:
    training = ", ".join(_time(seconds) for seconds in result["wall_clock_seconds"]["training"])
    protocol = result["protocol"]
    kind = result["values"][0]["kind"]
    count = protocol.get("rows", protocol.get("images"))
    said = f"{protocol['split']} split, {count} images, binarize: {protocol['binarize']}"
    return [
        f"**{result['variant']}**, {result['schedule']}{'' if result['schedule'].startswith('ours') else ' schedule'}: "
        f"{_ours(result)} {row.unit} ({kind}), published {result['published']:g}. {said}. Training "
        f"{training}, evaluation {_time(result['wall_clock_seconds']['evaluation'])}, on {result['hardware']}, shared, "
        f"torch {result['torch']}, {result['date']}.",
        "",
        "```console",
        *(f"$ {command}" for command in result["commands"]),
        "```",
    ]


def _time(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


if __name__ == "__main__":
    PAGE.write_text(page())
