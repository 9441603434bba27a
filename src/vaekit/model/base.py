"""A latent-variable model: three methods that return distributions, and what follows from them.

Not for: a factor itself (`nets`, `posteriors`, `priors`, `likelihoods`) or a loss (`objectives`).
"""

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ..data import Batch
from ..data.batch import as_tensor, check_observed
from ..distributions import centre, draw_rows, draw_samples, full_precision, mean_of, penalties_of
from ..errors import ConfigError, DataError, check_count
from ..rng import seeded
from . import weight_files
from .draw import Draw, antithetic_pairs, levels_of
from .inputs import Context, ModelInputs


class LatentVariableModel(ModelInputs, ABC):
    """A model p(x | z, c) p(z | c) with a posterior q(z | x, c).

    A subclass gives the three methods `posterior`, `prior` and `likelihood` and, where they differ from the defaults,
    the attributes below. Everything else follows, here and in the trainer, the evaluator and the pictures.

    The distributions may have the attributes and methods that `vaekit.distributions.protocols` lists, such as
    `penalties` of the posterior: named terms of shape (B,), which are subtracted from the objective.

    Attributes:
        latent_size: Z, how many values z has.
        latent_shape: Event shape of z; (Z,), unless a model says otherwise.
        context_size: C, the width of c; 0 for an unconditional model.
        takes_classes: Whether the number of a class may be given in place of its one-hot row of c.
        class_names: Names of the classes, by which other data are numbered; None where they are not known.
        event_shape: Event shape of x; None if the model takes every shape.
        made_of: The config, event shape and classes that made the model; None for one made by hand.
        value_range: Least and greatest value of x; None if every number is allowed.
        value_kind: Meaning of the numbers in x: "pixels", "real", "counts" (whole numbers) or "table" (columns).
        columns: The columns of a table, for a model of tables.
        column_kinds: Kinds of a table's columns as the config names them; None without a config.
        sees_missing: Whether the posterior gets NaN where a value is missing; otherwise it gets 0 there.
    """

    latent_size: int
    made_of: Mapping[str, Any] | None = None

    def extra_repr(self) -> str:
        """Shapes and number of weights, for `print`."""
        weights = f"{self.num_parameters:,} weights"
        return f"x {self.event_shape}, z {self.latent_shape}, context {self.context_size or None}, {weights}"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the weights and the config into one file, from which `vaekit.load` makes the model again.

        Arguments:
            path: The file, which is replaced, in the format of safetensors; its usual suffix is .safetensors.

        Raises:
            ConfigError: The model was not made of a config.
            RunError: The file cannot be written.
        """
        if self.made_of is None:
            raise ConfigError(
                f"save needs a model that build, train or load made from a config, and {type(self).__name__} is made "
                "by hand; torch.save(model.state_dict(), path) keeps its weights"
            )
        weight_files.write(Path(path), self.state_dict(), self.made_of)

    def load(self, path: str | os.PathLike[str]) -> Self:
        """Take the weights that `save` wrote for a model of the same shape; `vaekit.load` makes the whole model again.

        Arguments:
            path: The file.

        Raises:
            RunError: The file cannot be read, or holds the weights of another model.
        """
        self.load_state_dict(weight_files.read(Path(path), self.state_dict()))
        return self

    @cached_property
    def latent_shape(self) -> tuple[int, ...]:
        """Event shape of z: (Z,), unless a model says otherwise."""
        return (self.latent_size,)

    @abstractmethod
    def posterior(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """q(z | x, c) for x of shape (B, *event), c of shape (B, C): batch shape (B,), event shape latent_shape."""

    @abstractmethod
    def prior(self, c: Tensor | None = None) -> Distribution:
        """p(z | c): event shape latent_shape, batch shape () or (B,)."""

    @abstractmethod
    def likelihood(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """p(x | z, c) for z of shape (..., B, *latent_shape): batch shape (..., B), event shape of x."""

    def draw(
        self,
        x: Tensor,
        c: Context = None,
        *,
        k: int = 1,
        observed: Tensor | None = None,
        antithetic: bool = False,
    ) -> Draw:
        """Draw k latents for each row of x, with every density that an objective needs.

        Arguments:
            x: Data, shape (B, *event).
            c: Context, shape (B, C), or classes, shape (B,).
            k: Importance samples for each row.
            observed: Booleans of x's shape, true for known values; None if all are known. The posterior sees unknown
                values as 0, or as NaN if the model `sees_missing`; the likelihood leaves them out.
            antithetic: Draw pairs μ ± σε, or bits from u and 1 − u: the errors of a pair cancel in part. k must be
                even, and the posterior normal or Bernoulli.

        Raises:
            ConfigError: k is not a whole number of at least 1, or was passed in the place of c; or the prior's latents
                have another shape than the posterior's.
            DataError: The rows, the context or the mask do not fit the model.
        """
        self._check_samples("draw", c, k)
        x, observed = self._known(x, observed)
        c = self.context(c, len(x))
        if not len(x):
            raise DataError("there are 0 rows to draw latents for; x needs at least 1")
        q, p = self.posterior_of(Batch(x, c=c, observed=observed)), self.prior(c)
        with full_precision(x):
            z = antithetic_pairs(q, k) if antithetic else draw_samples(q, k)
        penalties = penalties_of(q)
        levels, likelihood = levels_of(z, q, p), self.likelihood(z, c)
        return Draw(x, z, levels, likelihood, penalties, q=q, p=p, observed=observed, antithetic=antithetic)

    def _known(self, x: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Rows x as `as_rows` gives them, with 0 for each value that is not observed, and the mask on their device."""
        x = self.as_rows(x)
        observed = self.known_values(x, observed)
        if observed is None:
            return x, None
        observed = as_tensor(observed, "observed").to(x.device)
        check_observed(observed, x)
        return x.masked_fill(~observed, 0), observed

    def posterior_of(self, batch: Batch) -> Distribution:
        """q(z | x, c) of the rows of a batch from `to_model`, whose missing values may be any numbers."""
        return self.posterior(self.posterior_input(batch), batch.c)

    def posterior_input(self, batch: Batch) -> Tensor:
        """The x that the posterior takes: missing values are 0, or NaN if the model `sees_missing`."""
        if batch.observed is None or not self.sees_missing:
            return batch.zero_filled
        return batch.x.masked_fill(~batch.observed, math.nan)

    @torch.no_grad()
    def encode(self, x: Tensor, c: Context = None, *, observed: Tensor | None = None) -> Tensor:
        """Mean of q(z | x, c), or the likeliest value of discrete latents, shape (B, *latent_shape).

        Arguments:
            x: Data, shape (B, *event).
            c: Context, as in `draw`.
            observed: Booleans of x's shape, true for known values, as in `draw`.
        """
        x, observed = self._known(x, observed)
        self.check_values(x, observed)
        return centre(self.posterior_of(Batch(x, c=self.context(c, len(x)), observed=observed)))

    @torch.no_grad()
    def decode(self, z: Tensor, c: Context = None) -> Tensor:
        """Mean of p(x | z, c), shape (B, *event), for z of shape (B, *latent_shape)."""
        z = as_tensor(z, "z")
        if tuple(z.shape[1:]) != self.latent_shape:
            shape = ", ".join(map(str, self.latent_shape))
            raise DataError(f"latents must have shape (N, {shape}), got {tuple(z.shape)}")
        z = z.to(self.device, self.dtype)
        return mean_of(self.likelihood(z, self.context(c, len(z))))

    @torch.no_grad()
    def reconstruct(self, x: Tensor, c: Context = None, *, observed: Tensor | None = None) -> Tensor:
        """Mean of p(x | z, c) at the z that `encode` gives, shape (B, *event)."""
        return self.decode(self.encode(x, c, observed=observed), c)

    @torch.no_grad()
    def sample(
        self, n: int, c: Context = None, *, generator: torch.Generator | None = None, noise: bool = False
    ) -> Tensor:
        """Draw z from the prior and return the mean of p(x | z, c), shape (n, *event).

        Arguments:
            n: Number of samples.
            c: Context, shape (n, C); classes, shape (n,); or one class for all.
            generator: Source of randomness; torch's global one by default.
            noise: Return a sample of p(x | z, c) instead of its mean.

        Raises:
            ConfigError: n is not a whole number of at least 1.
            DataError: The context does not fit the model.
        """
        check_count("n, the number of samples,", n)
        c = self.context(c, n)
        with seeded(generator):
            prior = self.prior(c)
            x = self.likelihood(draw_rows(prior, n), c)
            return x.sample() if noise else mean_of(x)

    @torch.no_grad()
    def log_prob(
        self,
        x: Tensor,
        c: Context = None,
        *,
        observed: Tensor | None = None,
        k: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Importance-weighted estimate of log p(x | c) from k samples, a lower bound in expectation.

        Arguments:
            x: Data, shape (B, *event). NaN is a missing value for a model that `sees_missing`.
            c: Context, as in `draw`.
            observed: Booleans of x's shape, true for known values: the density is that of the known values.
            k: Importance samples for each row.
            generator: Source of randomness; torch's global one by default.

        Returns:
            Shape (B,), nats.

        Raises:
            ConfigError: k is not a whole number of at least 1, or was passed in the place of c.
            DataError: The rows or the context do not fit the model.

        Reference: Burda, Grosse and Salakhutdinov 2015, arXiv:1509.00519, eq. 8.
        """
        self._check_samples("log_prob", c, k)
        x, observed = self._known(x, observed)
        self.check_values(x, observed)
        if not len(x):
            return x.new_zeros(0)  # torch has no densities of 0 rows
        with seeded(generator):
            draw = self.draw(x, c, k=k, observed=observed)
        log_w = draw.log_w
        return log_w.logsumexp(0) - math.log(k)

    def _check_samples(self, method: str, c: Context, k: int) -> None:
        if isinstance(c, int) and not self.context_size:
            raise ConfigError(f"{method} takes the number of samples by name: {method}(x, k={c})")
        check_count("k", k)

    @property
    def posterior_module(self) -> nn.Module | None:
        """The module that gives q(z | x, c); None for a model that is not made of parts."""
        return None

    def prior_parameters(self) -> list[nn.Parameter]:
        """The weights of the prior alone; none, unless a model says otherwise."""
        return []

    def decoder_parameters(self) -> list[nn.Parameter]:
        """The weights of the decoder alone; none, unless a model says otherwise."""
        return []

    @property
    def num_parameters(self) -> int:
        """The number of weights, trained or not."""
        return sum(parameter.numel() for parameter in self.parameters())


def check_model(model: object) -> None:
    """Check that something is a model.

    Raises:
        ConfigError: `model` is not a `LatentVariableModel`.
    """
    if not isinstance(model, LatentVariableModel):
        raise ConfigError(
            f"the model must be a LatentVariableModel, got {type(model).__name__}; compose your "
            "networks by Composed(posterior, prior, likelihood), or build a model by build('vae', event_shape=…)"
        )
