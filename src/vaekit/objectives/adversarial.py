"""Losses with an opponent: a discriminator, trained beside the model, tells two distributions of latents apart.

The logit of the best discriminator is the log-ratio of the two densities. The discriminator never sees x.

Not for: distances of two samples without training (`divergence`).
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..data import Batch
from ..distributions import draw_rows, full_precision
from ..errors import ConfigError, check_range
from ..model import Draw, LatentVariableModel
from ..nets.base import widths
from .base import Loss, Player, Terms, draw_of, need_plain

Scheduled = float | Callable[[float], float]


class Adversarial(nn.Module, Loss):
    """The base of losses with a discriminator: the discriminator, its loss and its optimizer.

    A subclass gives `forward`, the model's loss, and `pair`, the two sets of latents to tell apart.

    Arguments:
        inputs: Width of the discriminator's input.
        hidden: Widths of its hidden layers, each with a LeakyReLU of slope 0.2.
        learning_rate: Learning rate of its Adam, with betas 0.5 and 0.9.
    """

    couples_rows = True

    def __init__(self, inputs: int, hidden: Sequence[int], learning_rate: float) -> None:
        super().__init__()
        check_range("learning_rate", learning_rate, 0, ends="()")
        self.inputs = inputs
        sizes = (inputs, *widths("hidden", hidden))
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise(sizes):
            layers += [nn.Linear(width_in, width_out), nn.LeakyReLU(0.2)]
        self.discriminator = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))
        self.learning_rate = learning_rate

    def log_ratio(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """The discriminator's logit of each row, shape (B,), nats.

        Arguments:
            z: Latents, shape (B, *latent).
            c: Context that the discriminator sees too, shape (B, C), or None.

        Raises:
            ConfigError: The discriminator is for another number of values.
        """
        inputs = z.flatten(1) if c is None else torch.cat((z.flatten(1), c.to(z.dtype)), 1)
        if inputs.shape[1] != self.inputs:
            raise ConfigError(
                f"the discriminator of the loss is for {self.inputs} values, latents and context together, but this "
                f"model has {inputs.shape[1]}; make the loss with the model's latent_size and context_size"
            )
        logit: Tensor = self.discriminator(inputs)
        return logit.squeeze(-1)

    def pair(self, z: Tensor, model: LatentVariableModel, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """Latents for a high logit, latents for a low one, (B, *latent) each, and their context.

        Arguments:
            z: A sample of q(z | x, c) for each row.
            model: The model.
            batch: The batch.
        """
        raise NotImplementedError

    @torch.no_grad()
    def _latents(self, model: LatentVariableModel, batch: Batch) -> Tensor:
        """A sample of q(z | x, c) for each row, without decoding it."""
        with full_precision(batch.x):
            return draw_rows(model.posterior_of(batch), len(batch))

    def discriminate(self, model: LatentVariableModel, batch: Batch, epoch: float) -> Terms:
        """The discriminator's loss: its cross-entropy, shape (B,), nats; log 2 where its logits are 0."""
        with torch.no_grad():
            high, low, c = self.pair(self._latents(model, batch), model, batch)
        return Terms(0.5 * (softplus(-self.log_ratio(high, c)) + softplus(self.log_ratio(low, c))))

    def opponents(self, model: LatentVariableModel) -> list[Player]:
        """The discriminator."""
        weights = list(self.discriminator.parameters())
        optimizer = torch.optim.Adam(weights, self.learning_rate, betas=(0.5, 0.9), fused=True)
        return [Player("discriminator", weights, self.discriminate, optimizer)]

    def drawn(self, model: LatentVariableModel, batch: Batch) -> Draw:
        """One sample for each row, with a gradient through the latents.

        Raises:
            ConfigError: No gradient goes through the latents, or the draw has penalties.
        """
        draw = draw_of(model, batch)
        need_plain(draw)
        return draw


