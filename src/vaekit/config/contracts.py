"""The questions that the builder asks of parts, and the defaults for a part that does not answer.

The questions are the attributes and methods of the contracts: `Encoder`, `Posterior`, `Decoder`, `Likelihood`, `Prior`.
A part may be a plain module that knows nothing of them. Not for: which part is made when (`assemble`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..data.table.columns import Column
from ..errors import ConfigError, is_count
from ..likelihoods import Likelihood, PerValueLikelihood
from ..nets import Decoder
from ..posteriors import Posterior
from ..priors import Prior
from .parts import Resolved

Shape = tuple[int, ...]
Transform = Callable[[Tensor], Tensor]

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "encoder": {"out_shape": None},  # without it, two rows are tried
    "posterior": {
        "latent_size": None,  # without it, the config says the size
        "latent_shape": None,  # without it, z is a vector
        "decoded_shape": None,  # without it, the decoder reads all of z
        "latent_kind": Posterior.latent_kind,
        "wrap_decoder": None,  # without it, the decoder reads z, or only its first level
        "start": lambda x, c: None,
    },
    "decoder": {"wanted_shape": Decoder.wanted_shape, "start_output": lambda value, scale: None},
    "likelihood": {
        "per_value": PerValueLikelihood.per_value,
        "out_shape": None,  # without it, `per_value` groups of the channels of x
        "encoder_transform": Likelihood.encoder_transform,
        "options_from_data": Likelihood.options_from_data,
        "parameters_at": None,
        "value_range": None,
    },
    "prior": {"for_vectors": None, "latent_kind": Prior.latent_kind, "start": lambda posterior, x, c: None},
}


def as_shape(name: str, value: int | Iterable[int]) -> Shape:
    """A shape; a number is the size of a vector.

    Arguments:
        name: Name of the shape in the message.
        value: One number, or several.

    Raises:
        ConfigError: The value is not made of whole numbers of at least 1.
    """
    shape = tuple(value) if isinstance(value, Iterable) else (value,)
    if not shape or not all(map(is_count, shape)):
        raise ConfigError(f"{name} must be a number or several, whole and at least 1, got {shape!r:.80}")
    return tuple(map(int, shape))


def attribute_or_default(kind: str, part: Any, name: str) -> Any:
    """An attribute or a method of a part, or its default.

    Arguments:
        kind: A key of `DEFAULTS`.
        part: The part, or its class if the part is not made yet.
        name: Name of the attribute or method.
    """
    return getattr(part, name, DEFAULTS[kind][name])


def features_of(encoder: nn.Module, event_shape: Shape, context_size: int) -> int:
    """Width of an encoder's output, from its `out_shape` or from its output for two rows of zeros.

    Raises:
        ConfigError: The output of an encoder without `out_shape` is not a vector.
    """
    shape = attribute_or_default("encoder", encoder, "out_shape")
    if shape is not None:
        return int(shape[0])
    was_training = encoder.training
    with torch.no_grad():
        c = torch.zeros(2, context_size) if context_size else None
        output = encoder.eval()(torch.zeros(2, *event_shape), c)
    encoder.train(was_training)
    if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != 2:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ConfigError(f"the encoder must map (B, *event) to features (B, F), but 2 rows gave {got}")
    return output.shape[1]


def encoder_transform(likelihood: Resolved) -> Transform | None:
    """The transform of x before the encoder; None for x itself."""
    transform: Transform | None = attribute_or_default("likelihood", likelihood.make, "encoder_transform")(
        **likelihood.options
    )
    return transform


def output_shape(likelihood: Resolved, event_shape: Shape, columns: Sequence[Column] | None = None) -> Shape:
    """Shape of the decoder's output: the likelihood's `out_shape`, or `per_value` groups of channels."""
    shape = attribute_or_default("likelihood", likelihood.make, "out_shape")
    if shape is not None:
        wiring = {"columns": columns} if "columns" in likelihood.wiring else {}
        return tuple(shape(event_shape, **wiring, **likelihood.options))
    groups = attribute_or_default("likelihood", likelihood.make, "per_value")(**likelihood.options)
    return (groups * event_shape[0], *event_shape[1:])


def wanted_shape(decoder: Resolved, latent_size: int, out_shape: Shape) -> Shape:
    """Shape of latents that suits the decoder best."""
    return tuple(
        attribute_or_default("decoder", decoder.make, "wanted_shape")(latent_size, out_shape, **decoder.options)
    )


def latent_shapes(posterior: nn.Module, latent_size: int) -> tuple[Shape, Shape]:
    """Event shapes of z and of the decoder's input, from the posterior; by default z has the config's width."""
    size = attribute_or_default("posterior", posterior, "latent_size")
    shape = attribute_or_default("posterior", posterior, "latent_shape") or (latent_size if size is None else size,)
    return tuple(shape), tuple(attribute_or_default("posterior", posterior, "decoded_shape") or shape)


def is_for_vectors(prior: Resolved) -> bool:
    """Whether a prior is for vectors only: its `for_vectors` says so, or it asks for `latent_size` alone."""
    explicit: bool | None = attribute_or_default("prior", prior.make, "for_vectors")
    if explicit is not None:
        return explicit
    asks_for_shape = "latent_shape" in prior.wiring or "posterior" in prior.wiring
    return "latent_size" in prior.wiring and not asks_for_shape
