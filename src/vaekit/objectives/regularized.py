"""The loss of a regularized autoencoder: a VAE without noise in the encoder."""

from typing import Literal, get_args

import torch
from torch import Tensor

from ..data import Batch
from ..errors import ConfigError, check_range, one_of
from ..model import Draw, LatentVariableModel
from .base import Loss, Terms, draw_of

Regularizer = Literal["l2", "gradient", "none"]


class RegularizedAutoencoder(Loss):
    """−log p(x | z) + β·½‖z‖² + weight·R(decoder) − log p(stopped z).

    R is ‖θ‖² over the decoder's weights ("l2"), or ‖∂x̂/∂z‖² summed over all values of x̂ and z ("gradient"), estimated
    without bias from one random direction. The last term fits a prior with weights to the codes, and trains nothing
    else: no gradient of it reaches the encoder. So samples can be drawn from a density of the codes at every epoch.

    Arguments:
        beta: Weight of the codes' squared norm.
        regularizer: R, which keeps the decoder smooth.
        weight: Weight of the regularizer.

    Raises:
        ConfigError: A weight is negative, the posterior has noise, the regularizer is unknown, or it is "l2" and the
            model has no `decoder_parameters`.

    Reference: Ghosh et al. 2020, arXiv:1903.12436, eq. 10, 11 (gradient) and 12 (l2). They fit the density after the
    training; `vae sample --from aggregate` does so too.
    """

    def __init__(self, *, beta: float = 0.1, regularizer: Regularizer = "l2", weight: float = 1e-3) -> None:
        for name, value in (("beta", beta), ("weight", weight)):
            check_range(f"{name} of rae", value, 0)
        self.beta = beta
        self.regularizer = one_of("regularizer", regularizer, get_args(Regularizer))
        self.weight = weight

    def __call__(self, model: LatentVariableModel, batch: Batch, epoch: float) -> Terms:
        """The loss of each row."""
        draw = draw_of(model, batch)
        if draw.levels:
            raise ConfigError("the objective 'rae' is for codes without noise; choose the posterior 'deterministic'")
        logged = {
            "distortion": draw.distortion,
            "code": 0.5 * self.beta * draw.z[0].flatten(1).square().sum(1),
            "regularizer": self.weight * self._regularizer(model, draw),
            "code_nll": -model.prior(batch.c).log_prob(draw.z[0].detach()).expand(len(batch)),
        }
        loss = torch.stack(list(logged.values())).sum(0)
        return Terms(loss, logged)

    def _regularizer(self, model: LatentVariableModel, draw: Draw) -> Tensor:
        """R for each row, shape (B,)."""
        rows = draw.z.shape[1]
        if self.regularizer == "gradient":
            return squared_slope(draw.likelihood.mean[0], draw.z)
        if self.regularizer == "none":
            return draw.z.new_zeros(rows)
        weights = model.decoder_parameters()
        if not weights:
            raise ConfigError(
                f"{type(model).__name__} does not say which weights are the decoder's; give it a method "
                "decoder_parameters(), or set regularizer = 'gradient'"
            )
        return torch.stack([p.square().sum() for p in weights]).sum().expand(rows)


def squared_slope(y: Tensor, z: Tensor) -> Tensor:
    """‖∂y/∂z‖² of each row, summed over all values of y and z, from one random direction: unbiased, shape (B,).

    With v ~ N(0, I), E ‖Jᵀ v‖² = ‖J‖². Without gradients, as in validation, it is 0.

    Arguments:
        y: A function of z, row by row, shape (B, *event).
        z: Shape (1, B, *latent).

    Reference: Hutchinson 1990, doi:10.1080/03610919008812866.
    """
    if not (torch.is_grad_enabled() and z.requires_grad):
        return y.new_zeros(len(y))
    (pulled,) = torch.autograd.grad(y, z, torch.randn_like(y), create_graph=True)
    return pulled[0].flatten(1).square().sum(1)
