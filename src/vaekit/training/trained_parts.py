"""The model, the loss and the players of a training, and their weights by name.

Not for: how they are changed (`step`), or the progress of a training (`trainer`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from ..model import LatentVariableModel
from ..objectives import Loss, Player, module_of


@dataclass(frozen=True)
class TrainedParts:
    """A model, its loss, and the players that take steps.

    Arguments:
        model: The model, on the device to train on.
        loss: The model's loss.
        players: The players, from `players_of`: the model with its optimizer, then its opponents.
    """

    model: LatentVariableModel
    loss: Loss
    players: Sequence[Player]

    @cached_property
    def modules(self) -> dict[str, nn.Module]:
        """The model, and the loss if it is a module, under the name of their part of a checkpoint."""
        own_weights = module_of(self.loss)
        return {"model": self.model} if own_weights is None else {"model": self.model, "loss": own_weights}

    def training_mode(self) -> None:
        """Put the model, and the loss if it is a module, into training mode."""
        for module in self.modules.values():
            module.train()

    def buffers(self) -> list[Tensor]:
        """The tensors that a forward pass may change."""
        return [buffer for module in self.modules.values() for buffer in module.buffers()]

    def tensors(self) -> dict[str, Tensor]:
        """The weights and buffers of the model, "model/name", and of the loss if it is a module, "loss/name"."""
        return {
            f"{part}/{name}": tensor
            for part, module in self.modules.items()
            for name, tensor in module.state_dict().items()
        }

    def copies(self) -> dict[str, Tensor]:
        """A copy of `tensors`."""
        return {name: tensor.detach().clone() for name, tensor in self.tensors().items()}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Load weights and buffers, named as in `tensors`; tensors of other parts are left out."""
        for part, module in self.modules.items():
            prefix = f"{part}/"
            named = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
            module.load_state_dict(named)