class FactorVAE(Adversarial):
    """−ELBO + γ·TC, with the total correlation TC = KL(q(z) ‖ Π_j q(z_j)) of the aggregate posterior.

    A discriminator compares the latents of a batch with the same latents after a separate permutation of the rows in
    each dimension. It estimates log q(z) − log Π_j q(z_j); the mean is TC. In a conditional model, q(z) is over all
    classes.

    It logs `neg_elbo`, `rate`, `distortion`, `total_correlation` (nats) and `discriminator`.

    Arguments:
        latent_size: Z, at least 2.
        gamma: γ ≥ 0.
        hidden: Widths of the discriminator's hidden layers; the paper has five of 1,000.
        learning_rate: Learning rate of the discriminator.

    Raises:
        ConfigError: The latents have one dimension or are discrete, or an option is out of range.

    Reference: Kim and Mnih 2018, arXiv:1802.05983, eq. 2 and 3 and algorithm 2. The paper permutes the latents of a
    second batch; here both are of the same batch, and both gradients are taken at the same weights.
    """

    def __init__(
        self,
        latent_size: int,
        *,
        gamma: Scheduled = 10.0,
        hidden: Sequence[int] = (1000, 1000, 1000, 1000, 1000),
        learning_rate: float = 1e-4,
    ) -> None:
        super().__init__(latent_size, hidden, learning_rate)
        if latent_size < 2:
            raise ConfigError("factor needs latents that can depend on one another; set latent_size to 2 or more")
        self.gamma: Scheduled = _not_negative("gamma", gamma)

    def forward(self, model: LatentVariableModel, batch: Batch, epoch: float) -> Terms:
        """The model's loss."""
        draw = self.drawn(model, batch)
        correlation = self.log_ratio(draw.z[0])
        rate = draw.rate()
        neg_elbo = rate + draw.distortion
        logged = {"neg_elbo": neg_elbo, "rate": rate, "distortion": draw.distortion, "total_correlation": correlation}
        loss = neg_elbo + _at("gamma", self.gamma, epoch) * correlation
        return Terms(loss, logged)

    def pair(self, z: Tensor, model: LatentVariableModel, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """Latents, and the same latents with the rows of each dimension permuted separately."""
        return z, permuted(z), None


class AAE(Adversarial):
    """Distortion − λ·log D(z): an autoencoder that learns to pass its latents off as draws of the prior.

    D(z) is the discriminator's probability that z comes from the prior and not from q. In a conditional model the
    discriminator sees c too, so that q(z | c) meets p(z | c).

    It logs `distortion`; `neg_elbo` and `rate`, if there is an ELBO; `divergence`, the discriminator's estimate of
    KL(q(z) ‖ p(z)) in nats; and `discriminator`.

    Arguments:
        latent_size: Z.
        context_size: C; 0 for an unconditional model.
        weight: λ ≥ 0.
        hidden: Widths of the discriminator's hidden layers.
        learning_rate: Learning rate of the discriminator.

    Raises:
        ConfigError: The prior has weights, which nothing here trains; the latents are discrete; or an option is out of
            range.

    Reference: Makhzani et al. 2015, arXiv:1511.05644, section 2, with both phases in one step; Tolstikhin et al. 2017,
    arXiv:1711.01558, algorithm 1 (WAE-GAN), for λ.
    """

    def __init__(
        self,
        latent_size: int,
        context_size: int = 0,
        *,
        weight: Scheduled = 10.0,
        hidden: Sequence[int] = (1000, 1000),
        learning_rate: float = 1e-4,
    ) -> None:
        super().__init__(latent_size + context_size, hidden, learning_rate)
        self.weight: Scheduled = _not_negative("weight", weight)

    def forward(self, model: LatentVariableModel, batch: Batch, epoch: float) -> Terms:
        """The model's loss."""
        draw = self.drawn(model, batch)
        ratio = self.log_ratio(draw.z[0], batch.c)  # log p(z) − log q(z)
        loss = draw.distortion + _at("weight", self.weight, epoch) * softplus(-ratio)
        logged = {"distortion": draw.distortion, "divergence": -ratio}
        if draw.levels:
            with torch.no_grad():
                rate = draw.rate()
            logged = {"neg_elbo": rate + draw.distortion, "rate": rate} | logged
        return Terms(loss, logged)

    def pair(self, z: Tensor, model: LatentVariableModel, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """Draws of the prior, and latents."""
        return draw_rows(model.prior(batch.c), len(z)), z, batch.c

    def opponents(self, model: LatentVariableModel) -> list[Player]:
        """The discriminator.

        Raises:
            ConfigError: The prior has weights.
        """
        if any(p.requires_grad for p in model.prior_parameters()):
            raise ConfigError(
                "aae does not train a prior, and this model's prior has weights; choose the prior 'standard-normal', "
                "or the objective 'elbo'"
            )
        return super().opponents(model)


def permuted(z: Tensor) -> Tensor:
    """Latents, shape (B, *latent), with the rows of each dimension permuted separately: B draws of Π_j q(z_j)."""
    flat = z.flatten(1)
    order = torch.rand_like(flat).argsort(0)
    return flat.gather(0, order).reshape(z.shape)


def _at(name: str, value: Scheduled, epoch: float) -> float:
    return check_range(name, value(epoch), 0) if callable(value) else value


def _not_negative(name: str, value: Scheduled) -> Scheduled:
    return value if callable(value) else check_range(name, value, 0)
