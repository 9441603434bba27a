"""The assignment: a fully connected VAE and a class-conditional VAE, in plain PyTorch.

Also the shortest example of how to write a model: beside the `forward` of the lecture each class has the three methods
of `LatentVariableModel`, so everything else in this package can use it.

Not for: options (any other combination of parts is a `Composed` model), or stored weights (`student_weights`).
"""

from collections.abc import Sequence
from itertools import pairwise
from math import isqrt
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.nn.functional import binary_cross_entropy

from ..distributions import at_least_float32
from ..errors import DataError, check_count
from ..likelihoods import bernoulli
from ..model import LatentVariableModel
from ..nets import with_context
from ..store.state_dict import read_state_dict
from .student_weights import CourseWeights, refusing, unwrap_heads


def hello_vae() -> None:
    """Say hello, to show that the import works."""
    print("Hello from vae.py!")


def reparametrize(mu: Tensor, logvar: Tensor) -> Tensor:
    """Draw z ~ N(μ, σ²) as a differentiable function of μ and log σ²: z = μ + σ·ε with ε ~ N(0, I).

    Arguments:
        mu: Means, shape (N, Z).
        logvar: Log-variances, shape (N, Z).

    Returns:
        Shape (N, Z).

    Reference: Kingma and Welling 2013, arXiv:1312.6114, section 2.4.
    """
    return mu + (0.5 * logvar).exp() * torch.randn_like(mu)


