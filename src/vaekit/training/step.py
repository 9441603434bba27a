"""The training step: for each player draw, loss, backward and clip; then every optimizer; then count.

All gradients are taken at the same weights, before any player moves: simultaneous descent, as in Nowozin, Cseke and
Tomioka 2016, arXiv:1606.00709, algorithm 1, for adversarial losses. So a step is good or bad as a whole: a skipped step
leaves no player, buffer or average half-way.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..config import Fit
from ..errors import ConfigError
from ..objectives import Player, Terms
from .averages import Averages
from .meter import Meter
from .precision import LoweredPrecision
from .ranks import ALONE, Ranks, Shard
from .trained_parts import TrainedParts


class TrainingStep:
    """One step of every player on one batch, without waiting for the device.

    Arguments:
        trained: The model, its loss, and the players, which take their gradients in this order.
        options: Training options.
        ranks: Processes that share a batch. Several ranks replace `shard` and `all_reduce`, and nothing else.
    """

    def __init__(self, trained: TrainedParts, options: Fit, ranks: Ranks = ALONE) -> None:
        model, players = trained.model, trained.players
        self.trained = trained
        self.clip_norm = options.clip_norm
        self.skip = options.skips_bad_steps
        self.weights: list[Tensor] = list(players[0].parameters)
        modules = trained.modules.values()
        required = {id(p) for module in modules for p in module.parameters() if p.requires_grad}
        self.moves_all = len(players) == 1 and required <= {id(p) for p in self.weights}
        self.averages = Averages(players[0].parameters, players[0].optimizer, options)
        self.meter = Meter(model.device, self.skip)
        self.lowered = LoweredPrecision(model, options.precision)
        self.samples = trained.loss.samples
        self.shard: Callable[[Any, int], Shard] = ranks.shard
        self.all_reduce = ranks.all_reduce

    def __call__(self, item: Any, epoch: float) -> None:
        """Take the step.

        Arguments:
            item: A batch as the loader gives it, the same on all ranks.
            epoch: Epoch for the schedules; it need not be whole.
        """
        shard = self.shard(item, self.samples)
        model, players = self.trained.model, self.trained.players
        batch = model.to_model(shard.batch)
        before = [buffer.clone() for buffer in self.trained.buffers()] if self.skip else []
        names: list[str] = []
        sums_by_player: list[Tensor] = []
        bad = torch.zeros((), dtype=torch.bool, device=model.device)
        for player in players:
            clear_gradients(player)
            with self.lowered:
                with shard.noise:
                    terms = checked_terms(player.loss(model, batch, epoch), len(batch))
                loss = shard.zero_if_empty(terms.loss.sum())
                (loss / shard.total).backward(inputs=self.trained_by(player))
            with torch.no_grad():
                logged = [shard.zero_if_empty(value.sum()) for value in terms.logged.values()]
                sums = self.all_reduce(torch.stack([loss.detach(), *logged]), player.parameters)
                rate = sums[1 + list(terms.logged).index("rate")] if "rate" in terms.logged else None
                norm = self.clip(player)
                bad = bad | self.meter.is_bad(sums[0], rate, shard.total, norm)
                names += [player.name, *terms.logged]
                sums_by_player.append(sums)
        for player in players:
            take_step(player.optimizer, bad if self.skip else None)
        with torch.no_grad():
            if self.skip:
                for buffer, old in zip(self.trained.buffers(), before, strict=True):
                    buffer.copy_(torch.where(bad, old, buffer))
            self.averages.update(bad)
            self.meter.begin(tuple(names))
            sums = sums_by_player[0] if len(sums_by_player) == 1 else torch.cat(sums_by_player)
            self.meter.add(sums, shard.total, bad)

    def trained_by(self, player: Player) -> Sequence[nn.Parameter] | None:
        """The weights that get gradients from a player's loss: the player's, or None if the only player trains all."""
        return None if self.moves_all else player.parameters

    def clip(self, player: Player) -> Tensor | None:
        """Clip the model's gradient if `clip_norm` is set; return the norm before, or None where it is not needed."""
        if self.clip_norm is not None and player is self.trained.players[0]:
            return nn.utils.clip_grad_norm_(self.weights, self.clip_norm)
        return total_norm(player.parameters) if self.skip else None


def total_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Norm of the whole gradient of some parameters."""
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def clear_gradients(player: Player) -> None:
    """Set the gradients to None. `zero_grad` does the same, but takes 1 % of a small step."""
    for parameter in player.parameters:
        parameter.grad = None


def checked_terms(terms: Terms, rows: int) -> Terms:
    """Terms, if they have one number for each row, and a gradient where gradients are taken.

    Raises:
        ConfigError: The terms do not have one number for each row, or the loss has no gradient.
    """
    if not isinstance(terms, Terms):
        raise ConfigError(f"a loss must return vaekit.objectives.Terms, got {type(terms).__name__}")
    for name, value in (("loss", terms.loss), *terms.logged.items()):
        if not isinstance(value, Tensor) or value.shape != (rows,):
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise ConfigError(f"{name} must have one number for each of {rows} rows, got {got}")
    if torch.is_grad_enabled() and not terms.loss.requires_grad:
        raise ConfigError("the loss depends on no weight that is trained; leave out .detach(), .data and no_grad")
    return terms


def set_learning_rate(group: dict[str, Any], learning_rate: float) -> None:
    """Set the learning rate of a group of an optimizer."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(learning_rate)
    else:
        group["lr"] = learning_rate


def take_step(optimizer: torch.optim.Optimizer, bad: Tensor | None) -> None:
    """Take a step of the optimizer, unless the step is bad; a fused optimizer decides that on the device.

    The very first step is decided here: torch's fused SGD leaves its momentum uninitialized if that step is skipped.

    Arguments:
        optimizer: The optimizer.
        bad: Whether the step is bad; None to take it in any case.
    """
    if bad is None:
        optimizer.step()
    elif optimizer.state and all(group.get("fused") for group in optimizer.param_groups):
        optimizer.found_inf = bad.float()  # type: ignore[attr-defined]  # as torch.amp.GradScaler does
        optimizer.step()
        del optimizer.found_inf  # type: ignore[attr-defined]
    elif not bad:
        optimizer.step()
