"""Everything at once: all numbers about one model on one data set.

Not for: an estimator itself, run folders (`stored`), or a table over several runs (`comparison`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .. import __version__, plot
from ..data import Batch, Batches, Dataset, Split
from ..data.pixels import repeatable
from ..errors import ConfigError, at_least, unknown
from ..model import LatentVariableModel
from ..objectives.base import draw_of
from ..rng import seeded
from ..training.precision import find_precision
from ..training.processor import flushed
from . import chunks
from .ais import Annealing, ais, bidirectional
from .bounds import bounds, up_to
from .chunks import GIB, Store
from .classified import classification_error
from .classifier import classifier_for
from .code_usage import code_usage
from .disentanglement import of_factors
from .latents import latents, linear_probe, nearest_neighbours
from .quality import FEWEST, neighbours_picture, quality
from .record import Evaluation, StageListener, mean_of
from .support import Nature, nature_of, refuse_annealing
from .synthetic import synthetic

AIS_ROWS = 50  # rows that are annealed, and the same number of simulated ones, which take twice as long

StoreOf = Callable[[Mapping[str, Any]], Store]

_BINARIZED = {
    "none": "none",
    "threshold": "threshold at 0.5",
    "fixed": "one fixed draw",
    "per-epoch": "one fixed draw (trained on a new draw for every epoch)",
}


@dataclass(frozen=True)
class Options:
    """How to evaluate.

    Arguments:
        split: "test", "validation" or "train".
        binarize: How grey pixels become binary, as in training; "per-epoch" is evaluated on one fixed draw.
        samples: K of the importance-weighted bound; the smaller powers of ten are shown too. Papers take 5,000.
        rows: Evaluate this many rows only, the first ones; all by default.
        annealing: How to anneal; by default there is no annealed importance sampling.
        memory: About how many bytes decoding may take.
        seed: Seed of everything random.
        precision: In which the bounds multiply matrices, as in `bounds`; everything else is in float32.

    Raises:
        ConfigError: A number is below 1.
    """

    split: str = "test"
    binarize: str = "none"
    samples: int = 100
    rows: int | None = None
    annealing: Annealing | None = None
    memory: int = GIB
    seed: int = 0
    precision: str = "fp32"

    def __post_init__(self) -> None:
        if self.rows is not None:
            at_least(1, "rows", self.rows)

    def but(self, **settings: Any) -> "Options":
        """The same options, with these settings changed.

        Raises:
            ConfigError: There is no such option.
        """
        known = [field.name for field in fields(self)]
        for name in settings:
            if name not in known:
                raise ConfigError(unknown("option of an evaluation", name, known))
        return replace(self, **settings)


@flushed()
def evaluate_model(
    model: LatentVariableModel,
    dataset: Dataset,
    options: Options | None = None,
    *,
    judge: bool = True,
    loss: object = None,
    store_of: StoreOf | None = None,
    listener: StageListener | None = None,
    **settings: Any,
) -> Evaluation:
    """Evaluate a model on a data set: bounds, latents, samples and, if asked for, annealed importance sampling.

    Arguments:
        model: Any latent-variable model with densities, on the device to use.
        dataset: The data set that it was trained on.
        options: How to evaluate.
        judge: Whether to judge samples; this trains a classifier when a data set is used for the first time.
        loss: What it was trained by, whose classifier is judged where it has one.
        store_of: From the facts that numbers depend on to a store that keeps finished batches of them.
        listener: Hears about the progress.
        settings: Fields of `Options`, in place of those in `options`: `samples=5000`.

    Raises:
        ConfigError: There is no such option or split, a number is below 1, or the model has no densities.
        DataError: The rows or the classes do not fit the model.
    """
    how = (options or Options()).but(**settings)
    numbers = up_to(how.samples)
    chosen = dataset.split(how.split).rows(slice(how.rows))
    work = _Work(model, dataset, chosen, how, store_of, listener)
    nature = work.nature()
    protocol = {
        "data": dataset.name,
        "checksum": dataset.checksum,
        "split": how.split,
        "images": len(chosen),
        "binarize": _BINARIZED[how.binarize],
        "likelihood": nature.description,
        "samples": how.samples,
        "precision": find_precision(how.precision, model),
        "seed": how.seed,
        "vaekit": __version__,
    }
    evaluation = Evaluation([], protocol, [*nature.warnings])
    if work.has_density():
        if how.annealing is not None:
            work.check_annealing()
        work.add_bounds(evaluation, nature, numbers)
        if how.annealing is not None:
            work.add_annealing(evaluation, nature, how.annealing)
        work.add_latents(evaluation)
    else:
        work.add_terms(evaluation)
    work.add_errors(evaluation, loss)
    if dataset.factors is not None:
        work.add_factors(evaluation, dataset.factors)
    if judge:
        work.add_samples(evaluation)
        work.add_rows(evaluation)
    return evaluation


def served(model: LatentVariableModel, split: Split, binarize: str) -> Tensor:
    """All values of a split, shape (N, *event), always binarized in the same way; bytes of pixels stay bytes."""
    batches = Batches(split, batch_size=chunks.ROWS, binarize=repeatable(binarize), values=model.values)
    x = batches.x[:]
    return x if batches.are_counts or model.values != "counts" else batches.to_floats(x)


# -- the parts ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Work:
    """A model and the rows to evaluate it on, and each part of an evaluation."""

    model: LatentVariableModel
    dataset: Dataset
    chosen: Split
    how: Options
    store_of: StoreOf | None
    listener: StageListener | None

    @cached_property
    def rows(self) -> Batch:
        """The rows, always binarized in the same way."""
        return self.rows_of(self.chosen)

    def rows_of(self, split: Split) -> Batch:
        """All rows of a split as they are evaluated; the context or the labels that a conditional model needs."""
        x = served(self.model, split, self.how.binarize)
        labels = split.known_labels() if self.model.context_size and split.context is None else split.labels
        return Batch(x, split.context, split.observed, labels)

    @property
    def dimensions(self) -> float:
        """How many values of a row are observed, on average."""
        mask = self.chosen.observed
        return self.rows.x[0].numel() if mask is None else mask.sum().item() / len(mask)

    def estimating(self, store: Store | None) -> dict[str, Any]:
        """Arguments that all estimators take."""
        return {"memory": self.how.memory, "seed": self.how.seed, "store": store, "listener": self.listener}

    def nature(self) -> Nature:
        """What the likelihood of these rows is."""
        count = -(-len(self.rows) // chunks.ROWS)
        return nature_of(self.model, (chunks.batch(self.model, self.rows, i) for i in range(count)))

    def has_density(self) -> bool:
        """Whether the posterior has a density, without which there is no bound on log p(x)."""
        row = chunks.batch(self.model, self.rows, 0, 1)
        with chunks.evaluating(self.model), seeded(torch.Generator().manual_seed(0)):
            return draw_of(self.model, row).has_density

    def add_terms(self, evaluation: Evaluation) -> None:
        """Distortion and penalties, from one sample for each row: the numbers of a model without a density."""

        def compute(index: int) -> dict[str, Tensor]:
            some = chunks.batch(self.model, self.rows, index)
            with seeded(chunks.generator(0, "terms", index)):
                draw = draw_of(self.model, some)
            return {"distortion": chunks.wide(draw.distortion), **draw.penalties}

        with chunks.evaluating(self.model):
            terms = chunks.over_batches("terms", self.rows, compute, listener=self.listener)
        evaluation.values.extend(mean_of(name, values.double(), "nats") for name, values in terms.items())
        evaluation.warnings.append(
            "this model has no density q, so that no bound on log p(x) exists: there is no nll, and there are no "
            "numbers of its latents"
        )

    def add_bounds(self, evaluation: Evaluation, nature: Nature, samples: Sequence[int]) -> None:
        """ELBO, rate, distortion, importance-weighted bounds."""
        store = None if self.store_of is None else self.store_of(evaluation.protocol)
        options = self.estimating(store)
        options["precision"] = evaluation.protocol["precision"]
        bounds_of_x = bounds(self.model, self.rows, samples=samples, **options)
        evaluation.values.extend(nature.named(bounds_of_x.values, self.dimensions))
        evaluation.warnings.extend(bounds_of_x.warnings)
        evaluation.per_row.update(bounds_of_x.per_row)

    def check_annealing(self) -> None:
        """Refuse latents that cannot be annealed, before the rest is computed."""
        with chunks.evaluating(self.model):
            refuse_annealing(self.model, self.rows)

    def add_annealing(self, evaluation: Evaluation, nature: Nature, annealing: Annealing) -> None:
        """Annealed importance sampling of the first rows, and bidirectional Monte Carlo of simulated ones."""
        n = min(AIS_ROWS, len(self.rows))
        how = {**asdict(annealing), "images": n}
        facts = {**evaluation.protocol, "samples": None, "precision": "fp32", "annealing": how}
        store = None if self.store_of is None else self.store_of(facts)
        options = self.estimating(store)
        first = self.rows.rows(slice(n))
        given = ais(self.model, first, annealing=annealing, **options)
        context = chunks.context_of(self.model, first)
        both = bidirectional(self.model, n, context, annealing=annealing, **options)
        gain = given.per_row["ais"] - evaluation.per_row[f"L_{evaluation.protocol['samples']}"][:n]
        evaluation.values.extend(nature.named(given.values, self.dimensions))
        evaluation.values.append(
            mean_of("AIS over the importance-weighted bound", gain, "nats", depends_on=("samples", "annealing"))
        )
        evaluation.values.extend(both.values)
        evaluation.per_row["ais"] = given.per_row["ais"]
        evaluation.protocol["annealing"] = how

    def add_errors(self, evaluation: Evaluation, loss: object) -> None:
        """How often the classifier that was trained with the model is wrong, if there is one."""
        labels = self.chosen.labels
        if labels is not None:
            error = classification_error(self.model, loss, self.rows.known, labels, listener=self.listener)
            evaluation.values.extend([] if error is None else [error])

    def add_factors(self, evaluation: Evaluation, factors: Callable[[], tuple[Tensor, Tensor]]) -> None:
        """Whether each latent stands for one factor, of data whose factors are known."""
        evaluation.values.extend(of_factors(self.model, *factors(), listener=self.listener))
        if "DCI completeness" not in [value.name for value in evaluation.values]:
            evaluation.warnings.append("DCI is left out: it needs scikit-learn, which the extra `sklearn` installs")

    def add_latents(self, evaluation: Evaluation) -> None:
        """Active units, information, collapse; and what can be read from the latents where there are classes."""
        labels = self.chosen.labels
        posteriors = latents(self.model, self.rows, memory=self.how.memory, seed=self.how.seed, listener=self.listener)
        evaluation.values.extend(posteriors.values)
        evaluation.values.extend(code_usage(self.model, self.rows, listener=self.listener))
        evaluation.warnings.extend(posteriors.warnings)
        evaluation.details["kl by dimension"] = None if posteriors.kl is None else posteriors.kl.tolist()
        evaluation.details["variance of posterior means"] = posteriors.variances.tolist()
        if labels is None or len(labels[labels >= 0].unique()) < 2:
            return
        train = _labelled(self._means(self.dataset.train), self.dataset.train.known_labels())
        test = _labelled(posteriors.means, labels)
        for classifier in (linear_probe, nearest_neighbours):
            evaluation.values.append(classifier(*train, *test))
        if self.model.context_size:
            evaluation.warnings.append(
                "the linear probe and the neighbours read classes from latents, but the encoder was given these classes"
            )
        if self.chosen.context is not None:
            return
        shown = slice(0, 2000)
        evaluation.pictures["latents"] = plot.latents(self.model, self.rows.rows(shown).known, labels[shown])

    def _means(self, split: Split) -> Tensor:
        """Posterior means of a split, shape (N, Z)."""
        rows = self.rows_of(split)

        def compute(index: int) -> dict[str, Tensor]:
            some = chunks.batch(self.model, rows, index)
            return {"means": chunks.posterior(self.model, some).mean.flatten(1)}

        with chunks.evaluating(self.model):
            return chunks.over_batches("training rows", rows, compute, listener=self.listener)["means"]

    def add_samples(self, evaluation: Evaluation) -> None:
        """What a classifier says about samples."""
        why = None
        are_bytes = self.dataset.kind == "image" and self.chosen.x.dtype == torch.uint8
        if self.dataset.num_classes < 2 or not are_bytes:
            why = "a classifier needs 8-bit images of at least 2 classes"
        elif self.model.values == "counts":
            why = "a classifier judges pixels in [0, 1], and samples of this model are counts"
        elif self.model.context_size not in (0, self.dataset.num_classes):
            why = f"a context of width {self.model.context_size} is not the classes of {self.dataset.name!r}"
        elif len(self.chosen) < FEWEST:
            why = f"it takes at least {FEWEST} images"
        if why is not None:
            evaluation.details["samples"] = f"not judged: {why}"
            return
        judge = classifier_for(self.dataset, device=self.model.device, listener=self.listener)
        judged = quality(self.model, self.dataset, judge, split=self.chosen, seed=self.how.seed, listener=self.listener)
        evaluation.values.extend(judged.values)
        evaluation.details.update({"samples": judged.facts, "classes": judged.classes})
        evaluation.pictures["neighbours"] = neighbours_picture(judged.neighbours)

    def add_rows(self, evaluation: Evaluation) -> None:
        """How drawn rows of a table compare with real ones."""
        if self.dataset.columns is None or self.model.context_size or not len(self.dataset.train):
            return
        evaluation.values.extend(synthetic(self.model, self.dataset, seed=self.how.seed))


def _labelled(means: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Latents whose class is known, and these classes."""
    known = labels >= 0
    return means[known].float(), labels[known]
