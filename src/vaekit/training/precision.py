"""A lower precision for the matrix products of networks, within a block. Weights, sums and densities stay float32.

Training uses it for its steps, and the importance-weighted bounds on request; nothing else does.
"""

import warnings
from types import TracebackType
from typing import Literal

import torch
from torch import nn

from ..errors import ConfigError, unknown
from ..model import LatentVariableModel
from ..nets import Network

PRECISIONS = ("auto", "fp32", "tf32", "bf16")
Precision = Literal["auto", "fp32", "tf32", "bf16"]


def find_precision(name: str, model: LatentVariableModel) -> str:
    """The precision of a name for a model on its device; "auto" is the lowest safe one that the hardware has.

    "auto" is "bf16" if the processor multiplies bfloat16 by itself (AVX-512 BF16, AMX, CUDA from Ampere on) and the
    likelihood tolerates network outputs of 8 bits: a Bernoulli's logits do, a mean in units of a learned σ does not.
    Else it is "tf32" on such a GPU, and "fp32" elsewhere. On a CPU it is never "bf16" if a convolution meets an image
    of one or two columns: oneDNN then reads memory that was never written, and the first step is NaN.

    Raises:
        ConfigError: The precision is unknown, or the device or the model cannot use it.
    """
    if name not in PRECISIONS:
        raise ConfigError(unknown("precision", name, PRECISIONS))
    device = model.device.type
    ampere = device == "cuda" and torch.cuda.get_device_capability(model.device) >= (8, 0)
    networks = _networks(model)
    if name == "auto":
        tolerant = bool(networks) and any(getattr(module, "tolerates_bf16", False) for module in model.modules())
        if tolerant and (ampere or (device == "cpu" and _multiplies_bf16() and not _convolves_columns(networks))):
            return "bf16"
        return "tf32" if ampere else "fp32"
    if name == "tf32" and device != "cuda":
        raise ConfigError(f"precision = 'tf32' is for CUDA devices, this is {device!r}; use 'auto' or 'fp32'")
    if name == "bf16":
        if not networks:
            raise ConfigError(
                f"precision = 'bf16' is for models made of vaekit.nets.Network, but {type(model).__name__} "
                "has none; use 'fp32'"
            )
        if device == "cpu" and _convolves_columns(networks):
            warnings.warn("'bf16' is wrong on a CPU for images of one or two columns; use 'fp32'", stacklevel=2)
        elif device == "cpu" and not _multiplies_bf16():
            warnings.warn("this processor has no bfloat16 products; 'bf16' will be slower than 'fp32'", stacklevel=2)
    return name


class LoweredPrecision:
    """Within the block the networks of a model multiply in this precision; outside nothing changes.

    Arguments:
        model: The model.
        precision: "fp32", "tf32" or "bf16".
    """

    def __init__(self, model: LatentVariableModel, precision: str) -> None:
        self.networks = _networks(model) if precision == "bf16" else []
        self.tf32 = precision == "tf32"

    def __enter__(self) -> None:
        self.dtypes_before = [network.dtype for network in self.networks]
        for network in self.networks:
            network.dtype = torch.bfloat16
        if self.tf32:
            self.matmul_before = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("high")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for network, dtype in zip(self.networks, self.dtypes_before, strict=True):
            network.dtype = dtype
        if self.tf32:
            torch.set_float32_matmul_precision(self.matmul_before)


def _networks(model: LatentVariableModel) -> list[Network]:
    return [module for module in model.modules() if isinstance(module, Network)]


def _convolves_columns(networks: list[Network]) -> bool:
    """Whether a convolution of a network may meet an image that is at most two pixels wide."""
    for network in networks:
        if any(isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) for module in network.modules()):
            widths = [shape[-1] for shape in (network.in_shape, network.out_shape) if len(shape) == 3]
            widths += [size[1] for size in getattr(network, "sizes", ())]
            if min(widths, default=3) <= 2:
                return True
    return False


def _multiplies_bf16() -> bool:
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))
