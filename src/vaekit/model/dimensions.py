"""The rate by latent dimension, for diagnostics and pictures; posterior and prior must factorize.

Not for: the rate itself (`draw`).
"""

import torch
from torch import Tensor
from torch.distributions import Distribution

from .draw import levels_of

SILENT_BELOW = 0.01  # nats: a latent with less carries nothing


def kl_by_dimension(z: Tensor, q: Distribution, p: Distribution) -> Tensor | None:
    """KL of each latent dimension, shape (B, *latent), nats: in closed form, or the mean of log q − log p over z.

    None where posterior or prior does not factorize, or the posterior is a point.

    Arguments:
        z: Latents, shape (K, B, *latent).
        q: Posterior.
        p: Prior.
    """
    level_kls = []
    for level in levels_of(z, q, p):
        kl = level.kl_by_dimension()
        if kl is None:
            return None
        level_kls.append(kl)
    return torch.cat(level_kls, -1) if level_kls else None
