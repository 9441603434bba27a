"""Objectives that compare all latents of a batch with the prior."""

from typing import Literal, get_args

import torch
from torch import Tensor

from ..distributions import draw_rows
from ..errors import ConfigError, DataError, check_range, one_of
from ..model import KL, Draw
from .base import couples_rows

Kernel = Literal["imq", "rbf"]


@couples_rows
def mmd(
    draw: Draw,
    *,
    kl_weight: float = 0.0,
    mmd_weight: float = 10.0,
    kernel: Kernel = "imq",
    kl: KL = "auto",
) -> Tensor:
    """−distortion − kl_weight·rate − mmd_weight·MMD²(q(z), p(z)) between a minibatch and draws of the prior.

    kl_weight 0 is the WAE-MMD; the InfoVAE's α and λ are kl_weight = 1 − α and mmd_weight = α + λ − 1.

    Reference: Tolstikhin et al. 2017, arXiv:1711.01558, algorithm 2; Zhao, Song and Ermon 2017, arXiv:1706.02262,
    eq. 6.
    """
    check_range("kl_weight of mmd", kl_weight, 0)
    check_range("mmd_weight", mmd_weight, 0)
    z = draw.z[0].flatten(1)
    p = draw.prior
    if not kl_weight and not p.has_rsample:
        raise ConfigError("mmd cannot train this prior, whose samples have no gradient; give it a kl_weight > 0")
    total = -draw.distortion - mmd_weight * squared_mmd(z, draw_rows(p, len(z), gradient=True).flatten(1), kernel)
    return total - kl_weight * draw.rate(kl) if kl_weight else total


def squared_mmd(x: Tensor, y: Tensor, kernel: Kernel = "imq") -> Tensor:
    """Unbiased estimate of the squared maximum mean discrepancy of two samples, shape (n, Z) each.

    The kernel is a sum over seven scales around 2·Z, the mean squared distance of two draws of a standard normal.

    Raises:
        DataError: The samples have different shapes, or fewer than 2 rows.

    Reference: Gretton et al. 2012, "A kernel two-sample test", JMLR 13, eq. 3.
    """
    one_of("kernel", kernel, get_args(Kernel))
    if x.shape != y.shape or len(x) < 2:
        raise DataError(
            f"an MMD compares two samples of the same number of rows, at least 2, got {tuple(x.shape)} and "
            f"{tuple(y.shape)}"
        )

    def k(a: Tensor, b: Tensor) -> Tensor:
        squared = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
        scales = [2.0 * a.shape[1] * s for s in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)]
        if kernel == "imq":
            return sum(scale / (scale + squared) for scale in scales)  # type: ignore[return-value]
        return sum((-squared / scale).exp() for scale in scales)  # type: ignore[return-value]

    n = len(x)
    k_xx, k_yy = k(x, x), k(y, y)
    within = (k_xx.sum() - k_xx.diagonal().sum() + k_yy.sum() - k_yy.diagonal().sum()) / (n * (n - 1))
    return within - 2 * k(x, y).mean()
