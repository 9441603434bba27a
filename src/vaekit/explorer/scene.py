"""What the page is told: points of the map, statistics of the latents, draws from the prior, and what it embeds.

Not for: how the page looks (`assets`), or how it is put together (`page`).
"""

import base64
import io
import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import __version__
from ..errors import VAEError
from ..evaluation.latents import CARRIES, latents
from ..rng import seeded
from .graph import Encoding
from .subject import AT_A_TIME, Subject

STATISTICS = 1000  # data that statistics of the latents are taken over
DRAWS = 200  # of the prior, for a page that cannot draw
DRAWS_OF_A_CLASS = 24

Scene = dict[str, Any]


@torch.no_grad()
def scene(subject: Subject, *, images: int) -> Scene:
    """Everything that the page shows before it decodes.

    Arguments:
        subject: A model and data for statistics.
        images: How many of the data become points of the map; 0 leaves out every image and every latent of one.
    """
    model = subject.model
    encoded = _encoded(subject)
    latent = _statistics(subject, encoded)
    chosen = torch.linspace(0, len(subject) - 1, min(images, len(subject))).round().long()
    if not len(subject) or not images:
        chosen = torch.zeros(0, dtype=torch.long)
    return {
        "version": __version__,
        "name": subject.name,
        "facts": [*subject.facts],
        "kind": subject.kind,
        "shape": [*(subject.x.shape[1:] if model.image_shape is None else model.image_shape)],
        "range": _range(subject),
        "background": _background(subject.x) if subject.kind == "image" else 0.0,
        "source": subject.source,
        "classes": [str(name) for name in subject.classes],
        "conditional": bool(model.context_size),
        "contexts": model.context_size,
        "latent": latent,
        "plane": _plane(encoded["z"], latent),
        "points": _points(subject, encoded, chosen),
        "prior": _prior(subject),
        "scores": _scores(encoded),
    }


def _encoded(subject: Subject) -> dict[str, Tensor]:
    """Posterior means, one sample each, and rate and distortion where there are densities."""
    model, parts = subject.model, []
    for start in range(0, len(subject), AT_A_TIME):
        rows = slice(start, start + AT_A_TIME)
        x, c = subject.x[rows].to(model.device), subject.context(rows)
        with seeded(torch.Generator().manual_seed(start)):
            part = {"sample": model.posterior(x, c).sample().flatten(1)}
        try:
            z, rate, distortion = Encoding(model)(x, c)
            part |= {"z": z.flatten(1), "rate": rate, "distortion": distortion}
        except (VAEError, NotImplementedError):
            part |= {"z": model.posterior(x, c).mean.flatten(1)}
        parts.append({name: value.float().cpu() for name, value in part.items()})
    if not parts:
        return {name: torch.zeros(0, model.latent_size) for name in ("sample", "z")}
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _statistics(subject: Subject, encoded: dict[str, Tensor]) -> dict[str, Any]:
    """Mean and standard deviation of the aggregate posterior, KL by dimension, and the order of the sliders."""
    size, sample = subject.model.latent_size, encoded["sample"]
    mean = sample.mean(0) if len(sample) else torch.zeros(size)
    sd = sample.std(0).clamp_min(1e-6) if len(sample) > 1 else torch.ones(size)
    kl, variances = _kl(subject), encoded["z"].var(0) if len(sample) > 1 else torch.ones(size)
    weight = variances if kl is None else kl
    order = weight.argsort(descending=True, stable=True).tolist()
    silent = [] if kl is None else (kl < CARRIES).nonzero().flatten().tolist()
    return {
        "size": size,
        "mean": _rounded(mean),
        "sd": _rounded(sd),
        "kl": None if kl is None else _rounded(kl),
        "order": order,
        "silent": silent,
        "over": len(sample),
    }


def _kl(subject: Subject) -> Tensor | None:
    if not len(subject):
        return None
    c = subject.labels if subject.model.context_size else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = latents(subject.model, subject.x[:STATISTICS], None if c is None else c[:STATISTICS], pairs=1)
        except (VAEError, NotImplementedError):
            return None
    return None if found.kl is None else found.kl.flatten().float()


