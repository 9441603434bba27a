"""A small convolutional classifier, trained on the data set at hand, whose features judge samples of it.

It is trained once for a data set and kept in the user's cache with its accuracy, so that numbers of different models
are taken with the same eyes. Those of another classifier cannot be compared with them: each says which one it was.
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from .. import __version__
from ..data import Dataset
from ..data.pixels import to_unit
from ..data.registry import cache_folder
from ..errors import DataError, RunError
from ..rng import seeded
from ..store import files
from .record import Listener

VERSION = 1  # of the recipe below; another one is another classifier
FEATURES = 128
EPOCHS = 3
BATCH = 128
LEARNING_RATE = 4e-3


@dataclass(frozen=True)
class Classifier:
    """A trained classifier.

    Arguments:
        body: Network (N, C, H, W) → (N, 128), in evaluation mode.
        head: Linear map to logits.
        facts: What it is: version, data set and checksum, test accuracy in percent, SHA-256 of its weights.
    """

    body: nn.Module
    head: nn.Module
    facts: dict[str, Any]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, 128) and logits (N, classes), on the CPU, of images (N, C, H, W), uint8 or in [0, 1]."""
        device = next(self.head.parameters()).device
        found = []
        for part in images.split(500):
            features = self.body(to_unit(part.to(device)))
            found.append((features.cpu(), self.head(features).cpu()))
        features, logits = (torch.cat(parts) for parts in zip(*found, strict=True))
        return features, logits


def classifier_for(
    data: Dataset, *, device: torch.device | str = "cpu", folder: Path | None = None, listener: Listener | None = None
) -> Classifier:
    """The classifier of a data set, from the cache or trained now and put there.

    Arguments:
        data: The data set; all its training images are used, those held out for validation included.
        device: Where it is to be.
        folder: Where classifiers are kept; the user's cache by default. One that cannot be written costs only time.
        listener: Told about the training.

    Raises:
        DataError: fewer than two classes, or data that are no images.
    """
    if data.num_classes < 2 or data.kind != "image":
        raise DataError(f"a classifier needs images of at least 2 classes, {data.name!r} has {data.num_classes}")
    path = _path(data, folder)
    with seeded(torch.Generator().manual_seed(VERSION)):
        network = _network(data.image_shape, data.num_classes).to(device)
        facts = None if path is None else _read(network, path)
        if facts is None:
            _train(network, data, listener)
            facts = _facts(network, data)
            if path is not None:
                _write(network, facts, path)
    network.eval()
    return Classifier(network[:-1], network[-1], facts)


def _path(data: Dataset, folder: Path | None) -> Path | None:
    if folder is None:
        cache = cache_folder()
        if cache is None:
            return None
        folder = cache.parent / "classifiers"
    return folder / f"{data.slug}-{data.checksum[:16]}-v{VERSION}.safetensors"


def _network(image_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Strided convolutions down to about 7 × 7 pixels, then 128 features, then logits."""
    channels, height, width = image_shape
    layers: list[nn.Module] = []
    for i in range(max(1, round(math.log2(max(height, width) / 7)))):
        size = 5 if i == 0 else 3
        layers += [nn.Conv2d(channels, 32 << i, size, stride=2, padding=size // 2), nn.BatchNorm2d(32 << i), nn.ReLU()]
        channels, height, width = 32 << i, (height + 1) // 2, (width + 1) // 2
    layers += [nn.Flatten(), nn.Linear(channels * height * width, FEATURES), nn.ReLU(), nn.Linear(FEATURES, classes)]
    return nn.Sequential(*layers)


def _train(network: nn.Module, data: Dataset, listener: Listener | None) -> None:
    images = torch.cat((data.train.images[:], data.validation.images[:]))
    labels = torch.cat((data.train.labels, data.validation.labels))
    device = next(network.parameters()).device
    batches = -(-len(images) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=EPOCHS * batches)
    network.train()
    with torch.enable_grad():
        for epoch in range(EPOCHS):
            for i, rows in enumerate(torch.randperm(len(images)).split(BATCH)):
                x = to_unit(images.index_select(0, rows).to(device))
                loss = cross_entropy(network(x), labels.index_select(0, rows).to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                if listener is not None:
                    listener("classifier", epoch * batches + i + 1, EPOCHS * batches)


def _facts(network: nn.Sequential, data: Dataset) -> dict[str, Any]:
    network.eval()
    _, logits = Classifier(network[:-1], network[-1], {})(data.test.images[:])
    weights = b"".join(tensor.cpu().contiguous().numpy().tobytes() for tensor in network.state_dict().values())
    return {
        "version": VERSION,
        "data": data.name,
        "checksum": data.checksum,
        "accuracy": round(100 * (logits.argmax(1) == data.test.labels).double().mean().item(), 3),
        "features": FEATURES,
        "sha256": hashlib.sha256(weights).hexdigest(),
        "vaekit": __version__,
    }


def _write(network: nn.Module, facts: dict[str, Any], path: Path) -> None:
    tensors = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    text = files.dump_json(facts, path, indent=None).decode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, save(tensors, metadata={"facts": text}))
    except (OSError, RunError):
        return  # a cache that cannot be written


def _read(network: nn.Module, path: Path) -> dict[str, Any] | None:
    """Put the weights of a file into a network; None, and the network as it was, where there is none or a bad one."""
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            facts = files.parse_json(file.metadata()["facts"].encode(), path)
    except (OSError, SafetensorError, KeyError, TypeError, RunError):
        return None
    if {name: tensor.shape for name, tensor in tensors.items()} != expected or not isinstance(facts, dict):
        return None
    network.load_state_dict(tensors)
    return facts
