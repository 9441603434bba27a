"""Completions of a row of which too much is missing for importance weights.

Not for: a few missing values, which need weights and no chain (`imputation`).
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.distributions import Distribution

from ... import plot
from ...data import Batch
from ...distributions import CertainCodes, PointMass, draw_samples
from ...errors import ConfigError, DataError, check_count
from ...model import LatentVariableModel
from ...rng import generator_of, seeded
from ..batchwise import estimating, rows_as_batch
from .imputation import mask_of

HIDDEN_HALVES = ("bottom", "top", "left", "right")


def complete(
    model: LatentVariableModel, images: Batch | Tensor, hide: str, *, ways: int = 12, seed: int = 0
) -> plot.Picture:
    """A picture of half-hidden images: each image in a row with its completions by the model.

    Arguments:
        model: A model with densities, and a likelihood that factorizes over values.
        images: Shape (N, C, H, W); a `Batch` with the context or labels for a conditional model.
        hide: The half to hide: "bottom", "top", "left" or "right".
        ways: Number of completions of each image.
        seed: Seed of all random numbers.

    Raises:
        ConfigError: There is no such half, or `ways` is below 1.
        DataError: The images do not fit the model.
    """
    if hide not in HIDDEN_HALVES:
        raise ConfigError(f"hide must be bottom, top, left or right, got {hide!r:.60}", arguments=("hide",))
    check_count("ways", ways)
    images = model.to_model(rows_as_batch(images))
    model.check_values(images.zero_filled, images.observed)
    x = images.x.cpu()
    if x.ndim != 4 or not len(x):
        raise DataError(f"complete needs images (N, C, H, W) with N at least 1, got {tuple(x.shape)}")
    observed = torch.ones_like(x, dtype=torch.bool) if images.observed is None else images.observed.cpu().clone()
    dim = -2 if hide in ("bottom", "top") else -1
    half = x.shape[dim] // 2
    start, length = (half, x.shape[dim] - half) if hide in ("bottom", "right") else (0, half)
    observed.narrow(dim, start, length).fill_(False)
    drawn = completions(model, replace(images, observed=observed), ways, seed=seed).cpu()
    tiles = torch.cat((x[:, None], x.masked_fill(~observed, 0.5)[:, None], drawn.transpose(0, 1)), 1)
    heads = ["image", "given", *(str(i + 1) for i in range(ways))]
    title = f"The {hide} of each image is hidden; completions by the model"
    return plot.grid(tiles.flatten(0, 1), columns=ways + 2, heads=heads, title=title)


@torch.no_grad()
def completions(model: LatentVariableModel, batch: Batch, n: int, *, steps: int = 300, seed: int = 0) -> Tensor:
    """Draws of whole rows given their observed values: Metropolis within Gibbs, n chains for each row.

    Each step proposes z from q(z | x) for the row as it stands, accepts it with the probability that keeps
    p(z | x) invariant, and then draws the missing values from p(x | z). So the chain's distribution is
    p(z, x_missing | x_observed), however poor q is. The result shows the mean of x for the last z.

    Arguments:
        model: A model with densities, and a likelihood that factorizes over values.
        batch: Rows, x of shape (B, *event); `observed` says which values are known.
        n: Chains of each row.
        steps: Steps of each chain.
        seed: Seed of all random numbers.

    Returns:
        E[x | z] for missing values, and the row's own values elsewhere; shape (n, B, *event).

    Raises:
        ConfigError: n or steps is below 1, or the model's posterior has no density.

    Reference: Mattei and Frellsen 2018, "Leveraging the exact likelihood of deep latent variable models",
    arXiv:1802.04826, algorithm 1.
    """
    check_count("n", n)
    check_count("steps", steps)
    batch = model.to_model(batch)
    event = batch.x.shape[1:]
    x = batch.x.expand(n, *batch.x.shape).reshape(-1, *event)
    observed = mask_of(batch).expand(n, *batch.x.shape).reshape(-1, *event)
    c = None if batch.c is None else batch.c.repeat(n, 1)
    known = x.masked_fill(~observed, 0)
    with estimating(model), seeded(generator_of(seed)):
        q = model.posterior_of(Batch(known, c=c, observed=observed))
        if isinstance(q, PointMass | CertainCodes):
            raise ConfigError("the encoder of this model gives a single latent, so there is only one completion")
        z = draw_samples(q, 1)[0]
        p = model.likelihood(z, c)
        x = torch.where(observed, known, p.sample())
        for _ in range(steps):
            z = _moved(model, x, z, c)
            x = torch.where(observed, known, model.likelihood(z, c).sample())
        ends = torch.where(observed, known, model.likelihood(z, c).mean)
    return ends.reshape(n, *batch.x.shape)


def _moved(model: LatentVariableModel, x: Tensor, z: Tensor, c: Tensor | None) -> Tensor:
    """Latents after one Metropolis-Hastings step with the proposal q(z | x)."""
    q, prior = model.posterior(x, c), model.prior(c)
    proposed = draw_samples(q, 1)[0]
    log_ratio = _log_weight(model, q, prior, x, proposed, c) - _log_weight(model, q, prior, x, z, c)
    accepted = torch.rand(len(z), device=z.device, dtype=log_ratio.dtype).log() < log_ratio
    return torch.where(accepted.reshape(-1, *[1] * (z.ndim - 1)), proposed, z)


def _log_weight(
    model: LatentVariableModel, q: Distribution, prior: Distribution, x: Tensor, z: Tensor, c: Tensor | None
) -> Tensor:
    """Log p(x, z) − log q(z | x), shape (N,)."""
    return model.likelihood(z, c).log_prob(x) + prior.log_prob(z) - q.log_prob(z)
