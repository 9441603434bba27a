"""Whether each latent stands for one factor: MIG, SAP, DCI and the FactorVAE score, where all factors are known.

All four read a representation, one number for each latent, and the factors, one whole number each.

Not for: how much latents carry, of any factor (`latent_statistics`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...data import Batch, Split
from ...data.batch import as_tensor
from ...errors import DataError
from ...model import LatentVariableModel
from ...rng import generator_of, seeded
from .. import batchwise
from ..measure_contract import Findings, Measure, MeasureInput, evaluated_values
from ..values import StageListener, Value, share_of
from .latent_statistics import ACTIVE

LATENT_BINS = 20
GROUP, VOTES = 64, 800  # images that share a factor's value; votes to learn from, and as many to test
TREES = 10


def disentanglement(z: Tensor, factors: Tensor, *, seed: int = 0) -> list[Value]:
    """All four scores of a representation.

    Arguments:
        z: Representation, shape (N, Z); every combination of factors should occur, as in the data set "shapes".
        factors: Shape (N, F); a number for each value of a factor.
        seed: Seed of all random numbers.

    Returns:
        MIG and SAP, from 0 to 1; the FactorVAE score in percent; and DCI's disentanglement, completeness and
        informativeness, from 0 to 1, where scikit-learn is installed.

    Raises:
        DataError: A factor has a single value, so that no latent can predict it; z is not finite; or the
            shapes do not match.
    """
    z, factors = as_tensor(z, "z"), as_tensor(factors, "factors")
    if z.ndim != 2 or factors.ndim != 2 or len(z) != len(factors) or not factors.shape[1]:
        raise DataError(
            f"z must have shape (N, Z), and factors (N, F) with F at least 1, got {tuple(z.shape)} and "
            f"{tuple(factors.shape)}"
        )
    if not z.isfinite().all():
        raise DataError("z has values that are not finite; leave these rows out")
    for number, factor in enumerate(factors.T):
        if len(factor.unique()) < 2:
            raise DataError(f"factor {number} has a single value; leave it out")
    factors = torch.stack([factor.unique(return_inverse=True)[1] for factor in factors.T], 1)
    with seeded(generator_of(seed)):
        z = z.double()
        values = [Value("MIG", mutual_information_gap(z, factors), None, "")]
        values.append(Value("SAP", separated_attribute_predictability(z, factors), None, ""))
        values.append(factor_vae_score(z, factors))
    names = ("disentanglement", "completeness", "informativeness")
    scores = dci(z, factors, seed=seed)
    return values + [Value(f"DCI {name}", value, None, "") for name, value in zip(names, scores or (), strict=False)]


def mutual_information_gap(z: Tensor, factors: Tensor) -> float:
    """MIG: the gap in information about a factor between the two latents that carry most information about it.

    The gap is a share of the factor's entropy; MIG is the mean over factors. Latents are divided into 20 bins of equal
    width.

    Reference: Chen et al. 2018, arXiv:1802.04942, eq. 6; the bins are those of Locatello et al. 2019, arXiv:1811.12359.
    """
    gaps = []
    for joint in _joint(_binned(z), factors, _sizes(factors)):
        p = joint / joint.sum((1, 2), keepdim=True)
        p_latent, p_factor = p.sum(2, keepdim=True), p.sum(1, keepdim=True)
        nats = torch.where(p > 0, p * (p.clamp_min(1e-30) / (p_latent * p_factor).clamp_min(1e-30)).log(), 0).sum(
            (1, 2)
        )
        entropy = -(p_factor[0] * p_factor[0].clamp_min(1e-30).log()).sum()
        gaps.append(_gap(nats) / entropy)
    return torch.stack(gaps).mean().item()


def separated_attribute_predictability(z: Tensor, factors: Tensor) -> float:
    """SAP: the gap in accuracy between the two latents that predict a factor best; the mean over factors.

    A latent predicts the commonest value in its bin, one of 20. Every second row is to learn from, the rest to
    test on.

    Reference: Kumar, Sattigeri and Balakrishnan 2018, arXiv:1711.00848, section 3, which uses a linear classifier
    of each latent.
    """
    order = torch.randperm(len(z))
    bins, factors = _binned(z)[order], factors[order]
    gaps = []
    sizes = _sizes(factors)
    halves = (_joint(bins[start::2], factors[start::2], sizes) for start in (0, 1))
    for learned, tested in zip(*halves, strict=True):
        predicted = learned.argmax(2, keepdim=True)
        accuracy = tested.gather(2, predicted).sum((1, 2)) / tested.sum((1, 2))
        gaps.append(_gap(accuracy))
    return torch.stack(gaps).mean().item()


def factor_vae_score(z: Tensor, factors: Tensor) -> Value:
    """FactorVAE score: how often the least varying latent of a group of images predicts the factor that they share.

    Latents with a variance below 0.01 are left out. 800 votes are learned from, and 800 tested.

    Reference: Kim and Mnih 2018, arXiv:1802.05983, section 4.
    """
    name, count = "FactorVAE score", factors.shape[1]
    z = z[:, z.var(0) > ACTIVE]
    if not z.shape[1]:
        return Value(name, 100 / count, None, "%")
    z = z / z.std(0)
    votes = torch.zeros(2, z.shape[1], count)
    for half in votes:
        for _ in range(VOTES):
            factor = int(torch.randint(count, ()))
            value = factors[torch.randint(len(z), ()), factor]
            rows = (factors[:, factor] == value).nonzero().flatten()
            group = rows[torch.randint(len(rows), (GROUP,))]
            half[int(z[group].var(0).argmin()), factor] += 1
    training_votes, test_votes = votes
    right = test_votes.gather(1, training_votes.argmax(1, keepdim=True)).sum()
    return share_of(name, torch.arange(VOTES) < right)


def dci(z: Tensor, factors: Tensor, *, seed: int = 0) -> tuple[float, float, float] | None:
    """DCI: disentanglement, completeness and informativeness, from the importance of each latent to a random forest.

    None where scikit-learn is not installed.

    Reference: Eastwood and Williams 2018, "A framework for the quantitative evaluation of disentangled
    representations", ICLR, section 2.
    """
    try:
        from sklearn.ensemble import RandomForestClassifier
    except ImportError:
        return None
    order = torch.randperm(len(z), generator=generator_of(seed))
    x, y = z[order].numpy(), factors[order].numpy()
    half = len(x) // 2
    importance, accuracy = [], []
    for factor in range(y.shape[1]):
        forest = RandomForestClassifier(TREES, max_features=None, min_samples_leaf=3, random_state=seed)
        forest.fit(x[:half], y[:half, factor])
        importance.append(torch.from_numpy(forest.feature_importances_))
        accuracy.append(float(forest.score(x[half:], y[half:, factor])))
    matrix = torch.stack(importance, 1).double().clamp_min(0)  # (Z, F)
    by_latent = 1 - _entropy(matrix) / torch.tensor(float(max(2, matrix.shape[1]))).log()
    by_factor = 1 - _entropy(matrix.T) / torch.tensor(float(max(2, matrix.shape[0]))).log()
    by_factor = by_factor * (matrix.sum(0) > 0)  # 0 for a factor of which no latent carries information
    weights = matrix.sum(1) / matrix.sum().clamp_min(1e-30)
    return (weights * by_latent).sum().item(), by_factor.mean().item(), sum(accuracy) / len(accuracy)


def disentanglement_of(
    model: LatentVariableModel,
    rows: Tensor,
    factors: Tensor,
    *,
    seed: int = 0,
    listener: StageListener | None = None,
) -> list[Value]:
    """All four scores of a model's posterior means, for rows with known factors.

    Arguments:
        model: A model of these rows; if it is conditional, the first factor is the class.
        rows: Shape (N, *event).
        factors: Shape (N, F), int64.
        seed: Seed of all random numbers.
        listener: Called with the stage, the batches done and the total.
    """
    batch = Batch(rows, labels=factors[:, 0])

    def compute(index: int) -> dict[str, Tensor]:
        return {"means": model.posterior_of(batchwise.batch_of(model, batch, index)).mean.flatten(1)}

    with batchwise.estimating(model):
        z = batchwise.over_batches("factors", len(batch), compute, listener=listener)["means"]
    return disentanglement(z, factors, seed=seed)


def _binned(z: Tensor) -> Tensor:
    """The number of each value's bin, shape (N, Z): one of `LATENT_BINS` between the least and the greatest value."""
    low, high = z.min(0).values, z.max(0).values
    return ((z - low) / (high - low).clamp_min(1e-12) * LATENT_BINS).long().clamp(0, LATENT_BINS - 1)


