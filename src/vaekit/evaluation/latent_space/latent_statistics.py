"""Measures of latents: KL by dimension, active units, mutual information, and the accuracy of simple classifiers.

Not for: pictures of latents (`vaekit.plot`).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from ...data import Batch
from ...distributions import draw_samples
from ...errors import DataError, check_count
from ...model import LatentVariableModel, kl_by_dimension
from ...model.dimensions import SILENT_BELOW
from ...rng import seeded
from .. import batchwise
from ..batchwise import GIB
from ..values import StageListener, Value, mean_over_rows, share_of

ACTIVE = 0.01  # Burda et al. 2015, section 5.2: variance of the posterior mean
PAIRS = 2000  # latents at which q(z) is evaluated; each is compared with every row


@dataclass(frozen=True)
class LatentStatistics:
    """Statistics of the latents of N encoded rows.

    Arguments:
        means: Posterior means, shape (N, Z); a flow or a hierarchy, whose mean has no closed form, gives a
            stand-in.
        kl: Mean KL of each dimension, nats, shape (Z,); None where posterior or prior do not factorize.
        variances: Variance of each dimension's posterior mean over rows, shape (Z,).
        information: log q(z | x) − log q(z) of M rows, nats, shape (M,).
        marginal: log q(z) − log p(z) of the same rows.
    """

    means: Tensor
    kl: Tensor | None
    variances: Tensor
    information: Tensor
    marginal: Tensor

    @property
    def active(self) -> int:
        """The number of dimensions with a posterior mean that depends on x."""
        return int((self.variances > ACTIVE).sum())

    @property
    def values(self) -> list[Value]:
        """Every number with its standard error over rows; one row has no active units, since nothing varies."""
        active = [Value("active units", float(self.active), None, f"of {len(self.variances)}")]
        return [
            *(active if len(self.means) > 1 else []),
            mean_over_rows("mutual information I(x; z)", self.information, "nats", "lower bound"),
            mean_over_rows("marginal KL(q(z) ‖ p(z))", self.marginal, "nats", "upper bound"),
        ]

    @property
    def warnings(self) -> list[str]:
        """Warnings: posterior collapse, or too few rows to measure the information."""
        collapse = self.collapse
        warnings = [] if collapse is None else [collapse]
        most = math.log(len(self.means))
        if len(self.means) > 1 and self.information.mean().item() > most - 1:
            warnings.append(
                f"I(x; z) is at most log N = {most:.1f} nats for {len(self.means)} rows and comes near it: this "
                "only says that the latents tell all rows apart"
            )
        return warnings

    @property
    def collapse(self) -> str | None:
        """A sentence on the dimensions that carry nothing, with a remedy; None if no such dimension is known."""
        if self.kl is None and len(self.means) < 2:
            return None
        idle = self.variances <= ACTIVE if self.kl is None else self.kl < SILENT_BELOW
        size, count = len(idle), int(idle.sum())
        if not count:
            return None
        fault = (
            f"do not depend on the row (their posterior mean varies by less than {ACTIVE})"
            if self.kl is None
            else f"carry less than {SILENT_BELOW} nats"
        )
        if count == size:
            return (
                f"the posterior has collapsed: all {size} dimensions {fault}, and the decoder does not use z; try a KL "
                "warm-up (objective beta with a schedule from 0 to 1), free-bits, or a weaker decoder"
            )
        names = ", ".join(f"z{i + 1}" for i in idle.nonzero().flatten().tolist()[:8])
        more = ", …" if count > 8 else ""
        return (
            f"{count} of {size} dimensions {fault} ({names}{more}): {size - count} latent dimensions are enough; to "
            "use more, try a KL warm-up (objective beta with a schedule from 0 to 1), free-bits, or iwae with more K"
        )


def latent_statistics(
    model: LatentVariableModel,
    rows: Tensor | Batch,
    *,
    pairs: int = PAIRS,
    memory: int = GIB,
    seed: int = 0,
    listener: StageListener | None = None,
) -> LatentStatistics:
    """Encode all rows and measure their posteriors, one by one and all together.

    The aggregate posterior is the mixture of all N posteriors, q(z) = (1/N) Σ_n q(z | x_n). The expectation of its
    logarithm is taken over one latent of each of `pairs` rows. The rate is the sum of the information
    I = E log q(z | x) − log q(z) and of the marginal KL(q(z) ‖ p(z)). For these N rows both are exact, and I is at
    most log N. For all rows of the distribution they are a lower and an upper bound. If the prior depends on the
    context, q(z) is the mixture over the rows with the same context, and both numbers are means over contexts.

    Arguments:
        model: Any latent-variable model with densities.
        rows: Shape (N, *event), uint8 (then x = pixel / 255) or floating-point; or a `Batch`, with the context or the
            labels of a conditional model; only its observed values count.
        pairs: Largest number of latents at which to evaluate q(z).
        memory: About how many bytes comparing latents with posteriors may take.
        seed: Seed of the latents.
        listener: Called with the stage, the batches done and the total.

    Reference: Burda, Grosse and Salakhutdinov 2015, arXiv:1509.00519, section 5.2 (active units); Hoffman and Johnson
    2016, "ELBO surgery", NeurIPS workshop (mutual information and marginal KL); Poole et al. 2019, arXiv:1905.06922,
    section 2.3 (the bound).
    """
    check_count("pairs", pairs)
    with batchwise.estimating(model):
        rows = batchwise.rows_as_batch(rows)
        batchwise.check_evaluable(model, rows, memory)

        def compute(index: int) -> dict[str, Tensor]:
            batch = batchwise.batch_of(model, rows, index)
            with seeded(batchwise.stream_of(seed, "latents", index)):
                return _encoded(model, batch)

        per_row = batchwise.over_batches("latents", len(rows), compute, listener=listener)
        spread = torch.linspace(0, len(rows) - 1, min(pairs, len(rows))).round().long()
        picked = spread.clamp_max(len(rows) - 1)  # single precision rounds up beyond 2²⁴ rows
        z = per_row["z"][picked].to(model.device)
        log_q = _aggregate(model, rows, z, picked, memory=memory, listener=listener).cpu()
    means, kl = per_row["means"], per_row.get("kl")
    return LatentStatistics(
        means=means,
        kl=None if kl is None else kl.double().mean(0),
        variances=means.double().var(0) if len(means) > 1 else torch.zeros(means.shape[1]).double(),
        information=per_row["log_q"][picked].double() - log_q,
        marginal=log_q - per_row["log_p"][picked].double(),
    )


def _encoded(model: LatentVariableModel, rows: Batch) -> dict[str, Tensor]:
    q, p = model.posterior_of(rows), model.prior(rows.c)
    z = draw_samples(q, 1)
    log_p = p.log_prob(z).expand(1, len(rows))[0]
    tensors = {"means": q.mean.flatten(1), "z": z[0], "log_q": q.log_prob(z)[0], "log_p": log_p}
    kl = kl_by_dimension(z, q, p)
    return tensors if kl is None else tensors | {"kl": kl.flatten(1)}


def _aggregate(
    model: LatentVariableModel,
    rows: Batch,
    z: Tensor,
    chosen: Tensor,
    *,
    memory: int,
    listener: StageListener | None,
) -> Tensor:
    """Log q(z), shape (M,), of the latents z, shape (M, Z), that belong to the rows with the indices `chosen`."""
    groups = _groups(model, rows)
    group = groups[chosen].to(z.device)
    at_once = max(1, memory // (4 * batchwise.BATCH_ROWS * z[0].nbytes))
    total = batchwise.to_float64(torch.full((len(z),), -math.inf, device=z.device))
    batches = -(-len(rows) // batchwise.BATCH_ROWS)
    for index in range(batches):
        batch = batchwise.batch_of(model, rows, index)
        q = model.posterior_of(batch)
        row_groups = groups[index * batchwise.BATCH_ROWS : index * batchwise.BATCH_ROWS + len(batch)].to(z.device)
        for start in range(0, len(z), at_once):
            part = slice(start, start + at_once)
            log_q = batchwise.to_float64(q.log_prob(z[part, None].expand(-1, len(batch), *z.shape[1:])))
            log_q = log_q.masked_fill(group[part, None] != row_groups, -math.inf)
            total[part] = torch.logaddexp(total[part], log_q.logsumexp(1))
        if listener is not None:
            listener("aggregate posterior", index + 1, batches)
    sizes: Tensor = groups.bincount().to(total)
    return total - sizes.log()[group]


def _groups(model: LatentVariableModel, rows: Batch) -> Tensor:
    """The index of the group of each row, shape (N,): rows of one group have the same prior."""
    context = batchwise.context_of(model, rows)
    if context is None or not model.prior(context[:1]).batch_shape:
        return torch.zeros(len(rows), dtype=torch.long)
    group: Tensor = torch.unique(context, dim=0, return_inverse=True)[1]
    return group.cpu()


# -- classifiers of latents -------------------------------------------------------------------------------------------


def linear_probe(train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor, *, penalty: float = 1e-4) -> Value:
    """Accuracy of a multinomial logistic regression on standardized features.

    Arguments:
        train: Features, shape (N, D).
        labels: Classes, shape (N,).
        test: Features, shape (M, D).
        test_labels: Classes, shape (M,).
        penalty: Weight of the squared norm of the weights.

    Raises:
        DataError: There is only one class, or there are fewer than 2 rows to learn from.
    """
    if len(train) < 2:
        raise DataError(f"a linear probe learns from at least 2 rows, got {len(train)}")
    classes = _classes(labels, test_labels)
    centre, sd = train.mean(0), train.std(0).clamp_min(1e-8)
    x, test_x = ((part - centre) / sd for part in (train, test))
    weight = torch.zeros(train.shape[1] + 1, classes, dtype=train.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = cross_entropy(x @ weight[:-1] + weight[-1], labels) + penalty * weight[:-1].square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    predicted = (test_x @ weight[:-1] + weight[-1]).detach().argmax(1)
    return share_of("linear probe accuracy", predicted == test_labels)


def nearest_neighbours(
    train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor, *, k: int = 10, rows: int = 200
) -> Value:
    """Accuracy of a vote among the k nearest training features; the nearest feature decides ties.

    Arguments:
        train: Features, shape (N, D).
        labels: Classes, shape (N,).
        test: Features, shape (M, D).
        test_labels: Classes, shape (M,).
        k: How many neighbours vote.
        rows: How many test features to compare at a time.

    Raises:
        DataError: There is only one class, or no row to learn from.
    """
    check_count("k", k)
    if not len(train):
        raise DataError("nearest neighbours need at least 1 row to learn from, got 0")
    classes, k = _classes(labels, test_labels), min(k, len(train))
    predicted = []
    tie = 0.5 ** torch.arange(1, k + 1, dtype=torch.float64)  # less than a vote in all; each more than all later ones
    for part in test.split(rows):
        votes = one_hot(labels[torch.cdist(part, train).topk(k, largest=False).indices], classes).double()
        predicted.append((votes * (1 + tie[:, None])).sum(1).argmax(1))
    return share_of(f"{k}-nearest-neighbour accuracy", torch.cat(predicted) == test_labels)


def _classes(labels: Tensor, test_labels: Tensor) -> int:
    both = torch.cat((labels, test_labels))
    if both.min() < 0:
        raise DataError("a classifier learns from known classes, and −1 is an unknown one; leave these rows out")
    classes = int(both.max()) + 1
    if classes < 2:
        raise DataError(f"classification needs at least 2 classes, got {classes}")
    return classes
