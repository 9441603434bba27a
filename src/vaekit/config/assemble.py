"""From parts to a model: the order in which parts are made, their arguments and their starting values.

Not for: the questions to a part, and the defaults of a plain module (`contracts`).
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..data.table.columns import Column
from ..errors import ConfigError
from ..model import Composed, LatentVariableModel
from ..nets import Encoder, FirstLevel, initialize, principal_start
from ..posteriors.base import MeanAndVariance
from ..priors.base import over_grid
from . import Model
from .contracts import (
    Shape,
    Transform,
    attribute_or_default,
    encoder_transform,
    features_of,
    is_for_vectors,
    latent_shapes,
    output_shape,
    wanted_shape,
)
from .parts import Resolved


class LatentKind(NamedTuple):
    """A kind of values of z: its words, and the parts that a message proposes for it."""

    words: str
    prior: str
    posterior: str


LATENT_KINDS = {
    "real": LatentKind("real numbers", "standard-normal", "diagonal-normal"),
    "bits": LatentKind("bits", "bernoulli", "bernoulli"),
    "categories": LatentKind("one-hot categories", "categorical", "categorical"),
    "codes": LatentKind("codes", "uniform-codes", "fsq"),
    "directions": LatentKind("directions, on the unit sphere", "uniform-sphere", "power-spherical"),
    "ball": LatentKind("points of the Poincaré ball", "wrapped-normal", "wrapped-normal"),
}
SLOPE_STEP = 1e-2  # step in x that measures the slope of the output; a mean of x beyond 1 multiplies it


def assemble(
    parts: Mapping[str, Resolved],
    section: Model,
    *,
    event_shape: Shape,
    context_size: int,
    x: Tensor | None,
    c: Tensor | None = None,
    columns: Sequence[Column] | None = None,
) -> LatentVariableModel:
    """Make a model of parts, from torch's global random stream: encoder, posterior, decoder, likelihood, prior.

    Arguments:
        parts: One of each kind.
        section: The settings that belong to no single part.
        event_shape: Event shape of x.
        context_size: C; 0 for an unconditional model.
        x: Training rows, shape (N, *event_shape), for parts that start from the data; None to start at random.
        c: Context of the training rows, shape (N, C), for a conditional model.
        columns: The columns of a table.

    Raises:
        ConfigError: The parts do not fit together.
    """
    wiring = {"context_size": context_size, "columns": columns, "event_shape": event_shape, "x": x}
    out_shape = output_shape(parts["likelihood"], event_shape, columns)
    transform = encoder_transform(parts["likelihood"])
    seen = x if x is None or transform is None else transform(x)
    encoder = parts["encoder"](in_shape=event_shape, out_shape=None, **wiring | {"x": seen})
    _set_encoder_transform(encoder, transform)
    posterior = parts["posterior"](
        net=encoder,
        features=features_of(encoder, event_shape, context_size),
        latent_size=section.latent_size,
        wanted_shape=wanted_shape(parts["decoder"], section.latent_size, out_shape),
        **wiring,
    )
    latent_shape, decoded_shape = latent_shapes(posterior, section.latent_size)
    decoder = parts["decoder"](in_shape=decoded_shape, out_shape=out_shape, **wiring)
    if not hasattr(decoder, "in_shape"):
        decoder.in_shape = decoded_shape
    net = _decoder_of_all_latents(posterior, decoder, latent_shape, decoded_shape)
    likelihood = parts["likelihood"](net=net, **wiring)
    prior = _prior(parts["prior"], latent_shape, posterior=posterior, **wiring)
    model = Composed(
        posterior, prior, likelihood, latent_shape=latent_shape, context_size=context_size, event_shape=event_shape
    )
    initialize(model, section.init)
    mean = x.mean(0) if x is not None and section.output_bias == "data" else None
    _start_output(decoder, likelihood, mean, section.output_scale)
    if x is not None:
        if section.init == "pca":
            try:
                _principal_start(posterior, decoder, likelihood, x, transform)
            except ConfigError as error:  # the user replaced a part of the preset by another kind
                warnings.warn(f"{error}; here the networks start as with 'he'", stacklevel=2)
        attribute_or_default("posterior", posterior, "start")(x, c)
        attribute_or_default("prior", prior, "start")(posterior, x, c)
    return model


def _set_encoder_transform(encoder: nn.Module, transform: Transform | None) -> None:
    """Make an encoder of any kind see the transformed x."""
    if isinstance(encoder, Encoder):
        encoder.transform = transform
        if getattr(transform, "takes_missing", False):
            encoder.sees_missing = True
    elif transform is not None:
        encoder.register_forward_pre_hook(lambda _, arguments: (transform(arguments[0]), *arguments[1:]))


def _decoder_of_all_latents(
    posterior: nn.Module, decoder: nn.Module, latent_shape: Shape, decoded_shape: Shape
) -> nn.Module:
    """The decoder of all latents. Without the posterior's `wrap_decoder` it reads z, or only the first level."""
    wrap_decoder: Callable[[nn.Module], nn.Module] | None = attribute_or_default("posterior", posterior, "wrap_decoder")
    if wrap_decoder is not None:
        return wrap_decoder(decoder)
    return decoder if decoded_shape == latent_shape else FirstLevel(decoder, decoded_shape[0])


