"""The quality of samples, by the features and classes of a classifier that was trained on the data set.

Not for: likelihood. A model may have one without the other (Theis et al. 2015, arXiv:1511.01844).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ... import plot
from ...data import Dataset, Split
from ...data.dataset import SPLITS
from ...data.pixels import to_unit
from ...errors import ConfigError, DataError
from ...model import LatentVariableModel
from ...rng import generator_of
from .. import batchwise
from ..measure_contract import Findings, Measure, MeasureInput, PrintedLine
from ..values import StageListener, Value, mean_over_rows, share_of
from .classifier import Classifier, classifier_for

JUDGED_SAMPLES = 10_000
FEWEST = 10
RESAMPLES = 20  # of the bootstrap
RANDOM_HALVES = 20  # of the sets, for standard errors
DISTANCE_ROWS = 1000  # of a matrix of distances at a time


@dataclass(frozen=True)
class Quality:
    """A classifier's measures of n samples of a model, compared with n real images.

    Arguments:
        values: Every number with its error.
        classes: For each class its share of the samples in percent, and for a conditional model the share of its
            samples that were recognised.
        details: Number of samples and real images, and the classifier.
        neighbours: Some samples, each followed by its nearest training images: shape (n·(1 + k), C, H, W).
    """

    values: list[Value]
    classes: dict[str, dict[str, float]]
    details: dict[str, Any]
    neighbours: Tensor


def quality(
    model: LatentVariableModel,
    data: Dataset,
    classifier: Classifier,
    *,
    split: Split | None = None,
    others: Split | None = None,
    n: int = JUDGED_SAMPLES,
    seed: int = 0,
    listener: StageListener | None = None,
) -> Quality:
    """Judge samples, means of p(x | z) for z from the prior; a conditional model draws each class equally often.

    Arguments:
        model: The model.
        data: The data set that the model was trained on.
        classifier: The classifier of that data set.
        split: Real images; the test images by default.
        others: Other real images, to show how small a distance can be; the training images by default.
        n: Number of samples, at most the size of the smaller set of real images. As many of each set, evenly spread,
            are compared with the samples.
        seed: Seed of the samples.
        listener: Called with the stage, the batches done and the total.

    Raises:
        DataError: There are fewer than 10 real images, or a conditional model has other classes.
    """
    real = data.test if split is None else split
    others_name = "training" if others is None or others is data.train else "test"
    others = data.train if others is None else others
    n = min(n, len(real), len(others))
    if n < FEWEST:
        raise DataError(f"judging samples takes at least {FEWEST} samples and real images, got {n}")
    if model.context_size not in (0, data.num_classes):
        raise DataError(f"the model knows {model.context_size} classes, {data.name!r} has {data.num_classes}")
    wanted = torch.arange(n) % model.context_size if model.context_size else None
    samples = _sampled(model, n, wanted, seed, listener)
    features, logits = classifier(samples)
    real_features, _ = classifier(real.thinned(n).x[:])
    other_features, _ = classifier(others.thinned(n).x[:])
    predicted = logits.argmax(1)
    values = [
        frechet("squared Fréchet distance (classifier features)", real_features, features, seed=seed),
        frechet(f"squared Fréchet distance of {others_name} images", real_features, other_features, seed=seed),
        *precision_recall(real_features, features),
        *_balance(logits),
    ]
    classes = {
        name: {"share of samples": 100 * (predicted == i).double().mean().item()} for i, name in enumerate(data.classes)
    }
    if wanted is not None:
        values.append(share_of("recognised as the class asked for", predicted == wanted))
        for i, name in enumerate(data.classes):
            classes[name]["recognised"] = 100 * (predicted[wanted == i] == i).double().mean().item()
    details = {"samples": n, "real images": n, "samples are": "means of p(x | z)", "classifier": classifier.details}
    values = [replace(value, depends_on=("classifier",)) for value in values]
    return Quality(values, classes, details, neighbours(samples[:10], data.train.x[:]))


@torch.no_grad()
def _sampled(
    model: LatentVariableModel, n: int, wanted: Tensor | None, seed: int, listener: StageListener | None
) -> Tensor:
    parts, total = [], -(-n // batchwise.BATCH_ROWS)
    with batchwise.estimating(model):
        for index in range(total):
            rows = slice(index * batchwise.BATCH_ROWS, min((index + 1) * batchwise.BATCH_ROWS, n))
            c = None if wanted is None else wanted[rows]
            source = batchwise.stream_of(seed, "samples", index)
            parts.append(model.sample(rows.stop - rows.start, c, generator=source).float().clamp(0, 1).cpu())
            if listener is not None:
                listener("samples", index + 1, total)
    return torch.cat(parts)


# -- distances between distributions ----------------------------------------------------------------------------------


def frechet(name: str, real: Tensor, fake: Tensor, *, seed: int = 0) -> Value:
    """Squared Fréchet distance between the normal distributions with the moments of two sets of features.

    d² = ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½). It is biased upwards, and the more so the fewer features there are:
    compare sets of the same size only. The standard error is that of a bootstrap of both sets.

    Arguments:
        name: Name of the value.
        real: Shape (N, D).
        fake: Shape (M, D).
        seed: Seed of the bootstrap.

    Raises:
        DataError: A set has fewer than 2 features, or they differ in width.

    Reference: Dowson and Landau 1982, "The Fréchet distance between multivariate normal distributions", J. Multivariate
    Analysis 12, eq. 4. The FID is the same in the features of an Inception network; this is not the FID.
    """
    _check_features(real, fake, 2)
    real, fake = real.double(), fake.double()
    source = generator_of(seed)

    def resampled(x: Tensor) -> Tensor:
        return x[torch.randint(len(x), (len(x),), generator=source)]

    def distance(x: Tensor, y: Tensor) -> float:
        mean, covariance = moments(x)
        mean2, covariance2 = moments(y)
        return squared_frechet(mean, covariance, mean2, covariance2)

    repeats = [distance(resampled(real), resampled(fake)) for _ in range(RESAMPLES)]
    error = torch.tensor(repeats).double().std().item()
    return Value(name, distance(real, fake), error, "")


def _check_features(real: Tensor, fake: Tensor, least: int) -> None:
    """Refuse two sets of features that are too small, or of different width."""
    if min(len(real), len(fake)) < least:
        raise DataError(f"two sets are compared by at least {least} features each, got {len(real)} and {len(fake)}")
    if real.ndim != 2 or real.shape[1:] != fake.shape[1:]:
        raise DataError(f"features must have shapes (N, D) and (M, D), got {tuple(real.shape)} and {tuple(fake.shape)}")


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean, shape (D,), and covariance, shape (D, D), of features, shape (N, D)."""
    return x.mean(0), torch.cov(x.T).reshape(x.shape[1], x.shape[1])


