"""Fit a mixture of normals with full covariances to latents, by expectation maximization.

Not for: the mixture itself (`full_covariance`), which is a prior like any other.
"""

import torch
from torch import Tensor

from ..data.batch import as_tensor
from ..errors import DataError
from .full_covariance import FullCovarianceNormalMixture

STEPS = 100
GAIN = 1e-3  # least gain of a step, in nats per latent
LATENTS_AT_A_TIME = 2048  # with residuals in memory


@torch.no_grad()
def fit_mixture(prior: FullCovarianceNormalMixture, z: Tensor, labels: Tensor | None = None) -> list[list[float]]:
    """Fit a mixture to latents: the maximum of the posterior density of its parameters, by expectation maximization.

    Each component starts at a random latent and counts as if it had seen Z more points with the covariance
    Σ/K^(2/Z), where Σ is the covariance of all latents. So no component shrinks to a point. Classes are fitted one by
    one; the components of a class without latents are fitted to all latents.

    Arguments:
        prior: The mixture; its parameters are set.
        z: Latents, shape (N, Z).
        labels: Classes of the latents, shape (N,), for a mixture with a context; latents of class −1 are left out.

    Returns:
        For each class the objective after every step: log density and penalty, nats per latent.

    Raises:
        DataError: z does not have the shape (N, Z), N ≥ 1, or is not finite; or there is not one label for each latent,
            or a label is not a class.

    Reference: Dempster, Laird and Rubin 1977, "Maximum likelihood from incomplete data via the EM algorithm", JRSS B
    39; Fraley and Raftery 2007, doi:10.1007/s00357-007-0004-5, for the scale of the covariance.
    """
    z = as_tensor(z, "z").to("cpu", torch.float64)
    if z.ndim != 2 or not len(z) or z.shape[1:] != prior.loc.shape[1:] or not bool(z.isfinite().all()):
        raise DataError(f"z must be finite latents, shape (N, {prior.loc.shape[1]}), N ≥ 1, got {tuple(z.shape)}")
    labels = None if labels is None else as_tensor(labels, "labels").to("cpu")
    if labels is not None and labels.shape != z.shape[:1]:
        raise DataError(f"labels must be ({len(z)},), one per latent, got {tuple(labels.shape)}")
    classes = prior.context_size or 1
    if labels is not None and prior.context_size and int(labels.max()) >= classes:
        raise DataError(f"labels must be from 0 to {classes - 1}, or −1 if unknown, got {int(labels.max())}")
    ascents = []
    for label in range(classes):
        members = z if labels is None or not prior.context_size else z[labels == label]
        components = torch.arange(label, len(prior.loc), classes)
        members = members if len(members) else z
        loc, covariance, weights, ascent = _ascend(members, len(components))
        tril = torch.linalg.inv(torch.linalg.cholesky(covariance))
        below = tril.tril(-1) + tril.diagonal(dim1=1, dim2=2).log().diag_embed()
        prior.loc[components] = loc.to(prior.loc)
        prior.tril[components] = below.to(prior.tril)
        prior.logits[components] = weights.log().to(prior.logits)
        ascents.append(ascent)
    return ascents


def _ascend(z: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor, list[float]]:
    """Means (k, Z), covariances (k, Z, Z) and weights (k,) of a mixture, and the objective after every step."""
    n, size = z.shape
    pooled = torch.cov(z.T).reshape(size, size) if n > 1 else torch.eye(size, dtype=z.dtype)
    pooled = pooled + (1e-6 * pooled.trace() / size + 1e-12) * torch.eye(size, dtype=z.dtype)
    scale = pooled / k ** (2 / size)
    loc = z[torch.randperm(n)[torch.arange(k) % n]].clone()
    covariance, weights = scale.expand(k, -1, -1).clone(), torch.full((k,), 1 / k, dtype=z.dtype)
    ascent: list[float] = []
    for _ in range(STEPS):
        log_p = _log_joint(z, loc, covariance, weights)
        evidence = log_p.logsumexp(1)
        ascent.append((evidence.sum() + _penalty(covariance, scale)).item() / n)
        if len(ascent) > 1 and ascent[-1] - ascent[-2] < GAIN:
            break
        shares = (log_p - evidence.unsqueeze(1)).exp()
        counts = shares.sum(0)
        loc = torch.where(counts[:, None] > 1e-9, (shares.T @ z) / counts.clamp_min(1e-9)[:, None], loc)
        for i in range(k):
            away = z - loc[i]
            covariance[i] = (size * scale + (away * shares[:, i : i + 1]).T @ away) / (size + counts[i])
        weights = (counts / n).clamp_min(1e-12)
    return loc, covariance, weights / weights.sum(), ascent


def _log_joint(z: Tensor, loc: Tensor, covariance: Tensor, weights: Tensor) -> Tensor:
    """Log of weight and density of each component, shape (N, K)."""
    tril = torch.linalg.cholesky(covariance)
    half = torch.linalg.inv(tril)
    shift = (half @ loc.unsqueeze(-1)).squeeze(-1)
    constant = weights.log() - tril.diagonal(dim1=1, dim2=2).log().sum(1)
    constant = constant - 0.5 * loc.shape[1] * torch.log(torch.tensor(2 * torch.pi, dtype=z.dtype))
    parts = []
    for rows in z.split(LATENTS_AT_A_TIME):
        residuals = (rows @ half.flatten(0, 1).T).unflatten(1, shift.shape) - shift
        parts.append(constant - 0.5 * residuals.square().sum(2))
    return torch.cat(parts)


def _penalty(covariance: Tensor, scale: Tensor) -> Tensor:
    """Log density of Z points of covariance `scale` under each component, summed over components."""
    size = scale.shape[0]
    trace = torch.linalg.solve(covariance, scale.expand_as(covariance)).diagonal(dim1=1, dim2=2).sum(1)
    penalty: Tensor = (-0.5 * size * (torch.logdet(covariance) + trace)).sum()
    return penalty
