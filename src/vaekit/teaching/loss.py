"""Checks of `loss_function`: each term is measured by itself, and compared with each classic mistake."""

from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy as bce
from torch.nn.functional import binary_cross_entropy_with_logits as bce_with_logits
from torch.nn.functional import mse_loss

from .draws import function
from .sheet import Mistake

N, D, Z = 3, 784, 5
HINT = "Its value is (BCE summed over pixels + KL summed over latents) / N."


class Inputs(NamedTuple):
    """Arguments of a loss function."""

    x_hat: Tensor
    x: Tensor
    mu: Tensor
    logvar: Tensor


def _inputs() -> Inputs:
    g = torch.Generator().manual_seed(1)
    x_hat, x = torch.rand(2, N, 1, 28, 28, generator=g) * 0.8 + 0.1
    mu, logvar = torch.randn(2, N, Z, generator=g)
    return Inputs(x_hat, x, 3 * mu, logvar)


def _measure(student: ModuleType, inputs: Inputs) -> Tensor:
    loss: object = function(student, "loss_function")(*inputs)
    if loss is None:
        raise Mistake("loss_function is still blank: it returns None.")
    if not isinstance(loss, Tensor):
        kind = type(loss).__name__
        raise Mistake(f"loss_function returns a {kind}, which has no gradient: leave out .item() and numpy.")
    return loss


def _notebook(student: ModuleType) -> str:
    """The result of the notebook's check, in words."""
    x_hat = torch.tensor([[2.0, 5.0], [6.0, 7.0]]).sigmoid().view(1, 1, 2, 2)
    x = torch.tensor([[1.0, 10.0], [9.0, 3.0]]).sigmoid().view(1, 1, 2, 2)
    value = _measure(student, Inputs(x_hat, x, torch.ones(1, 15), torch.zeros(1, 15))).mean()
    if abs(value - 8.5079) < 1e-4:
        return "The notebook's check, of a single image, cannot see it."
    return f"The notebook's check gives {value:.4f} instead of 8.5079."


def _near(value: Tensor, target: Tensor) -> bool:
    return torch.allclose(value.double(), target.double(), rtol=2e-4, atol=2e-6)


def _reconstructions(x_hat: Tensor, x: Tensor) -> list[tuple[Tensor, str]]:
    """Possible reconstruction terms; the first is right, and the second and third are right but for the batch."""
    total = bce(x_hat, x, reduction="sum")
    logits = bce_with_logits(x_hat, x, reduction="sum")
    swapped, squares = bce(x, x_hat, reduction="sum"), mse_loss(x_hat, x, reduction="sum")
    mean = "BCE is averaged over the pixels instead of summed, which makes the KL weigh 784 times too much"
    return [
        (total / N, ""),
        (total, "The sum is not divided by the number of images"),
        (total / N**2, "The reconstruction is averaged over the batch twice"),
        (total / (N * D), f"{mean}: use reduction='sum' and divide by N once"),
        (total / D, f"{mean}: sum over the pixels, then average over the images"),
        (-total / N, "The reconstruction has the wrong sign: BCE is already the negative log-likelihood"),
        (swapped / N, "x_hat and x are swapped: BCE takes the prediction first, then the target"),
        (swapped / (N * D), "x_hat and x are swapped, and BCE is averaged over the pixels instead of summed"),
        (swapped, "x_hat and x are swapped, and the sum is not divided by the number of images"),
        (logits / N, "x_hat is a probability already, so BCE takes it as it is: without _with_logits"),
        (logits / (N * D), "x_hat is a probability already: BCE without _with_logits, summed over the pixels"),
        (squares / N, "The reconstruction is a squared error; Bernoulli pixels ask for binary cross-entropy"),
        (
            squares / (N * D),
            "The reconstruction is a mean squared error; it must be a binary cross-entropy",
        ),
        (torch.zeros(()), "There is no reconstruction term"),
    ]


def reconstruction(student: ModuleType) -> str:
    """Binary cross-entropy, summed over the pixels and averaged over the batch."""
    inputs = _inputs()
    loss = _measure(student, inputs)
    if loss.numel() != 1:
        raise Mistake(f"The loss has shape {tuple(loss.shape)}; it is one number, the mean over the batch. {HINT}")
    words = _reconstruction_words(student, inputs)
    if words:
        raise Mistake(f"{words}. {_notebook(student)}")
    _notebook(student)  # images of another size
    _needs_gradient(student, inputs, "x_hat")
    extreme = inputs._replace(x_hat=inputs.x_hat.round(), x=inputs.x_hat.round())
    if not _measure(student, extreme).isfinite().all():
        return "Accepted, but it is not finite where x_hat is exactly 0 or 1; F.binary_cross_entropy is."
    return ""


