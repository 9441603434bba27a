"""Checks of `reparametrize`: the distribution of its draws, and the gradients that pass through it."""

import math
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from .sheet import Mistake

DRAWN_ROWS = 40_000  # the standard error of a standard deviation is then 0.35 %
MU = torch.tensor([0.7, -1.6, 2.5])
LOGVAR = torch.tensor([-1.3, 0.9, -0.6])
SIGMA = (LOGVAR / 2).exp()

# Mean and standard deviation of a draw, and the mistake that they show.
MOMENTS: list[tuple[Tensor, Tensor, str]] = [
    (MU, LOGVAR.exp(), "exp(logvar) is the variance; σ is its square root, exp(logvar / 2)"),
    (MU, LOGVAR.abs(), "logvar itself is used as σ; σ is exp(logvar / 2)"),
    (MU, (-LOGVAR / 2).exp(), "σ has the wrong sign in its exponent; it is exp(logvar / 2)"),
    (MU, (2 * LOGVAR).exp(), "σ is exp(logvar / 2), not exp(2 · logvar)"),
    (MU, torch.ones(3), "σ is left out; z is mu + σ·ε"),
    (torch.zeros(3), SIGMA, "mu is left out; z is mu + σ·ε"),
    (SIGMA, MU.abs(), "mu and σ have changed places; z is mu + σ·ε"),
    (MU + SIGMA / 2, SIGMA / math.sqrt(12), "ε is uniform (torch.rand); a normal one is torch.randn_like(mu)"),
    (MU + SIGMA, torch.zeros(3), "ε is the constant 1; draw it with torch.randn_like(mu)"),
]


def function(student: ModuleType, name: str) -> Callable[..., Tensor]:
    """A function of the student's module.

    Raises:
        Mistake: The module has no such function.
    """
    function = getattr(student, name, None)
    if not callable(function):
        raise Mistake(f"There is no function {name}.")
    return function


def _draw(student: ModuleType, mu: Tensor, logvar: Tensor) -> Tensor:
    z = function(student, "reparametrize")(mu, logvar)
    if z is None:
        raise Mistake("reparametrize is still blank: it returns None.")
    if not isinstance(z, Tensor):
        raise Mistake(f"reparametrize returns a {type(z).__name__}; z is a tensor of mu's shape.")
    if z.shape != mu.shape:
        raise Mistake(f"z has shape {tuple(z.shape)} where mu has {tuple(mu.shape)}; both are (N, Z).")
    return z


def distribution(student: ModuleType) -> None:
    """Draws have mean mu and standard deviation exp(logvar / 2), each with a noise of its own."""
    mu, logvar = MU.expand(DRAWN_ROWS, 3), LOGVAR.expand(DRAWN_ROWS, 3)
    with torch.no_grad():
        z, again = _draw(student, mu.clone(), logvar.clone()), _draw(student, mu.clone(), logvar.clone())
    mean, std = z.mean(0), z.std(0)
    if z.isnan().any():
        raise Mistake("z has NaN: logvar may be negative, so neither its root nor its logarithm exists.")
    if _near(std, torch.zeros(3)) and not torch.equal(z, again):
        raise Mistake("The whole batch shares one ε; every row needs its own: torch.randn_like(mu).")
    if torch.equal(z, again):
        constant = next((words for m, s, words in MOMENTS if _near(mean, m) and _near(std, s)), None)
        raise Mistake(f"z is the same in every call: {constant or 'no noise is drawn, or the seed is set within'}.")
    if not (_near(mean, MU) and _near(std, SIGMA)):
        raise Mistake(_words(mean, std))
    if abs(torch.corrcoef(z.T)[0, 1]) > 0.1:
        raise Mistake("All latents of a row share one ε; each needs its own: torch.randn_like(mu).")


def _near(value: Tensor, target: Tensor) -> bool:
    """Whether a value is within about eight standard errors of its target."""
    return torch.allclose(value.float(), target, rtol=0.03, atol=0.05)


def _words(mean: Tensor, std: Tensor) -> str:
    numbers = (
        f"With mu {MU[0]:.1f} and logvar {LOGVAR[0]:.1f}, z has mean {mean[0]:.2f} and std {std[0]:.2f} instead of "
        f"{MU[0]:.2f} and {SIGMA[0]:.2f}"
    )
    for expected_mean, expected_std, words in MOMENTS:
        if _near(mean, expected_mean) and _near(std, expected_std):
            return f"{numbers}: {words}."
    return f"{numbers}; z is mu + σ·ε with σ = exp(logvar / 2)."


def gradient(student: ModuleType) -> None:
    """Gradients reach mu and logvar."""
    mu, logvar = MU.repeat(8, 1).requires_grad_(), LOGVAR.repeat(8, 1).requires_grad_()
    z = _draw(student, mu, logvar)
    if z.requires_grad:
        z.sum().backward()
    require_gradients([("mu", mu.grad), ("logvar", logvar.grad)])


def require_gradients(gradients: list[tuple[str, Tensor | None]]) -> None:
    """Complain of gradients that are missing or zero.

    Raises:
        Mistake: A gradient is missing or zero.
    """
    without = [name for name, value in gradients if value is None or not value.any()]
    if without:
        raise Mistake(
            f"No gradient reaches {' or '.join(without)}, so the encoder cannot learn. A sample drawn by "
            "torch.normal(mu, sigma) or .sample() has none, nor has anything detached; draw ε by itself and compute "
            "mu + σ·ε."
        )
