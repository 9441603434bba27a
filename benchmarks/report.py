"""Write the recorded figures into the documents: `python benchmarks/report.py`; a test keeps them equal."""

import json
import re
from pathlib import Path

from vae.config import preset_names, read

HERE = Path(__file__).parent
ROOT = HERE.parent

NAMES = {
    "course-vae": "VAE, the assignment's recipe",
    "vae": "VAE, ours (the default)",
    "course-cvae": "CVAE, the assignment's recipe",
    "cvae": "CVAE, ours",
}


def recipes() -> str:
    results = json.loads((HERE / "recipes.json").read_text())
    rows = ["| model | `vae train …` | test −ELBO | rate | distortion |", "|---|---|---|---|---|"]
    for preset, name in NAMES.items():
        if preset not in results:
            continue
        score, runs = results[preset]["test_neg_elbo"], results[preset]["runs"]
        rate, distortion = (sum(run["test"][term] for run in runs) / len(runs) for term in ("rate", "distortion"))
        spread = f" ± {score['sd']:.2f}" if score["n"] > 1 else f" (n = {score['n']})"
        rows.append(f"| {name} | `{preset}` | {score['mean']:.2f}{spread} | {rate:.2f} | {distortion:.2f} |")
    return "\n".join(rows)


def presets() -> str:
    results = json.loads((HERE / "presets.json").read_text())
    rows = [
        "| preset | objective | binarize | epochs | validation −ELBO | rate | distortion | s per epoch |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for preset in preset_names():
        if preset not in results:
            rows.append(f"| `{preset}` | {read(preset).objective.name} | | | not yet run | | | |")
            continue
        run = results[preset]
        score = run["validation"]
        rows.append(
            f"| `{preset}` | {run['objective']} | {run['binarize']} | {run['epochs']} | {score['neg_elbo']:.2f} | "
            f"{score['rate']:.2f} | {score['distortion']:.2f} | {run['seconds_per_epoch']:.0f} |"
        )
    return "\n".join(rows)


TABLES = {"README.md": {"recipes": recipes}, "docs/choosing.md": {"presets": presets}}


def filled(page: str) -> str:
    """The text of a document with its tables made anew."""
    text = (ROOT / page).read_text()
    for name, table in TABLES[page].items():
        marked = re.compile(rf"<!-- {name} -->\n.*?<!-- /{name} -->", re.DOTALL)
        if not marked.search(text):
            raise ValueError(f"{page} has no place for the table {name!r}")
        text = marked.sub(lambda _, name=name, table=table: f"<!-- {name} -->\n{table()}\n<!-- /{name} -->", text)
    return text


if __name__ == "__main__":
    for page in TABLES:
        (ROOT / page).write_text(filled(page))
