"""Checkpoints: tensors and a state in a folder of safetensors and JSON files, verified by a manifest.

    <kind>/                the newest; <kind>-previous/: its predecessor, used if the newest is damaged
      model.safetensors    one file per part: the tensor "model/encoder.weight" is "encoder.weight" in it
      state.json           everything that is not a tensor
      manifest.json        format, and the size and SHA-256 of every other file

A folder is written under a temporary name and renamed, so that a crash at any moment leaves the old or the new one,
whole. Not for: the meaning of the tensors and the state.
"""

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import RunError
from .files import (
    COMPONENT,
    JSON_LIMIT,
    MACHINE_MEMORY,
    component,
    confine,
    dump_json,
    file_errors,
    parse_json,
    read,
    remove,
    sync,
    temporary,
    write_new,
)
from .tensors import pack, unpack

if TYPE_CHECKING:  # `vae runs` has to answer before torch would have been imported
    from torch import Tensor

RUN_FORMAT = 1
CheckpointKind = Literal["last", "best"]
Stamp = dict[str, tuple[int, ...]]  # times and sizes of the files of a checkpoint, which change if a file does


@dataclass(frozen=True)
class Checkpoint:
    """The state from which a run continues.

    Attributes:
        tensors: Tensors by name, "part/name", on the CPU.
        state: Everything else, as JSON knows it.
    """

    tensors: "dict[str, Tensor]"
    state: dict[str, Any]

    def parts(self) -> "dict[str, dict[str, Tensor]]":
        """The tensors by part and name: "model/encoder.weight" is in "model" as "encoder.weight"."""
        by_part: dict[str, dict[str, Tensor]] = {}
        for name, tensor in self.tensors.items():
            part, _, rest = name.partition("/")
            by_part.setdefault(part, {})[rest] = tensor
        return by_part

    def part(self, name: str) -> "dict[str, Tensor]":
        """The tensors of one part by name; empty without this part."""
        return self.parts().get(name, {})

    def __repr__(self) -> str:
        return f"Checkpoint({len(self.tensors)} tensors, state: {', '.join(self.state)})"


# Format n → n + 1, applied in turn to a checkpoint of an older format.
_MIGRATIONS: dict[int, Callable[[Checkpoint], Checkpoint]] = {}


def check_format(value: object, path: Path) -> int:
    """Return the format of a file if this version can read it.

    Raises:
        RunError: The value is not a format, or the format is newer than this version.
    """
    if not isinstance(value, int) or value < 1:
        raise RunError(f"{path} is damaged: its format is {value!r:.40}, not a whole number ≥ 1")
    if value > RUN_FORMAT:
        raise RunError(f"{path} has format {value}, this version reads up to {RUN_FORMAT}; pip install -U vaekit")
    return value


