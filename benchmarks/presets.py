"""Train every preset on MNIST for at least five epochs and record what came out: `python benchmarks/presets.py`.

Presets that ask for at most 20 epochs get them all, the others `--epochs 5`; presets without a validation set get the
last 5,000 images. A preset that is already in the results is not trained again; name presets to train only those.
"""

import json
import sys
from pathlib import Path

from common import train
from vaekit.config import preset_names, read

RESULTS = Path(__file__).parent / "presets.json"


def main() -> None:
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for preset in sys.argv[1:] or preset_names():
        if preset in results or read(preset).likelihood.name == "columns":
            continue
        config = read(preset)
        options = ["--epochs", "5"] if config.train.epochs > 20 else []
        options += ["--set", "data.validation=5000"] if config.data.validation == 0 else []
        facts = {"objective": config.objective.name, "binarize": config.data.binarize}
        results[preset] = facts | train(preset, *options)
        RESULTS.write_text(json.dumps(dict(sorted(results.items())), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
