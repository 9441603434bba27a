"""The aggregate posterior of a model over its data: posterior means, one sample each, and statistics of them.

Not for: the information in the latents and its errors (`latent_statistics`).
"""

import warnings
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from ...data import Batch
from ...data.dataset import evenly_spread
from ...distributions import centre
from ...errors import VAEError
from ...model.dimensions import SILENT_BELOW
from ...model.exportable import Encoding
from ...rng import seeded
from ..model_with_data import ENCODED_AT_ONCE, ModelWithData
from .latent_statistics import latent_statistics

STATISTICS_ROWS = 1000  # rows over which the KL is taken


@torch.no_grad()
def encodings(subject: ModelWithData) -> dict[str, Tensor]:
    """What each row is encoded as.

    Returns:
        By name, on the CPU: "z", posterior means, and "sample", one sample each, shape (N, Z); "sd", their standard
        deviations, if the posterior has them; "rate" and "distortion", shape (N,), nats, if the model has densities and
        no value is missing.
    """
    model, parts = subject.model, []
    for start in range(0, len(subject), ENCODED_AT_ONCE):
        rows = slice(start, start + ENCODED_AT_ONCE)
        x, c = subject.x[rows].to(model.device), subject.context(rows)
        observed = None if subject.observed is None else subject.observed[rows].to(model.device)
        with seeded(torch.Generator().manual_seed(start)):
            q = model.posterior_of(Batch(x, c=c, observed=observed))
            part = {"sample": q.sample().flatten(1)}
        with suppress(NotImplementedError, AttributeError):
            part["sd"] = q.stddev.flatten(1)
        part["z"] = centre(q).flatten(1)
        if observed is None:  # the page computes rate and distortion of whole rows
            with suppress(VAEError, NotImplementedError):
                z, rate, distortion = Encoding(model)(x, c)
                part |= {"z": z.flatten(1), "rate": rate, "distortion": distortion}
        parts.append({name: value.float().cpu() for name, value in part.items()})
    if not parts:
        return {name: torch.zeros(0, model.latent_size) for name in ("sample", "z")}
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def statistics(subject: ModelWithData, rows: dict[str, Tensor] | None = None) -> dict[str, Any]:
    """The aggregate posterior in numbers, as JSON.

    Arguments:
        subject: A model and its data.
        rows: The result of `encodings`; by default it is computed.

    Returns:
        `size`, the number of latents; `mean` and `sd` by latent; `kl` by latent, nats, or None where the prior does not
        factorize; `information`, an upper bound on the information about x by latent, nats, or None; `order`, the
        latents that carry most first; `silent`, the latents that carry nothing; and `over`, the number of rows.
    """
    rows = encodings(subject) if rows is None else rows
    size, sample = subject.model.latent_size, rows["sample"]
    mean = sample.mean(0) if len(sample) else torch.zeros(size)
    sd = sample.std(0).clamp_min(1e-6) if len(sample) > 1 else torch.ones(size)
    information = _information(rows, mean, sd)
    kl, variances = _kl(subject), rows["z"].var(0) if len(sample) > 1 else torch.ones(size)
    nats = information if kl is None else kl
    weight = variances if nats is None else nats
    order = weight.argsort(descending=True, stable=True).tolist()
    silent = [] if nats is None else (nats < SILENT_BELOW).nonzero().flatten().tolist()
    return {
        "size": size,
        "mean": _rounded(mean),
        "sd": _rounded(sd),
        "kl": None if kl is None else _rounded(kl),
        "information": None if information is None else _rounded(information),
        "order": order,
        "silent": silent,
        "over": len(sample),
    }


def _information(rows: dict[str, Tensor], mean: Tensor, sd: Tensor) -> Tensor | None:
    """Mean KL of each q(z_i | x) from the normal with the moments of q(z_i): at least I(x; z_i), whatever the prior."""
    if "sd" not in rows or len(rows["sample"]) < 2:
        return None
    scale = rows["sd"].clamp_min(1e-9) / sd
    away = (rows["z"] - mean) / sd
    return (0.5 * (scale.square() + away.square() - 1) - scale.log()).mean(0).clamp_min(0)


def _kl(subject: ModelWithData) -> Tensor | None:
    if not len(subject):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            summary = latent_statistics(
                subject.model, subject.batch(evenly_spread(len(subject), STATISTICS_ROWS)), pairs=1
            )
        except (VAEError, NotImplementedError):
            return None
    return None if summary.kl is None else summary.kl.flatten().float()


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{value:.6g}") for value in values.tolist()]
