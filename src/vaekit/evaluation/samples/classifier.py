"""A small convolutional classifier, trained on the data set at hand; its features judge samples.

It is trained once for a data set and kept in the user's cache with its accuracy, so that all models are judged by the
same classifier. Numbers of different classifiers cannot be compared: each number says which classifier it used.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ... import __version__
from ...data import Dataset
from ...data.pixels import to_unit
from ...data.registry import cache_folder
from ...errors import DataError, RunError
from ...rng import seeded
from ...store import files
from ...store.tensors import pack, unpack
from ..values import StageListener

CLASSIFIER_FILE_LIMIT = 1 << 28  # bytes of a file
VERSION = 1  # of the recipe below; another version is another classifier
FEATURES = 128
EPOCHS = 3
CLASSIFIER_BATCH = 128
LEARNING_RATE = 4e-3


@dataclass(frozen=True)
class Classifier:
    """A trained classifier.

    Arguments:
        body: Network (N, C, H, W) → (N, 128), in evaluation mode.
        head: Linear map to logits.
        details: Version, data set and checksum, test accuracy in percent, SHA-256 of its weights.
    """

    body: nn.Module
    head: nn.Module
    details: dict[str, Any]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, 128) and logits (N, classes), on the CPU, of images (N, C, H, W), uint8 or in [0, 1]."""
        device = next(self.head.parameters()).device
        batches = []
        for part in images.split(500):
            features = self.body(to_unit(part.to(device)))
            batches.append((features.cpu(), self.head(features).cpu()))
        features, logits = (torch.cat(parts) for parts in zip(*batches, strict=True))
        return features, logits


def classifier_for(
    data: Dataset,
    *,
    device: torch.device | str = "cpu",
    folder: Path | None = None,
    listener: StageListener | None = None,
) -> Classifier:
    """The classifier of a data set, from the cache or trained now and put there.

    Arguments:
        data: The data set; all its training and validation images are used.
        device: Device of the classifier.
        folder: Folder of classifiers; the user's cache by default. A folder that cannot be written costs only time.
        listener: Called with the stage, the batches done and the total of a training.

    Raises:
        DataError: The data have fewer than two classes, or are not images.
    """
    if data.num_classes < 2 or data.kind != "image":
        raise DataError(f"a classifier needs images of at least 2 classes, {data.name!r} has {data.num_classes}")
    path = _path(data, folder)
    with seeded(torch.Generator().manual_seed(VERSION)):
        network = _network(data.image_shape, data.num_classes).to(device)
        details = None if path is None else _read(network, path)
        if details is None:
            _train(network, data, listener)
            details = _details(network, data)
            if path is not None:
                _write(network, details, path)
    network.eval()
    return Classifier(network[:-1], network[-1], details)


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


def _train(network: nn.Module, data: Dataset, listener: StageListener | None) -> None:
    splits = [split.labelled() for split in (data.train, data.validation)]
    images = torch.cat([split.x[:] for split in splits])
    labels = torch.cat([split.required_labels() for split in splits])
    device = next(network.parameters()).device
    batches = -(-len(images) // CLASSIFIER_BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=EPOCHS * batches)
    network.train()
    with torch.enable_grad():
        for epoch in range(EPOCHS):
            for i, rows in enumerate(torch.randperm(len(images)).split(CLASSIFIER_BATCH)):
                x = to_unit(images.index_select(0, rows).to(device))
                loss = cross_entropy(network(x), labels.index_select(0, rows).to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                if listener is not None:
                    listener("classifier", epoch * batches + i + 1, EPOCHS * batches)


def _details(network: nn.Sequential, data: Dataset) -> dict[str, Any]:
    network.eval()
    test = data.test.labelled()
    accuracy = None
    if len(test):
        _, logits = Classifier(network[:-1], network[-1], {})(test.x[:])
        accuracy = round(100 * (logits.argmax(1) == test.required_labels()).double().mean().item(), 3)
    return {
        "version": VERSION,
        "data": data.name,
        "checksum": data.checksum,
        "accuracy": accuracy,  # of the test images of known class; None without such images
        "features": FEATURES,
        "sha256": _sha256(network.state_dict()),
        "vaekit": __version__,
    }


def _sha256(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of weights in the order of the network's `state_dict`."""
    content = b"".join(tensor.cpu().contiguous().numpy().tobytes() for tensor in weights.values())
    return hashlib.sha256(content).hexdigest()


def _write(network: nn.Module, details: dict[str, Any], path: Path) -> None:
    text = files.dump_json(details, path, indent=None).decode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, pack(network.state_dict(), {"details": text}))
    except (OSError, RunError):
        return  # the cache cannot be written


def _read(network: nn.Module, path: Path) -> dict[str, Any] | None:
    """Put the weights of a file into a network, and return its details; None if the file is missing or damaged."""
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    try:
        tensors, texts = unpack(files.read(path, CLASSIFIER_FILE_LIMIT), path)
        details = files.parse_json(texts.get("details", "").encode(), path)
    except RunError:
        return None
    if {name: tensor.shape for name, tensor in tensors.items()} != expected or not isinstance(details, dict):
        return None
    if details.get("sha256") != _sha256({name: tensors[name] for name in expected}):
        return None
    network.load_state_dict(tensors)
    return details
