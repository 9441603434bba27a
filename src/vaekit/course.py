"""The assignment: a fully connected VAE and a class-conditional VAE, in plain PyTorch.

Also the shortest example of how to write a model: beside the `forward` of the lecture each class has the three methods
of `LatentVariableModel`, so everything else in this package can use it.

Not for: options. Any other combination of parts is a `Composed` model.
"""

from collections.abc import Mapping
from math import isqrt
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.nn.functional import binary_cross_entropy

from .errors import DataError
from .likelihoods import bernoulli
from .model import LatentVariableModel
from .nets import with_context
from .store.state_dict import read_state_dict


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

    Reference: Kingma and Welling 2013, arXiv:1312.6114, eq. 10 and appendix B.
    """
    reconstruction = binary_cross_entropy(x_hat, x, reduction="sum")
    kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
    return (reconstruction + kl) / len(x)


class _Assignment(LatentVariableModel):
    """What both models share: the layers, in the order in which the assignment creates them, and the distributions."""

    value_range = (0.0, 1.0)

    def __init__(self, input_size: int, latent_size: int, context_size: int) -> None:
        super().__init__()
        side = isqrt(input_size)
        image_shape = (1, side, side) if side**2 == input_size else (1, 1, input_size)
        self.input_size = input_size
        self.latent_size = latent_size
        self.hidden_dim = 400
        self.context_size = context_size
        self.image_shape = image_shape
        hidden = self.hidden_dim
        flatten = [] if context_size else [nn.Flatten()]
        self.encoder = nn.Sequential(*flatten, *_layers(input_size + context_size, hidden))
        self.mu_layer = nn.Linear(hidden, latent_size)
        self.logvar_layer = nn.Linear(hidden, latent_size)
        self.decoder = nn.Sequential(
            *_layers(latent_size + context_size, hidden),
            nn.Linear(hidden, input_size),
            nn.Sigmoid(),
            nn.Unflatten(1, image_shape),
        )

    def posterior(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """q(z | x, c) = N(μ, diag σ²), batch shape (B,)."""
        h = self.encoder(with_context(x.flatten(1), c))
        mu, logvar = self.mu_layer(h), self.logvar_layer(h)
        return Independent(Normal(mu, (0.5 * logvar).exp(), validate_args=False), 1)

    def prior(self, c: Tensor | None = None) -> Distribution:
        """p(z) = N(0, I), whatever the class."""
        zeros = torch.zeros(self.latent_size, device=self.device, dtype=self.mu_layer.weight.dtype)
        return Independent(Normal(zeros, torch.ones_like(zeros), validate_args=False), 1)

    def likelihood(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """p(x | z, c), Bernoulli pixels, from the logits before the decoder's sigmoid."""
        logits = self.decoder[:-2](with_context(z, c))
        return bernoulli(logits.unflatten(-1, self.image_shape))

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> Self:
        """A model with the weights that `torch.save(model.state_dict(), path)` wrote; the file says the sizes.

        Arguments:
            path: A file written with the course's classes or with these. Nothing in it is executed.

        Raises:
            DataError: The file is missing, damaged, holds more than weights, or the weights of another model.
        """
        state = read_state_dict(path)
        try:
            sizes = _sizes(state)
            if ("num_classes" in sizes) != issubclass(cls, CVAE):
                other = "CVAE" if "num_classes" in sizes else "VAE"
                raise ValueError(f"these are of a {other}; use {other}.from_checkpoint")
            model = cls(**sizes)
            model.load_state_dict(state)
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"{path} does not hold the weights of a {cls.__name__}: {reason:.300}") from error
        return model

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # Some solutions wrap each head in a Sequential, which names its weights mu_layer.0.weight.
        for head in ("mu_layer", "logvar_layer"):
            for name in ("weight", "bias"):
                wrapped = f"{prefix}{head}.0.{name}"
                if wrapped in state_dict:
                    state_dict[f"{prefix}{head}.{name}"] = state_dict.pop(wrapped)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _layers(inputs: int, hidden: int) -> list[nn.Module]:
    """Three linear layers, each with its ReLU."""
    layers: list[nn.Module] = []
    for width in (inputs, hidden, hidden):
        layers += [nn.Linear(width, hidden), nn.ReLU()]
    return layers


def _sizes(state: Mapping[str, Tensor]) -> dict[str, int]:
    """The arguments that made a model, from the shapes of its weights.

    Raises:
        ValueError: These are not the weights of such a model.
    """

    def width(axis: int, *names: str) -> int:
        name = next((name for name in names if name in state), None)
        if name is None:
            raise ValueError(f"it has no {names[0]}")
        if state[name].ndim != 2 or state[name].shape[1 - axis] != 400:
            raise ValueError(f"{name} has shape {tuple(state[name].shape)}")
        return state[name].shape[axis]

    latent_size = width(0, "mu_layer.weight", "mu_layer.0.weight")
    sizes = {"input_size": width(0, "decoder.6.weight"), "latent_size": latent_size}
    num_classes = width(1, "decoder.0.weight") - latent_size
    return sizes | ({"num_classes": num_classes} if num_classes else {})


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
        super().__init__(input_size, latent_size, context_size=num_classes)
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