def _scale(student: ModuleType, inputs: Inputs) -> int:
    """The number of the student's term among the known reconstruction terms; −1 if it is not among them.

    The difference between two reconstructions does not depend on the KL.
    """
    inverted = 1 - inputs.x_hat
    measured = _measure(student, inputs).mean() - _measure(student, inputs._replace(x_hat=inverted)).mean()
    known = zip(_reconstructions(inputs.x_hat, inputs.x), _reconstructions(inverted, inputs.x), strict=True)
    return next((i for i, (a, b) in enumerate(known) if _near(measured, a[0] - b[0])), -1)


def _reconstruction_words(student: ModuleType, inputs: Inputs) -> str:
    scale = _scale(student, inputs)
    known = _reconstructions(inputs.x_hat, inputs.x)
    if scale >= 0:
        return known[scale][1]
    inverted = 1 - inputs.x_hat
    measured = _measure(student, inputs).mean() - _measure(student, inputs._replace(x_hat=inverted)).mean()
    ratio = measured / (known[0][0] - _reconstructions(inverted, inputs.x)[0][0])
    return f"The reconstruction term is {ratio:.4g} times what it should be. {HINT[:-1]}"


def _divergences(mu: Tensor, logvar: Tensor) -> list[tuple[Tensor, str]]:
    """Possible KL terms; the first is right, and the second and third are right but for the batch."""
    total = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
    log_sigma = -0.5 * (1 + 2 * logvar - mu**2 - (2 * logvar).exp()).sum()
    exchanged = -0.5 * (1 + mu - logvar**2 - mu.exp()).sum()
    reverse = 0.5 * (logvar + (1 + mu**2) / logvar.exp() - 1).sum()
    return [
        (total / N, ""),
        (total, "The KL is summed over the batch where the reconstruction is averaged"),
        (total / N**2, "The KL is averaged over the batch twice, so it weighs too little"),
        (-total / N, "The KL has the wrong sign: it is −½ Σ (1 + logvar − mu² − exp(logvar)), never negative"),
        (-total, "The KL has the wrong sign, and is not divided by the number of images"),
        (2 * total / N, "The KL lacks its factor ½"),
        (-2 * total / N, "The KL lacks its factor −½"),
        (total / (N * Z), "The KL is averaged over the latents; it is summed over them"),
        (total / (N * D), "The KL is divided by the number of pixels, so it weighs 784 times too little"),
        (log_sigma / N, "logvar is treated as log σ; it is log σ², and exp(logvar) is the variance"),
        (exchanged / N, "mu and logvar have changed places in the KL"),
        (reverse / N, "This is KL(p ‖ q); the loss needs KL(q ‖ p)"),
        (torch.zeros(()), "There is no KL term, or it does not depend on mu and logvar"),
    ]


def divergence(student: ModuleType) -> None:
    """KL(q ‖ N(0, I)), summed over the latents and averaged over the batch."""
    inputs = _inputs()
    nothing = torch.zeros(N, Z)
    zero = inputs._replace(mu=nothing, logvar=nothing)
    base = _measure(student, zero).mean()
    measured = _measure(student, inputs).mean() - base
    known = _divergences(inputs.mu, inputs.logvar)
    right = _scale(student, inputs)
    # A loss that divides neither term by N, or both twice, is one mistake: the other check names it.
    if right in (1, 2) and _near(measured, known[right][0]):
        return
    if not _near(measured, known[0][0]):
        words = next((words for value, words in known if _near(measured, value)), None)
        ratio = measured / known[0][0]
        words = words or f"The KL term is {ratio:.4g} times what it should be. {HINT[:-1]}"
        raise Mistake(f"{words}. {_notebook(student)}")
    if right == 0 and not _near(base, _reconstructions(inputs.x_hat, inputs.x)[0][0]):
        raise Mistake(f"At mu = 0 and logvar = 0 the KL must be 0: is the 1 missing? {_notebook(student)}")
    _needs_gradient(student, inputs, "mu", "logvar")


def _needs_gradient(student: ModuleType, inputs: Inputs, *names: str) -> None:
    """Complain of an argument that the gradient does not reach.

    Raises:
        Mistake: The gradient does not reach one of the arguments.
    """
    leaves = Inputs(*(value.clone().requires_grad_(name != "x") for name, value in inputs._asdict().items()))
    loss = _measure(student, leaves).mean()
    if loss.requires_grad:
        loss.backward()
    for name in names:
        value = getattr(leaves, name).grad
        if value is None or not value.any():
            raise Mistake(f"No gradient of the loss reaches {name}: leave out .detach(), .data, .item() and no_grad.")
