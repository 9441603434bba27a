"""Whether a change of the code leaves the numbers as they are: final weights and evaluations, bit for bit.

    python tests/tools/same_bits.py record before.json     with the code as it was
    python tests/tools/same_bits.py compare before.json    with the code as it is, on the same machine

Trains each preset for one epoch on 1,600 of the MNIST images in the package, in float32 on one thread, by the real
command `vae` (`VAE` in the environment names another one), and evaluates two of them. The bits depend on the machine.
"""

import gzip
import hashlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
PRESETS = (
    *("course-vae", "course-cvae", "standard-vae", "standard-cvae", "iwae-1l", "iwae-2l", "vamp", "iaf-vae"),
    *("nsf-vae", "conv-vae"),
    *("beta-tcvae", "wae-mmd", "sigma-vae", "bits-back", "conv-cvae", "dreg"),
)
EVALUATED = ("course-vae", "standard-cvae")
SETTINGS = ("train.epochs=1", "train.precision=fp32", "train.device=cpu", "train.batch_size=100", "data.validation=200")
IMAGES = 2000
FILES = ("images-idx3", "labels-idx1")


def run(*arguments: object, folder: Path) -> str:
    """What the command prints on stdout."""
    command = [*shlex.split(os.environ.get("VAE", "vae")), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}: {done.stderr}")
    return done.stdout


def write_digits(path: Path) -> None:
    """The first images of MNIST, as an archive."""
    (folder,) = {found.parent for found in ROOT.glob("src/*/data/**/train-images-idx3-ubyte.gz")}
    pixels, classes = (gzip.decompress((folder / f"train-{name}-ubyte.gz").read_bytes()) for name in FILES)
    images, labels = np.frombuffer(pixels, np.uint8, offset=16), np.frombuffer(classes, np.uint8, offset=8)
    np.savez(path, images=images.reshape(-1, 28, 28)[:IMAGES], labels=labels[:IMAGES].astype(np.int64))


def measure(preset: str, folder: Path) -> dict[str, str]:
    """SHA-256 of the weights of one training, and of what is found out about them."""
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    run("train", preset, "--data", "digits.npz", "--name", preset, *settings, folder=folder)
    weights = folder / "runs" / preset / "checkpoints"
    found = {
        f"{preset} {kind}": hashlib.sha256((weights / kind / "model.safetensors").read_bytes()).hexdigest()
        for kind in ("best", "last")
    }
    if preset in EVALUATED:
        printed = json.loads(run("evaluate", preset, "--samples", 50, "--json", folder=folder))
        values = json.dumps(printed["values"], sort_keys=True)
        found[f"{preset} evaluation"] = hashlib.sha256(values.encode()).hexdigest()
    return found


def main() -> None:
    """Record or compare."""
    what, file = sys.argv[1], Path(sys.argv[2])
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(2) as pool:
        write_digits(Path(name) / "digits.npz")
        for part in pool.map(lambda preset: measure(preset, Path(name)), PRESETS):
            found |= part
    if what == "record":
        file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"{len(found)} sums in {file}")
        return
    before = json.loads(file.read_text(encoding="utf-8"))
    changed = [key for key in before if found.get(key) != before[key]]
    print(f"{len(before) - len(changed)} of {len(before)} agree" + "".join(f"\n  changed: {key}" for key in changed))
    raise SystemExit(bool(changed))


if __name__ == "__main__":
    main()
