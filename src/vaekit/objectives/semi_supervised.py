"""Learning from few labels: model M2, where an unknown class is a latent variable."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..data import Batch, Batches
from ..errors import ConfigError, check_count, check_range
from ..model import LatentVariableModel, one_hot
from ..nets import MLP, Activation
from .base import Loss, Terms, need_plain

MOST_LABELLED = 10_000  # rows of known class that are kept in memory


class M2(nn.Module, Loss):
    """A classifier, and bounds: on log p(x, y) where the class y is known, elsewhere on log p(x), with y summed out.

    Let L(x, y) = E_q(z | x, y) log p(x | y, z) + log p(y) − KL(q(z | x, y) ‖ p(z | y)), with a uniform p(y), and
    U(x) = Σ_y q(y | x) (L(x, y) − log q(y | x)), a bound on log p(x). The loss of a row is −L(x, y) where y is known,
    and −U(x) elsewhere. Each row adds α · N / N_known times the mean cross-entropy of q(y | x) over rows of known
    class: in training, over `rows` of them, drawn anew in each step.

    It logs `neg_elbo` = −U(x) and `distortion` for every row, whether or not its class is known; `rate`, of z and y
    together; `cross_entropy`; and `error`, the share of the known classes that q(y | x) misses.

    Arguments:
        num_classes: C.
        event_shape: Event shape of x.
        dataset_size: Number of training rows.
        batches: Training batches. The classifier learns from their rows of known class, up to 10,000. None for a loss
            that is only validated.
        alpha: Weight of the classifier.
        hidden: Widths of the classifier's hidden layers.
        activation: Nonlinearity of the hidden layers.
        rows: Number of rows of known class that the classifier sees in a step.

    Raises:
        ConfigError: The model is not conditional on the class, or no class is known.

    Reference: Kingma, Rezende, Mohamed and Welling 2014, arXiv:1406.5298, eq. 6, 7 and 9. Their batches have a fixed
    number of rows of known class; ours are drawn for the cross-entropy alone.
    """

    couples_rows = True  # one batch of known rows serves all rows of a step
    needs_classes = False

    def __init__(
        self,
        num_classes: int,
        event_shape: tuple[int, ...],
        dataset_size: int,
        batches: Batches | None = None,
        *,
        alpha: float = 0.1,
        hidden: Sequence[int] = (500,),
        activation: Activation = "softplus",
        rows: int = 100,
    ) -> None:
        super().__init__()
        check_range("alpha of m2", alpha, 0)
        self.num_classes = num_classes
        self.rows = check_count("rows", rows)
        self.classifier = nn.Sequential(MLP(event_shape, hidden=hidden, activation=activation))
        self.classifier.append(nn.Linear(hidden[-1] if hidden else math.prod(event_shape), num_classes))
        known = _known_rows(batches)
        self.labelled = None if batches is None else batches.select(known[:: max(1, -(-len(known) // MOST_LABELLED))])
        self.weight = alpha * dataset_size / max(1, len(known))

    def forward(self, model: LatentVariableModel, batch: Batch, epoch: float) -> Terms:
        """The loss of each row."""
        if model.context_size != self.num_classes:
            raise ConfigError("the objective 'm2' needs a class-conditional model; set condition = 'class'")
        labels = batch.labels if batch.labels is not None else torch.full((len(batch),), -1, device=batch.x.device)
        is_known = labels >= 0
        log_q = self.log_q(batch.zero_filled)
        rate, distortion = self.by_class(model, batch)
        bound = -rate - distortion - math.log(self.num_classes)
        unlabelled_bound = (log_q.exp() * (bound - log_q)).sum(-1)
        index = labels.clamp_min(0).unsqueeze(-1)
        labelled_bound = bound.gather(-1, index).squeeze(-1)
        if self.training:
            cross_entropy, error = self._classify_known(model)
            cross_entropy, error = cross_entropy.expand(len(batch)), error.expand(len(batch))
        else:
            cross_entropy = torch.where(is_known, -log_q.gather(-1, index).squeeze(-1), 0.0)
            error = (is_known & (log_q.argmax(-1) != labels)).to(log_q)
        loss = -torch.where(is_known, labelled_bound, unlabelled_bound) + self.weight * cross_entropy
        expected = (log_q.exp() * distortion).sum(-1)
        logged = {"neg_elbo": -unlabelled_bound, "rate": -unlabelled_bound - expected, "distortion": expected}
        logged |= {"cross_entropy": cross_entropy, "error": error}
        return Terms(loss, logged if self.training else {**logged, "known": is_known.to(log_q)})

    def from_means(self, means: Mapping[str, float]) -> dict[str, float]:
        """The values of a validation: cross-entropy and error are means over its rows of known class, if it has any."""
        values = dict(means)
        known = values.pop("known")
        over_all, errors = values.pop("cross_entropy"), values.pop("error")
        if known:
            values["loss"] += self.weight * (over_all / known - over_all)
            values |= {"cross_entropy": over_all / known, "error": errors / known}
        return values

    def log_q(self, x: Tensor) -> Tensor:
        """Log q(y | x) of each class, shape (B, C), for x with 0 for each value that is not observed."""
        log_q: Tensor = self.classifier(x).log_softmax(-1)
        return log_q

    def by_class(self, model: LatentVariableModel, batch: Batch) -> tuple[Tensor, Tensor]:
        """Rate and distortion with every class y, from one sample of z each, shapes (B, C), nats."""
        classes, n = self.num_classes, len(batch)
        x = batch.x.repeat(classes, *[1] * (batch.x.ndim - 1))
        observed = None if batch.observed is None else batch.observed.repeat(classes, *[1] * (batch.x.ndim - 1))
        c = one_hot(torch.arange(classes, device=x.device).repeat_interleave(n), classes)
        draw = model.draw(x, c, observed=observed)
        need_plain(draw)
        rate, distortion = (term.unflatten(0, (classes, n)).T for term in (draw.rate(), draw.distortion))
        return rate, distortion

    def _classify_known(self, model: LatentVariableModel) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy and share of errors of some rows of known class."""
        if self.labelled is None or not self.labelled.num_rows:
            raise ConfigError("the objective 'm2' needs some rows whose class is known; set labelled = 100")
        count = self.labelled.num_rows
        rows = torch.randint(count, (min(self.rows, count),), device=model.device)
        batch = model.to_model(self.labelled.rows(rows))
        assert batch.labels is not None
        log_q = self.log_q(batch.zero_filled)
        error = (log_q.detach().argmax(-1) != batch.labels).to(log_q).mean()
        return nn.functional.nll_loss(log_q, batch.labels), error


def _known_rows(batches: Batches | None) -> Tensor:
    """Indices of the rows of known class."""
    labels = None if batches is None else batches.labels
    return torch.arange(0) if labels is None else (labels >= 0).nonzero().flatten()
