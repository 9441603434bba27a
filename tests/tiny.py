"""A data set and a config so small that a whole run, by the real code, takes a fraction of a second."""

import hashlib
from pathlib import Path
from typing import Any

import torch

from vaekit import config
from vaekit.config import Config
from vaekit.data import Dataset, Split
from vaekit.runs import job
from vaekit.store import Run

# Everything that a resume has to bring back: noise in the data, the latents and the order; averages, buffers, schedules.
SECTIONS: dict[str, dict[str, Any]] = {
    "data": {"binarize": "per-epoch"},
    "model": {"latent_size": 2},
    "encoder": {"hidden": [4], "norm": "batch"},
    "decoder": {"hidden": [4]},
    "objective": {"name": "beta", "beta": {"schedule": "linear", "start": 0.1, "end": 1.0, "epochs": 3}},
    "schedule": {"name": "one-cycle"},
    "train": {
        "epochs": 9,
        "batch_size": 8,
        "learning_rate": 0.25,
        "clip_norm": 1.0,
        "ema": 0.9,
        "patience": 1,
        "device": "cpu",
    },
}
TIMES = ("seconds", "rows_per_second")


def dataset(name: str = "mnist", **_: object) -> Dataset:
    """Three kinds of stripes, 8×8, an eighth of the pixels disturbed: 64 + 16 + 16 images."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    patterns = torch.stack((rows % 2 == 0, columns % 4 < 2, rows + columns < 8))
    labels = torch.arange(96) % 3
    flipped = torch.rand(96, 8, 8, generator=generator) < 1 / 8
    images = (patterns[labels] ^ flipped).to(torch.uint8).mul(255).unsqueeze(1)
    parts = [Split(images[a:b], labels[a:b]) for a, b in ((0, 64), (64, 80), (80, 96))]
    checksum = hashlib.sha256(images.numpy().data).hexdigest()
    return Dataset(name, *parts, classes=("rows", "columns", "corner"), checksum=checksum)


def tiny(**train: object) -> Config:
    """The config, with other settings of the training."""
    return config.read("standard-vae", sections=SECTIONS | {"train": SECTIONS["train"] | train})


def install() -> None:
    """Let runs of this process train on the tiny data, and look at every step; for processes made for a test."""
    job.load_data = dataset  # type: ignore[assignment]
    job.draw_pictures = lambda *_, **__: []  # type: ignore[assignment]
    job.train_epochs.__globals__["CHECK_EVERY"] = 0.0


def outcome(run: Run) -> dict[str, Any]:
    """What must not depend on what happened to a run on its way: the weights, bit for bit, and every figure but times."""
    checkpoints = run.path / "checkpoints"
    tensors = [checkpoints / "best" / "model.safetensors", *sorted((checkpoints / "last").glob("*.safetensors"))]
    return {
        "tensors": {str(path.relative_to(run.path)): run.sha256(str(path.relative_to(run.path))) for path in tensors},
        "metrics": [{key: value for key, value in record.items() if key not in TIMES} for record in run.metrics()],
        "test": run.read_json("test.json"),
        "state": run.status,
    }


def litter(path: Path) -> list[str]:
    """Temporary files that were left behind."""
    return [str(file.relative_to(path)) for file in path.rglob("*.tmp")]
