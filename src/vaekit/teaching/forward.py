"""Checks of `forward`: its outputs, the input of its decoder, and the gradients to both heads.

A correct `reparametrize` replaces the student's during these checks, so that a mistake in it costs points once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from .draws import require_gradients
from .networks import CLASSES, LATENTS, build, images, output, part
from .sheet import Mistake

MANY_ROWS = 1_000


def _reparametrize(mu: Tensor, logvar: Tensor) -> Tensor:
    return mu + (logvar / 2).exp() * torch.randn_like(mu)


@contextmanager
def _spy(model: nn.Module, name: str) -> Iterator[list[tuple[Any, ...]]]:
    """The arguments with which a network of the model is called within the block."""
    calls: list[tuple[Any, ...]] = []
    network = part(model, name)
    if isinstance(network, nn.Module):
        handle = network.register_forward_pre_hook(lambda _, arguments: calls.append(arguments))
        try:
            yield calls
        finally:
            handle.remove()
        return

    def spied(*arguments: Any) -> Any:
        calls.append(arguments)
        return network(*arguments)

    setattr(model, name, spied)
    try:
        yield calls
    finally:
        delattr(model, name)


@contextmanager
def _right_noise(student: ModuleType) -> Iterator[None]:
    reparametrize = getattr(student, "reparametrize", None)
    student.reparametrize = _reparametrize  # type: ignore[attr-defined]
    try:
        yield
    finally:
        student.reparametrize = reparametrize  # type: ignore[attr-defined]


class Pass:
    """One call of a model: its outputs, and the inputs of its encoder and decoder.

    Arguments:
        student: The student's module.
        model: A model of the student's class.
        inputs: Images (N, 1, H, W), and classes (N, C) if conditional.
    """

    x_hat: Tensor
    mu: Tensor
    logvar: Tensor

    def __init__(self, student: ModuleType, model: nn.Module, *inputs: Tensor) -> None:
        for name in ("encoder", "mu_layer", "logvar_layer", "decoder"):
            part(model, name)
        self.model = model
        self.x = inputs[0]
        with _right_noise(student), _spy(model, "encoder") as encoded, _spy(model, "decoder") as decoded:
            outputs = model(*inputs)
        self.encoded = _first(encoded)
        self.decoded = _first(decoded)
        if outputs is None or (isinstance(outputs, (tuple, list)) and any(value is None for value in outputs)):
            raise Mistake("forward is still blank: it returns None.")
        if not isinstance(outputs, (tuple, list)) or len(outputs) != 3:
            raise Mistake("forward must return three things: x_hat, mu, logvar.")
        self.x_hat = outputs[0]
        self.mu = outputs[1]
        self.logvar = outputs[2]

    def outputs(self) -> None:
        """Complain of outputs of the wrong shape or in the wrong order."""
        n = len(self.x)
        shapes = [tuple(value.shape) for value in (self.x_hat, self.mu, self.logvar)]
        if shapes[1:] != [(n, LATENTS)] * 2:
            latents = [i for i, shape in enumerate(shapes) if shape == (n, LATENTS)]
            order = "the order is x_hat, mu, logvar" if len(latents) == 2 else "mu and logvar have shape (N, Z)"
            raise Mistake(f"forward returns shapes {', '.join(map(str, shapes))}: {order}.")
        with torch.no_grad():
            x_hat = None if self.decoded is None else output(self.model, "decoder", self.decoded)
        if shapes[0] != tuple(self.x.shape) and (x_hat is None or shapes[0] != tuple(x_hat.shape)):
            raise Mistake(f"x_hat has shape {shapes[0]} where x has {tuple(self.x.shape)}.")
        self._heads()

    @torch.no_grad()
    def _heads(self) -> None:
        if self.encoded is None:
            return
        h = output(self.model, "encoder", self.encoded)
        mu, logvar = output(self.model, "mu_layer", h), output(self.model, "logvar_layer", h)
        if _same(self.mu, mu) and _same(self.logvar, logvar):
            return
        if _same(self.mu, logvar) and _same(self.logvar, mu):
            raise Mistake("forward returns logvar before mu; the order is x_hat, mu, logvar.")
        if _same(self.mu, mu):
            returned = "its exponential" if _same(self.logvar, logvar.exp()) else "something else"
            raise Mistake(f"The third thing that forward returns must be what logvar_layer gives; it is {returned}.")
        raise Mistake("The second thing that forward returns must be what mu_layer gives of the encoder's output.")

    def noise(self, z: Tensor | None) -> None:
        """Complain if the decoded latents z are not draws with mean mu and variance exp(logvar)."""
        if z is None or z.shape != self.mu.shape:
            return
        epsilon = ((z - self.mu) / (self.logvar / 2).exp()).detach()
        if epsilon.abs().max() < 1e-4:
            raise Mistake("The decoder gets mu itself: nothing is drawn. It gets z = reparametrize(mu, logvar).")
        mean, std = epsilon.mean().item(), epsilon.std().item()
        if abs(mean) > 0.05 or abs(std - 1) > 0.05:
            raise Mistake(
                f"(z − mu) / σ has mean {mean:.2f} and std {std:.2f} in forward instead of 0 and 1; "
                "z is reparametrize(mu, logvar), with what the two layers give."
            )

    def gradients(self) -> None:
        """Complain if no gradient of x_hat reaches one of the heads' outputs."""
        if not self.x_hat.requires_grad:
            raise Mistake("x_hat has no gradient: leave out .detach(), .data and no_grad.")
        for value in (self.mu, self.logvar):
            if not value.requires_grad:
                raise Mistake("mu or logvar has no gradient: leave out .detach(), .data and no_grad.")
        heads = {"mu_layer": self.mu, "logvar_layer": self.logvar}
        require_gradients([(name, self._reaching(name, value)) for name, value in heads.items()])

    def _reaching(self, name: str, value: Tensor) -> Tensor | None:
        """The gradient of Σ x_hat² at the first weight of the head that gave `value`; None if it does not get there."""
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        h = None if self.encoded is None else output(self.model, "encoder", self.encoded)
        below = [None] * len(weights) if h is None else _gradients(h.sum(), weights)
        above = _gradients(value.sum(), weights)
        head_weights = [(w, g) for w, g, b in zip(weights, above, below, strict=True) if g is not None and b is None]
        if not head_weights:
            raise Mistake(f"self.{name} has no weights.")
        (reached,) = _gradients((self.x_hat**2).sum(), [head_weights[0][0]])
        return None if reached is None else reached * (head_weights[0][1] != 0)  # both heads may share the weights