def loss_function(x_hat: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Negative ELBO, averaged over the batch: binary cross-entropy summed over pixels, plus KL(q ‖ N(0, I)).

    Arguments:
        x_hat: Reconstructions, probabilities, shape (N, 1, H, W).
        x: Images in [0, 1], same shape.
        mu: Posterior means, shape (N, Z).
        logvar: Posterior log-variances, shape (N, Z).

    Returns:
        Scalar, nats per image.

    Raises:
        DataError: The numbers of rows differ, or the shapes of mu and logvar.

    Reference: Kingma and Welling 2013, arXiv:1312.6114, eq. 10 and appendix B.
    """
    if not len(x_hat) == len(x) == len(mu) or mu.shape != logvar.shape:
        shapes = [tuple(value.shape) for value in (x_hat, x, mu, logvar)]
        raise DataError(f"x_hat, x, mu and logvar must have the same rows, got shapes {', '.join(map(str, shapes))}")
    reconstruction = binary_cross_entropy(x_hat, x, reduction="sum")
    kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
    return (reconstruction + kl) / len(x)


class _Assignment(LatentVariableModel):
    """The base of both models: the layers, in the assignment's order, and the distributions."""

    value_range = (0.0, 1.0)

    def __init__(self, input_size: int, latent_size: int, context_size: int) -> None:
        super().__init__()
        check_count("input_size", input_size)
        check_count("latent_size", latent_size)
        side = isqrt(input_size)
        event_shape = (1, side, side) if side**2 == input_size else (1, 1, input_size)
        self.input_size = input_size
        self.latent_size = latent_size
        self.context_size = context_size
        self.event_shape: tuple[int, int, int] = event_shape
        self._make_layers([400] * 3, [400] * 3)

    def _make_layers(self, encoder: Sequence[int], decoder: Sequence[int]) -> None:
        """Make the layers, given the widths of the hidden ones."""
        self.hidden_dim = encoder[-1]
        flatten = [] if self.context_size else [nn.Flatten()]
        self.encoder = nn.Sequential(*flatten, *_layers(self.input_size + self.context_size, encoder))
        self.mu_layer = nn.Linear(encoder[-1], self.latent_size)
        self.logvar_layer = nn.Linear(encoder[-1], self.latent_size)
        self.decoder = nn.Sequential(
            *_layers(self.latent_size + self.context_size, decoder),
            nn.Linear(decoder[-1], self.input_size),
            nn.Sigmoid(),
            nn.Unflatten(1, self.event_shape),
        )

    def posterior(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """q(z | x, c) = N(μ, diag σ²), batch shape (B,)."""
        h = self.encoder(with_context(x.flatten(1), c))
        mu, logvar = at_least_float32(self.mu_layer(h)), at_least_float32(self.logvar_layer(h))
        return Independent(Normal(mu, (0.5 * logvar).exp(), validate_args=False), 1)

    def prior(self, c: Tensor | None = None) -> Distribution:
        """p(z) = N(0, I), whatever the class."""
        zeros = torch.zeros(self.latent_size, device=self.device, dtype=self.mu_layer.weight.dtype)
        return Independent(Normal(zeros, torch.ones_like(zeros), validate_args=False), 1)

    def likelihood(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """p(x | z, c), Bernoulli pixels, from the logits before the decoder's sigmoid."""
        logits = self.decoder[:-2](with_context(z, c))
        return bernoulli(logits.unflatten(-1, self.event_shape))

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> Self:
        """A model with the weights that `torch.save(model.state_dict(), path)` wrote; the file gives the sizes.

        The hidden layers may be of any number and width. ReLUs are put between them, because the file does not name
        activations. An encoder may begin with `nn.Flatten()`, a head may be wrapped in a `Sequential`, and the model
        may have been in a `DataParallel` or compiled.

        Arguments:
            path: A file with weights of a student's class, or of this one. Nothing in it is executed.

        Raises:
            DataError: The file is missing or damaged, or holds anything but the weights of such a model.
        """
        state = read_state_dict(path)
        with refusing(path, cls.__name__):
            weights = CourseWeights.of(state)
            if weights.is_conditional != issubclass(cls, CVAE):
                right = "CVAE" if weights.is_conditional else "VAE"
                raise ValueError(f"these are of a {right}; use {right}.from_checkpoint")
            with torch.device("meta"):  # no memory before the file's weights
                model = cls(**weights.sizes)
                model._make_layers(weights.encoder, weights.decoder)
            model.load_state_dict(weights.state, assign=True)
        return model

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        unwrap_heads(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _layers(inputs: int, widths: Sequence[int]) -> list[nn.Module]:
    """Linear layers, each with its ReLU."""
    layers: list[nn.Module] = []
    for a, b in pairwise((inputs, *widths)):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return layers


class VAE(_Assignment):
    """The assignment's VAE: 784-400-400-400-15 and back.

    Arguments:
        input_size: Pixels in an image, H·W.
        latent_size: Z.
    """

    def __init__(self, input_size: int, latent_size: int = 15) -> None:
        super().__init__(input_size, latent_size, context_size=0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruct x, shape (N, 1, H, W), through one draw of z.

        Returns:
            x_hat, shape (N, 1, H, W); μ and log σ², shape (N, Z).
        """
        h = self.encoder(x)
        mu, logvar = self.mu_layer(h), self.logvar_layer(h)
        z = reparametrize(mu, logvar)
        return self.decoder(z), mu, logvar


class CVAE(_Assignment):
    """The assignment's class-conditional VAE: the one-hot class joins the image and the latents.

    Arguments:
        input_size: Pixels in an image, H·W.
        num_classes: C.
        latent_size: Z.
    """

    def __init__(self, input_size: int, num_classes: int = 10, latent_size: int = 15) -> None:
        super().__init__(input_size, latent_size, context_size=check_count("num_classes", num_classes))
        self.num_classes = num_classes

    def forward(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruct x, shape (N, 1, H, W), given one-hot classes c, shape (N, C), of any numeric type.

        Returns:
            x_hat, shape (N, 1, H, W); μ and log σ², shape (N, Z).
        """
        c = c.to(x.dtype)
        h = self.encoder(torch.cat((x.flatten(1), c), dim=-1))
        mu, logvar = self.mu_layer(h), self.logvar_layer(h)
        z = reparametrize(mu, logvar)
        return self.decoder(torch.cat((z, c), dim=-1)), mu, logvar
