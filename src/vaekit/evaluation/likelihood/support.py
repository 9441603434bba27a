"""The supports of distributions: whether given rows have a likelihood, and which latents can be annealed.

Not for: the numbers themselves (`bounds`, `ais`).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch.distributions import Distribution

from ...data import Batch
from ...distributions import Chain, support_of, takes_any_real
from ...errors import ConfigError
from ...model import LatentVariableModel
from ...rng import seeded
from .. import batchwise
from ..values import Value


@dataclass(frozen=True)
class LikelihoodKind:
    """The kind of log p(x | z) for given rows.

    Arguments:
        discrete: Whether the likelihood is a probability rather than a density.
        inside: Whether all of these rows are in its support.
    """

    discrete: bool
    inside: bool

    @property
    def description(self) -> str:
        """The kind in words, for the protocol."""
        if not self.inside:
            return "not a likelihood: the rows have values outside of its support"
        return "probability" if self.discrete else "density, without dequantization"

    @property
    def warnings(self) -> list[str]:
        """A sentence where the numbers are not likelihoods."""
        if self.inside:
            return []
        if not self.discrete:
            return ["these rows have values outside of the likelihood's support, where its nats mean nothing"]
        return [
            "these rows have values (grey, not binary) that the likelihood gives no probability: its nats are a loss "
            "and not a log-likelihood, and its minimum depends on the row; binarize (data.binarize), or choose "
            "another likelihood, such as 'normal' or, for 8-bit images, 'discretized-logistic'"
        ]

    def named(self, values: list[Value], dimensions: float) -> list[Value]:
        """The values with their true kind, and with bits per dimension where these are defined."""
        if not self.inside:
            return [replace(value, kind="not a likelihood") if value.likelihood else value for value in values]
        if not self.discrete:
            return values
        named = []
        for value in values:
            named.append(value)
            if dimensions and value.likelihood and value.kind == "upper bound":  # of −log p(x)
                named.append(_bits_per_dimension(value, dimensions))
        return named


def _bits_per_dimension(nll: Value, dimensions: float) -> Value:
    scale = 1 / (dimensions * math.log(2))
    error, noise = (None if nats is None else nats * scale for nats in (nll.standard_error, nll.noise))
    return replace(
        nll, name="bits per dimension", value=nll.value * scale, standard_error=error, unit="bits/dim", noise=noise
    )


def likelihood_kind_of(model: LatentVariableModel, batches: Iterable[Batch]) -> LikelihoodKind:
    """The kind of the likelihood of all rows; one grey image among binary ones has no probability.

    Arguments:
        model: The model.
        batches: All rows as the model takes them, batch by batch.
    """
    kind = LikelihoodKind(discrete=False, inside=True)
    with batchwise.estimating(model), seeded(torch.Generator().manual_seed(0)):
        for batch in batches:
            x = batch.x
            p = model.likelihood(model.posterior_of(batch).sample(torch.Size((1,))), batch.c)
            support = support_of(p)
            if support is None:
                return LikelihoodKind(discrete=False, inside=True)  # a distribution that states no support is trusted
            if batch.observed is not None:
                x = x.where(batch.observed, p.sample()[0])  # missing values count as inside
            kind = LikelihoodKind(support.is_discrete, bool(support.check(x).all()))
            if not kind.inside:
                break
    return kind


def refuse_annealing(model: LatentVariableModel, rows: Batch) -> None:
    """Refuse latents that Hamiltonian transitions cannot move: the transitions walk over all real numbers.

    A distribution of torch may give a finite but wrong log-density outside of its support. Then the bounds would be
    wrong by any number of nats.

    Raises:
        ConfigError: The latents are not a vector; or the prior or the posterior is discrete, or does not have all real
            numbers as its support.
    """
    row = batchwise.batch_of(model, rows, 0, 1)
    with seeded(torch.Generator().manual_seed(0)):
        for name, p in (("posterior", model.posterior_of(row)), ("prior", model.prior(row.c))):
            for factor in _factors(p):
                _refuse_support(name, factor)
    if len(model.latent_shape) != 1:
        raise ConfigError(
            "annealed importance sampling needs latents that are a vector, but these have the shape "
            f"{tuple(model.latent_shape)}; leave annealing out",
            arguments=("annealing",),
        )


def _factors(p: Distribution) -> tuple[Distribution, ...]:
    return p.factors(p.sample()) if isinstance(p, Chain) else (p,)


def _refuse_support(name: str, p: Distribution) -> None:
    support = support_of(p)
    if support is None:
        return  # a distribution that states no support is trusted
    if support.is_discrete:
        raise ConfigError(
            f"annealed importance sampling needs continuous latents, but the {name} is discrete; leave annealing out",
            arguments=("annealing",),
        )
    z = p.sample()
    if not takes_any_real(support, z):
        raise ConfigError(
            f"annealed importance sampling needs latents that can be any real number, but the {name} has values in "
            f"{support} only; leave annealing out, or let the likelihood compute such a z from a real one",
            arguments=("annealing",),
        )
