"""A latent-variable model: three methods that return distributions, and what follows from them.

Not for: a factor itself (`nets`, `posteriors`, `priors`, `likelihoods`) or a loss (`objectives`).
"""

import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ..data import Batch
from ..data.batch import as_tensor, check_observed, reshape_hint
from ..data.pixels import to_floats
from ..data.table.columns import Column, check_encoded
from ..data.value_kinds import RANGES, ValueKind, check_values
from ..distributions import centre, draw_rows, draw_samples, full_precision, mean_of, penalties_of
from ..errors import ConfigError, DataError, RunError, check_count, is_count
from ..rng import seeded
from ..store import files, tensors
from .conditions import check_labels, rows_of_classes, rows_of_labels
from .draw import Draw, antithetic_pairs, levels_of
from .spec import ModelSpec

MADE_OF = "vaekit.model"  # in the file that `save` writes
Context = Tensor | int | None


class LatentVariableModel(nn.Module, ABC):
    """A model p(x | z, c) p(z | c) with a posterior q(z | x, c).

    A subclass gives the three methods `posterior`, `prior` and `likelihood` and, where they differ from the defaults,
    the attributes below. Everything else follows, here and in the trainer, the evaluator and the pictures.

    The distributions may have the attributes and methods that `vaekit.distributions.protocols` lists, such as
    `penalties` of the posterior: named terms of shape (B,), which are subtracted from the objective.

    Attributes:
        latent_size: Z, how many values z has.
        latent_shape: Event shape of z; (Z,), unless a model says otherwise.
        context_size: C, the width of c; 0 for an unconditional model.
        takes_classes: Whether a class can stand for its one-hot row of c.
        event_shape: Event shape of x, or None where any will do.
        made_of: The config, event shape and number of classes that made the model; None for one made by hand.
        value_range: Least and greatest value of x, or None where any will do.
        value_kind: Meaning of the numbers in x: "pixels", "real", "counts" (whole numbers) or "table" (columns).
        columns: The columns of a table, for a model of tables.
        sees_missing: Whether the posterior takes NaN for a missing value; others see 0 there.
    """

    latent_size: int
    context_size: int = 0
    takes_classes: bool = True
    event_shape: tuple[int, ...] | None = None
    made_of: Mapping[str, Any] | None = None
    value_range: tuple[float, float] | None = None
    columns: tuple[Column, ...] | None = None
    sees_missing: bool = False

    @property
    def spec(self) -> ModelSpec:
        """The model's shapes and the meaning of its numbers, as one record."""
        return ModelSpec(**{field.name: getattr(self, field.name) for field in fields(ModelSpec)})

    def set_spec(self, spec: ModelSpec) -> None:
        """Take over the shapes of a model and the meaning of its numbers."""
        self.latent_size = spec.latent_size
        for field in fields(spec):
            setattr(self, field.name, getattr(spec, field.name))

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
        content = tensors.pack(self.state_dict(), {MADE_OF: json.dumps(dict(self.made_of))})
        with files.file_errors("write", Path(path)):
            files.write(Path(path), content)

    def load(self, path: str | os.PathLike[str]) -> Self:
        """Take the weights that `save` wrote for a model of the same shape; `vaekit.load` makes the whole model again.

        Arguments:
            path: The file.

        Raises:
            RunError: The file cannot be read, or holds the weights of another model.
        """
        path = Path(path)
        weights, _ = tensors.unpack(files.read(path, tensors.WEIGHTS_LIMIT), path)
        expected = {name: tensor.shape for name, tensor in self.state_dict().items()}
        if {name: tensor.shape for name, tensor in weights.items()} != expected:
            raise RunError(f"{path} holds the weights of another model; vaekit.load({str(path)!r}) makes that model")
        self.load_state_dict(weights)
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
        k: int = 1,
        c: Context = None,
        *,
        observed: Tensor | None = None,
        antithetic: bool = False,
    ) -> Draw:
        """Draw k latents for each row of x, with every density that an objective needs.

        Arguments:
            x: Data, shape (B, *event).
            k: Importance samples for each row.
            c: Context, shape (B, C), or classes, shape (B,).
            observed: Booleans of x's shape, true for known values; None where all are known. The posterior sees the
                others as 0, or as NaN if it `sees_missing`; the likelihood leaves them out.
            antithetic: Draw pairs μ ± σε, or bits from u and 1 − u: the errors of a pair cancel in part. k must be
                even, and the posterior normal or Bernoulli.

        Raises:
            ConfigError: k is not a whole number of at least 1, or the prior's latents have another shape than the
                posterior's.
            DataError: The rows, the context or the mask do not fit the model.
        """
        _check_samples(k)
        x = self.as_rows(x)
        c = self.context(c, len(x))
        if observed is not None:
            observed = as_tensor(observed, "observed").to(x.device)
            check_observed(observed, x)
            x = x.masked_fill(~observed, 0)
        q = self.posterior(self.seen(x, observed), c)
        p = self.prior(c)
        with full_precision(x):
            z = antithetic_pairs(q, k) if antithetic else draw_samples(q, k)
        penalties = penalties_of(q)
        levels, likelihood = levels_of(z, q, p), self.likelihood(z, c)
        return Draw(x, z, levels, likelihood, penalties, q=q, p=p, observed=observed, antithetic=antithetic)

    def seen(self, x: Tensor, observed: Tensor | None) -> Tensor:
        """The posterior's input: x, with unobserved values as 0, or as NaN if the model `sees_missing`."""
        return x.masked_fill(~observed, math.nan) if self.sees_missing and observed is not None else x

    @torch.no_grad()
    def encode(self, x: Tensor, c: Context = None) -> Tensor:
        """Mean of q(z | x, c), or the likeliest value of discrete latents, shape (B, *latent_shape)."""
        return centre(self.posterior(self.checked(x), self.context(c, len(x))))

    @torch.no_grad()
    def decode(self, z: Tensor, c: Context = None) -> Tensor:
        """Mean of p(x | z, c), shape (B, *event), for z of shape (B, *latent_shape)."""
        z = as_tensor(z, "z")
        if tuple(z.shape[1:]) != self.latent_shape:
            shape = ", ".join(map(str, self.latent_shape))
            raise DataError(f"latents must have shape (N, {shape}), got {tuple(z.shape)}")
        z = z.to(self.device, next(self.parameters()).dtype)
        return mean_of(self.likelihood(z, self.context(c, len(z))))

    @torch.no_grad()
    def reconstruct(self, x: Tensor, c: Context = None) -> Tensor:
        """Mean of p(x | z, c) at the z that `encode` gives, shape (B, *event)."""
        return self.decode(self.encode(x, c), c)

    @torch.no_grad()
    def sample(
        self, n: int, c: Context = None, *, generator: torch.Generator | None = None, noise: bool = False
    ) -> Tensor:
        """Draw z from the prior and return the mean of p(x | z, c), shape (n, *event).

        Arguments:
            n: Number of samples.
            c: Context, shape (n, C); classes, shape (n,); or one class for all.
            generator: Source of randomness; torch's global one by default.
            noise: Sample x too, instead of the mean.
        """
        if not is_count(n):
            raise DataError(f"the number of samples must be a whole number, at least 1, got {n!r:.60}")
        c = self.context(c, n)
        with seeded(generator):
            prior = self.prior(c)
            x = self.likelihood(draw_rows(prior, n), c)
            return x.sample() if noise else mean_of(x)

    @torch.no_grad()
    def log_prob(self, x: Tensor, c: Context = None, *, k: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """Importance-weighted estimate of log p(x | c) from k samples, a lower bound in expectation.

        Returns:
            Shape (B,), nats.

        Raises:
            ConfigError: k is not a whole number of at least 1.
            DataError: The rows or the context do not fit the model.

        Reference: Burda, Grosse and Salakhutdinov 2015, arXiv:1509.00519, eq. 8.
        """
        _check_samples(k)
        x = self.checked(x)
        missing = x.isnan() if self.sees_missing else None
        observed = None if missing is None or not bool(missing.any()) else ~missing
        with seeded(generator):
            draw = self.draw(x, k, c, observed=observed)
        if not len(x):
            return x.new_zeros(0)  # torch has no densities of 0 rows
        log_w = draw.log_w
        return log_w.logsumexp(0) - math.log(k)

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
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self.parameters()).device

    @property
    def num_parameters(self) -> int:
        """The number of weights, trained or not."""
        return sum(parameter.numel() for parameter in self.parameters())

    # -- input of callers and loaders ----------------------------------------------------------------------------------

    @cached_property
    def value_kind(self) -> ValueKind:
        """The meaning of the numbers in x. By default it is "pixels" if the range is [0, 1], else "real"."""
        return "pixels" if self.value_range == RANGES["pixels"] else "real"

    def as_rows(self, x: Tensor) -> Tensor:
        """Rows x on the model's device, in the type of its weights; bytes become pixel / 255, unless x are counts.

        Nothing here waits for the device.

        Raises:
            DataError: x is not (B, *event_shape).
        """
        x, shape = as_tensor(x, "x"), self.event_shape
        if shape is not None and tuple(x.shape[1:]) != shape:
            single = "; these are the values of one row, x must be a batch of rows" if tuple(x.shape) == shape else ""
            hint = single or reshape_hint(x, shape)
            raise DataError(f"x must have shape ({', '.join(map(str, ('B', *shape)))}), got {tuple(x.shape)}{hint}")
        dtype = next(self.parameters()).dtype
        return to_floats(x.to(self.device), self.value_kind, dtype).to(dtype)

    def check_values(self, x: Tensor, observed: Tensor | None = None) -> None:
        """Refuse numbers, of any shape, that the model has no density for, where observed. This waits for the device.

        Raises:
            DataError: A value of x is outside `value_range` or not finite, or no value of its column of a table.
        """
        if self.columns is not None and x.ndim == 2:
            seen = x if observed is None else x.masked_fill(~observed.to(x.device), math.nan)
            check_encoded(self.columns, seen.detach().float().cpu().numpy())
        check_values(x.masked_fill(x.isnan(), 0) if self.sees_missing else x, self.value_range)

    def checked(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        """Rows x as `as_rows` gives them, with their values checked where observed.

        Raises:
            DataError: x has the wrong shape, or values that the model has no density for.
        """
        x = self.as_rows(x)
        self.check_values(x, observed)
        return x

    def context(self, c: Context, n: int) -> Tensor | None:
        """The context of n rows as floats, shape (n, C), from one-hot rows, classes, or one class for all.

        Raises:
            DataError: A conditional model gets no c, an unconditional one gets c, or c does not fit.
        """
        size = self.context_size
        if c is None:
            if size and not self.takes_classes:
                raise DataError(f"this model is conditional; pass rows of context, shape (N, {size}), as c")
            if size:
                raise DataError(f"this model is conditional on {size} classes; pass a class, 0 to {size - 1}, as c")
            return None
        if not size:
            raise DataError("this model is unconditional; leave the class out")
        c = as_tensor(c, "c, classes or rows of context,").to(self.device)
        if c.ndim == 0:
            c = c.expand(n)
        if c.ndim == 1:
            self._check_takes_classes()
            c = rows_of_classes(c, size)
        self._check_context(c, n)
        return c.to(next(self.parameters()).dtype)

    def to_model(self, batch: Batch) -> Batch:
        """A batch for the model: on its device, in its type, with one-hot rows of the labels as context.

        Nothing here waits for the device. The row of an unknown class, −1, is NaN.

        Raises:
            DataError: The shape of x is wrong, or a conditional model gets neither a context nor labels of its classes.
        """
        size = self.context_size
        if size and batch.c is None:
            self._check_takes_classes()
            batch = replace(batch, labels=check_labels(batch.labels, size))
        batch = batch.to(self.device)
        batch = replace(batch, x=self.as_rows(batch.x))
        if not size:
            return replace(batch, c=None)
        if batch.c is None:
            assert batch.labels is not None
            return replace(batch, c=rows_of_labels(batch.labels, size))
        self._check_context(batch.c, len(batch))
        return replace(batch, c=batch.c.to(batch.x.dtype))

    def _check_context(self, c: Tensor, n: int) -> None:
        if c.shape != (n, self.context_size):
            classes = f"; classes, shape ({n},), will do" if self.takes_classes else ""
            raise DataError(f"the context must have shape ({n}, {self.context_size}), got {tuple(c.shape)}{classes}")

    def _check_takes_classes(self) -> None:
        if not self.takes_classes:
            raise DataError(
                "a class cannot stand for this model's context, which holds other numbers too, such as a size factor; "
                f"pass rows of context, shape (N, {self.context_size})"
            )


def check_model(model: object) -> None:
    """Check that something is a model.

    Raises:
        ConfigError: `model` is not a `LatentVariableModel`.
    """
    if not isinstance(model, LatentVariableModel):
        raise ConfigError(
            f"the model must be a LatentVariableModel, got {type(model).__name__}; make one of your networks by "
            "Composed(posterior, prior, likelihood), or a whole one by build('vae', event_shape=…)"
        )


def _check_samples(k: Any) -> None:
    if np.ndim(k):
        raise ConfigError(
            f"k, the number of samples, must be a whole number, got {type(k).__name__} {tuple(np.shape(k))}; pass "
            "classes or a context by name: draw(x, c=c)"
        )
    check_count("k", k)
