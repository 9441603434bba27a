"""Estimates of missing values: weighted samples of z given the observed values.

Everything here is importance sampling with the posterior as the proposal, w_k = p(x_o, z_k) / q(z_k | x), normalized.
If the posterior is normal, all rows get the same noise, so that results for one row do not depend on the others.

Reference: Mattei and Frellsen 2019, "MIWAE", arXiv:1812.02633, section 3.

Not for: training on rows with missing values (`LatentVariableModel.draw`), or bounds of whole data sets (`bounds`).
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from ...data import Batch
from ...distributions import average_over, draw_samples, given_observed, resampled, weighted_mean
from ...errors import DataError, check_count
from ...model import Draw, LatentVariableModel
from ...model.draw import levels_of
from ...rng import generator_of, seeded
from ..batchwise import DECODED_SAMPLES, estimating, slices

SLICE_MEMORY = 1 << 28  # bytes that a slice of rows may take
ENCODED_AT_A_TIME = 4096  # rows to encode


@dataclass(frozen=True, eq=False)
class WeightedLatents:
    """K weighted latents of each of B rows; they represent p(z | observed values).

    Arguments:
        model: The model.
        batch: The rows, as the model takes them; missing values are 0.
        draw: Latents, shape (K, B, *latent), and their densities.
    """

    model: LatentVariableModel
    batch: Batch
    draw: Draw

    @cached_property
    def log_prob(self) -> Tensor:
        """L_K, a lower bound on log p(observed values) in expectation, shape (B,), nats."""
        return self.log_w.logsumexp(0) - math.log(len(self.log_w))

    @cached_property
    def weights(self) -> Tensor:
        """Shares of the samples, shape (K, B); they add up to 1 in each row.

        Raises:
            DataError: None of the latents gives the observed values of a row a density.
        """
        return normalized_weights(self.log_w, self.batch.x, mask_of(self.batch))

    @cached_property
    def log_w(self) -> Tensor:
        """Log p(observed values, z) / q(z | observed values) of each sample, shape (K, B)."""
        with estimating(self.model):
            return self.draw.log_w

    def mean(self) -> Tensor:
        """E[x | observed values] of every value, missing or not, shape (B, *event)."""
        with estimating(self.model):
            return weighted_mean(self.draw.likelihood, self.weights)

    def best(self) -> Tensor:
        """One value for each gap: its mean, or the likelihood's `average(weights)`, which handles levels."""
        with estimating(self.model):
            return average_over(self.draw.likelihood, self.weights)

    def sample(self, n: int) -> Tensor:
        """Draws of every value of x given the observed ones, shape (n, B, *event), from torch's global stream.

        Each draw takes one of the K latents by its weight (sampling importance resampling), and then x from p(x | z).
        """
        with estimating(self.model):
            picked = torch.multinomial(self.weights.T, n, replacement=True).T
            drawn = resampled(self.draw.likelihood, picked)
            if drawn is not None:
                return drawn
            rows = torch.arange(len(self.batch), device=picked.device)
            likelihood = self.model.likelihood(self.draw.z[picked, rows], self.batch.c)
            return given_observed(likelihood, self.batch.x, mask_of(self.batch)).sample()

    def filled(self, values: Tensor) -> Tensor:
        """The rows with `values`, shape (..., B, *event), in their gaps."""
        return self.batch.x.where(mask_of(self.batch), values)


def weighted_latents(
    model: LatentVariableModel, batch: Batch, samples: int, *, seed: int = 0
) -> Iterator[WeightedLatents]:
    """The weighted latents of a few rows at a time, in order, so that memory stays bounded.

    Arguments:
        model: Any latent-variable model with densities.
        batch: Rows, x of shape (N, *event); `observed` says which values are known.
        samples: K latents of each row.
        seed: Seed of the noise, which all rows share.

    Raises:
        DataError: The rows do not fit the model.
        ConfigError: `samples` is below 1, or values are missing and the likelihood does not factorize over them.
    """
    check_count("samples", samples)
    batch = _prepared(model, batch)
    with estimating(model):
        cuts = slices(model, batch, max(samples, DECODED_SAMPLES), SLICE_MEMORY) if len(batch) else []
    for cut in cuts:
        with estimating(model):  # not around the yield: the caller's code is not part of it
            part = _weighted_rows(model, batch.rows(cut.rows), samples, seed)
        yield part


