"""The players of a training: the model with its optimizer, then the opponents that its loss brings."""

import inspect
from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer

from ..errors import ConfigError
from ..model import LatentVariableModel
from ..objectives import Loss, Player, module_of


def players_of(
    model: LatentVariableModel,
    loss: Loss,
    optimizer: Optimizer | Callable[[list[nn.Parameter]], Optimizer],
) -> list[Player]:
    """The players: the model, then the opponents that its loss brings.

    A loss may be asked for its opponents several times.

    Arguments:
        model: The model.
        loss: The model's loss.
        optimizer: The model's optimizer, or a function that makes it from the weights to train: the model's, and those
            of the loss that no opponent trains. The other weights stay as they are.

    Raises:
        ConfigError: No weight is trained, or `optimizer` is no optimizer, needs a closure, or has none of the weights.
    """
    opponents = list(loss.opponents(model))
    taken = {id(p) for player in opponents for p in player.parameters}
    parameters = [p for p in model.parameters() if p.requires_grad]
    module = module_of(loss)
    if module is not None:
        taken |= {id(p) for p in parameters}
        parameters += [p for p in module.parameters() if p.requires_grad and id(p) not in taken]
    if not parameters:
        raise ConfigError(
            "no weight of the model requires a gradient; model.requires_grad_(True) makes all of them do so"
        )
    given = optimizer
    if callable(given) and not isinstance(given, Optimizer):
        optimizer = given(parameters)
    if not isinstance(optimizer, Optimizer) or _needs_closure(optimizer):
        raise ConfigError(
            "an optimizer is a torch.optim.Optimizer that needs no closure, or a function that makes one, such as "
            f"partial(torch.optim.SGD, lr=0.1), got {given!r:.80}"
        )
    in_optimizer = {id(p): p for group in optimizer.param_groups for p in group["params"]}
    ordered = [p for p in parameters if in_optimizer.pop(id(p), None) is not None]
    if not ordered:
        raise ConfigError("the optimizer has no weight of this model; make it of model.parameters()")
    ordered += [p for p in in_optimizer.values() if p.requires_grad]  # weights of neither the model nor the loss
    return [Player("loss", ordered, loss, optimizer), *opponents]


def _needs_closure(optimizer: Optimizer) -> bool:
    """Whether a step of the optimizer computes the loss by itself, and several times, as L-BFGS does."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def check_trainable(model: LatentVariableModel) -> None:
    """Check that gradients can be taken at the weights of a model.

    Raises:
        ConfigError: Gradients are turned off, or a weight has no value or is of half precision.
    """
    if not torch.is_grad_enabled():
        raise ConfigError(
            "a training takes gradients, which are off here; call it outside of no_grad and inference_mode"
        )
    for name, weight in model.named_parameters():
        if weight.is_meta or weight.dtype in (torch.float16, torch.bfloat16):
            kind = "has no value" if weight.is_meta else f"is {weight.dtype}"
            raise ConfigError(
                f"the weight {name} {kind}; train a model of float32 weights, with precision = 'bf16' for products of "
                "bfloat16"
            )
