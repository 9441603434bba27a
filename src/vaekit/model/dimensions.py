"""The rate by latent dimension, where posterior and prior factorize: what diagnostics and pictures of latents read.

Not for: the rate itself (`draw`).
"""

import torch
from torch import Tensor
from torch.distributions import Distribution

from .draw import levels_of

CARRIES = 0.01  # nats: a latent with less carries nothing


def kl_by_dimension(z: Tensor, q: Distribution, p: Distribution) -> Tensor | None:
    """KL of each latent dimension, shape (B, *latent): in closed form, or log q − log p at z where there is none.

    None where posterior or prior do not factorize, or the posterior is a point.
    """
    of_levels = []
    for level in levels_of(z, q, p):
        kl = level.kl_by_dimension()
        if kl is None:
            return None
        of_levels.append(kl)
    return torch.cat(of_levels, -1) if of_levels else None
