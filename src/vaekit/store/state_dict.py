"""Reading a `state_dict` that `torch.save` wrote: names and tensors, and nothing that could be executed.

Such a file is a zip archive of a pickle and of raw numbers. Torch's unpickler for weights alone refuses every function
but those that make tensors; it does not compare sizes or checksums, so that is done here before.

Not for: run folders, in which no file is of this kind (`run`).
"""

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import DataError

_PICKLE_LIMIT = 1 << 20  # bytes of names and shapes; of the assignment's models it is 2 KiB


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors that `torch.save(model.state_dict(), path)` stored, by name, on the CPU.

    Raises:
        DataError: no such file, not of this kind, damaged, or with more in it than tensors.
    """
    path = Path(path)
    try:
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # guesses of torch about files that it refuses anyway
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path} holds something else than tensors, which may be code to execute; save model.state_dict() alone"
        ) from error
    except Exception as error:  # whatever a parser raises on a hostile file, the file is at fault
        raise DataError(f"{path} is damaged: {error!r:.200}") from error
    if not isinstance(found, dict) or not all(map(_is_entry, found.items())):
        raise DataError(f"{path} is no state_dict, a table of tensors by name; save model.state_dict() alone")
    if sum(tensor.nbytes for tensor in found.values()) > 2 * path.stat().st_size:  # of one number, a view of any size
        raise DataError(f"{path} is damaged: its tensors would take more than twice its size")
    return {name: tensor.detach().clone() for name, tensor in found.items()}  # no view of a file, which may change


def _check_archive(path: Path) -> None:
    """Compare what a zip archive says with what it holds; torch reads the numbers unseen.

    Raises:
        DataError: it is not one, or not one that torch writes.
    """
    if not path.is_file():  # asked first: opening a pipe would wait for a writer
        raise FileNotFoundError(path)
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is not a file of torch.save, or a truncated one, or one of torch before 1.6")
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise DataError(f"{path} is damaged: {entry.filename!r:.120} is compressed, which torch never does")
            if entry.filename.endswith(".pkl") and entry.file_size > _PICKLE_LIMIT:
                raise DataError(f"{path} is damaged: its names and shapes take {entry.file_size} bytes")
        if sum(entry.file_size for entry in entries) > size:
            raise DataError(f"{path} is damaged: its {size} bytes promise more than they hold")
        if (bad := archive.testzip()) is not None:
            raise DataError(f"{path} is damaged: the checksum of {bad!r:.120} is wrong")


def _is_entry(item: tuple[Any, Any]) -> bool:
    name, value = item
    plain = isinstance(value, Tensor) and value.layout is torch.strided and value.device.type == "cpu"
    return isinstance(name, str) and plain and not value.is_quantized
