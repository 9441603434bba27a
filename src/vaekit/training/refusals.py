"""What several ranks do not train, because they would not compute it as one does."""

from collections.abc import Sequence

from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import ConfigError, DeviceError
from ..model import LatentVariableModel
from ..objectives import Loss, Player
from ..objectives.base import name_of
from .ranks import Ranks


def check_ranks(ranks: Ranks, model: LatentVariableModel, loss: Loss, opponents: Sequence[Player] = ()) -> None:
    """Refuse what several ranks would not compute as one does.

    Arguments:
        ranks: All ranks.
        model: The model.
        loss: What it minimises.
        opponents: The players that the loss brings.

    Raises:
        ConfigError: A loss or a network that looks at several rows at once, or a loss with opponents.
        DeviceError: A device on which ranks cannot reach each other.
    """
    n = ranks.world_size
    if n == 1:
        return
    device = model.device.type
    if device not in ("cpu", "cuda"):
        raise DeviceError(f"{n} ranks need a CPU or CUDA devices, this is {device!r}; use 'cpu'")
    if opponents:
        raise ConfigError(f"{name_of(loss)} brings opponents, which several ranks do not train; train with one rank")
    if loss.couples_rows:
        raise ConfigError(
            f"{name_of(loss)} compares the rows of a batch with one another, and {n} ranks see only their own; "
            "train with one rank, or choose another objective"
        )
    for module in model.modules():
        if getattr(module, "couples_rows", False):
            raise ConfigError(
                f"{type(module).__name__} learns from whole batches, and {n} ranks see only their own rows; train with "
                "one rank, or choose another part, such as posterior.name = 'fsq' or likelihood.scale = 'shared'"
            )
    if device == "cpu" and any(isinstance(module, _BatchNorm) for module in model.modules()):
        raise ConfigError(
            f"batch normalization over {n} ranks needs CUDA, this is 'cpu'; train with one, or choose another norm, "
            "such as 'layer'"
        )
