"""From a run folder back to the run's config and its model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..config import Config, changed, parse
from ..config.recipe import build, shapes
from ..errors import ConfigError, RunError
from ..model import LatentVariableModel
from ..rng import seeded
from ..store import Checkpoint, Run
from ..training import find_device


def config_of(run: Run) -> Config:
    """The config that a run goes by: its config.toml, with what was set when it was resumed.

    Raises:
        ConfigError, RunError: it is damaged.
    """
    config = begun_with(run)
    settings = [setting for session in run.sessions for setting in session["settings"]]
    return changed(config, settings) if settings else config


def begun_with(run: Run) -> Config:
    """The config that a run began with: its config.toml.

    Raises:
        ConfigError, RunError: it is damaged.
    """
    tree = run.config
    train = tree.setdefault("train", {})
    if isinstance(train, dict):  # the first runs have it in environment.json only
        train.setdefault("precision", run.environment.get("precision", "fp32"))
    return parse(tree, f"{run.path}/config.toml")


def load(
    run: Run | str | Path | None = None,
    *,
    weights: str = "best",
    device: str = "cpu",
    root: Path | str = "runs",
    trust: bool = False,
) -> LatentVariableModel:
    """The model of a run, in evaluation mode.

    Arguments:
        run: A run, its folder or name; the newest run by default.
        weights: "best" by validation, for which the last stand in until an epoch has ended; or "last".
        device: Where to put it.
        root: Where run folders are.
        trust: Import parts by path.

    Raises:
        RunError: no such run, no weights yet, or weights that do not fit the config.
    """
    run = run if isinstance(run, Run) else Run.open(run, root=root)
    if weights not in ("best", "last"):
        raise ConfigError(f"weights must be 'best' or 'last', got {weights!r}")
    kind: Any = weights if weights == "last" or run.has_checkpoint("best") else "last"
    shape, num_classes = run.recorded("data", "shape", kind=list), run.recorded("data", "num_classes", kind=int)
    if len(shape) != 3 or not all(type(n) is int and n > 0 for n in (*shape, num_classes)):
        raise RunError(f"{run.path}/environment.json is damaged: the shape of its data is {shape!r:.200}")
    checkpoint = run.load_checkpoint(kind)
    config, data_facts = config_of(run), {"image_shape": tuple(shape), "num_classes": num_classes}
    weights_of_run = _weights(checkpoint)
    if not trust:
        check_shapes(run, config, weights_of_run, **data_facts)
    with seeded(torch.Generator().manual_seed(0)):
        model = build(config, **data_facts, trust=trust)
    try:
        model.load_state_dict(weights_of_run)
    except RuntimeError as error:
        raise RunError(
            f"the weights of {run.path} do not fit its config: {str(error).splitlines()[-1].strip()}"
        ) from None
    return model.to(find_device(device)).eval()


def check_shapes(run: Run, config: Config, weights: Mapping[str, Tensor], **data_facts: Any) -> None:
    """Compare the weights of a run with what its config asks for, before there is memory for that.

    Raises:
        RunError: they differ.
    """
    wanted = shapes(config, **data_facts)
    found = {name: tensor.shape for name, tensor in weights.items()}
    if wanted is not None and wanted != found:
        name = next(name for name in [*wanted, *found] if wanted.get(name) != found.get(name))
        sizes = [tuple(some[name]) if name in some else "nothing" for some in (found, wanted)]
        raise RunError(f"the weights of {run.path} do not fit its config: {name} is {sizes[0]} instead of {sizes[1]}")


def _weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    tensors = checkpoint.tensors.items()
    return {name.removeprefix("model/"): tensor for name, tensor in tensors if name.startswith("model/")}
