"""Listeners to the progress of a training.

Not for: how progress looks (`runs`).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from ..errors import ConfigError
from .progress import Progress


@runtime_checkable
class Listener(Protocol):
    """A listener to the progress of a training. A subclass overrides what it wants to hear."""

    def begin(self, description: Sequence[str]) -> None:
        """Called before the first step of a run, with short descriptions of its model, data, device and options."""
        return

    def step(self, progress: Progress, batches: int | None, means: Mapping[str, float]) -> None:
        """Called a few times a second.

        Arguments:
            progress: The progress.
            batches: Number of batches in an epoch; None if it is not known.
            means: The epoch's means and rows until now, by name.
        """
        return

    def resumed(self, record: dict[str, Any]) -> None:
        """Called when a training resumes right after an epoch; the model has the weights that would be saved."""
        return

    def epoch(self, record: dict[str, Any]) -> None:
        """Called after every epoch; the model has the weights that would be saved: their averages, if there are any."""
        return

    def slower(self, factor: float) -> None:
        """Called once, when steps have become slower by a factor, such as 6."""
        return


class Listeners(Listener):
    """Several listeners as one, or none.

    Arguments:
        listeners: Listeners, called in this order; None is left out.

    Raises:
        ConfigError: A listener is not a `Listener`.
    """

    def __init__(self, listeners: Iterable[Listener | None]) -> None:
        self.listeners = [listener for listener in listeners if listener is not None]
        for listener in self.listeners:
            if not isinstance(listener, Listener):
                raise ConfigError(
                    f"a listener must be a vaekit.training.Listener, got {type(listener).__name__}; derive its class "
                    "from Listener, and override step or epoch"
                )

    def begin(self, description: Sequence[str]) -> None:
        """Pass the call on."""
        for listener in self.listeners:
            listener.begin(description)

    def step(self, progress: Progress, batches: int | None, means: Mapping[str, float]) -> None:
        """Pass the call on."""
        for listener in self.listeners:
            listener.step(progress, batches, means)

    def resumed(self, record: dict[str, Any]) -> None:
        """Pass the call on."""
        for listener in self.listeners:
            listener.resumed(record)

    def epoch(self, record: dict[str, Any]) -> None:
        """Pass the call on."""
        for listener in self.listeners:
            listener.epoch(record)

    def slower(self, factor: float) -> None:
        """Pass the call on."""
        for listener in self.listeners:
            listener.slower(factor)