def save(
    folder: Path,
    kind: CheckpointKind,
    tensors: "Mapping[str, Tensor]",
    state: Mapping[str, object],
    before: Stamp | None = None,
) -> Stamp:
    """Write a checkpoint; its predecessor stays as `<kind>-previous`, if it is whole.

    Arguments:
        folder: Folder of the checkpoints.
        kind: "last" or "best".
        tensors: Tensors by name, "part/name".
        state: JSON-able.
        before: Stamp of the predecessor, if the caller wrote it. Files that still have this stamp are whole, and are
            not read again.

    Returns:
        The stamp of the new checkpoint.

    Raises:
        RunError: A name is not "part/name", the state is not JSON, or a file cannot be written. Earlier checkpoints
            are still there.
    """
    path = confine(folder, kind)
    new = temporary(path)
    manifest = {}
    with file_errors("write", path):
        try:
            os.mkdir(new)
            for name, data in _contents(tensors, state):
                write_new(new / name, data)
                manifest[name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            write_new(
                new / "manifest.json", dump_json({"format": RUN_FORMAT, "files": manifest}, path / "manifest.json")
            )
            sync(new)
            stamp = _stamp(new)
            _rotate(new, path, before)
        finally:
            remove(new)
    return stamp


def exists(folder: Path, kind: CheckpointKind) -> bool:
    """Whether a checkpoint was ever written, whole or not."""
    path = folder / kind
    return any(os.path.lexists(candidate) for candidate in (path, *_before(path)))


def load(
    folder: Path, kind: CheckpointKind, parts: Sequence[str] | None = None, limit: int | None = None
) -> Checkpoint:
    """Read the newest checkpoint that is whole; warn if it is not the last one written.

    Arguments:
        folder: Folder of the checkpoints.
        kind: "last" or "best".
        parts: Read the tensors of these parts only; all by default.
        limit: Most bytes to read in all; half of the memory by default.

    Raises:
        RunError: No checkpoint is whole; the message says what is wrong with each.
    """
    path = folder / kind
    faults = []
    for candidate in (path, *_before(path)):
        if candidate is not path and not os.path.isdir(candidate):
            continue
        try:
            checkpoint = _load_settled(candidate, parts, limit)
        except RunError as error:
            faults.append(str(error))
            continue
        if faults:
            warnings.warn(f"{'; '.join(faults)}; the checkpoint before it, {candidate}, is used", stacklevel=3)
        return checkpoint
    if len(faults) == 1 and not os.path.lexists(path):
        raise RunError(f"{folder.parent} has no checkpoint {kind!r}: none was written yet; train it first")
    raise RunError(f"no checkpoint of {folder.parent} is whole: {'; '.join(faults)}; train it again from config.toml")


def sha256_of(folder: Path, kind: CheckpointKind, part: str) -> str | None:
    """SHA-256 of the file with the tensors of a part, by the newest manifest that can be read; None without one.

    Only the manifest is read.
    """
    path = folder / kind
    for candidate in (path, *_before(path)):
        try:
            _, entries = _manifest(candidate)
        except RunError:
            continue
        entry = entries.get(f"{part}.safetensors")
        return str(entry.get("sha256")) if isinstance(entry, dict) else None
    return None


def _before(path: Path) -> tuple[Path, Path]:
    """The checkpoint before `path`, and the one that exists only between the renames of `_rotate`."""
    return path.with_name(f"{path.name}-previous"), path.with_name(f"{path.name}-older")


def _rotate(new: Path, path: Path, stamp: Stamp | None) -> None:
    """Rename `path` to `<kind>-previous`, and `new` to `path`; remove a damaged `path` instead of a predecessor.

    Nothing whole is removed before the new one is in place.
    """
    previous, older = _before(path)
    if os.path.lexists(previous) and not _is_whole(path, stamp):
        remove(path)
    if os.path.lexists(path):
        remove(older)
        if os.path.lexists(previous):
            os.rename(previous, older)
        os.rename(path, previous)
    os.rename(new, path)
    sync(path.parent)
    remove(older)


def _stamp(path: Path) -> Stamp:
    """The files of a folder, with their inodes, modes, sizes and times of change."""
    files = {name: os.lstat(path / name) for name in os.listdir(path)}
    return {name: (s.st_ino, s.st_mode, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in files.items()}


def _is_whole(path: Path, stamp: Stamp | None) -> bool:
    with suppress(OSError):
        if stamp is not None and _stamp(path) == stamp:
            return True
    try:
        _load(path)
    except RunError:
        return False
    return True


def _load_settled(path: Path, parts: Sequence[str] | None, limit: int | None) -> Checkpoint:
    """Load one folder; load it again if the training process replaced it meanwhile."""
    while True:
        before = _identity(path)
        try:
            return _load(path, parts, limit)
        except RunError:
            if _identity(path) == before:
                raise


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _load(path: Path, parts: Sequence[str] | None = None, limit: int | None = None) -> Checkpoint:
    where = path / "manifest.json"
    version, entries = _manifest(path)
    wanted = {name: entry for name, entry in entries.items() if _is_wanted(name, parts, where)}
    _check_size(wanted, where, limit)
    tensors: dict[str, Tensor] = {}
    state = None
    for name, entry in wanted.items():
        data = _verified(confine(path, name), entry)
        if name == "state.json":
            state = parse_json(data, path / name)
        elif name.endswith(".safetensors"):
            part = name.removesuffix(".safetensors")
            members, _ = unpack(data, path / name)
            tensors |= {f"{part}/{key}": tensor for key, tensor in members.items()}
    if not isinstance(state, dict):
        raise RunError(f"{path} is damaged: it has no state.json, or one that is not a table")
    checkpoint = Checkpoint(tensors, state)
    for older in range(version, RUN_FORMAT):
        checkpoint = _MIGRATIONS[older](checkpoint)
    return checkpoint


def _manifest(path: Path) -> tuple[int, dict[str, Any]]:
    """The format of a checkpoint, and the sizes and checksums of its files by name."""
    where = confine(path.parent, f"{path.name}/manifest.json")
    match parse_json(read(where, JSON_LIMIT), where):
        case {"format": number, "files": dict(entries)}:
            return check_format(number, where), entries
    raise RunError(f"{where} is damaged: it has no format or no files")


def _is_wanted(name: str, parts: Sequence[str] | None, where: Path) -> bool:
    if not COMPONENT.fullmatch(name):
        raise RunError(f"{where} is damaged: it lists {name!r:.120}")
    return parts is None or name == "state.json" or name.removesuffix(".safetensors") in parts


def _check_size(names: Iterable[str], where: Path, limit: int | None) -> None:
    """Compare the size of all files with the limit, before memory is allocated."""
    total = sum(_size_of(confine(where.parent, name)) for name in names)
    most = MACHINE_MEMORY // 2 if limit is None else limit
    if total > most:
        raise RunError(
            f"{where} lists {total} bytes, more than the {most} that such a checkpoint can have; it is damaged"
        )


def _size_of(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:  # another process may have replaced it a moment ago
        return 0


def _verified(path: Path, entry: object) -> bytes:
    match entry:
        case {"size": int(size), "sha256": str(digest)}:
            data = read(path, size)
        case _:
            raise RunError(f"{path.parent / 'manifest.json'} is damaged: no size or no sha256 of {path.name}")
    if len(data) != size:
        raise RunError(f"{path} is damaged: {len(data)} bytes instead of {size}")
    if hashlib.sha256(data).hexdigest() != digest:
        raise RunError(f"{path} is damaged: its SHA-256 is not the one in its manifest")
    return data


def _contents(tensors: "Mapping[str, Tensor]", state: Mapping[str, object]) -> Iterator[tuple[str, bytes]]:
    """(file name, content) of a checkpoint, one at a time: at most one part is in memory twice."""
    yield "state.json", dump_json(dict(state), "state.json")
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part, separator, key = name.partition("/")
        if not separator or not key:
            raise RunError(f"a tensor's name must be 'part/name', such as 'model/{name}', got {name!r}")
        parts.setdefault(component(part), {})[key] = tensor
    for part, members in parts.items():
        yield f"{part}.safetensors", pack(members)
