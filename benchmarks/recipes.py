"""Train the assignment's models by its recipe and by ours, three seeds each: `python benchmarks/recipes.py`.

A run that is already in the results is not trained again; name presets to train only those.
"""

import json
import sys
from pathlib import Path

from common import train
from vaekit.runs.series import mean_and_sd

RESULTS = Path(__file__).parent / "recipes.json"
PRESETS = ("vae", "cvae", "standard-vae", "standard-cvae", "course-vae", "course-cvae")
SEEDS = (0, 1, 2)


def main() -> None:
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for preset in sys.argv[1:] or PRESETS:
        for seed in SEEDS:
            runs = results.setdefault(preset, {"runs": []})["runs"]
            if any(run["seed"] == seed for run in runs):
                continue
            runs.append(train(preset, seed=seed))
            scores = [run["test"]["neg_elbo"] for run in runs]
            results[preset]["test_neg_elbo"] = {**mean_and_sd(scores), "unit": "nats per image"}
            RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
