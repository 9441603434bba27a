"""The rate by latent dimension, where posterior and prior factorize: what diagnostics and pictures of latents read.

Not for: the rate itself (`draw`).
"""

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from ..distributions import closed_form_kl
from .draw import levels_of


def kl_by_dimension(z: Tensor, q: Distribution, p: Distribution) -> Tensor | None:
    """KL of each latent dimension, shape (B, *latent): in closed form, or log q − log p at z where there is none.

    None where posterior or prior do not factorize.
    """
    found = []
    for level in levels_of(z, q, p):
        if not (isinstance(level.q, Independent) and isinstance(level.p, Independent)):
            return None
        a, b = level.q.base_dist, level.p.base_dist
        difference = (a.log_prob(level.z) - b.log_prob(level.z)).mean(0)
        if level.closed_form:
            closed = closed_form_kl(a, b)
            if closed is not None:
                difference = closed.mean(0) if closed.ndim > difference.ndim else closed
        found.append(difference)
    return torch.cat(found, -1)
