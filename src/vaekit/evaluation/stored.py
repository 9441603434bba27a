"""Evaluating a run: its own data, what was finished before, and everything found written into its folder."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from .. import data, plot
from ..config import parse
from ..data import Dataset
from ..errors import DataError, RunError
from ..model import LatentVariableModel
from ..store import Run, files
from .ais import Annealing
from .chunks import GIB, Store
from .record import Listener
from .report import Evaluation, evaluate

ESTIMATORS = 2  # version of the per-image numbers: kept ones of another version are not used
_KEPT_LIMIT = 1 << 30  # bytes


class _Keeper:
    """Finished batches in a run folder, under a name that stands for everything that they depend on.

    Arguments:
        run: The run.
        model: The model, for its weights.
    """

    def __init__(self, run: Run, model: LatentVariableModel) -> None:
        self.run = run
        self.weights = _sha256(model.state_dict())
        self.device = model.device.type

    def __call__(self, facts: Mapping[str, Any]) -> Store:
        """The store for one way to evaluate."""
        everything = {**facts, "weights": self.weights, "device": self.device, "estimators": ESTIMATORS}
        key = hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()[:16]
        return _Kept(self.run, key)


@dataclass(frozen=True)
class _Kept:
    run: Run
    key: str

    def load(self, name: str) -> dict[str, Tensor] | None:
        try:
            data = files.read(files.confine(self.run.path, self._path(name)), _KEPT_LIMIT)
            tensors: dict[str, Tensor] = load_tensors(data)
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            whole = header["__metadata__"]["sha256"] == _sha256(tensors)
        except (RunError, SafetensorError, LookupError, TypeError, ValueError):
            return None  # absent or damaged: computed anew
        return tensors if whole else None

    def save(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        self.run.write_bytes(self._path(name), save_tensors(tensors, {"sha256": _sha256(tensors)}))

    def _path(self, name: str) -> str:
        return f"evaluation/{name}-{self.key}.safetensors"


def _sha256(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def evaluate_run(
    run: Run,
    model: LatentVariableModel,
    *,
    data_name: str | None = None,
    split: str = "test",
    samples: int = 5000,
    images: int | None = None,
    annealing: Annealing | None = None,
    memory: int = GIB,
    seed: int = 0,
    precision: str = "fp32",
    listener: Listener | None = None,
) -> Evaluation:
    """Evaluate the model of a run, and write `evaluation.json`, numbers per image and pictures into its folder.

    What an interrupted evaluation of the same weights, images, samples and seed has finished is used.

    Arguments:
        run: The run.
        model: Its model, as `vaekit.load(run)` gives it.
        data_name: Another data set than the run's, to see how the model does there; the result goes to
            `evaluation-<data set>.json`.
        split: As for `evaluate`.
        samples: As for `evaluate`.
        images: As for `evaluate`.
        annealing: As for `evaluate`.
        memory: As for `evaluate`.
        seed: As for `evaluate`.
        precision: As for `evaluate`.
        listener: As for `evaluate`.

    Raises:
        ConfigError, DataError: as `evaluate`.
        RunError: the folder cannot be written.
    """
    section = parse(run.config, f"{run.path}/config.toml").data
    own = section.name
    dataset = data.load(**section.loading) if data_name in (None, own) else data.load(data_name)
    _check_shape(run, dataset)
    checksum = dataset.checksum
    dataset, reduced = _in_memory(dataset, memory)
    evaluation = evaluate(
        model,
        dataset,
        split=split,
        binarize=section.binarize,
        samples=samples,
        images=images,
        annealing=annealing,
        judge=dataset.name == own,
        memory=memory,
        seed=seed,
        precision=precision,
        keep=_Keeper(run, model),
        listener=listener,
    )
    evaluation.warnings.extend(reduced)
    suffix = "" if dataset.name == own else f"-{dataset.slug}"
    if suffix:
        evaluation.warnings.insert(0, f"evaluated on {dataset.name}, but the run was trained on {own}")
    elif checksum != run.recorded("data", "checksum"):
        evaluation.warnings.insert(0, f"the files of {own!r} are not those that the run was trained on")
    per_image = f"evaluation/per-image{suffix}.safetensors"
    run.write_bytes(per_image, save_tensors({name: t.contiguous() for name, t in evaluation.per_image.items()}))
    evaluation.details["per image"] = per_image
    evaluation.details["pictures"] = [f"samples/evaluation-{name}{suffix}.png" for name in evaluation.pictures]
    for name, picture in evaluation.pictures.items():
        plot.save(picture, run.picture(f"evaluation-{name}{suffix}.png"))
    run.write_json(f"evaluation{suffix}.json", evaluation.to_json())
    return evaluation


def _in_memory(dataset: Dataset, memory: int) -> tuple[Dataset, list[str]]:
    """What of a data set fits in memory, which is another data set, and a sentence for each split that does not."""
    splits = dataset.splits
    kept = {name: split.in_memory(memory) for name, split in splits.items()}
    called = {"train": "training"}
    reduced = [
        f"of the {len(split)} {called.get(name, name)} images on disk {len(kept[name])}, evenly spread, fit in `memory`"
        for name, split in splits.items()
        if len(kept[name]) < len(split)
    ]
    checksum = (
        hashlib.sha256("".join([dataset.checksum, *reduced]).encode()).hexdigest() if reduced else dataset.checksum
    )
    smaller = replace(dataset, train=kept["train"], validation=kept["validation"], test=kept["test"], checksum=checksum)
    return smaller, reduced


def _check_shape(run: Run, dataset: Dataset) -> None:
    shape = tuple(run.recorded("data", "shape", kind=list))
    classes = run.recorded("data", "num_classes", kind=int)
    if dataset.event_shape != shape:
        raise DataError(f"the run takes images of shape {shape}, {dataset.name!r} has {dataset.event_shape}")
    conditional = run.config.get("model", {}).get("condition") == "class"
    if conditional and dataset.num_classes != classes:
        raise DataError(f"the run knows {classes} classes, {dataset.name!r} has {dataset.num_classes}")
