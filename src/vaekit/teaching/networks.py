"""Checks of the networks: their inputs and outputs, and that they are not a single linear map."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from .sheet import Mistake

HIDDEN_WIDTH = 400  # of a hidden layer, in the assignment
LATENTS = 15
CLASSES = 10


def build(student: ModuleType, name: str, **options: int) -> nn.Module:
    """A model of the student's class.

    Raises:
        Mistake: The class does not exist or is not a module.
    """
    kind = getattr(student, name, None)
    if not isinstance(kind, type):
        raise Mistake(f"There is no class {name}.")
    model = kind(options.pop("input_size", 784), **options)
    if not isinstance(model, nn.Module):
        raise Mistake(f"{name} is not an nn.Module.")
    return model.train()


def part(model: nn.Module, name: str) -> Callable[..., Any]:
    """A network of a model.

    Raises:
        Mistake: The network is missing or cannot be called.
    """
    layer = getattr(model, name, None)
    if layer is None:
        raise Mistake(f"self.{name} is still blank.")
    if not callable(layer):
        raise Mistake(f"self.{name} is a {type(layer).__name__}, which cannot be called.")
    return layer


def output(model: nn.Module, name: str, value: Tensor) -> Tensor:
    """The output of a network of a model.

    Raises:
        Mistake: The network is missing, or its output is not a tensor.
    """
    result = part(model, name)(value)
    if result is None:
        raise Mistake(f"self.{name} is still blank: it returns None.")
    if not isinstance(result, Tensor):
        raise Mistake(f"self.{name} returns a {type(result).__name__}; it must be one tensor.")
    return result


def rows(n: int, size: int, seed: int = 0) -> Tensor:
    """Normal numbers, always the same."""
    return torch.randn(n, size, generator=torch.Generator().manual_seed(seed))


def images(n: int, side: int = 28) -> Tensor:
    """Images of noise in [0, 1], always the same."""
    return torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(n))


def vae_encoder(student: ModuleType) -> str:
    """The encoder maps images of any number of pixels to hidden features, and both heads take these."""
    model = build(student, "VAE", latent_size=LATENTS)
    h = output(model, "encoder", images(4))
    _heads(model, h, LATENTS)
    _is_deep(model, "encoder", images(2).flatten(1), (1, 28, 28))
    small = build(student, "VAE", input_size=100, latent_size=7)
    _heads(small, output(small, "encoder", images(4, 10)), 7)
    return _layers(model, "encoder", 3) or _width(h)


def cvae_encoder(student: ModuleType) -> str:
    """The encoder maps flat pixels, followed by the one-hot class, to hidden features, and both heads take these."""
    model = build(student, "CVAE", num_classes=CLASSES, latent_size=LATENTS)
    _room(model, "encoder", 784, CLASSES)
    h = output(model, "encoder", images(1).flatten(1).new_zeros(4, 784 + CLASSES))
    _heads(model, h, LATENTS)
    _is_deep(model, "encoder", rows(2, 784 + CLASSES), (784 + CLASSES,))
    small = build(student, "CVAE", input_size=100, num_classes=3, latent_size=7)
    _heads(small, output(small, "encoder", rows(4, 103)), 7)
    return _layers(model, "encoder", 3) or _width(h)


def vae_decoder(student: ModuleType) -> str:
    """The decoder maps latents to images of probabilities."""
    model = build(student, "VAE", latent_size=LATENTS)
    _probabilities(model, LATENTS)
    _probabilities(build(student, "VAE", latent_size=7), 7)
    return _layers(model, "decoder", 4)


def cvae_decoder(student: ModuleType) -> str:
    """The decoder maps latents, followed by the one-hot class, to images of probabilities."""
    model = build(student, "CVAE", num_classes=CLASSES, latent_size=LATENTS)
    _room(model, "decoder", LATENTS, CLASSES)
    _probabilities(model, LATENTS + CLASSES)
    _probabilities(build(student, "CVAE", num_classes=3, latent_size=7), 10)
    return _layers(model, "decoder", 4)


def _heads(model: nn.Module, h: Tensor, latents: int) -> None:
    if h.ndim != 2:
        raise Mistake(f"The encoder gives shape {tuple(h.shape)}; it must be (N, hidden): nn.Flatten() comes first.")
    for name in ("mu_layer", "logvar_layer"):
        shape = tuple(output(model, name, h).shape)
        if shape != (len(h), latents):
            raise Mistake(
                f"self.{name} gives shape {shape}; with latent_size={latents} it must be (N, {latents}), here "
                f"{(len(h), latents)}."
            )
    if part(model, "mu_layer") is part(model, "logvar_layer"):
        raise Mistake("mu_layer and logvar_layer are the same layer; each needs weights of its own.")


def _room(model: nn.Module, name: str, size: int, classes: int) -> None:
    """Complain of a first layer that takes another number of values than `size + classes`."""
    network = part(model, name)
    modules = network.modules() if isinstance(network, nn.Module) else ()
    first = next((module for module in modules if isinstance(module, nn.Linear)), None)
    if first is None or first.in_features == size + classes or isinstance(first, nn.LazyLinear):
        return
    words = {
        size + 1: "That is room for the class as one integer; as a one-hot it takes 10.",
        size: "There is no room for the class.",
    }.get(first.in_features, "")
    raise Mistake(
        f"The {name} takes {first.in_features} values, but {size} and {classes} of the class come. {words}".strip()
    )


@torch.no_grad()
def _is_deep(model: nn.Module, name: str, x: Tensor, shape: tuple[int, ...]) -> None:
    """Complain of a network without nonlinearity: f(a) + f(b) = f(a + b) + f(0) for all a and b."""
    points = torch.stack((x[0], x[1], x[0] + x[1], torch.zeros_like(x[0]))) * 3
    a, b, both, zero = output(model, name, points.unflatten(1, shape)).float().flatten(1)
    if (a + b - both - zero).abs().max() < 1e-4 * (a - zero).abs().max():
        raise Mistake(f"The {name} is one linear map, however many layers it has: nn.ReLU() belongs between them.")


@torch.no_grad()
def _probabilities(model: nn.Module, latents: int) -> None:
    z = rows(8, latents)
    x_hat = output(model, "decoder", z)
    if x_hat.shape == (8, 784):
        raise Mistake("The decoder gives shape (N, 784); nn.Unflatten(1, (1, 28, 28)) makes images of it.")
    if x_hat.shape != (8, 1, 28, 28):
        raise Mistake(f"The decoder gives shape {tuple(x_hat.shape)} for 8 latents; it must be (8, 1, 28, 28).")
    extreme = output(model, "decoder", z * 1e4)
    low, high = extreme.min().item(), extreme.max().item()
    if low < 0 or high > 1:
        tanh = low >= -1 and high <= 1
        words = "that is the range of Tanh; the last layer is nn.Sigmoid()" if tanh else "nn.Sigmoid() is missing"
        raise Mistake(f"The decoder gives values from {low:.3g} to {high:.3g}; probabilities lie in [0, 1]: {words}.")
    if torch.allclose(x_hat.flatten(1).sum(1), torch.ones(8), atol=1e-3):
        raise Mistake("The pixels of an image sum to 1: that is a softmax; each pixel has its own nn.Sigmoid().")
    logits = x_hat.clamp(1e-6, 1 - 1e-6).logit()
    if logits.std(0).max() == 0:
        raise Mistake("The decoder gives the same image for every z.")
    _is_deep(_Logits(model), "decoder", z[:2], (latents,))


class _Logits(nn.Module):
    """A model with a decoder that stops before the sigmoid."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def decoder(self, z: Tensor) -> Tensor:
        """Logits of double precision."""
        return output(self.model, "decoder", z).double().clamp(1e-7, 1 - 1e-7).logit()


def _layers(model: nn.Module, name: str, expected: int) -> str:
    network = part(model, name)
    if not isinstance(network, nn.Module):
        return ""
    count = sum(isinstance(m, nn.Linear) for m in network.modules())
    if count in (0, expected):  # 0: written without nn.Linear
        return ""
    raise Mistake(f"The {name} has {count} linear layers; the assignment asks for {expected}.")


def _width(h: Tensor) -> str:
    if h.shape[1] == HIDDEN_WIDTH:
        return ""
    return f"Accepted: hidden layers of {h.shape[1]} units, where the assignment has {HIDDEN_WIDTH}."
