"""From parts to a model: which part is made when, what each is given, and what it is asked.

The contracts are the classes `Encoder`, `Decoder`, `Posterior`, `Prior` and `Likelihood`. A part may be a plain module
that knows nothing of them: what it does not say has a default, and all defaults are here.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..data.columns import Column
from ..errors import ConfigError
from ..likelihoods import Likelihood
from ..model import Composed, LatentVariableModel
from ..nets import Decoder, Encoder, FirstLevel, initialize, principal_start
from ..posteriors import Posterior
from ..priors.base import OverGrid, Prior
from . import Model
from .parts import Resolved

Shape = tuple[int, ...]
Transform = Callable[[Tensor], Tensor]
_FORMER = {"event_shape": "image_shape", "x": "images"}
NAMES = {
    "real": "real numbers",
    "bits": "bits",
    "categories": "one-hot categories",
    "codes": "codes",
    "directions": "directions, on the unit sphere",
    "ball": "points of the Poincaré ball",
}
PRIORS = {
    "real": "standard-normal",
    "bits": "bernoulli",
    "categories": "categorical",
    "codes": "uniform-codes",
    "directions": "uniform-sphere",
    "ball": "wrapped-normal",
}
SLOPE_STEP = 1e-2  # of the mean of x, for the slope of the output


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
        section: What belongs to no single part.
        event_shape: Event shape of x.
        context_size: C; 0 for an unconditional model.
        x: Training rows, shape (N, *event_shape), for parts that start from the data.
        c: Their context, shape (N, C), of a conditional model.
        columns: Of a table: what its columns are.

    Raises:
        ConfigError: Parts that do not fit.
    """
    facts = {"context_size": context_size, "columns": columns, **_by_both_names(event_shape=event_shape, x=x)}
    transform = _transform(parts["likelihood"])
    seen = x if x is None or transform is None else transform(x)
    encoder = parts["encoder"](in_shape=event_shape, out_shape=None, **facts | _by_both_names(x=seen))
    _let_see(encoder, transform)
    out_shape = output_shape(parts["likelihood"], event_shape, columns)
    posterior = parts["posterior"](
        net=encoder,
        features=features_of(encoder, event_shape, context_size),
        latent_size=section.latent_size,
        wanted_shape=wanted_shape(parts["decoder"], section.latent_size, out_shape),
        **facts,
    )
    latent_shape, decoded_shape = latent_shapes(posterior, section.latent_size)
    decoder = parts["decoder"](in_shape=decoded_shape, out_shape=out_shape, **facts)
    if not hasattr(decoder, "in_shape"):
        decoder.in_shape = decoded_shape
    net = _reading(posterior, decoder, latent_shape, decoded_shape)
    likelihood = parts["likelihood"](net=net, **facts)
    prior = _prior(parts["prior"], latent_shape, posterior=posterior, **facts)
    model = Composed(
        posterior, prior, likelihood, latent_shape=latent_shape, context_size=context_size, event_shape=event_shape
    )
    initialize(model, section.init)
    mean = x.mean(0) if x is not None and section.output_bias == "data" else None
    _start_output(decoder, likelihood, mean, section.output_scale)
    if x is not None:
        if section.init == "pca":
            try:
                _principal_start(encoder, posterior, decoder, likelihood, x)
            except ConfigError as error:  # of parts that were exchanged in a preset
                warnings.warn(f"{error}; here the networks start as with 'he'", stacklevel=2)
        if isinstance(posterior, Posterior):
            posterior.start(x, c)
        if isinstance(prior, Prior):
            prior.start(posterior, x, c)
    return model


def _by_both_names(**facts: Any) -> dict[str, Any]:
    """Facts for parts by their names and by the former ones."""
    return facts | {_FORMER[name]: value for name, value in facts.items()}


def _transform(likelihood: Resolved) -> Transform | None:
    """What the encoder is to see of x: the likelihood's `seen_by_encoder`, or x itself, None."""
    own: Any = getattr(likelihood.make, "seen_by_encoder", Likelihood.seen_by_encoder)
    transform: Transform | None = own(**likelihood.options)
    return transform


def _let_see(encoder: nn.Module, transform: Transform | None) -> None:
    """Let an encoder of any kind see the transformed x."""
    if isinstance(encoder, Encoder):
        encoder.transform = transform
    elif transform is not None:
        encoder.register_forward_pre_hook(lambda _, arguments: (transform(arguments[0]), *arguments[1:]))


def features_of(encoder: nn.Module, event_shape: Shape, context_size: int) -> int:
    """Width of an encoder's output: what its `out_shape` says, or what it makes of two rows of zeros.

    Raises:
        ConfigError: The output of an encoder without `out_shape` is no vector.
    """
    own: Any = getattr(encoder, "out_shape", None)
    if own is not None:
        return int(own[0])
    was_training = encoder.training
    with torch.no_grad():
        c = torch.zeros(2, context_size) if context_size else None
        output = encoder.eval()(torch.zeros(2, *event_shape), c)
    encoder.train(was_training)
    if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != 2:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ConfigError(f"the encoder must map (B, *event) to features (B, F), but 2 rows gave {got}")
    return output.shape[1]


