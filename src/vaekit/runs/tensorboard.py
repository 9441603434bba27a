"""TensorBoard: the numbers of every epoch as event files in the run folder, for `tensorboard --logdir runs`.

Not for: keeping results; those are in metrics.jsonl.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..store import Run
from ..store.files import file_errors
from ..training import Listener, Record


def require_tensorboard() -> Any:
    """TensorBoard's class `SummaryWriter`.

    Raises:
        ConfigError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError(
            "tensorboard=True needs TensorBoard; pip install 'vaekit[tensorboard]'", arguments=("tensorboard",)
        ) from None
    return SummaryWriter


@contextmanager
def event_files(run: Run, epochs: int) -> Iterator[Listener]:
    """A listener that writes event files within a block, after `epochs` epochs that are logged already.

    Raises:
        RunError: The event files cannot be written.
    """
    folder = run.path_to_write("tensorboard")
    with file_errors("write", folder):
        writer = require_tensorboard()(str(folder), purge_step=epochs + 1)
    try:
        yield _Epochs(writer, folder)
    finally:
        with file_errors("write", folder):
            writer.close()


class _Epochs(Listener):
    def __init__(self, writer: Any, folder: Path) -> None:
        self.writer = writer
        self.folder = folder

    def epoch(self, record: Record) -> None:
        with file_errors("write", self.folder):
            for name, value in record.items():
                part = "validation" if name.startswith("validation_") else "training"
                self.writer.add_scalar(f"{part}/{name.removeprefix('validation_')}", value, record["epoch"])
            self.writer.flush()
