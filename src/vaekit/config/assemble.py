"""From parts to a model: which part is made when, and what each is given."""

from collections.abc import Mapping

from torch import Tensor

from ..model import Composed, LatentVariableModel
from ..nets import FirstLevel, initialize
from . import Model
from .parts import Resolved


def assemble(
    parts: Mapping[str, Resolved],
    section: Model,
    *,
    event_shape: tuple[int, ...],
    context_size: int,
    images: Tensor | None,
) -> LatentVariableModel:
    """Make a model of parts, from torch's global random stream: encoder, posterior, decoder, likelihood, prior.

    Arguments:
        parts: One of each kind.
        section: What belongs to no single part.
        event_shape: Event shape of x.
        context_size: C; 0 for an unconditional model.
        images: Training images in the range of x, shape (N, *event_shape), for parts that start from the data.
    """
    latent_size = section.latent_size
    shared = {"context_size": context_size, "image_shape": event_shape, "images": images}
    encoder = parts["encoder"](in_shape=event_shape, out_shape=None, **shared)
    posterior = parts["posterior"](net=encoder, features=encoder.out_shape[0], latent_size=latent_size, **shared)
    out_shape = _out_shape(parts["likelihood"], event_shape)
    decoder = parts["decoder"](in_shape=(latent_size,), out_shape=out_shape, **shared)
    # Of several levels the decoder reads the first, which is latent_size wide.
    levels = posterior.latent_size > latent_size
    likelihood = parts["likelihood"](net=FirstLevel(decoder, latent_size) if levels else decoder, **shared)
    prior = parts["prior"](posterior=posterior, latent_size=posterior.latent_size, **shared)
    composed = Composed(
        posterior,
        prior,
        likelihood,
        latent_size=posterior.latent_size,
        context_size=context_size,
        image_shape=event_shape,
    )
    initialize(composed, section.init)
    mean = images.mean(0) if images is not None and section.output_bias == "data" else None
    decoder.start_output(None if mean is None else likelihood.parameters_at(mean), section.output_scale)
    return composed


def _out_shape(likelihood: Resolved, image_shape: tuple[int, ...]) -> tuple[int, ...]:
    shape: tuple[int, ...] = likelihood.make.out_shape(image_shape, **likelihood.options)  # type: ignore[attr-defined]
    return shape
