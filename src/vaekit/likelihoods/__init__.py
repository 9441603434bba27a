"""Likelihoods p(x | z, c): modules that return a distribution over x with batch shape (K, B).

A likelihood has the name of the distribution of its values: `Poisson` here is a module, `vaekit.distributions.Poisson`
the distribution that it returns.

| values of x | likelihoods | x |
|---|---|---|
| pixels in [0, 1] | `Bernoulli`, `ContinuousBernoulli` | as it is |
| any real numbers | `Normal`, `Laplace` | as it is |
| 256 grey levels | `DiscretizedLogistic`, `DiscretizedLogisticMixture`, `BetaBinomial`, `Categorical` | k/255 |
| counts | `Poisson`, `NegativeBinomial` | whole numbers |
| columns of a table | `Columns` | numbers, and indices of levels |

| file | what |
|---|---|
| `base` | the contract, and the base of likelihoods of independent values |
| `unit`, `grey`, `counts`, `location_scale` | pixels, grey levels, counts, real numbers |
| `per_column`, `masking` | tables; self-masking: whether a value is missing depends on it |
"""

from .base import Likelihood, PerValueLikelihood
from .counts import NegativeBinomial, Poisson
from .grey import BetaBinomial, Categorical, DiscretizedLogistic, DiscretizedLogisticMixture
from .location_scale import Laplace, LocationScale, Normal
from .per_column import Columns
from .unit import Bernoulli, ContinuousBernoulli, bernoulli

__all__ = [
    "Bernoulli",
    "BetaBinomial",
    "Categorical",
    "Columns",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "Laplace",
    "Likelihood",
    "LocationScale",
    "NegativeBinomial",
    "Normal",
    "PerValueLikelihood",
    "Poisson",
    "bernoulli",
]
