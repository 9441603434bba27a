"""The part of `docs/results.md` about tables and unusual rows, from the JSONs of four scripts."""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

INTRODUCTION = """## Tables

`VAEImputer`, `VAEOutlierDetector` and `VAE` of `vaekit.sklearn`, as they come, beside what else fills in, scores and
makes rows. ± is the standard deviation over seeds, which draw holes or splits and start the networks; a figure without
it has nothing random. Seconds are of one figure.
"""

Record = dict[str, Any]


def records(name: str) -> list[Record]:
    """What was recorded."""
    path = HERE / name
    found: list[Record] = json.loads(path.read_text()) if path.exists() else []
    return found


def section() -> str:
    """All that was recorded."""
    known = {"imputation": imputation, "outliers": outliers, "one-digit": one_digit, "mixed-table": mixed}
    parts = [part() for name, part in known.items() if records(f"{name}.json")]
    return "\n\n".join(part.strip("\n") for part in ([INTRODUCTION, *parts] if parts else []))


def grid(found: list[Record], contenders: list[str], first: str, published: dict[tuple[str, str], str]) -> str:
    """A table with a line for each task and a column for each contender; the best is bold."""
    present = [name for name in contenders if any(record["contender"] == name for record in found)]
    heads = [*present, *(["published"] if published else [])]
    lines = [f"| {first} | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    tasks = list(dict.fromkeys((record["data"], record["task"]) for record in found))
    for data, task in tasks:
        here = {record["contender"]: record for record in found if (record["data"], record["task"]) == (data, task)}
        sign = 1 if next(iter(here.values()))["metric"] == "AUROC" else -1
        best = max(here.values(), key=lambda record: sign * record["mean"])["contender"]
        cells = [_cell(here.get(name), bold=name == best) for name in present]
        metric = next(iter(here.values()))["metric"]
        cells += [published.get((data, task), "")] if published else []
        lines.append(f"| {data}, {task} ({metric}) | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(record: Record | None, *, bold: bool) -> str:
    if record is None:
        return "not run"
    text = f"{record['mean']:.3f}" + (f" ± {record['sd']:.3f}" if record["sd"] else "")
    return f"**{text}**" if bold else text


def commands(found: list[Record]) -> str:
    """The commands, hardware and versions of records."""
    seen = list(dict.fromkeys(record["command"] for record in found))
    last = found[-1]
    said = ", ".join(f"{name} {number}" for name, number in last["versions"].items())
    seconds = {}
    for record in found:
        seconds.setdefault(record["contender"], []).append(record["seconds"])
    times = ", ".join(f"{name} {max(values):.0f} s" for name, values in seconds.items() if max(values) >= 1)
    where = f"On {last['hardware']}, {said}, {last['date']}. At most: {times}."
    return "\n".join([where, "", "```console", *(f"$ {command}" for command in seen), "```"])


def imputation() -> str:
    """Missing values."""
    found = records("imputation.json")
    published = {
        ("breast_cancer", "mcar 50 %"): "MIWAE .280",
        ("breast_cancer", "self-masking"): "not-MIWAE .72",
    }
    table = grid(found, ["mean", "kNN", "iterative", "ours"], "missing values", published)
    text = """### Missing values

Columns standardized with all values known; the error of the missing cells only. Published: Mattei and Frellsen 2019
(arXiv:1812.02633), table 1; Ipsen, Mattei and Frellsen 2021 (arXiv:2006.12871), table 1, the best of its variants.
"Iterative" is scikit-learn's `IterativeImputer`. Self-masking: in the first half of the columns every value above the
mean is missing."""
    return "\n\n".join([text, table, commands(found), IMPUTATION_NOTE])


def outliers() -> str:
    """Unusual rows."""
    found = records("outliers.json")
    names = ["IsolationForest", "LOF", "kNN", "PyOD VAE", "PyOD AutoEncoder", "ours"]
    text = """### Unusual rows

Trained on half of the normal rows, AUROC on the others and all unusual ones: 1 is perfect, 0.5 is chance."""
    return "\n\n".join([text, grid(found, names, "unusual", {}), commands(found), OUTLIERS_NOTE])


def one_digit() -> str:
    """One digit of MNIST that was not trained on."""
    found = records("one-digit.json")
    lines = ["| latents | score | " + " | ".join(map(str, range(10))) + " | mean |", "|---|---|" + "---:|" * 11]
    for task in dict.fromkeys(record["task"] for record in found):
        here = [record for record in found if record["task"] == task]
        latents = task.split("= ")[1]
        published = {str(digit): figure for digit, figure in enumerate(here[0]["published"])}
        rows = [("−ELBO, published", published)] + [(record["contender"], record["digits"]) for record in here]
        for name, values in rows:
            cells = " | ".join(f"{values[d]:.2f}".lstrip("0") if d in values else "" for d in map(str, range(10)))
            lines.append(f"| {latents} | {name} | {cells} | {sum(values.values()) / len(values):.3f} |")
    return "\n\n".join([ONE_DIGIT, "\n".join(lines), commands(found)])


def mixed() -> str:
    """New rows of a mixed table."""
    found = records("mixed-table.json")
    metrics = list(dict.fromkeys(record["metric"] for record in found))
    lines = ["| rows by | " + " | ".join(metrics) + " |", "|---|" + "---:|" * len(metrics)]
    for contender in dict.fromkeys(record["contender"] for record in found):
        here = {record["metric"]: record for record in found if record["contender"] == contender}
        lines.append(f"| {contender} | " + " | ".join(_cell(here.get(metric), bold=False) for metric in metrics) + " |")
    return "\n\n".join([MIXED, "\n".join(lines), MIXED_NOTE, commands(found)])


MIXED = """### New rows

Palmer penguins (`pip install palmerpenguins`, CC0): 333 complete rows of species, island, four measures, sex and
year; half to learn from, half to compare with. Shapes and pairs: 1 is best; C2ST: 0.5 is best; TSTR: accuracy for the
sex, higher is better; copies: 0 is a copy of a row, 1 as far as a real one."""
MIXED_NOTE = """Ours has the rows that are hardest to tell from real ones, and keeps the correlations best; the
bootstrap, which copies rows, is better at one column by itself, and at the sex by a little."""
IMPUTATION_NOTE = """A scale for each column and a small decoder are what helps (`docs/log.md`). For self-masking it
is the preset `not-miwae`, which models that values hide themselves and is not told which; 400
epochs with K = 5. On digits it is the preset `sigma-vae`, one σ for all pixels, with a hidden
layer of 512, chosen on the first mask of 20 % (`docs/log.md`)."""
OUTLIERS_NOTE = """Ours on digits is `preset="sigma-vae"`, one σ for all pixels, hidden layer of 512, no rows held out,
chosen on the first two splits (`docs/log.md`); it comes to the neighbours within the spread, whose nearest of 811
images says by itself what a density has to learn. On the tumours the six are as good as each other within the spread
of the splits. PyOD's VAE and AutoEncoder are those of PyOD 3.6.7, as they come; it standardizes pixels, and those that
are nearly always empty drown the others."""
ONE_DIGIT = """### One digit is unusual

Trained on nine digits of MNIST; AUROC of the tenth among 2,000 test images. Ours is a short training by a protocol of
our own, since that of the published figures is not known here: 3 epochs of 20,000 images with 32 latents, 20 epochs of
all images with 2, as these take longer to learn (`docs/log.md`). With 32 latents the −ELBO is as good as theirs, with
2 it is worse. Both take a one, which has few strokes, for more usual than it is, and the tighter −L_10 does not mend
that. Nats per length of edge find it at once, and are the best score of all; they are worse than −ELBO for an eight
and a nought, which have long edges themselves."""
