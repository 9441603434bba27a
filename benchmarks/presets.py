"""Train every preset on MNIST for at least five epochs and record what came out: `python benchmarks/presets.py`.

Presets that ask for at most 20 epochs get them all, the others `--epochs 5`; presets without a validation set get the last
5,000 images. A preset that is already in the results is not trained again; name presets to train only those.
"""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from vae.config import preset_names, read
from vae.run import Run

RESULTS = Path(__file__).parent / "presets.json"


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{model}, {os.cpu_count()} cores, {os.environ.get('OMP_NUM_THREADS', 'all')} threads"


def record(preset: str, root: Path) -> dict[str, object]:
    config = read(preset)
    options = ["--epochs", "5"] if config.train.epochs > 20 else []
    options += ["--set", "data.validation=5000"] if config.data.validation == 0 else []
    command = ["vae", "train", preset, *options, "--seed", "0"]
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", *command, "--name", preset, "--runs", str(root), "--device", "cpu"], check=True
    )
    run = Run.open(preset, root=root)
    metrics, test = run.metrics(), run.read_json("test.json")
    best = min(metrics, key=lambda m: m["validation_neg_elbo"])
    return {
        "command": " ".join(command),
        "objective": config.objective.name,
        "binarize": config.data.binarize,
        "epochs": len(metrics),
        "validation": {name: best[f"validation_{name}"] for name in ("neg_elbo", "rate", "distortion")},
        "test": {name: test[name] for name in ("neg_elbo", "rate", "distortion")},
        "seconds_per_epoch": sorted(m["seconds"] for m in metrics)[len(metrics) // 2],
        "wall_clock_seconds": round(time.perf_counter() - began, 1),
        "seed": 0,
        "hardware": processor(),
        "date": time.strftime("%Y-%m-%d"),
        "torch": run.environment["torch"],
    }


def main() -> None:
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    root = Path(os.environ.get("VAE_RUNS", "runs"))
    for preset in sys.argv[1:] or preset_names():
        if preset not in results:
            results[preset] = record(preset, root)
            RESULTS.write_text(json.dumps(dict(sorted(results.items())), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
