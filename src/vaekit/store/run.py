"""One run: its folder, and everything that is read from it and written to it.

Not for: models, configs or training. This file knows only tensors by name, tables and text.
"""

import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import RunError
from . import checkpoint, files, journal
from .bounded import TOML_LIMIT, TomlTable
from .checkpoint import RUN_FORMAT, Checkpoint, CheckpointKind, Stamp
from .lock import Lock
from .old_names import with_current_names
from .root import find_folder, make_folder, run_folders

if TYPE_CHECKING:  # see checkpoint.py
    from torch import Tensor

State = Literal["running", "finished", "interrupted", "failed"]


class Run:
    """One run: its folder, and everything that is read from and written to it.

    Every file is replaced as a whole. Nothing outside the folder is read or written, and nothing in it is executed.
    Only the process that holds the lock may write metrics, checkpoints and status.

    Arguments:
        path: A run folder.

    Attributes:
        path, name: The folder, and its name.
        environment: Content of environment.json: format, preset, created, and the entries that the trainer recorded.
        created: When the run was created.

    Raises:
        RunError: The path is not a run folder, or the folder is damaged or of a newer format.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = path = Path(path)
        self.name = path.name
        self._lock = Lock(path / "lock")
        self._identity = files.identity(path)
        self._stamps: dict[CheckpointKind, Stamp] = {}  # stamps of the checkpoints that this object wrote
        where = path / "environment.json"
        with files.file_errors("open", path):
            names = os.listdir(path)
        if where.name not in names:
            raise RunError(f"{path} is not a run folder: it has no environment.json", command="runs")
        self.environment: dict[str, Any] = self._read_table("environment.json")
        checkpoint.check_format(self.environment.get("format"), where)
        try:
            self.created = datetime.fromisoformat(self.environment["created"]).astimezone(UTC)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise RunError(f"{where} is damaged: it has no date 'created'") from error

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def __str__(self) -> str:
        n = sum(1 for _ in self.each_metrics())
        return f"{self.path}: {self.environment.get('preset')}, {n} epoch{'s' * (n != 1)}, {self.status}"

    @classmethod
    def create(
        cls,
        name: str | None,
        *,
        preset: str,
        config: str,
        environment: Mapping[str, object],
        root: Path | str = "runs",
    ) -> "Run":
        """Make a new run folder, whole or not at all, and take its lock.

        Arguments:
            name: Name of the run; None for `<preset>-<date>-<time>`, with -2, -3, … if that name is taken.
            preset: Name of the preset.
            config: TOML text that repeats the run.
            environment: JSON-able table of versions, device, seed, …; format, preset and created are added.
            root: The folder of all runs; made if missing.

        Raises:
            RunError: The name is taken or unsafe, the config is not TOML or too long, or the folder cannot be written.
        """
        root = Path(root)
        base = files.component(f"{preset}-{time.strftime('%Y%m%d-%H%M%S')}" if name is None else str(name))
        text = config.encode("utf-8", "backslashreplace")
        _check_new_config(text)
        created = datetime.now(UTC).isoformat()
        entries = {**environment, "format": RUN_FORMAT, "preset": preset, "created": created}
        environment_json = files.dump_json(entries, "environment.json")
        contents = {"config.toml": text, "environment.json": environment_json, "metrics.jsonl": b""}
        run = cls(make_folder(root, base, contents, numbered=name is None))
        run.acquire()
        return run

    @classmethod
    def open(cls, ref: str | Path | None = None, *, root: Path | str = "runs") -> "Run":
        """Find a run.

        Arguments:
            ref: The name of a run in `root`, the path of a run folder, or None for the newest run.
            root: The folder of all runs.

        Raises:
            RunError: The run does not exist (the message suggests the nearest name), is damaged or is too new.
        """
        root = Path(root)
        if ref is None:
            if runs := list_runs(root):
                return runs[0]
            raise RunError(f"there is no run in {root}; train one first, or name another folder of runs")
        return cls(find_folder(ref, root))

    # -- one writer -------------------------------------------------------------------------------------------------

    def acquire(self) -> None:
        """Become the only writer, and remove half-written files of killed processes.

        Raises:
            RunError: Another process, or another `Run` of this process, is the writer.
        """
        folders = [files.confine(self.path, name) for name in ("checkpoints", "samples")]
        self._lock.acquire()
        self._identity = files.identity(self.path)
        for folder in (self.path, *folders):
            files.sweep(folder)

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only writer within a `with` block; at its end the lock is free, even if it was held before.

        Raises:
            RunError: See `acquire`.
        """
        self.acquire()
        try:
            yield
        finally:
            self.release()

    @property
    def status(self) -> State:
        """`running` while a living process holds the lock; else `finished`, `failed` or `interrupted`.

        Raises:
            RunError: The file status.json is damaged.
        """
        if self._lock.busy():
            return "running"
        if os.path.lexists(self.path / "status.json"):
            match self._read_table("status.json").get("state"):
                case "finished" | "failed" as state:
                    return state
        return "interrupted"  # status.json says so, or says "running" and the process was killed

    def set_status(self, state: State, message: str = "") -> None:
        """Record the state of the run in status.json, with a message for people. Needs the lock."""
        self._need_lock()
        self.write_json("status.json", {"state": state, "message": message})

    # -- environment, config and metrics ----------------------------------------------------------------------------

    def recorded(self, *keys: str, kind: type = object) -> Any:
        """The value in environment.json under nested keys.

        Raises:
            RunError: The value is missing or of another kind.
        """
        value: Any = self.environment
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if value is None or not isinstance(value, kind):
            fault = f"it does not say {'.'.join(keys)}; train the run again"
            raise RunError(f"{self.path / 'environment.json'} is damaged: {fault}")
        return value

    def record(self, **entries: object) -> None:
        """Add entries to environment.json, or replace them. Needs the lock."""
        self._need_lock()
        self.environment |= entries
        self.write_json("environment.json", self.environment)

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """One table for each resumption: began, epoch, settings (the changed fields of [train]), epochs, differs.

        Raises:
            RunError: The sessions in environment.json are damaged.
        """
        sessions = self.environment.get("sessions", [])
        if isinstance(sessions, list) and all(_is_session(session) for session in sessions):
            return sessions
        raise RunError(f"{self.path / 'environment.json'} is damaged: its sessions are {sessions!r:.200}")

    @property
    def config(self) -> dict[str, Any]:
        """The config that repeats the run, as a table that prints as TOML.

        Raises:
            RunError: The file config.toml is missing or damaged.
        """
        path = files.confine(self.path, "config.toml")
        return TomlTable(files.parse_toml(files.read(path, TOML_LIMIT), path))

    def metrics(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl, one per epoch; a last line that was cut short is left out.

        Raises:
            RunError: Another line is damaged; the message names it.
        """
        return list(self.each_metrics())

    def each_metrics(self) -> Iterator[dict[str, Any]]:
        """The records of metrics.jsonl one by one, so that only one is in memory."""
        return map(with_current_names, journal.records(files.confine(self.path, "metrics.jsonl")))

    def append_metrics(self, record: Mapping[str, object]) -> None:
        """Append the record of one epoch. Needs the lock.

        A number that is not finite is written as null, since JSON has no NaN; so a diverging run leaves its trace.

        Raises:
            RunError: The record is not JSON-able or cannot be written; the earlier lines stay as they were.
        """
        self._need_lock()
        journal.append(files.confine(self.path, "metrics.jsonl"), record)

    def truncate_metrics(self, epochs: int) -> None:
        """Keep the first `epochs` records only, up to the checkpoint. Needs the lock."""
        self._need_lock()
        journal.truncate(files.confine(self.path, "metrics.jsonl"), epochs)

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def save_checkpoint(
        self, tensors: "Mapping[str, Tensor]", state: Mapping[str, object], *, kind: CheckpointKind = "last"
    ) -> None:
        """Write a checkpoint; a crash at any moment leaves the old or the new one, whole. Needs the lock.

        Arguments:
            tensors: Tensors by name, "part/name": the tensor "model/encoder.weight" is stored as "encoder.weight" in
                model.safetensors, which any program can read. Any device; a tensor with two names is stored once.
            state: JSON-able; keys become strings, tuples lists. NaN and infinity are refused: JSON has neither.
            kind: "last" to resume from, "best" to keep.

        Raises:
            RunError: A name or the state is of another kind, or the disk is full, read-only or failing. Earlier
                checkpoints are still there.
        """
        self._need_lock()
        folder = files.confine(self.path, "checkpoints")
        with files.file_errors("write", folder):
            folder.mkdir(exist_ok=True)
        self._stamps[kind] = checkpoint.save(folder, kind, tensors, state, self._stamps.get(kind))

    def has_checkpoint(self, kind: CheckpointKind = "last") -> bool:
        """Whether a checkpoint was ever written, even if it is damaged now."""
        return checkpoint.exists(files.confine(self.path, "checkpoints"), kind)

    def load_checkpoint(
        self, kind: CheckpointKind = "last", *, parts: Sequence[str] | None = None, limit: int | None = None
    ) -> Checkpoint:
        """Read the newest checkpoint with valid checksums; warn if it is not the last one written.

        Arguments:
            kind: "last" to resume from, or "best".
            parts: Read the tensors of these parts only, such as "model".
            limit: Most bytes of the checkpoint, checked before anything is read; by default half of the memory.

        Raises:
            RunError: No checkpoint has valid checksums; the message says what is wrong with each.
        """
        return checkpoint.load(files.confine(self.path, "checkpoints"), kind, parts, limit)

    # -- other files ------------------------------------------------------------------------------------------------

    def read_json(self, name: str) -> Any:
        """Value of a JSON file in the run folder, such as "evaluation.json".

        Raises:
            RunError: The file is missing, damaged or larger than 4 MiB, or the name leads outside.
        """
        path = files.confine(self.path, name)
        return files.parse_json(files.read(path, files.JSON_LIMIT), path)

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file; numbers that are not finite become null.

        Raises:
            RunError: The value is not JSON-able, the name leads outside, or the file cannot be written.
        """
        self.write_bytes(name, files.dump_json(files.finite(value), name))

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write a file, such as "samples/epoch-001.png".

        Raises:
            RunError: The name leads outside, or the file cannot be written.
        """
        files.write(self.path_to_write(name), data)

    def sha256(self, name: str) -> str:
        """SHA-256 of a file, in hexadecimal.

        Raises:
            RunError: The file is missing or cannot be read, or the name leads outside.
        """
        return files.sha256(files.confine(self.path, name))

    def picture_to_write(self, name: str) -> Path:
        """Path for a picture in samples/, as `path_to_write` gives it."""
        return self.path_to_write(f"samples/{name}")

    def path_to_write(self, name: str) -> Path:
        """Path in the run folder for a library that writes by itself; the folder around it is made.

        Raises:
            RunError: The name leads outside, or the folder cannot be made.
        """
        self._check_folder()
        path = files.confine(self.path, name)
        with files.file_errors("write", path):
            files.make_folders(path.parent, below=self.path)
        return path

    def _need_lock(self) -> None:
        if not self._lock.held:
            raise RunError(f"{self.path} is open for reading; write within `with run.lock():`")
        self._check_folder()

    def _check_folder(self) -> None:
        """Check that the folder is still the opened one, so that nothing is made anew under its name.

        Raises:
            RunError: The folder was removed, in whole or in part, or renamed.
        """
        gone = files.identity(self.path) != self._identity or self._lock.lost
        if gone or not os.path.lexists(self.path / "environment.json"):
            raise RunError(f"{self.path} was removed or renamed while it was in use; nothing more is written there")

    def _read_table(self, name: str) -> dict[str, Any]:
        return files.table(self.read_json(name), self.path / name)


def list_runs(root: Path | str = "runs") -> list[Run]:
    """All runs in `root`, the newest first; warn of each run folder that is damaged or too new."""
    runs, damaged = find_runs(root)
    for fault in damaged.values():
        warnings.warn(fault, stacklevel=2)
    return runs


def find_runs(root: Path | str = "runs") -> tuple[list[Run], dict[Path, str]]:
    """All runs in `root`, the newest first; and each run folder that is damaged or too new, with the reason."""
    runs: list[Run] = []
    damaged: dict[Path, str] = {}
    for path in sorted(run_folders(Path(root))):
        try:
            runs.append(Run(path))
        except RunError as error:
            damaged[path] = str(error)
    return sorted(runs, key=lambda run: (run.created, run.name), reverse=True), damaged


def _check_new_config(data: bytes) -> None:
    """Check the TOML text of a new run's config, before anything is written.

    Raises:
        RunError: The text exceeds `TOML_LIMIT`, is not TOML or is nested too deeply.
    """
    if len(data) > TOML_LIMIT:
        raise RunError(
            f"the config of this run would have {len(data):,} bytes, more than the {TOML_LIMIT:,} that a "
            "config may have; give fewer columns, or one centre and one unit for all channels of a signal"
        )
    files.parse_toml(data, "config.toml")


def _is_session(table: Any) -> bool:
    """Whether a value is a table with settings: changed options, or "section.key=value", as earlier versions wrote."""
    settings = table.get("settings") if isinstance(table, dict) else None
    is_list = isinstance(settings, list) and all(isinstance(value, str) for value in settings)
    return is_list or isinstance(settings, dict)
