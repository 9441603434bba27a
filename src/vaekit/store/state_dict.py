"""Reading a `state_dict` that `torch.save` wrote: names and tensors, and nothing that could be executed.

Torch's own loader for weights alone refuses every function that does not make tensors. It does not compare the sizes
that a file promises with the size of the file; this module does.

Not for: run folders, which have no file of this kind.
"""

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import DataError


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors that `torch.save(model.state_dict(), path)` stored, by name, on the CPU.

    Raises:
        DataError: The file does not exist, is not of this kind, is damaged, or holds more than tensors.
    """
    path = Path(path)
    if not path.is_file():  # checked first: opening a pipe would wait for a writer
        raise DataError(f"{path} does not exist, or is not a file")
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            promised = sum(entry.file_size for entry in archive.infolist())
        if promised > size:  # torch compresses nothing
            raise DataError(f"{path} is damaged: its {size} bytes promise {promised}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # guesses of torch about files that it refuses anyway
            state = torch.load(path, map_location="cpu", weights_only=True)
    except DataError:
        raise
    except zipfile.BadZipFile:
        raise DataError(f"{path} is truncated, or was not written by torch.save of torch 1.6 or later") from None
    except pickle.UnpicklingError as error:
        raise DataError(f"{path} holds more than tensors, maybe code; save model.state_dict() alone") from error
    except Exception as error:  # a parser can raise any type on a hostile file
        raise DataError(f"{path} is damaged: {error!r:.200}") from error
    if not isinstance(state, dict) or not all(map(_is_entry, state.items())):
        raise DataError(f"{path} is not a state_dict, a table of tensors by name; save model.state_dict() alone")
    if sum(tensor.nbytes for tensor in state.values()) > 2 * size:  # a view of one number can have any size
        raise DataError(f"{path} is damaged: its tensors would take more than twice its size")
    return state


def _is_entry(item: tuple[Any, Any]) -> bool:
    name, value = item
    plain = isinstance(value, Tensor) and value.layout is torch.strided and value.device.type == "cpu"
    return isinstance(name, str) and plain and not value.is_quantized
