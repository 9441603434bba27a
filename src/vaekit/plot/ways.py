"""Ways between two latents: a straight line, a great circle, a path where the prior is dense.

Not for: the images along them (`decoding`).
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from ..distributions import Curved
from ..errors import ConfigError, unknown

Way = Literal["line", "circle", "density"]

FINE = 4  # points of a path of high density for each step, so that no step leaps over a valley
ITERATIONS, LEARNING_RATE = 300, 0.05
STEEPEST = 60.0  # the largest exponent in float32
TINY = 1e-30  # energy of a path without length


def between(
    ends: Tensor, steps: int, way: Way = "line", *, space: Curved | None = None, log_prob: Callable[[Tensor], Tensor]
) -> Tensor:
    """Even steps from ends[0] to ends[1].

    Arguments:
        ends: First and last latents, shape (2, R, *event).
        steps: N, both ends included.
        way: "line"; "circle", with a length that changes evenly; or "density".
        space: The curved space in which latents lie; the line is the shortest way in it.
        log_prob: Log-density of latents, evenly numbered along the way: (R, M, *event) → (R, M), nats.

    Returns:
        Shape (R, N, *event).

    Raises:
        ConfigError: The way is unknown, or it leaves a curved space.

    Reference: Shoemake 1985, doi:10.1145/325165.325242, and White 2016, arXiv:1609.04468, for the circle.
    """
    if way not in get_args(Way):
        raise ConfigError(unknown("path", way, get_args(Way)))
    if space is not None and way != "line":
        raise ConfigError(f"the latents lie {space.where}, where path='line' is the shortest way already; choose it")
    if way == "density":
        return even(_dense(ends, FINE * (steps - 1) + 1, log_prob), steps)
    if way == "circle":
        return circle(ends, steps)
    t = _times(ends, steps)
    first, last = ends[0, :, None], ends[1, :, None]
    return torch.lerp(first, last, t) if space is None else space.between(first, last, t)


def circle(ends: Tensor, steps: int) -> Tensor:
    """Steps along great circles about 0; along straight lines if there is no circle."""
    a, b = ends.flatten(2)[:, :, None]
    size_a, size_b = (torch.linalg.vector_norm(end, dim=-1, keepdim=True) for end in (a, b))
    cosine = (a * b).sum(-1, keepdim=True) / (size_a * size_b)
    angle = torch.acos(cosine.clamp(-1, 1))
    t = torch.linspace(0, 1, steps, dtype=ends.dtype, device=ends.device)[:, None]
    arc = torch.sin((1 - t) * angle) / size_a * a + torch.sin(t * angle) / size_b * b
    arc = ((1 - t) * size_a + t * size_b) * arc / torch.sin(angle)
    has_circle = (torch.minimum(angle, torch.pi - angle) > 1e-4) & (torch.minimum(size_a, size_b) > 1e-9)
    way: Tensor = torch.where(has_circle, arc, torch.lerp(a, b, t)).unflatten(-1, ends.shape[2:])
    return way


def _dense(ends: Tensor, n: int, log_prob: Callable[[Tensor], Tensor]) -> Tensor:
    """Short paths of n points, with lengths measured by the density: |dz|² p(z)^(−2/Z).

    The density of Z latents falls by the Zth power of a scale. So a component has the same diameter at any width, and a
    way through a valley is long. A geodesic has the least energy. The energy is minimised from the line and from the
    circle, and the better path is taken.

    Reference: Sajama and Orlitsky 2005, doi:10.1145/1102351.1102448, for distances by a power of the density.
    """
    ends = ends.detach()
    starts = [between(ends, n, "line", log_prob=log_prob), circle(ends, n)]
    paths, energies = zip(*[_relaxed(start, log_prob) for start in starts], strict=True)
    better = (energies[1] < energies[0]).reshape(-1, *[1] * (ends.ndim - 1))
    return torch.where(better, paths[1], paths[0])


@torch.enable_grad()
def _relaxed(path: Tensor, log_prob: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """A path of lower energy with the same ends, and its energy, shape (R,)."""
    inner = path[:, 1:-1].clone().requires_grad_()
    optimizer = torch.optim.Adam([inner], LEARNING_RATE)
    level = log_prob((path[:, 1:] + path[:, :-1]) / 2).detach().amax(1, keepdim=True)

    def energy() -> Tensor:
        whole = torch.cat((path[:, :1], inner, path[:, -1:]), 1)
        steps = whole.diff(dim=1).flatten(2)
        middle = (whole[:, 1:] + whole[:, :-1]) / 2
        exponent = -2 / steps.shape[-1] * (log_prob(middle) - level)
        return (steps.square().sum(-1) * exponent.clamp(max=STEEPEST).exp()).sum(1)

    for i in range(ITERATIONS):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - i / ITERATIONS)
        loss = energy().clamp_min(TINY).log().sum()  # 0 between equal ends, where nothing moves
        (inner.grad,) = torch.autograd.grad(loss, [inner])
        optimizer.step()
    with torch.no_grad():
        return torch.cat((path[:, :1], inner, path[:, -1:]), 1), energy()


def even(path: Tensor, steps: int) -> Tensor:
    """Points at equal distances along paths, shape (R, N, *event), of points of shape (R, M, *event)."""
    points = path.flatten(2)
    lengths = torch.linalg.vector_norm(points.diff(dim=1), dim=-1)
    reached = torch.cat((lengths.new_zeros(len(lengths), 1), lengths.cumsum(1)), 1)
    wanted = reached[:, -1:] * torch.linspace(0, 1, steps, dtype=reached.dtype, device=reached.device)
    after = torch.searchsorted(reached, wanted.contiguous()).clamp(1, points.shape[1] - 1)
    before = after - 1
    apart = reached.gather(1, after) - reached.gather(1, before)
    part = (wanted - reached.gather(1, before)) / apart.clamp_min(1e-12)
    ends = [points.gather(1, index[..., None].expand(-1, -1, points.shape[-1])) for index in (before, after)]
    spaced: Tensor = torch.lerp(ends[0], ends[1], part[..., None]).unflatten(-1, path.shape[2:])
    return spaced


def _times(ends: Tensor, steps: int) -> Tensor:
    return torch.linspace(0, 1, steps, dtype=ends.dtype, device=ends.device).reshape(-1, *[1] * (ends.ndim - 2))