def _gradients(value: Tensor, weights: list[nn.Parameter]) -> list[Tensor | None]:
    if not value.requires_grad:
        return [None] * len(weights)
    return list(torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True))


def _first(calls: list[tuple[Any, ...]]) -> Tensor | None:
    """The argument of a network that was called once, with one tensor; else None."""
    if len(calls) != 1 or len(calls[0]) != 1 or not isinstance(calls[0][0], Tensor):
        return None
    return calls[0][0]


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.float(), b.float(), rtol=1e-3, atol=1e-5)


def vae_outputs(student: ModuleType) -> None:
    """Three outputs, of the right shapes, in the right order."""
    Pass(student, build(student, "VAE", latent_size=LATENTS), images(4)).outputs()


def vae_noise(student: ModuleType) -> None:
    """The decoder gets a draw, through which gradients reach both heads."""
    model = build(student, "VAE", latent_size=LATENTS)
    once = Pass(student, model, images(1).expand(MANY_ROWS, 1, 28, 28).contiguous())
    once.noise(once.decoded)
    once.gradients()


def _conditional(student: ModuleType, n: int) -> tuple[Pass, Tensor]:
    """A pass through the conditional model, and its classes."""
    model = build(student, "CVAE", num_classes=CLASSES, latent_size=LATENTS)
    c = torch.eye(CLASSES)[torch.arange(n) * 3 % CLASSES]
    return Pass(student, model, images(4).repeat(-(-n // 4), 1, 1, 1)[:n], c), c


def cvae_encodes_the_class(student: ModuleType) -> None:
    """The encoder gets the flat image and the one-hot class, in this order; forward returns three things."""
    run, c = _conditional(student, 6)
    _joined("encoder", "image", run.encoded, run.x.flatten(1), c)
    run.outputs()


def cvae_decodes_the_class(student: ModuleType) -> None:
    """The decoder gets the latents and the one-hot class, in this order, and z is a draw."""
    run, c = _conditional(student, MANY_ROWS)
    decoded = run.decoded
    _joined("decoder", "latents", decoded, None if decoded is None else decoded[:, :LATENTS], c)
    run.noise(None if decoded is None else decoded[:, :LATENTS])
    run.gradients()


def _joined(network: str, label: str, received: Tensor | None, value: Tensor | None, c: Tensor) -> None:
    """Complain if a network received anything but a value followed by the class."""
    if received is None or value is None:
        return
    received = received.detach().flatten(1).float()
    size, right = value.shape[1], f"torch.cat(({'z' if network == 'decoder' else 'x.flatten(1)'}, c), dim=-1)"
    if received.shape[1] == size + CLASSES and torch.equal(received[:, size:], c):
        if torch.equal(received[:, :size], value.float()):
            return
        raise Mistake(f"The {label} that the {network} gets are not those that came in; it gets {right}.")
    if received.shape[1] == size + CLASSES and torch.equal(received[:, :CLASSES], c):
        raise Mistake(f"The one-hot class is on the wrong side: it comes after the {label}, {right}. {_WHY}")
    if received.shape[1] == size + 1:
        raise Mistake(f"The {network} gets the class as one integer; append the one-hot itself, {right}.")
    if received.shape[1] == size:
        raise Mistake(f"The {network} is not told the class; it gets {right}.")
    raise Mistake(f"The {network} gets {received.shape[1]} values per image; it must be {right}.")


_WHY = "The notebook decodes in this order, too."
