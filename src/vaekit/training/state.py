"""Save and restore the state of a training: everything that the next step depends on.

Format 1 has the parts model, ema, optimizer, progress, rng and loader. A loss with weights adds the part loss, and
each of its opponents a part optimizer-<name>. A loss that logs anything but the terms of the ELBO adds a list of the
names.

Not for: files (`store`).
"""

import math
import random
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..errors import ConfigError, RunError, reason
from ..model.elbo_terms import ELBO_TERMS
from ..objectives import Player
from ..rng import random_state, set_random_state
from ..store import Checkpoint
from .progress import Progress
from .step import set_learning_rate
from .trainer import Trainer

ELBO_SUMS = ("loss", *ELBO_TERMS)  # the names of the sums that a checkpoint of format 1 leaves out


def state_of(trainer: Trainer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Everything that the next step depends on, as tensors by name and as JSON."""
    tensors = trainer.trained.tensors()
    tensors |= {f"ema/{i}": tensor for i, tensor in enumerate(trainer.averages.ema)}
    if trainer.averages.ema:
        tensors["ema/good_steps"] = trainer.averages.good_steps
    for part, player in players_by_part(trainer).items():
        for i, slots in player.optimizer.state_dict()["state"].items():
            tensors |= {f"{part}/{i}.{slot}": torch.as_tensor(value) for slot, value in slots.items()}
    tensors["progress/sums"] = trainer.meter.sums
    tensors |= {f"rng/{name}": tensor for name, tensor in random_state().items()}
    python = random.getstate()
    state: dict[str, Any] = {
        "progress": asdict(trainer.progress),
        "python": [python[0], list(python[1]), python[2]],
    }
    if trainer.meter.names not in ((), ELBO_SUMS):
        state["logged"] = list(trainer.meter.names)
    return tensors, state


def restore(trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Put a training back to the state that `state_of` gave.

    The optimizers' state is checked before anything is changed.

    Raises:
        RunError: The checkpoint belongs to another training, or holds no training at all.
    """
    part = checkpoint.parts()
    try:
        progress = Progress.read(checkpoint.state["progress"])
        slots = {  # first: the trials touch the weights
            name: optimizer_state(name, player.optimizer, part.get(name, {}))
            for name, player in players_by_part(trainer).items()
        }
        trainer.trained.load_tensors(checkpoint.tensors)
        for i, average in enumerate(trainer.averages.ema):
            average.copy_(check_like(average, part["ema"][str(i)], f"ema/{i}"))
        if trainer.averages.ema:
            trainer.averages.good_steps.copy_(good_steps(part["ema"]))
        for name, player in players_by_part(trainer).items():
            player.optimizer.load_state_dict(player.optimizer.state_dict() | {"state": slots[name]})
        if progress.step:
            trainer.meter.begin(tuple(map(str, checkpoint.state.get("logged", ELBO_SUMS))))
            sums = trainer.meter.sums
            stored = part["progress"]["sums"]
            sums.copy_(check_like(sums, stored.to(sums) if stored.is_floating_point() else stored, "progress/sums"))
        else:
            trainer.meter.sums.zero_()
        set_random_state(part["rng"])
        version, internal, gauss = checkpoint.state["python"]
        random.setstate((version, tuple(internal), gauss))
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise RunError(f"the checkpoint does not fit this training: {reason(error)}") from error
    trainer.progress = progress
    trainer.meter.steps.fill_(progress.step)


def good_steps(ema: Mapping[str, Tensor]) -> Tensor:
    """The number of steps in the averages; infinite, for no warm-up, in a checkpoint that lacks it.

    Raises:
        ValueError: The stored value is not a number of steps.
    """
    good_steps = ema.get("good_steps", torch.tensor(math.inf))
    if good_steps.shape or not bool(good_steps >= 0):
        raise ValueError(f"ema/good_steps is {good_steps}")
    return good_steps


def players_by_part(trainer: Trainer) -> dict[str, Player]:
    """The players, by the part of a checkpoint with the state of their optimizer.

    Raises:
        ConfigError: Two opponents have the same name.
    """
    model, *opponents = trainer.trained.players
    by_part = {"optimizer": model} | {f"optimizer-{player.name}": player for player in opponents}
    if len(by_part) <= len(opponents):
        raise ConfigError(f"opponents need different names, got {', '.join(player.name for player in opponents)}")
    return by_part


def optimizer_state(name: str, optimizer: Optimizer, part: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """The stored state of an optimizer, if it has the names, shapes and types that this optimizer gives it.

    The fused kernels do not check them, and would write beyond the end of a tensor that is too small.

    Arguments:
        name: Name of the part.
        optimizer: The optimizer.
        part: Tensors of the part by "parameter.slot".

    Raises:
        LookupError, ValueError: A stored tensor is missing, or has another name, shape or type.
    """
    state: dict[int, dict[str, Tensor]] = {}
    if not part:
        return state
    expected = _trial_state(optimizer)
    for key, tensor in part.items():
        index, slot = key.split(".", 1)
        state.setdefault(int(index), {})[slot] = check_like(expected[int(index)][slot], tensor, f"{name}/{key}")
    for i, slots in state.items():
        if slots.keys() != expected[i].keys():
            raise ValueError(f"{name}/{i} has {', '.join(slots)} instead of {', '.join(expected[i])}")
    return state


def _trial_state(optimizer: Optimizer) -> dict[int, dict[str, Tensor]]:
    """The state of an optimizer after a step of length zero."""
    learning_rates = [group["lr"] for group in optimizer.param_groups]
    learning_rates = [rate.clone() if isinstance(rate, Tensor) else rate for rate in learning_rates]
    for group in optimizer.param_groups:
        set_learning_rate(group, 0.0)
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for group, rate in zip(optimizer.param_groups, learning_rates, strict=True):
        set_learning_rate(group, rate)
    slots: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
    return {i: {slot: torch.as_tensor(value) for slot, value in state.items()} for i, state in slots.items()}


def check_like(expected: Tensor, stored: Tensor, name: str) -> Tensor:
    """`stored`, if it has the shape and the type of `expected`.

    Raises:
        ValueError: `stored` has another shape or type.
    """
    if (stored.shape, stored.dtype) != (expected.shape, expected.dtype):
        shapes = f"{tuple(stored.shape)} {stored.dtype} instead of {tuple(expected.shape)} {expected.dtype}"
        raise ValueError(f"{name} is {shapes}")
    return stored
