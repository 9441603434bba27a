"""A training step as one CUDA graph, replayed: the processor then starts one thing a step instead of a thousand.

Not measured yet, for want of a GPU: an option (`train.cuda_graph`) and not the default.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from ..errors import ConfigError
from ..model import LatentVariableModel
from ..objectives import Objective
from .ranks import Ranks

Function = Callable[[Tensor, Tensor | None], None]
WARM_UP = 3  # calls before the capture: libraries set themselves up and optimizers their state


class Graphs(Protocol):
    """What can record a function of tensors that stay where they are, and play it again."""

    def warm_up(self, function: Function, x: Tensor, c: Tensor | None) -> None:
        """Call it as it is."""

    def capture(self, function: Function, x: Tensor, c: Tensor | None) -> Callable[[], None]:
        """Record it without running it; what is returned runs it on what is in x and c by then."""


class CUDAGraphs:
    """Graphs of the current CUDA device."""

    def warm_up(self, function: Function, x: Tensor, c: Tensor | None) -> None:
        """Call it on a stream of its own, as a capture does."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            function(x, c)
        torch.cuda.current_stream().wait_stream(stream)

    def capture(self, function: Function, x: Tensor, c: Tensor | None) -> Callable[[], None]:
        """Record it."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            function(x, c)
        replay: Callable[[], None] = graph.replay
        return replay


def find_graphs(model: LatentVariableModel, objective: Objective, ranks: Ranks) -> Graphs:
    """What records the steps of a training.

    Raises:
        ConfigError: the step cannot be repeated as it is, or there is no CUDA.
    """
    if model.device.type != "cuda":
        raise ConfigError(f"train.cuda_graph is for CUDA devices, this is {model.device.type!r}; leave it out")
    if objective.is_scheduled or ranks.world > 1:
        what = "an objective that follows a schedule" if objective.is_scheduled else f"{ranks.world} ranks"
        raise ConfigError(f"train.cuda_graph repeats one step as it is, which {what} cannot do; leave it out")
    return CUDAGraphs()


class Captured:
    """A function of a batch: called for the first few batches, then recorded, then replayed.

    A batch of another shape than the first, such as the last of an epoch, is given to the function itself.

    Arguments:
        function: From images and context to nothing; all that it changes stays where it is, on the device.
        graphs: What records it.
    """

    def __init__(self, function: Function, graphs: Graphs) -> None:
        self.function, self.graphs = function, graphs
        self.forget()

    def forget(self) -> None:
        """Begin anew, after something that the function reads or changes has moved."""
        self.calls = 0
        self.shape: torch.Size | None = None
        self.replay: Callable[[], None] | None = None

    def __call__(self, x: Tensor, c: Tensor | None) -> None:
        """One call, one way or the other."""
        self.shape = self.shape or x.shape
        if x.shape != self.shape:
            self.function(x, c)
            return
        self.calls += 1
        if self.calls <= WARM_UP:
            self.graphs.warm_up(self.function, x, c)
            return
        if self.replay is None:
            self.x, self.c = x.clone(), None if c is None else c.clone()
            self.replay = self.graphs.capture(self.function, self.x, self.c)
        self.x.copy_(x)
        if self.c is not None and c is not None:
            self.c.copy_(c)
        self.replay()