def filled_rows(
    model: LatentVariableModel, batches: Iterable[Batch], samples: int, *, draws: int = 0, seed: int = 0
) -> Tensor:
    """All rows with their gaps filled: by one value each, shape (1, N, *event), or by each of `draws` draws.

    Arguments:
        model: Any latent-variable model with densities.
        batches: The rows, as the model takes them.
        samples: K latents of each row.
        draws: Number of draws; 0 to fill each gap with its mean, or its most probable level.
        seed: Seed of the noise.

    Raises:
        ConfigError: `samples` is below 1, or `draws` below 0.
        DataError: There are 0 rows, they do not fit the model, or none of the latents gives a row a density.
    """
    check_count("draws", draws, 0)
    parts = []
    with torch.no_grad(), seeded(generator_of(seed)):
        for batch in batches:
            for part in weighted_latents(model, batch, samples, seed=seed):
                values = part.sample(draws) if draws else part.best()[None]
                parts.append(part.filled(values).cpu())
    if not parts:
        raise DataError("there are 0 rows to fill; give at least one")
    return torch.cat(parts, 1)


def _weighted_rows(model: LatentVariableModel, rows: Batch, samples: int, seed: int) -> WeightedLatents:
    q = model.posterior_of(rows)
    p = model.prior(rows.c)
    with seeded(generator_of(seed)):
        z = with_common_noise(q, samples)
    likelihood = given_observed(model.likelihood(z, rows.c), rows.x, mask_of(rows))
    draw = Draw(rows.x, z, levels_of(z, q, p), likelihood, q=q, p=p, observed=rows.observed)
    return WeightedLatents(model, rows, draw)


def normalized_weights(log_w: Tensor, x: Tensor, observed: Tensor) -> Tensor:
    """Weights that add up to 1 in each row, shape (K, B).

    Arguments:
        log_w: Logarithms of K weights of each of B rows, shape (K, B).
        x: The rows, shape (B, *event).
        observed: Which of their values are observed, booleans of that shape.

    Raises:
        DataError: All weights of a row are 0.
    """
    weights = log_w.softmax(0)
    impossible = weights.isnan().any(0)
    if bool(impossible.any()):
        row = int(impossible.nonzero()[0])
        values = x[row][observed[row]]
        extreme = values[values.abs().argmax()].item()
        raise DataError(
            f"none of {len(log_w)} latents gives these values a density: the one farthest from 0, {extreme:.6g} as the "
            "model takes it, may be too far from the training rows; correct it, or leave it out"
        )
    return weights


def mask_of(batch: Batch) -> Tensor:
    """Which values of x are observed, booleans of its shape."""
    return torch.ones_like(batch.x, dtype=torch.bool) if batch.observed is None else batch.observed


def with_common_noise(q: Distribution, k: int) -> Tensor:
    """K samples of each of B distributions, shape (K, B, *event), from torch's global stream.

    Normal distributions use the same noise for all B. Each sample is a draw from its distribution. The samples of
    different rows depend on each other; results for a single row stay valid. Other distributions draw their own
    noise.
    """
    if isinstance(q, Independent) and isinstance(q.base_dist, Normal):
        loc = q.base_dist.loc
        return loc + q.base_dist.scale * _noise(loc, k)
    if isinstance(q, MultivariateNormal):
        return q.loc + (q.scale_tril @ _noise(q.loc, k)[..., None])[..., 0]
    return draw_samples(q, k)


def _noise(loc: Tensor, k: int) -> Tensor:
    return torch.randn(k, 1, *loc.shape[1:], dtype=loc.dtype, device=loc.device)


def posterior_mean(model: LatentVariableModel, batch: Batch) -> Tensor:
    """Means of q(z | observed values), shape (N, *latent)."""
    batch = _prepared(model, batch)
    if not len(batch):
        return torch.zeros(0, *model.latent_shape)
    with estimating(model):
        rows = [batch.rows(slice(i, i + ENCODED_AT_A_TIME)) for i in range(0, len(batch), ENCODED_AT_A_TIME)]
        return torch.cat([model.posterior_of(part).mean for part in rows])


def _prepared(model: LatentVariableModel, batch: Batch) -> Batch:
    """Rows as the model takes them; missing values are 0."""
    batch = model.to_model(batch)
    batch = replace(batch, x=batch.zero_filled)
    model.check_values(batch.x, batch.observed)
    return batch
