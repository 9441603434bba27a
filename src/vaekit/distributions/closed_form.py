"""Kullback-Leibler divergences in closed form, where there is one for these very distributions."""

from torch import Tensor
from torch.distributions import Distribution, kl, kl_divergence


def closed_form_kl(q: Distribution, p: Distribution) -> Tensor | None:
    """KL(q ‖ p) of the batch shape, nats; None where there is no closed form.

    `torch.distributions.kl_divergence` takes the formula of a base class for a subclass too, and so the normal one for
    a truncated normal. Here a formula holds for the very types that it was registered for, and among torch's own.

    >>> from torch.distributions import Normal
    >>> class Truncated(Normal): ...
    >>> closed_form_kl(Normal(0.0, 1.0), Normal(0.0, 1.0))
    tensor(0.)
    >>> closed_form_kl(Truncated(0.0, 1.0), Normal(0.0, 1.0)) is None
    True
    """
    if not _registered(q, p):
        return None
    try:
        divergence: Tensor = kl_divergence(q, p)
    except NotImplementedError:
        return None
    return divergence


def _registered(q: Distribution, p: Distribution) -> bool:
    pair = (type(q), type(p))
    if pair not in kl._KL_REGISTRY and not all(of.__module__.startswith("torch.distributions.") for of in pair):
        return False
    inner_q: Distribution | None = getattr(q, "base_dist", None)
    inner_p: Distribution | None = getattr(p, "base_dist", None)
    return inner_q is None or inner_p is None or _registered(inner_q, inner_p)