def output_shape(likelihood: Resolved, event_shape: Shape, columns: Sequence[Column] | None = None) -> Shape:
    """Shape that the decoder has to give: the likelihood's `out_shape`, or `per_value` groups of channels, or one."""
    own = getattr(likelihood.make, "out_shape", None)
    if own is not None:
        known = {"columns": columns} if "columns" in likelihood.wiring else {}
        return tuple(own(event_shape, **known, **likelihood.options))
    groups = getattr(likelihood.make, "per_value", Likelihood.per_value)(**likelihood.options)
    return (groups * event_shape[0], *event_shape[1:])


def wanted_shape(decoder: Resolved, latent_size: int, out_shape: Shape) -> Shape:
    """Shape of latents that suits the decoder best: its `wanted_shape`, or vectors."""
    own = getattr(decoder.make, "wanted_shape", Decoder.wanted_shape)
    return tuple(own(latent_size, out_shape, **decoder.options))


def latent_shapes(posterior: nn.Module, latent_size: int) -> tuple[Shape, Shape]:
    """Event shape of z, and that of what the decoder reads: `latent_shape`, or (`latent_size`,), or the config's."""
    size = getattr(posterior, "latent_size", latent_size)
    shape: Any = getattr(posterior, "latent_shape", (size,))
    decoded: Any = getattr(posterior, "decoded_shape", shape)
    return tuple(shape), tuple(decoded)


def _reading(posterior: nn.Module, decoder: nn.Module, latent_shape: Shape, decoded_shape: Shape) -> nn.Module:
    """The decoder as one of all latents: what the posterior's `reading` makes of it, or one of the first level."""
    own: Callable[[nn.Module], nn.Module] | None = getattr(posterior, "reading", None)
    if own is not None:
        return own(decoder)
    return decoder if decoded_shape == latent_shape else FirstLevel(decoder, decoded_shape[0])


def _prior(part: Resolved, latent_shape: Shape, **facts: Any) -> nn.Module:
    """The prior; one that knows vectors only, where latents are none, is laid over them."""
    size = torch.Size(latent_shape).numel()
    _check_values(part, facts["posterior"])
    prior: nn.Module = part(latent_size=size, latent_shape=latent_shape, **facts)
    for_vectors = "latent_size" in part.wiring and not {"latent_shape", "posterior"} & set(part.wiring)
    return OverGrid(prior, latent_shape) if for_vectors and len(latent_shape) != 1 else prior


def _check_values(prior: Resolved, posterior: nn.Module) -> None:
    """Refuse a prior over other values than the posterior gives: a density where there are probabilities.

    Raises:
        ConfigError: The two do not agree.
    """
    own: str = getattr(posterior, "latents", Posterior.latents)
    theirs: str = getattr(prior.make, "latents", Prior.latents)
    if theirs != own:
        raise ConfigError(
            f"the latents of {type(posterior).__name__} are {NAMES[own]}, and the prior {prior.make.__name__} is over "
            f"{NAMES[theirs]}; choose prior.name = {PRIORS[own]!r}"
        )


def _principal_start(
    encoder: nn.Module, posterior: nn.Module, decoder: nn.Module, likelihood: nn.Module, x: Tensor
) -> None:
    """Let the model start as a principal component analysis of the training data.

    Raises:
        ConfigError: A posterior without a mean and a log-variance of its own, or several outputs for each value.
    """
    mu = getattr(posterior, "mu", None)
    log_var = getattr(posterior, "log_var", None)
    parameters_at: Any = getattr(likelihood, "parameters_at", None)
    mean = x.mean(0)
    unit = getattr(likelihood, "value_range", None) == (0.0, 1.0)
    middle = mean.clamp(0.05, 0.95) if unit else mean  # where a logit does not run away
    rise = None if parameters_at is None else parameters_at(middle + SLOPE_STEP) - parameters_at(middle - SLOPE_STEP)
    if not isinstance(mu, nn.Linear) or not isinstance(log_var, nn.Linear) or rise is None or rise.shape != mean.shape:
        raise ConfigError(
            "model.init = 'pca' needs a normal posterior and a likelihood with one output for each value; choose "
            "posterior.name = 'diagonal-normal' and likelihood.name = 'bernoulli' or 'normal', or init = 'he'"
        )
    slope = rise / (2 * SLOPE_STEP)
    transform: Transform | None = getattr(encoder, "transform", None)
    if transform is not None:  # the components are those of what the encoder sees
        step = transform(mean + SLOPE_STEP) - transform(mean - SLOPE_STEP)
        slope, x = rise / step, transform(x)
    principal_start(encoder, mu, log_var, decoder, x, slope)


def _start_output(decoder: nn.Module, likelihood: nn.Module, mean: Tensor | None, scale: float) -> None:
    """Let the decoder's output start at the parameters of the mean of x, as far as both know how to."""
    start: Any = getattr(decoder, "start_output", None)
    parameters_at: Any = getattr(likelihood, "parameters_at", None)
    if start is not None:
        start(None if mean is None or parameters_at is None else parameters_at(mean), scale)
