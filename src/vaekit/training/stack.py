"""Steps of several trainings at once: weights in one tensor for all of them, batched products, one optimizer.

Each training's own weights, buffers, averages and optimizer state are views of the rows of what is stacked, so that it
is validated, saved and restored as it is alone. Each draws the noise that it draws alone, from its own stream.

Not for: who takes part (`together`), or any change to a single step (`trainer`).
"""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ..rng import Streams
from .budget import keep_freed_blocks
from .noise import NoiseOfReplicates
from .together import Peer, Work
from .trainer import Counts, Trainer, losses
from .validation import split

OPTIMIZERS = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)  # which treat each number of a tensor alike
ARITHMETIC = 0.01  # seconds of a step from which on there is little to save: what is not arithmetic takes one or two ms
GAIN = 0.9  # of the time that they take one after another: more is not worth it
STEPS, ROUNDS = 3, 8  # at a time that are timed, and how often, of which the fastest counts: other jobs come and go
ALIKE = 1e-7  # difference in float64, of which another noise makes a thousand times as much


class Losses(nn.Module):
    """What a step computes from weights and a batch, as a module, so that the weights can be given to it."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__()
        self.model, self.objective = trainer.model, trainer.objective

    def forward(self, x: Tensor, c: Tensor | None, epoch: float) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, rate and distortion."""
        return losses(self.model, self.objective, x, c, epoch)


class Stack:
    """Trainings that stand at the same step, and the next steps of all of them.

    Arguments:
        trainers: The trainings, R of them, which differ in their numbers only.
    """

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        keep_freed_blocks()
        self.trainers, first = trainers, trainers[0]
        self.losses = Losses(first)
        self.names = [name for name, p in self.losses.named_parameters() if p.requires_grad]
        self.parameters = [p.requires_grad_() for p in _stacked(trainer.parameters for trainer in trainers)]
        others = [_others(trainer.model) for trainer in trainers]
        kept = first.model.state_dict().keys()  # the rest are constants
        moving = [name for name in others[0] if name in kept or not _same([other[name] for other in others])]
        stacked = _stacked([other[name] for name in moving] for other in others)
        self.others = {f"model.{name}": whole for name, whole in zip(moving, stacked, strict=True)}
        self.averages = _stacked(trainer.averages for trainer in trainers)
        self.counts = Counts(*_stacked(vars(trainer.counts).values() for trainer in trainers))
        self.optimizer = self._optimizer()
        self.rows = torch.arange(len(trainers), device=first.model.device)

    def _optimizer(self) -> torch.optim.Optimizer:
        """One optimizer for all, from where those of each stand."""
        own = self.trainers[0].optimizer
        wholes = dict(zip(self.trainers[0].parameters, self.parameters, strict=True))
        groups = [group | {"params": [wholes[p] for p in group["params"]]} for group in own.param_groups]
        kind: Callable[..., torch.optim.Optimizer] = type(own)
        optimizer = kind(groups)
        for i, whole in enumerate(self.parameters):
            for slot in own.state.get(self.trainers[0].parameters[i], {}):
                rows = [trainer.optimizer.state[trainer.parameters[i]][slot] for trainer in self.trainers]
                optimizer.state[whole][slot] = rows[0].clone() if slot == "step" else _stacked([r] for r in rows)[0]
        return optimizer

    def step(self, works: Sequence[Work], streams: Sequence[Streams]) -> None:
        """One step of each, on its own batch, with the noise of its own streams."""
        first = self.trainers[0]
        for parameter in self.parameters:
            parameter.grad = None
        with first.lowered:
            loss, rate, distortion = self._losses(works, streams)
            (loss.sum() / len(works[0].x)).backward()
        with torch.no_grad():
            sums = torch.stack((loss.detach(), rate, distortion))
            self.counts.add(sums, len(works[0].x), self._clipped(first.clip_norm), skip=False)
        first.set_rates(self.optimizer, works[0].factor)
        self.optimizer.step()
        if first.ema:
            with torch.no_grad():
                torch._foreach_lerp_(self.averages, self.parameters, 1 - first.ema)

    def _losses(self, works: Sequence[Work], streams: Sequence[Streams]) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, rate and distortion of each, shape (R,)."""
        (x, c, epoch), device = works[0][1:4], self.trainers[0].model.device

        def one(
            parameters: dict[str, Tensor], others: dict[str, Tensor], x: Tensor, c: Tensor | None, row: Tensor
        ) -> Any:
            with NoiseOfReplicates(streams, row, device):
                return functional_call(self.losses, (parameters, others), (x, c, epoch))

        x = torch.stack([work.x for work in works])
        c = None if c is None else torch.stack([work.c for work in works if work.c is not None])
        weights = dict(zip(self.names, self.parameters, strict=True))
        found: tuple[Tensor, Tensor, Tensor] = vmap(one, in_dims=(0, 0, 0, None if c is None else 0, 0))(
            weights, self.others, x, c, self.rows
        )
        return found

    def _clipped(self, most: float | None) -> Tensor | None:
        """Norm of the gradient of each, shape (R,), which is clipped as `clip_grad_norm_` does; None if it is not."""
        if most is None:
            return None
        grads = [p.grad for p in self.parameters if p.grad is not None]
        norms = [torch.linalg.vector_norm(grad.flatten(1), dim=1) for grad in grads]
        norm: Tensor = torch.linalg.vector_norm(torch.stack(norms), dim=0)
        factor = (most / (norm + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(grads, [factor.view(-1, *[1] * (grad.ndim - 1)) for grad in grads])
        return norm

    def hand_back(self) -> None:
        """Bring what is no view up to date: each optimizer's number of steps, and what the first step created."""
        for r, trainer in enumerate(self.trainers):
            for parameter, whole in zip(trainer.parameters, self.parameters, strict=True):
                for slot, value in self.optimizer.state.get(whole, {}).items():
                    state = trainer.optimizer.state[parameter]
                    if slot == "step":
                        state[slot] = value.clone()
                    elif slot not in state:
                        state[slot] = value[r]


