"""A latent-variable model: three methods that return distributions, and what follows from them.

Not for: a factor itself (`nets`, `posteriors`, `priors`, `likelihoods`) or a loss (`objectives`).
"""

import math
from abc import ABC, abstractmethod
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ..data import Batch
from ..data.batch import as_tensor
from ..data.pixels import to_unit
from ..data.values import Values, check_values, values_of
from ..distributions import draw_rows, full_precision
from ..errors import DataError
from ..rng import seeded
from .draw import Draw, antithetic_pairs, levels_of

Context = Tensor | int | None


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """One-hot rows, float32, shape (*labels.shape, num_classes), for integer labels."""
    return nn.functional.one_hot(labels.long(), num_classes).float()


class LatentVariableModel(nn.Module, ABC):
    """A model p(x | z, c) p(z | c) with a posterior q(z | x, c).

    A subclass gives the three methods `posterior`, `prior` and `likelihood` and, where they differ from the defaults,
    the attributes below. Everything else follows, here and in the trainer, the evaluator and the pictures.

    The posterior's distribution may have an attribute `penalties`: named terms of shape (B,), which are subtracted from
    the objective.

    `event_shape` was called `image_shape` once; models that say so are understood.

    Attributes:
        latent_size: Z, how many values z has.
        latent_shape: Event shape of z; (Z,), unless a model says otherwise.
        context_size: C, the width of c; 0 for an unconditional model.
        takes_classes: Whether a class may stand for its one-hot row: not where a column of c means something else.
        event_shape: Event shape of x, or None where any will do.
        value_range: Least and greatest value of x, or None where any will do.
    """

    latent_size: int
    context_size: int = 0
    takes_classes: bool = True
    event_shape: tuple[int, ...] | None = None
    value_range: tuple[float, float] | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        former = cls.__dict__.get("image_shape")
        if isinstance(former, (tuple, list)):
            cls.event_shape = tuple(former)
            delattr(cls, "image_shape")

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """The former name of `event_shape`."""
        return self.event_shape

    @image_shape.setter
    def image_shape(self, shape: tuple[int, ...] | None) -> None:
        self.event_shape = shape

    @cached_property
    def latent_shape(self) -> tuple[int, ...]:
        """Event shape of z: that of vectors, unless a model says otherwise."""
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
            observed: Which values of x are known, booleans of its shape; the others count as 0 for the posterior and
                not at all for the likelihood. None where all are.
            antithetic: Draw pairs μ ± σε, whose errors cancel in part; k is even, and the posterior a normal one.
        """
        c = self.context(c, len(x))
        if observed is not None:
            x = x.masked_fill(~observed, 0)
        q = self.posterior(x, c)
        p = self.prior(c)
        with full_precision(x):
            z = antithetic_pairs(q, k) if antithetic else q.rsample(torch.Size((k,)))
        penalties = getattr(q, "penalties", {})
        return Draw(x, z, levels_of(z, q, p), self.likelihood(z, c), penalties, q, p, observed)

    @torch.no_grad()
    def encode(self, x: Tensor, c: Context = None) -> Tensor:
        """Mean of q(z | x, c), shape (B, *latent_shape)."""
        return self.posterior(self.checked(x), self.context(c, len(x))).mean

    @torch.no_grad()
    def decode(self, z: Tensor, c: Context = None) -> Tensor:
        """Mean of p(x | z, c), shape (B, *event), for z of shape (B, *latent_shape)."""
        if tuple(z.shape[1:]) != self.latent_shape:
            shape = ", ".join(map(str, self.latent_shape))
            raise DataError(f"latents must have shape (N, {shape}), got {tuple(z.shape)}")
        return self.likelihood(z.to(self.device), self.context(c, len(z))).mean

    @torch.no_grad()
    def reconstruct(self, x: Tensor, c: Context = None) -> Tensor:
        """Mean of p(x | z, c) at the posterior mean of z, shape (B, *event)."""
        return self.decode(self.encode(x, c), c)

    @torch.no_grad()
    def sample(
        self, n: int, c: Context = None, *, generator: torch.Generator | None = None, noise: bool = False
    ) -> Tensor:
        """Draw z from the prior and return the mean of p(x | z, c), shape (n, *event).

        Arguments:
            n: How many.
            c: Context, shape (n, C); classes, shape (n,); or one class for all.
            generator: Source of randomness; torch's global one by default.
            noise: Sample x too, instead of the mean.
        """
        if n < 1:
            raise DataError(f"the number of samples must be at least 1, got {n}")
        c = self.context(c, n)
        with seeded(generator):
            prior = self.prior(c)
            x = self.likelihood(draw_rows(prior, n), c)
            return x.sample() if noise else x.mean

    @torch.no_grad()
    def log_prob(self, x: Tensor, c: Context = None, *, k: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """Importance-weighted estimate of log p(x | c) from k samples, a lower bound in expectation.

        Returns:
            Shape (B,), nats.

        Reference: Burda, Grosse and Salakhutdinov 2015, arXiv:1509.00519, eq. 8.
        """
        with seeded(generator):
            log_w = self.draw(self.checked(x), k, c).log_w
        return log_w.logsumexp(0) - math.log(k)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def context(self, c: Context, n: int) -> Tensor | None:
        """The context of n rows as floats, shape (n, C), from one-hot rows, classes, or one class for all.

        Raises:
            DataError: the model is conditional and c is missing, or the other way round, or c does not fit.
        """
        size = self.context_size
        if c is None:
            if size:
                raise DataError(f"this model is conditional on {size} classes; pass a class, 0 to {size - 1}, as c")
            return None
        if not size:
            raise DataError("this model is unconditional; leave the class out")
        c = torch.as_tensor(c, device=self.device)
        if c.ndim == 0:
            c = c.expand(n)
        if c.ndim == 1 and not c.is_floating_point():
            self._check_classes()
            if c.numel() and not 0 <= int(c.min()) <= int(c.max()) < size:
                raise DataError(f"classes go from 0 to {size - 1}, got {int(c.min())} to {int(c.max())}")
            c = one_hot(c, size)
        if c.shape != (n, size):
            raise DataError(f"the context must have shape ({n}, {size}), got {tuple(c.shape)}")
        return c.to(next(self.parameters()).dtype)

    def to_model(self, batch: Batch) -> Batch:
        """A batch as the model takes it: on its device, in its type, with one-hot rows of the labels as context.

        Nothing here waits for the device. The row of an unknown class, −1, is NaN, so that only a loss which knows what
        to do with it can train on it.

        Raises:
            DataError: The shape of x is wrong; or the model is conditional, and the batch has neither a context nor
                labels of its classes.
        """
        size = self.context_size
        labels = self.class_labels(batch.labels) if size and batch.c is None else batch.labels
        batch = replace(batch, labels=labels).to(self.device)
        batch = replace(batch, x=self.floats(batch.x))
        self.check_shape(batch.x)
        if not size:
            return replace(batch, c=None)
        if batch.c is not None:
            if batch.c.shape != (len(batch), size):
                raise DataError(f"the context must have shape ({len(batch)}, {size}), got {tuple(batch.c.shape)}")
            return replace(batch, c=batch.c.to(batch.x.dtype))
        assert batch.labels is not None
        rows = torch.cat((torch.eye(size, device=self.device), torch.full((1, size), math.nan, device=self.device)))
        return replace(batch, c=rows.index_select(0, batch.labels.where(batch.labels != -1, size)))

    def class_labels(self, labels: Tensor | None) -> Tensor:
        """Labels, int64, that tell a class each, or −1; where they lie on a device their range is not looked at.

        Raises:
            DataError: there are none, or one is no class.
        """
        size = self.context_size
        self._check_classes()
        if labels is None:
            raise DataError(f"this model is conditional on {size} classes, but the loader gives no labels")
        if labels.is_floating_point() and bool((labels != labels.round()).any()):
            raise DataError(f"labels must be whole numbers, got {labels.dtype}; a context must have shape (B, {size})")
        if labels.device.type == "cpu" and labels.numel():
            low, high = int(labels.min()), int(labels.max())
            if low < -1 or high >= size:
                raise DataError(f"labels must be from 0 to {size - 1}, or −1 if unknown, got {low} to {high}")
        return labels.long()

    @property
    def values(self) -> Values:
        """What the numbers in x mean: pixels, counts or real numbers."""
        return values_of(self.value_range)

    def floats(self, x: Tensor) -> Tensor:
        """X in the type of the weights; bytes become pixel / 255, unless x are counts."""
        x = x if self.values == "counts" else to_unit(x)
        return x.to(next(self.parameters()).dtype)

    def check_values(self, x: Tensor) -> None:
        """Refuse numbers, of any shape, that the model has no density for. This waits for the device.

        Raises:
            DataError: x has values outside `value_range`, or that are not finite.
        """
        check_values(x, self.value_range)

    def _check_classes(self) -> None:
        if not self.takes_classes:
            raise DataError(
                "the last column of this model's context is a size factor, log s, and no class: pass a context of "
                f"shape (N, {self.context_size}), or set likelihood.size_factor to false"
            )

    def checked(self, x: Tensor) -> Tensor:
        """X on the model's device, after a look at its shape and range.

        Raises:
            DataError: x has the wrong shape or values outside `value_range`.
        """
        x = as_tensor(x, "x")
        self.check_shape(x)
        x = self.floats(x.to(self.device))
        self.check_values(x)
        return x

    def check_shape(self, x: Tensor) -> None:
        """Refuse rows of another shape.

        Raises:
            DataError: x is not (B, *event_shape).
        """
        shape = self.event_shape
        if shape is None or tuple(x.shape[1:]) == shape:
            return
        single = "; these are the values of one row, x must be a batch of rows" if tuple(x.shape) == shape else ""
        raise DataError(f"x must have shape ({', '.join(map(str, ('B', *shape)))}), got {tuple(x.shape)}{single}")