def _sizes(factors: Tensor) -> list[int]:
    """The number of values of each factor."""
    return [int(factor.max()) + 1 for factor in factors.T]


def _joint(bins: Tensor, factors: Tensor, sizes: Sequence[int]) -> Sequence[Tensor]:
    """Counts of each latent's bins with each value of a factor, shape (Z, LATENT_BINS, values), for every factor."""
    size = bins.shape[1]
    counts = []
    for factor, values in zip(factors.T, sizes, strict=True):
        index = (torch.arange(size) * LATENT_BINS + bins) * values + factor[:, None]
        counts.append(
            index.flatten()
            .bincount(minlength=size * LATENT_BINS * values)
            .double()
            .unflatten(0, (size, LATENT_BINS, values))
        )
    return counts


def _gap(values: Tensor) -> Tensor:
    """The greatest value minus the next; a single value minus 0."""
    best = torch.cat((values, values.new_zeros(1))).topk(2).values
    return best[0] - best[1]


def _entropy(matrix: Tensor) -> Tensor:
    """The entropy of each row after it is normalized to sum to 1, in nats."""
    p = matrix / matrix.sum(1, keepdim=True).clamp_min(1e-30)
    return -(p * p.clamp_min(1e-30).log()).sum(1)


def measure_disentanglement(inputs: MeasureInput) -> Findings:
    """All four scores, if the factors of the data are known."""
    if inputs.dataset.factors is None:
        return Findings()
    rows, factors = inputs.dataset.factors()
    x = evaluated_values(inputs.model, Split(rows), inputs.binarize)
    values = disentanglement_of(inputs.model, x, factors, seed=inputs.options.seed, listener=inputs.listener)
    has_dci = any(value.name.startswith("DCI") for value in values)
    warning = "DCI is left out: it needs scikit-learn, which the extra `sklearn` installs"
    return Findings(values, [] if has_dci else [warning])


DISENTANGLEMENT = Measure(measure_disentanglement)
