"""Devices by name, and how much memory one has."""

import torch

from ..errors import DeviceError
from ..store.files import MACHINE_MEMORY


def find_device(name: str = "auto") -> torch.device:
    """A device by name; "auto" is CUDA where there is one, then MPS, then the CPU.

    Raises:
        DeviceError: This machine does not have the device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.ones(1, device=device).item()  # the device "meta" has no values
    except (RuntimeError, AssertionError, ImportError, AttributeError, ValueError):
        available = ["cpu", *(["mps"] if torch.backends.mps.is_available() else [])]
        available += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        raise DeviceError(f"device {name!r:.120} is not here; available: {', '.join(available)}") from None
    return device


def memory_of(device: torch.device) -> int:
    """Memory of a device in bytes: a CUDA device's own, or the machine's, which other devices share."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return MACHINE_MEMORY