def _prior(part: Resolved, latent_shape: Shape, **wiring: Any) -> nn.Module:
    """The prior. If the latents are not vectors, a prior for vectors is repeated over their grid."""
    size = torch.Size(latent_shape).numel()
    _check_latent_kinds(part, wiring["posterior"])
    prior: nn.Module = part(latent_size=size, latent_shape=latent_shape, **wiring)
    return over_grid(prior, latent_shape) if is_for_vectors(part) else prior


def _check_latent_kinds(prior: Resolved, posterior: nn.Module) -> None:
    """Refuse a prior over another kind of latents than the posterior's, such as a density for discrete ones.

    Raises:
        ConfigError: The prior and the posterior have different kinds of latents.
    """
    posterior_kind: str = attribute_or_default("posterior", posterior, "latent_kind")
    prior_kind: str = attribute_or_default("prior", prior.make, "latent_kind")
    if prior_kind != posterior_kind:
        fitting = LATENT_KINDS.get(posterior_kind)
        words, other = (_described(kind) for kind in (posterior_kind, prior_kind))
        raise ConfigError(
            f"the latents of {type(posterior).__name__} are {words}, and the prior {prior.make.__name__} is over "
            f"{other}; choose {f'prior.name = {fitting.prior!r}' if fitting else 'a prior over these'}"
        )


def _described(latent_kind: str) -> str:
    return LATENT_KINDS[latent_kind].words if latent_kind in LATENT_KINDS else repr(latent_kind)


def _principal_start(
    posterior: nn.Module, decoder: nn.Module, likelihood: nn.Module, x: Tensor, transform: Transform | None
) -> None:
    """Start the model as a principal component analysis of the training data.

    Raises:
        ConfigError: The posterior has no mean and log-variance of its own, or the likelihood takes several
            outputs for each value.
    """
    parameters_at = attribute_or_default("likelihood", likelihood, "parameters_at")
    mean = x.mean(0)
    is_unit = attribute_or_default("likelihood", likelihood, "value_range") == (0.0, 1.0)
    middle = mean.clamp(0.05, 0.95) if is_unit else mean  # keeps logits small
    step = SLOPE_STEP * middle.abs().clamp_min(1)
    rise = None if parameters_at is None else parameters_at(middle + step) - parameters_at(middle - step)
    if not isinstance(posterior, MeanAndVariance) or rise is None or rise.shape != mean.shape:
        raise ConfigError(
            "model.init = 'pca' needs a normal posterior and a likelihood with one output for each value; choose "
            "posterior.name = 'diagonal-normal' and likelihood.name = 'bernoulli' or 'normal', or init = 'he'"
        )
    slope = rise / (2 * step)
    if transform is not None:  # the components are those of the transformed x
        slope, x = rise / (transform(mean + step) - transform(mean - step)), transform(x)
    principal_start(posterior.net, posterior.mu, posterior.log_var, decoder, x, slope)


def _start_output(decoder: nn.Module, likelihood: nn.Module, mean: Tensor | None, scale: float) -> None:
    """Scale the decoder's output, and start it at the parameters of the mean of x, if decoder and likelihood can."""
    parameters_at = attribute_or_default("likelihood", likelihood, "parameters_at")
    value = None if mean is None or parameters_at is None else parameters_at(mean)
    attribute_or_default("decoder", decoder, "start_output")(value, scale)
