"""The lowest versions that pyproject.toml allows: python tests/tools/lowest.py prints them as constraints for pip.

With --try, in an environment that has them: says which they are, then trains, resumes and evaluates with the command.
`make test-lowest` does both.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
SMALL = (
    "--set",
    "encoder.hidden=[8]",
    "--set",
    "decoder.hidden=[8]",
    "--set",
    "model.latent_size=2",
    "--device",
    "cpu",
)
VERBS = (
    ("train", "standard-vae", "--data", "x.npy", "--epochs", "1", *SMALL, "--name", "a"),
    ("resume", "a", "--set", "train.epochs=2"),
    ("evaluate", "a", "--samples", "5"),
    ("sample", "a", "-o", "x.png"),
    ("train", "cvae", "--data", "x.npz", "--epochs", "1", *SMALL, "--name", "b"),
    ("repeat", "b"),
    ("export", "a", "-o", "handed-on"),
    ("info", "a"),
    ("runs",),
)


def floors() -> dict[str, str]:
    """The lowest version of each dependency that states one."""
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    matches = [re.fullmatch(r"([\w-]+)>=([\d.]+)", dependency) for dependency in dependencies]
    return {match[1]: match[2] for match in matches if match is not None}


def attempt() -> None:
    """Train, resume and evaluate.

    Raises:
        SystemExit: a version is not the lowest one, or a command fails.
    """
    for name, lowest in floors().items():
        have = version(name)
        print(f"{name} {have}", flush=True)
        if not f"{have}.0.0".startswith(f"{lowest}."):
            sys.exit(f"{name} {have} is installed, but the lowest version allowed is {lowest}")
    with tempfile.TemporaryDirectory() as folder:
        make = "import numpy as np; x = np.random.default_rng(0).integers(0, 256, (200, 8, 8), 'u1'); np.save('x', x)"
        make += "; np.savez('x', images=x, labels=np.arange(200) % 3)"
        subprocess.run([sys.executable, "-c", make], cwd=folder, check=True)
        for verb in VERBS:
            print("vae", *verb, flush=True)
            subprocess.run([sys.executable, "-W", "ignore", "-m", "vaekit", *verb], cwd=folder, check=True)


if __name__ == "__main__":
    if "--try" in sys.argv:
        attempt()
    else:
        print("\n".join(f"{name}=={lowest}" for name, lowest in floors().items()))