def squared_frechet(mean: Tensor, covariance: Tensor, mean2: Tensor, covariance2: Tensor) -> float:
    """The squared Fréchet distance of two normal distributions in closed form."""
    values, vectors = torch.linalg.eigh(covariance)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ covariance2 @ root).clamp_min(0).sqrt().sum()
    distance: Tensor = (mean - mean2).square().sum() + covariance.trace() + covariance2.trace() - 2 * cross
    return distance.item()


def precision_recall(real: Tensor, fake: Tensor) -> list[Value]:
    """Precision and recall, density and coverage: which samples lie in the balls about real ones, and vice versa.

    A ball reaches to the k-th nearest neighbour within its own set: k = 3 for precision and recall, 5 for density and
    coverage. Standard errors are the spread over random halves of both sets, since the balls are random too. They are
    up to 50 % too large; with the same balls in all halves they were 20 to 40 % too small. Sets below 20 points get no
    standard error.

    Arguments:
        real: Features, shape (N, D).
        fake: Features, shape (M, D).

    Raises:
        DataError: A set has fewer than 6 features, or they differ in width.

    Reference: Kynkäänniemi et al. 2019, arXiv:1904.06991, eq. 1 and 2; Naeem et al. 2020, arXiv:2002.09797, eq. 3
    and 4.
    """
    _check_features(real, fake, 6)
    shares = _shares(real.double(), fake.double())
    errors: list[float | None] = [None] * len(shares)
    if min(len(real), len(fake)) >= 20:
        source = torch.Generator().manual_seed(0)
        halves = [_shares(_half(real.float(), source), _half(fake.float(), source)) for _ in range(RANDOM_HALVES)]
        # Over random halves of the rows, the shares vary as much as those of all rows do over new rows.
        errors = [*torch.tensor(halves, dtype=torch.float64).std(0).tolist()]
    names = (("precision", "%"), ("recall", "%"), ("density", ""), ("coverage", "%"))
    return [Value(name, x, error, unit) for (name, unit), x, error in zip(names, shares, errors, strict=True)]


def _shares(real: Tensor, fake: Tensor) -> list[float]:
    """Precision, recall, density and coverage."""
    near, far = _radii(real, (3, 5))
    (near_fake,) = _radii(fake, (3,))
    in_real, _ = _hits(fake, real, near)
    in_fake, _ = _hits(real, fake, near_fake)
    balls, hit = _hits(fake, real, far)
    shares = [100 * (inside > 0).double().mean().item() for inside in (in_real, in_fake)]
    return [*shares, balls.double().mean().item() / 5, 100 * hit.double().mean().item()]


