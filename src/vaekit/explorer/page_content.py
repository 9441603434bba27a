"""The contents of the page: points of the map, statistics of the latents, and draws from the prior.

Not for: the look of the page (`assets`), or its assembly (`page`).
"""

import base64
import io
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import __version__
from ..data.dataset import evenly_spread
from ..distributions import PoincareBall, UnitSphere, support_in
from ..errors import DataError
from ..evaluation.latent_space.aggregate import encodings, statistics
from ..evaluation.model_with_data import ModelWithData
from ..model import LatentVariableModel
from ..plot.space import principal_plane
from ..rng import seeded

DRAWS = 200  # draws from the prior, for a page that cannot draw
DRAWS_OF_A_CLASS = 24

PageContent = dict[str, Any]


@torch.no_grad()
def page_content(subject: ModelWithData, *, images: int) -> PageContent:
    """Everything that the page shows before it decodes.

    Arguments:
        subject: A model and data for statistics.
        images: How many rows become points of the map; 0 leaves out every image and its latents.

    Raises:
        DataError: The model is conditional on rows of numbers.
    """
    model = subject.model
    if subject.c is not None:
        raise DataError(
            "the page offers a choice of classes, but this model is conditional on rows of numbers; draw pictures "
            "with vaekit.plot"
        )
    rows = encodings(subject)
    latent = statistics(subject, rows)
    points = evenly_spread(len(subject), images)
    if not len(subject) or not images:
        points = torch.zeros(0, dtype=torch.long)
    return {
        "version": __version__,
        "name": subject.name,
        "description": [*subject.description],
        "kind": "image" if subject.shows_images else "row",
        "shape": [*(subject.x.shape[1:] if model.event_shape is None else model.event_shape)],
        "range": _range(subject),
        "background": _background(subject.x) if subject.shows_images else 0.0,
        "source": subject.source,
        "classes": [str(name) for name in subject.classes],
        "conditional": bool(model.context_size),
        "contexts": model.context_size,
        "latent": latent,
        "space": _space(model),
        "plane": _plane(rows["z"], latent),
        "points": _points(subject, rows, points),
        "prior": _prior(subject),
        "scores": _scores(rows),
    }


def _space(model: LatentVariableModel) -> str | None:
    """The curved space of the latents, by the name that the page knows; None if there is none."""
    prior = model.prior(model.context(0, 1) if model.context_size else None)
    space = support_in(prior)
    return "sphere" if isinstance(space, UnitSphere) else "ball" if isinstance(space, PoincareBall) else None


def _plane(z: Tensor, latent: dict[str, Any]) -> dict[str, Any]:
    """The plane of the map: one or two latents themselves, or the first principal components of more."""
    size = latent["size"]
    if size <= 2 or len(z) < 3:
        axes = torch.eye(size)[:2]
        return {"axes": axes.tolist(), "centre": [0.0] * size, "names": [f"z{i + 1}" for i in range(len(axes))]}
    axes, share = principal_plane((z - z.mean(0)).double())
    names = [f"principal component {i + 1} ({s:.0f} % of the variance)" for i, s in enumerate(share)]
    return {"axes": axes.T.tolist(), "centre": z.mean(0).tolist(), "names": names}


def _points(subject: ModelWithData, rows: dict[str, Tensor], index: Tensor) -> dict[str, Any]:
    content: dict[str, Any] = {
        "count": len(index),
        "labels": subject.labels[index].tolist(),
        "numbers": subject.indices[index].tolist(),
        "z": floats(rows["z"][index]),
    }
    if not len(index):
        return content
    if subject.shows_images:
        content["sprites"], content["columns"] = _sprites(subject.x[index], _range(subject))
    else:
        content["rows"] = floats(subject.x[index].flatten(1))
    return content


def _sprites(x: Tensor, value_range: list[float]) -> tuple[str, int]:
    """All images in one PNG, as a data URI, and the number of images in a row."""
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


def _prior(subject: ModelWithData) -> dict[str, Any]:
    """Draws from the prior: one set for all classes, or one for each class if the prior depends on it."""
    model = subject.model
    with seeded(torch.Generator().manual_seed(0)):
        draw = drawer(subject)
        if not model.context_size or not model.prior(torch.eye(model.context_size)[:1].to(model.device)).batch_shape:
            return {"by_class": False, "each": DRAWS, "z": floats(draw(DRAWS, 0))}
        each = [draw(DRAWS_OF_A_CLASS, label) for label in range(model.context_size)]
        return {"by_class": True, "each": DRAWS_OF_A_CLASS, "z": floats(torch.cat(each))}


def drawer(subject: ModelWithData) -> Callable[[int, int], Tensor]:
    """A function (n, class) → n draws of the prior, shape (n, Z)."""
    model = subject.model

    def draw(n: int, label: int) -> Tensor:
        prior = model.prior(model.context(label, n) if model.context_size else None)
        z = prior.sample() if prior.batch_shape else prior.sample(torch.Size((n,)))
        return z.flatten(1).cpu()

    return draw


def _scores(rows: dict[str, Tensor]) -> list[float] | None:
    """Rate plus distortion of the rows, ascending: at most 101 of them, evenly spread by rank."""
    if "rate" not in rows:
        return None
    total = (rows["rate"] + rows["distortion"]).double().sort().values
    total = total[total.isfinite()]
    if not len(total):
        return None
    places = torch.linspace(0, len(total) - 1, min(101, len(total))).round().long()
    return [round(value, 2) for value in total[places].tolist()]


def _range(subject: ModelWithData) -> list[float]:
    """The values of black and white."""
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