def _plane(z: Tensor, latent: dict[str, Any]) -> dict[str, Any]:
    """The plane of the map: the latents themselves up to two, the first principal components of the means otherwise."""
    size = latent["size"]
    if size <= 2 or len(z) < 3:
        axes = torch.eye(size)[:2]
        return {"axes": axes.tolist(), "centre": [0.0] * size, "names": [f"z{i + 1}" for i in range(len(axes))]}
    centred = (z - z.mean(0)).double()
    variances, components = torch.linalg.eigh(centred.T @ centred)
    axes = components[:, [-1, -2]].T
    # An eigenvector's sign is arbitrary: make its largest entry positive, so that the same z gives the same map.
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    share = (100 * variances[[-1, -2]] / variances.sum().clamp_min(1e-300)).tolist()
    names = [f"principal component {i + 1} ({s:.0f} % of the variance)" for i, s in enumerate(share)]
    return {"axes": axes.tolist(), "centre": z.mean(0).tolist(), "names": names}


def _points(subject: Subject, encoded: dict[str, Tensor], chosen: Tensor) -> dict[str, Any]:
    found: dict[str, Any] = {
        "count": len(chosen),
        "labels": subject.labels[chosen].tolist(),
        "numbers": subject.numbers[chosen].tolist(),
        "z": floats(encoded["z"][chosen]),
    }
    if not len(chosen):
        return found
    if subject.kind == "image":
        found["sprites"], found["columns"] = _sprites(subject.x[chosen], _range(subject))
    else:
        found["rows"] = floats(subject.x[chosen].flatten(1))
    return found


def _sprites(x: Tensor, value_range: list[float]) -> tuple[str, int]:
    """All images in one PNG, as a data URI, and how many stand in a row."""
    from PIL import Image

    n, channels, height, width = x.shape
    columns = math.ceil(math.sqrt(n * height / width))
    rows = math.ceil(n / columns)
    low, high = value_range
    pixels = (255 * ((x - low) / (high - low)).clamp(0, 1)).round().to(torch.uint8)
    sheet = torch.zeros(rows * columns, channels, height, width, dtype=torch.uint8)
    sheet[:n] = pixels.cpu()
    sheet = sheet.unflatten(0, (rows, columns)).permute(0, 3, 1, 4, 2).reshape(rows * height, columns * width, channels)
    file = io.BytesIO()
    Image.fromarray(sheet.squeeze(-1).numpy()).save(file, format="png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}", columns


def _prior(subject: Subject) -> dict[str, Any]:
    """Draws of the prior: one lot for all classes or, where it depends on the class, one lot for each."""
    model = subject.model
    with seeded(torch.Generator().manual_seed(0)):
        draw = drawer(subject)
        if not model.context_size or not model.prior(torch.eye(model.context_size)[:1].to(model.device)).batch_shape:
            return {"by_class": False, "each": DRAWS, "z": floats(draw(DRAWS, 0))}
        each = [draw(DRAWS_OF_A_CLASS, label) for label in range(model.context_size)]
        return {"by_class": True, "each": DRAWS_OF_A_CLASS, "z": floats(torch.cat(each))}


def drawer(subject: Subject) -> Callable[[int, int], Tensor]:
    """A function (n, class) → n draws of the prior, shape (n, Z)."""
    model = subject.model

    def draw(n: int, label: int) -> Tensor:
        prior = model.prior(model.context(label, n) if model.context_size else None)
        z = prior.sample() if prior.batch_shape else prior.sample(torch.Size((n,)))
        return z.flatten(1).cpu()

    return draw


def _scores(encoded: dict[str, Tensor]) -> list[float] | None:
    """Rate plus distortion of the data, ascending, at most a hundred of them evenly spread."""
    if "rate" not in encoded:
        return None
    total = (encoded["rate"] + encoded["distortion"]).double().sort().values
    total = total[total.isfinite()]
    if not len(total):
        return None
    some = torch.linspace(0, len(total) - 1, min(101, len(total))).round().long()
    return [round(value, 2) for value in total[some].tolist()]


def _range(subject: Subject) -> list[float]:
    """Which values are black and white."""
    if not len(subject) or (subject.x.min() >= 0 and subject.x.max() <= 1):
        return [0.0, 1.0]
    return [subject.x.min().item(), subject.x.max().item()]


def _background(x: Tensor) -> float:
    """Mean of the pixels at the edge: tells dark paper from light."""
    if not len(x):
        return 0.0
    edge = torch.cat((x[..., 0, :].flatten(), x[..., -1, :].flatten(), x[..., 0].flatten(), x[..., -1].flatten()))
    return round(edge.mean().item(), 3)


def floats(values: Tensor) -> str:
    """Numbers as little-endian float32 in base64."""
    return base64.b64encode(values.detach().cpu().contiguous().float().numpy().astype("<f4").tobytes()).decode()


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{value:.6g}") for value in values.tolist()]
