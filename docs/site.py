"""Lay out the sources of the documentation site and build it: `make docs`.

The pages lie as in the repository, so that every relative link works in both; the reference is made of the docstrings.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "build" / "site-source"
REFERENCE = {
    "models": ("Models", ("vaekit.model", "vaekit.course", "vaekit.build", "vaekit.check")),
    "parts": (
        "Parts",
        ("vaekit.nets", "vaekit.posteriors", "vaekit.priors", "vaekit.likelihoods", "vaekit.distributions"),
    ),
    "training": ("Training", ("vaekit.fit", "vaekit.objectives", "vaekit.schedules")),
    "data": ("Data", ("vaekit.data",)),
    "sklearn": ("In scikit-learn's words", ("vaekit.sklearn",)),
    "runs": (
        "Runs and figures",
        (
            *("vaekit.train", "vaekit.evaluate", "vaekit.Run", "vaekit.list_runs", "vaekit.load"),
            *("vaekit.evaluation", "vaekit.plot", "vaekit.errors"),
        ),
    ),
}
PLACES = {  # public names that are found on first use, where the tool cannot follow them
    "vaekit.build": "vaekit.config.building.build",
    "vaekit.check": "vaekit.config.inspection.check",
    "vaekit.fit": "vaekit.runs.own_model.fit",
    "vaekit.evaluate": "vaekit.evaluation.model_or_run.evaluate",
    "vaekit.list_runs": "vaekit.store.run.list_runs",
    "vaekit.train": "vaekit.runs.preset.train",
    "vaekit.load": "vaekit.hub.folders.load",
    "vaekit.schedules": "vaekit.objectives.schedules",
    "vaekit.Run": "vaekit.store.run.Run",
}


def lay_out() -> None:
    """Copy the pages and what they link to, and write the reference."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    SOURCE.mkdir(parents=True)
    for page in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"):
        shutil.copy(ROOT / page, SOURCE / page)
    shutil.copytree(ROOT / "docs", SOURCE / "docs", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    shutil.copytree(ROOT / "benchmarks", SOURCE / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "notebooks", SOURCE / "notebooks", ignore=shutil.ignore_patterns("__pycache__"))
    (SOURCE / "reference").mkdir()
    for name, (title, members) in REFERENCE.items():
        blocks = "\n\n".join(f"::: {PLACES.get(member, member)}" for member in members)
        (SOURCE / "reference" / f"{name}.md").write_text(f"# {title}\n\n{blocks}\n", encoding="utf-8")


def main() -> int:
    """Lay out and build; a broken link is an error."""
    lay_out()
    return subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
