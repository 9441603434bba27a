"""Train every preset on MNIST and record what came out: `python benchmarks/presets.py [--epochs N] [PRESET …]`.

Presets that ask for at most 20 epochs get them all, the others 5; `--epochs 3` gives them 3, with a KL warm-up, where
there is one, of the first fifth. Presets without a validation set get the last 5,000 images. A preset that is already
in the results is not trained again; name presets to train only those.
"""

import argparse
import json
from pathlib import Path

from common import train
from vaekit.config import preset_names, read
from vaekit.config.schema import Config

RESULTS = Path(__file__).parent / "presets.json"
MOST = 20


def options(config: Config, epochs: int | None) -> list[str]:
    """What `vae train` is told about the length of a training."""
    told = ["--epochs", "5"] if config.train.epochs > MOST else []
    beta = config.objective.options.get("beta")
    if epochs is not None:
        told = ["--epochs", str(epochs)]
        if isinstance(beta, dict) and "epochs" in beta:
            told += ["--set", f"objective.beta.epochs={epochs / 5:g}"]
    return told + (["--set", "data.validation=5000"] if config.data.validation == 0 else [])


def main() -> None:
    """Train, and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", metavar="PRESET")
    parser.add_argument("--epochs", type=int)
    asked = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for preset in asked.presets or preset_names():
        config = read(preset)
        if preset in results or config.likelihood.name == "columns" or config.data.kind:
            continue
        facts = {"objective": config.objective.name, "binarize": config.data.binarize}
        results[preset] = facts | train(preset, *options(config, asked.epochs))
        RESULTS.write_text(json.dumps(dict(sorted(results.items())), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
