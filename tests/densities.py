"""What a density is measured against: quadrature, and its own samples."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributions import Distribution


class Features(nn.Module):
    """A small smooth network of x, shape (..., *event), and c: what posteriors are given in these tests."""

    def __init__(self, width_in: int, features: int, context_size: int = 0) -> None:
        super().__init__()
        self.layer = nn.Linear(width_in + context_size, features)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        return torch.tanh(self.layer(x.flatten(1) if c is None else torch.cat((x.flatten(1), c), 1)))


def shaken(module: nn.Module, scale: float = 0.5, seed: int = 0) -> nn.Module:
    """The module in float64 with noise on every parameter, so that nothing is at a symmetric or trivial start."""
    g = torch.Generator().manual_seed(seed)
    module = module.double()
    with torch.no_grad():
        for p in module.parameters():
            p += scale * torch.randn(p.shape, generator=g, dtype=p.dtype)
    return module


def unwatched() -> FakeTensorMode:
    """A block in which tensors have shapes and no values: whatever looks at a value, and would wait for it, raises."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def grid(size: int, half: float, n: int) -> tuple[Tensor, float]:
    """n points per dimension over [−half, half]^size, shape (n**size, size), and the volume of a cell."""
    axis = torch.linspace(-half, half, n, dtype=torch.float64)
    return torch.cartesian_prod(*[axis] * size).reshape(-1, size), (2 * half / (n - 1)) ** size


def expectations(
    p: Distribution, half: float, n: int, functions: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """∫ p(z) dz and ∫ p(z) f(z, log p(z)) dz by the trapezoid rule, for p with an empty batch shape."""
    z, volume = grid(p.event_shape[0], half, n)
    with torch.no_grad():
        log_p = p.log_prob(z)
    weight = log_p.exp() * volume
    return weight.sum(), (weight.unsqueeze(-1) * functions(z, log_p)).sum(0)


def moments(z: Tensor, log_p: Tensor) -> Tensor:
    """Statistics that tell densities apart, shape (n, 2·Z + 1): first and second powers, and the log-density."""
    return torch.cat((z, z.square(), log_p.unsqueeze(-1)), -1)


def z_scores(samples: Tensor, expected: Tensor | float) -> Tensor:
    """How many standard errors the mean over the first dimension is away from `expected`, the largest of them."""
    error = samples.std(0) / len(samples) ** 0.5
    return ((samples.mean(0) - expected) / error).abs().max()
