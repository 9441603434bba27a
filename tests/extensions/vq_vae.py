"""A vector-quantized VAE as somebody else would write it: 7×7 codes, a commitment cost, and a uniform prior over codes.

Reference: van den Oord, Vinyals and Kavukcuoglu 2017, arXiv:1711.00937, eq. 3; the terms are summed here, not averaged.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution

import tiny
from vaekit.data import Dataset


class Chosen(Distribution):
    """One certain grid of codes for each row, with the straight-through gradient."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, z: Tensor, penalties: dict[str, Tensor]) -> None:
        self.z = z
        self.penalties = penalties
        super().__init__(z.shape[:1], z.shape[1:], validate_args=False)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.z.expand(*sample_shape, *self.z.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        return value.new_zeros(value.shape[:-3])

    @property
    def mean(self) -> Tensor:
        return self.z


class Quantized(nn.Module):
    """A posterior that takes the code nearest to what the encoder says, at every place of a feature map."""

    def __init__(self, net: nn.Module, latent_size: int, wanted_shape: tuple[int, ...], *, codes: int = 16) -> None:
        super().__init__()
        self.net = net
        self.latent_shape = wanted_shape
        self.map = [shape[1:] for shape in net.map_shapes].index(wanted_shape[1:])
        self.to_codes = nn.Conv2d(net.map_shapes[self.map][0], latent_size, 1)
        self.codes = nn.Parameter(torch.randn(codes, latent_size))

    def forward(self, x: Tensor, c: Tensor | None = None) -> Chosen:
        said = self.to_codes(self.net.maps(x, c)[self.map])
        distances = (said.movedim(1, -1).unsqueeze(-2) - self.codes).square().sum(-1)
        nearest = self.codes[distances.argmin(-1)].movedim(-1, 1)
        penalties = {
            "codebook": (nearest - said.detach()).square().flatten(1).sum(1),
            "commitment": 0.25 * (nearest.detach() - said).square().flatten(1).sum(1),
        }
        return Chosen(said + (nearest - said).detach(), penalties)


class AnyCode(Distribution):
    """Every code as likely as any other, at every place."""

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, codes: Tensor, shape: tuple[int, ...]) -> None:
        self.codes = codes
        super().__init__(Size(), Size(shape), validate_args=False)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        places = (*sample_shape, *self.event_shape[1:])
        index = torch.randint(len(self.codes), places, device=self.codes.device)
        return self.codes.detach()[index].movedim(-1, -3)

    def log_prob(self, value: Tensor) -> Tensor:
        places = math.prod(self.event_shape[1:])
        return value.new_full(value.shape[:-3], -places * math.log(len(self.codes)))


class UniformCodes(nn.Module):
    """The prior of a quantized posterior, whose codes it shares."""

    def __init__(self, posterior: nn.Module, latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        self._posterior = (posterior,)
        self.latent_shape = latent_shape

    def forward(self, c: Tensor | None = None) -> AnyCode:
        return AnyCode(self._posterior[0].codes, self.latent_shape)


def dataset(name: str = "mnist", **_: object) -> Dataset:
    """The stripes of `tiny`, in the middle of 28×28 pixels."""
    small = tiny.dataset(name)
    splits = []
    for split in (small.train, small.validation, small.test):
        images = nn.functional.pad(split.x[:], (10, 10, 10, 10))
        splits.append(type(split)(images, split.labels))
    return Dataset(name, *splits, classes=small.classes, checksum=small.checksum)
