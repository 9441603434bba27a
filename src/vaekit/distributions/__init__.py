"""Distributions that torch and zuko lack, or give with an inaccurate log-density in float32.

Flows are in `distributions.flow`, which imports zuko.

| file | what |
|---|---|
| `bernoulli`, `grey`, `counts`, `gamma` | pixels and counts; the gamma function for them |
| `protocols` | what a distribution may have beyond torch's methods, such as log p of the observed values |
| `columnwise` | rows of a table |
| `normal`, `cholesky`, `full_mixture` | normals, diagonal or with full covariance; mixtures with full covariances |
| `point_mass` | no noise at all |
| `curved`, `power_spherical`, `wrapped_normal` | curved spaces, and distributions on the sphere and the Poincaré ball |
| `relaxed`, `grids` | discrete latents, and grids of codes |
| `chain` | several levels of latents, one given another |
| `flow`, `polynomials` | normalizing flows; power series |
| `closed_form` | Kullback-Leibler divergences |
| `supports` | supports of distributions |
| `rows` | draws, one for each row or K of each |
| `precise` | float32 under a caller's autocast |

Not for: parameters made by a network (`likelihoods`, `posteriors`, `priors`).
"""

from .bernoulli import ContinuousBernoulli, IndependentBernoulli
from .chain import Chain, ChainStep, Recalling
from .cholesky import CholeskyNormal
from .closed_form import closed_form_kl
from .columnwise import ColumnBlock, Columnwise, LevelDistribution, level_probs
from .counts import NegativeBinomial, Poisson
from .curved import Curved, PoincareBall, UnitSphere, support_in
from .full_mixture import FullCovarianceMixture
from .gamma import log_gamma_rest
from .grey import GREY_LEVELS, BetaBinomial, DiscretizedLogistic, GreyLevelCategorical, grey_levels, nearest_grey_level
from .grids import CertainCodes, UniformCodes
from .normal import bounded, diagonal_normal
from .point_mass import PointMass
from .power_spherical import PowerSpherical, UniformSphere
from .precise import at_least_float32, full_precision
from .protocols import (
    average_over,
    given_observed,
    hard_of,
    is_relaxed,
    log_prob_observed,
    log_prob_of_values,
    logged_of,
    penalties_of,
    resampled,
    weighted_mean,
)
from .relaxed import GumbelSoftmax, centre, mean_of
from .rows import draw_rows, draw_samples
from .supports import is_discrete, support_of, takes_any_real
from .wrapped_normal import WrappedNormal, exponential_at_zero

__all__ = [
    "GREY_LEVELS",
    "BetaBinomial",
    "CertainCodes",
    "Chain",
    "ChainStep",
    "CholeskyNormal",
    "ColumnBlock",
    "Columnwise",
    "ContinuousBernoulli",
    "Curved",
    "DiscretizedLogistic",
    "FullCovarianceMixture",
    "GreyLevelCategorical",
    "GumbelSoftmax",
    "IndependentBernoulli",
    "LevelDistribution",
    "NegativeBinomial",
    "PoincareBall",
    "PointMass",
    "Poisson",
    "PowerSpherical",
    "Recalling",
    "UniformCodes",
    "UniformSphere",
    "UnitSphere",
    "WrappedNormal",
    "at_least_float32",
    "average_over",
    "bounded",
    "centre",
    "closed_form_kl",
    "diagonal_normal",
    "draw_rows",
    "draw_samples",
    "exponential_at_zero",
    "full_precision",
    "given_observed",
    "grey_levels",
    "hard_of",
    "is_discrete",
    "is_relaxed",
    "level_probs",
    "log_gamma_rest",
    "log_prob_observed",
    "log_prob_of_values",
    "logged_of",
    "mean_of",
    "nearest_grey_level",
    "penalties_of",
    "resampled",
    "support_in",
    "support_of",
    "takes_any_real",
    "weighted_mean",
]
