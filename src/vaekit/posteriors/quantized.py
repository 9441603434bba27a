"""Posteriors over a grid of codes: at every place of a feature map the encoder's output becomes the nearest code.

With a point mass q and a prior over codes the ELBO is −distortion + log p(codes): a bound on log p(x).

Not for: learned codes (`vector_quantized`), or priors over codes (`vaekit.priors.code_priors`).
"""

from abc import abstractmethod
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ..distributions import CertainCodes, at_least_float32, full_precision
from ..errors import ConfigError, check_count
from ..nets.base import map_shapes_of, maps_of
from .base import Posterior

MOST_CODES = 1 << 20


class CodesPosterior(Posterior):
    """The base of posteriors over codes: the encoder's output at every place, and how often each code is used.

    If the decoder reads a grid and the encoder has a feature map of that size, the places are those of the grid.
    Otherwise the latents are a sequence of `places` codes. A subclass gives `forward`, `codes_of` and `index_of`.

    Arguments:
        net: Network (B, *event), (B, C) → (B, features), with feature maps where latents are a grid.
        features: Width of the network's output.
        size: D, length of a code.
        wanted_shape: Shape of latents that suits the decoder (`Decoder.wanted_shape`).
        places: Number of codes of a row, if the decoder reads no grid.

    Attributes:
        num_codes: Number of codes.
    """

    latent_kind = "codes"
    num_codes: int

    def __init__(self, net: nn.Module, features: int, size: int, wanted_shape: Sequence[int], places: int) -> None:
        check_count("places", places, 1, MOST_CODES)
        grid = tuple(wanted_shape[1:])
        shapes = map_shapes_of(net, features)
        grids = [tuple(shape[1:]) for shape in shapes]
        index = grids.index(grid) if len(grid) == 2 and grid in grids else None
        super().__init__((size, *((places,) if index is None else grid)))
        self.net = net
        self.map_index = index
        if index is None:
            self.to_codes: nn.Module = nn.Linear(features, size * places)
        else:
            self.to_codes = nn.Conv2d(shapes[index][0], size, 1)

    def unquantized(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """The output of the encoder before it is quantized, shape (B, D, *places)."""
        if self.map_index is None:
            h = at_least_float32(self.net(x, c))
            with full_precision(h):
                flat: Tensor = self.to_codes(h)
                z_e: Tensor = flat.unflatten(-1, self.latent_shape)
                return z_e
        h = at_least_float32(maps_of(self.net, x, c)[self.map_index])
        with full_precision(h):
            grid: Tensor = self.to_codes(h)
            return grid

    @abstractmethod
    def codes_of(self, index: Tensor) -> Tensor:
        """The codes with these indices, shape (..., *places): latents, shape (..., D, *places)."""

    @abstractmethod
    def index_of(self, z: Tensor) -> Tensor:
        """The indices of the codes, shape (..., *places), in latents of shape (..., D, *places)."""

    def vectors(self, z: Tensor) -> Tensor:
        """Latents with the D values of a place last, shape (..., *places, D)."""
        return z.movedim(-len(self.latent_shape), -1)

    def grid(self, vectors: Tensor) -> Tensor:
        """The inverse of `vectors`."""
        return vectors.movedim(-1, -len(self.latent_shape))

    def usage(self, index: Tensor) -> dict[str, Tensor]:
        """The perplexity of the codes of a batch, shape (B,), the same for all rows."""
        counts = index.flatten().bincount(minlength=self.num_codes)
        return {"perplexity": perplexity(counts).expand(len(index))}


class FSQPosterior(CodesPosterior):
    """Finite scalar quantization: each of D values is rounded to one of L_d levels, which makes Π L_d codes.

    The codes are not learned, so that none can die; the gradient passes the rounding as if it were not there.

    Arguments:
        net: See `CodesPosterior`.
        features: Width of the network's output.
        wanted_shape: Shape of latents that suits the decoder (`Decoder.wanted_shape`).
        levels: L_d, each at least 2; their number is D.
        places: Number of codes of a row, if the decoder reads no grid.

    Reference: Mentzer et al. 2023, arXiv:2309.15505, section 3 and appendix A.1.
    """

    reach: Tensor
    shift: Tensor
    offset: Tensor
    lowest: Tensor
    basis: Tensor

    def __init__(
        self,
        net: nn.Module,
        features: int,
        wanted_shape: Sequence[int],
        *,
        levels: Sequence[int] = (8, 5, 5, 5),
        places: int = 16,
    ) -> None:
        if not levels:
            raise ConfigError("levels must name at least one number of levels, got []")
        for level in levels:
            check_count("levels", level, 2, MOST_CODES)
        check_count("the product of levels", prod(levels), 2, MOST_CODES)
        super().__init__(net, features, len(levels), wanted_shape, places)
        self.num_codes = prod(levels)
        sizes = torch.tensor(levels, dtype=torch.float32)
        reach = (sizes - 1) * (1 + 1e-3) / 2
        offset = torch.where(sizes % 2 == 0, 0.5, 0.0)
        self.register_buffer("reach", reach, persistent=False)
        self.register_buffer("offset", offset, persistent=False)
        self.register_buffer("shift", (offset / reach).atanh(), persistent=False)
        self.register_buffer("lowest", (sizes / 2).floor(), persistent=False)
        self.register_buffer("basis", torch.tensor([prod(levels[:i]) for i in range(len(levels))]), persistent=False)
        self.levels = tuple(levels)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """The codes of each row of x."""
        vectors = self.vectors(self.unquantized(x, c))
        bounded = (vectors + self.shift).tanh() * self.reach - self.offset
        exact = bounded.detach().round()
        rounded = (exact + (bounded - bounded.detach())) / self.lowest
        return CertainCodes(self.grid(rounded), logged=self.usage(self._index(exact)))

    def _index(self, digits: Tensor) -> Tensor:
        return ((digits + self.lowest).round().long() * self.basis).sum(-1)

    def index_of(self, z: Tensor) -> Tensor:
        """The indices of the codes."""
        return self._index(self.vectors(z.detach()) * self.lowest)

    def codes_of(self, index: Tensor) -> Tensor:
        """The codes with these indices."""
        sizes = torch.tensor(self.levels, device=index.device)
        digits = index.unsqueeze(-1) // self.basis % sizes
        return self.grid((digits - self.lowest) / self.lowest)


def perplexity(counts: Tensor) -> Tensor:
    """Exp of the entropy of the codes' shares: the number of codes in use, if all were used alike."""
    shares = counts / counts.sum()
    effective: Tensor = torch.special.entr(shares).sum().exp()
    return effective