class Steps:
    """Does the steps of trainings that take turns: at once where they are of one kind, else the earliest by itself."""

    def __init__(self) -> None:
        self.stack: Stack | None = None

    def __call__(self, peers: Sequence[Peer]) -> None:
        """Go on until one of them waits for none."""
        while all(peer.queue for peer in peers):
            works = [peer.queue[0] for peer in peers]
            if len(peers) > 1 and all(work.kind == works[0].kind for work in works):
                self._stacked(works).step(works, [peer.streams for peer in peers])
                for peer in peers:
                    peer.queue.popleft()
            else:
                self._part()
                first = min(peers, key=lambda peer: peer.queue[0].step)
                with first.streams:
                    first.queue.popleft().alone()
        if self.stack is not None:
            self.stack.hand_back()

    def _stacked(self, works: Sequence[Work]) -> Stack:
        trainers = [work.trainer for work in works]
        if self.stack is None or self.stack.trainers != trainers:
            self._part()
            self.stack = Stack(trainers)
        return self.stack

    def _part(self) -> None:
        if self.stack is not None:
            self.stack.hand_back()
        self.stack = None


def can_stack(trainer: Trainer) -> bool:
    """Whether the step of such a training is one of those that are done for several at once."""
    known = type(trainer.optimizer) in OPTIMIZERS and trainer.model.device.type in ("cpu", "cuda")
    return known and not trainer.skip and trainer.captured is None


def agrees(make: Callable[[], Trainer], batch: Any) -> bool:
    """Whether two steps of two trainings at once come to what they come to one after another.

    Arguments:
        make: Gives the same training each time, in float64.
        batch: Of the loader.
    """
    alone, together = ([trial_work(make(), batch) for _ in range(2)] for _ in range(2))
    try:
        for work, streams in zip(alone, trial_streams(2), strict=True):
            with streams:
                work.alone()
                work.alone()
        stack, both = Stack([work.trainer for work in together]), trial_streams(2)
        stack.step(together, both)
        stack.step(together, both)
        stack.hand_back()
    except Exception:  # whatever a model does that cannot be done for several
        return False
    return all(
        torch.allclose(value.double(), other.double(), rtol=ALIKE, atol=ALIKE)
        for one, two in zip(alone, together, strict=True)
        for value, other in zip(_numbers(one.trainer), _numbers(two.trainer), strict=True)
    )


def is_faster(make: Callable[[], Trainer], batch: Any, replicates: int) -> bool:
    """Whether so many steps at once take less time than one after another: timed, in about a second at most.

    Arguments:
        make: Gives the same training each time.
        batch: Of the loader.
        replicates: How many.
    """
    alone, streams = trial_work(make(), batch), trial_streams(replicates)

    def one() -> None:
        for _ in range(STEPS):
            alone.alone()

    def all_of_them() -> None:
        for _ in range(STEPS):
            stack.step(works, streams)

    if min(_seconds(one, alone.trainer) for _ in range(2)) > ARITHMETIC * STEPS:
        return False
    try:
        works = [trial_work(make(), batch) for _ in range(replicates)]
        stack = Stack([work.trainer for work in works])
        _seconds(all_of_them, works[0].trainer)
        times = [(_seconds(one, alone.trainer), _seconds(all_of_them, works[0].trainer)) for _ in range(ROUNDS)]
    except RuntimeError:  # out of memory
        return False
    return min(time for _, time in times) < GAIN * replicates * min(time for time, _ in times)


def trial_work(trainer: Trainer, batch: Any) -> Work:
    """A step on a batch of a loader, in the precision of the weights."""
    x, c = split(batch, trainer.model)
    return Work(trainer, x.to(trainer.parameters[0].dtype), c, epoch=0.0, factor=1.0, step=0)


def trial_streams(replicates: int) -> list[Streams]:
    """Random streams that differ, the same ones each time; the global ones are then somewhere else."""
    found = []
    for seed in range(replicates):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        found.append(Streams())
    return found


def _numbers(trainer: Trainer) -> list[Tensor]:
    return [trainer.counts.sums, *trainer.state()[0].values()]


def _seconds(function: Callable[[], None], trainer: Trainer) -> float:
    begun = time.perf_counter()
    function()
    trainer.counts.steps.item()  # waits for the device
    return time.perf_counter() - begun


def _stacked(each: Iterable[Iterable[Tensor]]) -> list[Tensor]:
    """The tensors of several trainings in one for each, whose rows theirs are from now on."""
    found = []
    for tensors in zip(*each, strict=True):
        whole = torch.stack([tensor.detach() for tensor in tensors])
        for tensor, row in zip(tensors, whole, strict=True):
            tensor.data = row
        found.append(whole)
    return found


def _others(model: nn.Module) -> dict[str, Tensor]:
    """What a model computes with beside the weights that are trained, by name."""
    frozen = {name: p for name, p in model.named_parameters() if not p.requires_grad}
    return frozen | dict(model.named_buffers())


def _same(tensors: Sequence[Tensor]) -> bool:
    return all(torch.equal(tensors[0], tensor) for tensor in tensors[1:])
