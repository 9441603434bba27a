"""Devices by name, and how much memory one has."""

import torch

from ..errors import DeviceError
from ..store.files import MEMORY


def find_device(name: str = "auto") -> torch.device:
    """A device by name; "auto" is CUDA where there is one, then MPS, then the CPU.

    Raises:
        DeviceError: No such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.ones(1, device=device).item()  # of the device "meta" there are no values
    except (RuntimeError, AssertionError, ImportError, AttributeError, ValueError):
        here = ["cpu", *(["mps"] if torch.backends.mps.is_available() else [])]
        here += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        raise DeviceError(f"device {name!r:.120} is not here; available: {', '.join(here)}") from None
    return device


def memory_of(device: torch.device) -> int:
    """Bytes of memory that a device has: those of a CUDA device, or of the machine, which other devices share."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return MEMORY
