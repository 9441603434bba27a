"""How good the digits of our recipes are, 2,000 against 2,000 test images: `python benchmarks/samples.py`.

A run is judged by the mean of several draws: the precision of one has a standard error of 0.6 %, as much as the goals
are missed or met by. It reads the runs that `benchmarks/recipes.py` has left (VAE_RUNS); name presets to measure only
those. It writes samples.json; `benchmarks/report.py` writes the table of docs/choosing.md.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import torch

from common import ROOT, processor
from vaekit import data, load
from vaekit.evaluation.samples.classifier import classifier_for
from vaekit.evaluation.samples.quality import quality
from vaekit.runs.series import mean_and_sd

RESULTS = Path(__file__).parent / "samples.json"
PRESETS = ("vae", "cvae", "standard-vae", "standard-cvae", "course-vae", "course-cvae")
SEEDS = (0, 1, 2)
N = 2000
DRAWS = 8


def main() -> None:
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    mnist = data.load("mnist")
    classifier = classifier_for(mnist)
    for preset in sys.argv[1:] or PRESETS:
        runs = []
        for seed in SEEDS:
            if not (ROOT / f"{preset}-seed{seed}").exists():
                continue
            begun = time.perf_counter()
            model = load(f"{preset}-seed{seed}", root=ROOT)
            draws = [quality(model, mnist, classifier, n=N, seed=DRAWS * seed + i).values for i in range(DRAWS)]
            values = {same[0].name: statistics.mean(value.value for value in same) for same in zip(*draws, strict=True)}
            runs.append({"seed": seed, "values": values, "wall_clock_seconds": round(time.perf_counter() - begun, 1)})
        if not runs:
            continue
        names = runs[0]["values"]
        results[preset] = {
            "command": f"python benchmarks/samples.py {preset}",
            "n": N,
            "draws": DRAWS,
            "values": {name: mean_and_sd([run["values"][name] for run in runs]) for name in names},
            "runs": runs,
            "hardware": processor(),
            "torch": torch.__version__,
            "date": time.strftime("%Y-%m-%d"),
        }
        RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        print(preset, {name: f"{value['mean']:.2f}" for name, value in results[preset]["values"].items()})


if __name__ == "__main__":
    main()