def _half(x: Tensor, source: torch.Generator) -> Tensor:
    return x[torch.randperm(len(x), generator=source)[: len(x) // 2]]


def _distances(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    for part in x.split(DISTANCE_ROWS):
        yield torch.cdist(part, y, compute_mode="use_mm_for_euclid_dist")


def _radii(x: Tensor, numbers: tuple[int, ...]) -> Tensor:
    """Distance of each point to its k-th nearest neighbour for several k, shape (len(numbers), N)."""
    most = max(numbers) + 1  # the point itself is the nearest
    nearest = torch.cat([d.topk(most, largest=False).values for d in _distances(x, x)])
    return nearest[:, list(numbers)].T


def _hits(points: Tensor, centres: Tensor, radii: Tensor) -> tuple[Tensor, Tensor]:
    """The number of balls that each point lies in, and whether each ball holds a point."""
    counts, hit = [], torch.zeros(len(centres), dtype=torch.bool)
    for distances in _distances(points, centres):
        inside = distances <= radii
        counts.append(inside.sum(1))
        hit |= inside.any(0)
    return torch.cat(counts), hit


def _balance(logits: Tensor) -> list[Value]:
    """Entropy of the classes of all samples, at most log C, and the mean entropy of the prediction for one sample."""
    classes = logits.shape[1]
    share = logits.argmax(1).bincount(minlength=classes).double() / len(logits)
    surprise = torch.where(share > 0, -share.log(), 0.0)
    entropy = (share * surprise).sum()
    error = ((share * (surprise - entropy).square()).sum() / len(logits)).sqrt().item()
    log_p = logits.double().log_softmax(1)
    return [
        Value("class entropy", entropy.item(), error, "nats", maximum=math.log(classes)),
        mean_over_rows("entropy of a prediction", -(log_p.exp() * log_p).sum(1), "nats"),
    ]


def neighbours(samples: Tensor, train: Tensor, k: int = 5) -> Tensor:
    """Each sample, followed by the k training images nearest to it in pixels: does the model memorise?

    Arguments:
        samples: Shape (n, C, H, W), in [0, 1].
        train: Shape (N, C, H, W), uint8 or in [0, 1].
        k: Neighbours, at most N.

    Returns:
        Shape (n·(1 + k), C, H, W), in [0, 1].
    """
    if not 1 <= k <= len(train):
        raise ConfigError(f"neighbours must be from 1 to {len(train)}, the training images, got {k}")
    if samples.shape[1:] != train.shape[1:]:
        raise DataError(f"samples of shape {tuple(samples.shape[1:])}, but training images {tuple(train.shape[1:])}")
    distance = torch.cat(
        [torch.cdist(samples.flatten(1), to_unit(part).flatten(1)) for part in train.split(DISTANCE_ROWS)], 1
    )
    nearest = distance.topk(k, largest=False).indices
    rows = torch.cat((samples[:, None], to_unit(train[nearest])), 1)
    return rows.flatten(0, 1)


def neighbours_picture(images: Tensor, k: int = 5) -> plot.Picture:
    """The images of `neighbours` as a picture: a sample and its neighbours in a row."""
    title = "Samples, each followed by the training images nearest to it in pixels"
    return plot.grid(images, columns=1 + k, title=title)


def measure_samples(inputs: MeasureInput) -> Findings:
    """Measure samples by a classifier."""
    if not inputs.options.judge:
        return Findings()
    reason = _why_not(inputs)
    if reason is not None:
        return Findings(details={"samples": f"not judged: {reason}"})
    dataset = inputs.with_splits(*SPLITS)  # the classifier learns from two, and is tested on the third
    model, listener = inputs.model, inputs.listener
    judge = classifier_for(dataset, device=model.device, listener=listener)
    others = dataset.test if inputs.options.split == "train" else dataset.train
    judgement = quality(
        model, dataset, judge, split=inputs.stored_rows, others=others, seed=inputs.options.seed, listener=listener
    )
    return Findings(
        judgement.values,
        details={"samples": judgement.details, "classes": judgement.classes},
        pictures={"neighbours": neighbours_picture(judgement.neighbours)},
    )


def _why_not(inputs: MeasureInput) -> str | None:
    """Why samples cannot be judged, or None."""
    model, dataset = inputs.model, inputs.dataset
    are_bytes = dataset.kind == "image" and inputs.stored_rows.x.dtype == torch.uint8
    if dataset.num_classes < 2 or not are_bytes:
        return "a classifier needs 8-bit images of at least 2 classes"
    if dataset.train.labels is None:
        return f"a classifier needs labels, and the images of {dataset.name!r} have none"
    if model.value_kind == "counts":
        return "a classifier judges pixels in [0, 1], and samples of this model are counts"
    if model.context_size not in (0, dataset.num_classes):
        return f"a context of width {model.context_size} is not the classes of {dataset.name!r}"
    fewest = min(len(inputs.stored_rows), dataset.train.fitting(inputs.options.memory))
    return f"it takes at least {FEWEST} images, to learn from and to compare with" if fewest < FEWEST else None


QUALITY = Measure(
    measure_samples,
    "Samples",
    "How images that the model makes up compare with real ones.",
    (
        PrintedLine("recognised*", "show the class asked for"),
        PrintedLine("precision", "precision", "samples like an image"),
        PrintedLine("recall", "recall", "images like a sample"),
        PrintedLine("coverage", "coverage", "images with a sample nearby"),
        PrintedLine("squared Fréchet distance (*", "squared Fréchet distance", "less is closer"),
        PrintedLine("squared Fréchet distance of*", "… of real images", "two sets of real images"),
    ),
    compared=(
        "squared Fréchet distance (classifier features)",
        "precision",
        "recall",
        "density",
        "coverage",
        "recognised as the class asked for",
    ),
)
