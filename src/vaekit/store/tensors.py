"""Tensors as the bytes of a safetensors file, and back: the only place where tensors are written and read.

Not for: writing the bytes (`files`), or files of `torch.save` (`state_dict`).
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import RunError
from . import files

if TYPE_CHECKING:  # `vae runs` has to answer before torch would have been imported
    from torch import Tensor

HEADER_LIMIT = 1 << 20  # bytes; about 15,000 tensors. The size of a file does not bound how many it claims to hold.

WEIGHTS_LIMIT = 1 << 36  # bytes of weights in a file


def pack(tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str] | None = None) -> bytes:
    """The content of a safetensors file. A tensor with several names (tied weights) is stored once.

    Arguments:
        tensors: Tensors by name, on any device.
        metadata: Texts to store beside them. The library writes several in an order that changes from run to run.

    Raises:
        RunError: A tensor cannot be stored, or there are too many.
    """
    from safetensors.torch import save

    try:
        stored, aliases = _unshared(tensors)
        metadata = {**(metadata or {}), **({"aliases": json.dumps(aliases)} if aliases else {})}
        data: bytes = save(stored, metadata or None)
    except Exception as error:
        raise RunError(f"a tensor cannot be stored as safetensors: {error}") from error
    if _header_size(data) > HEADER_LIMIT:
        raise RunError(f"{len(tensors)} tensors need a header of more than {HEADER_LIMIT} bytes; join them into fewer")
    return data


def unpack(data: bytes, path: Path) -> "tuple[dict[str, Tensor], dict[str, str]]":
    """The tensors of a safetensors file, and the metadata beside them; `path` is for the message.

    The library compares the header with the size of the file before it allocates anything.

    Raises:
        RunError: The file is damaged.
    """
    from safetensors.torch import load

    size = _header_size(data)
    if size > HEADER_LIMIT:
        raise RunError(f"{path} is damaged: a header of {size} bytes exceeds {HEADER_LIMIT}")
    try:
        tensors: dict[str, Tensor] = load(data)
        metadata = dict(json.loads(data[8 : 8 + size]).get("__metadata__", {}))
        aliases = json.loads(metadata.pop("aliases", "{}"))
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and tensor.element_size() < 2:  # nothing computes with these types
                raise TypeError(f"{name} is of type {tensor.dtype}")
        return tensors | {name: tensors[stored] for name, stored in aliases.items()}, metadata
    except Exception as error:  # a parser can raise any type on a hostile file
        raise RunError(f"{path} is damaged: {error!r:.200}") from error


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as one of safetensors does, whatever its suffix: files of `torch.save` begin otherwise.

    Raises:
        RunError: The file cannot be read.
    """
    with files.file_errors("read", path), open(path, "rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and _header_size(start) <= HEADER_LIMIT


def sha256(tensors: "Mapping[str, Tensor]") -> str:
    """SHA-256 of names, shapes, types and values, in hexadecimal."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _unshared(tensors: "Mapping[str, Tensor]") -> "tuple[dict[str, Tensor], dict[str, str]]":
    """Contiguous tensors on the CPU that share no memory, by name; and each other name of a tensor → its first name."""
    stored: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    names: dict[object, str] = {}
    storages = set()
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        view = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() and names.setdefault(view, name) != name:
            aliases[name] = names[view]
            continue
        tensor = tensor.cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        stored[name] = tensor.clone() if storage in storages else tensor  # the format has no overlapping tensors
        storages.add(storage)
    return stored, aliases


def _header_size(data: bytes) -> int:
    return int.from_bytes(data[:8], "little")
