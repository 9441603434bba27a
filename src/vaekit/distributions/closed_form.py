"""Kullback-Leibler divergences in closed form, for exactly the types that have one."""

from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, kl, kl_divergence
from torch.nn.functional import softplus


def closed_form_kl(q: Distribution, p: Distribution) -> Tensor | None:
    """KL(q ‖ p) of the batch shape, nats; None where there is no closed form.

    `torch.distributions.kl_divergence` applies the formula of a base class to a subclass, such as the normal one to a
    truncated normal. Here a formula applies to exactly the types that it was registered for, and to torch's own.

    >>> from torch.distributions import Normal
    >>> class Truncated(Normal): ...
    >>> closed_form_kl(Normal(0.0, 1.0), Normal(0.0, 1.0))
    tensor(0.)
    >>> closed_form_kl(Truncated(0.0, 1.0), Normal(0.0, 1.0)) is None
    True
    """
    if not _registered(q, p):
        return None
    bits = _of_bits(q, p)
    if bits is not None:
        return bits
    try:
        divergence: Tensor = kl_divergence(q, p)
    except NotImplementedError:
        return None
    return divergence


def _of_bits(q: Distribution, p: Distribution) -> Tensor | None:
    """KL of Bernoullis, from their logits; None for other distributions.

    torch's own does not broadcast, and fails if p is 0 or 1 in float32.
    """
    if isinstance(q, Independent) and isinstance(p, Independent):
        dims = q.reinterpreted_batch_ndims
        per_bit = _of_bits(q.base_dist, p.base_dist) if p.reinterpreted_batch_ndims == dims else None
        return None if per_bit is None else per_bit.flatten(-dims).sum(-1) if dims else per_bit
    if type(q) is not Bernoulli or type(p) is not Bernoulli:
        return None
    return q.probs * (q.logits - p.logits) + softplus(p.logits) - softplus(q.logits)


def _registered(q: Distribution, p: Distribution) -> bool:
    pair = (type(q), type(p))
    if pair not in kl._KL_REGISTRY and not all(kind.__module__.startswith("torch.distributions.") for kind in pair):
        return False
    inner_q: Distribution | None = getattr(q, "base_dist", None)
    inner_p: Distribution | None = getattr(p, "base_dist", None)
    return inner_q is None or inner_p is None or _registered(inner_q, inner_p)
