"""Rows with names, of a run's data or of the user's: their latents, and how unusual each is.

Not for: numbers about a model (`model_evaluation`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .. import data
from ..data import Batch, Batches, Split
from ..data.own import is_path, open_all
from ..data.tables import open_table
from ..distributions import centre
from ..errors import DataError, unknown
from ..model import LatentVariableModel
from ..runs.restore import RestoredRun
from ..store import Run
from . import chunks
from .chunks import GIB
from .likelihood.bounds import bounds
from .likelihood.support import LikelihoodKind, likelihood_kind_of
from .result import StageListener
from .run_evaluation import RunStores

AT_A_TIME = 1000


@dataclass(frozen=True, eq=False)
class NamedRows:
    """Rows as a run takes them, each with a name.

    Arguments:
        name: What they are called.
        split: Values and labels; a label means what it means to the run.
        names: What each is called.
        classes: Class of each, by name.
        binarize: How grey pixels become binary ones, without new noise for every look.
        what: What one of them is called.
    """

    name: str
    split: Split
    names: Sequence[str]
    classes: Sequence[str]
    binarize: str
    what: str = "row"

    def __len__(self) -> int:
        return len(self.split)

    def some(self, rows: Tensor) -> "NamedRows":
        """A few of them, in memory.

        Arguments:
            rows: Their numbers, int64.
        """
        numbers = rows.tolist()
        return replace(
            self,
            split=self.split.rows(rows),
            names=[self.names[i] for i in numbers],
            classes=[self.classes[i] for i in numbers],
        )

    def spread(self, most: int) -> "NamedRows":
        """At most `most` of them, evenly spread, in memory."""
        return self.some(torch.arange(0, len(self), max(1, -(-len(self) // most))))

    def batches(self, model: LatentVariableModel) -> Iterator[Batch]:
        """Batch by batch, as the model takes them."""
        for batch in Batches(self.split, batch_size=AT_A_TIME, binarize=self.binarize, values=model.values):
            yield model.to_model(batch)


def rows_of(run: Run | RestoredRun, name: str | None = None, *, split: str = "test") -> NamedRows:
    """Rows of a split of the run's own data or of another data set; or all rows of a path, however it is spelled.

    A folder of images is read as the run's own was: resized by its `data.size`, in colour if those are.

    Arguments:
        run: The run, restored already if it names code of the caller's own.
        name: A data set or a path; the run's own data by default.
        split: "test", "validation" or "train", where there are splits.

    Raises:
        DataError: No such rows, or rows or classes that the run does not know.
        ConfigError: No such split.
    """
    restored = RestoredRun.of(run)
    config, facts = restored.recipe.config, restored.facts
    columns = facts.columns
    names: Sequence[str]
    if name is not None and columns is not None and name not in data.DATASET_NAMES:
        table = open_table(name, columns, restored.label)
        rows, classes, title = table.split(slice(None)), table.classes, name
        names = [str(i + 1) for i in range(len(rows))]
    elif name is not None and name not in data.DATASET_NAMES and is_path(name):
        colour = facts.event_shape[0] == 3
        everything = open_all(name, size=config.data.size, colour=colour, values=facts.values)
        restored.check_event_shape(name, everything.split.event_shape)
        rows, names, classes = everything.split, everything.names, everything.classes
        title = name
    else:
        dataset = restored.dataset(name)
        rows = dataset.split(split)
        classes = dataset.classes
        title = f"{dataset.name} {split}"
        names = [str(i) for i in range(len(rows))]
    labels = [0] * len(rows) if rows.labels is None else rows.labels.tolist()
    class_names = [classes[label] if label >= 0 else "" for label in labels]
    if config.model.condition == "class":
        numbers = [_number(class_name, facts.classes, restored.run) for class_name in class_names]
        rows = replace(rows, labels=torch.tensor(numbers))
    return NamedRows(title, rows, names, class_names, restored.binarize, facts.row)


def _number(name: str, known: Sequence[str], run: Run) -> int:
    """The number of a class in a run.

    Raises:
        DataError: The run has no class of this name.
    """
    if name not in known:
        raise DataError(
            f"{unknown('class', name, known)}; run {run.name} is conditional: put its images into subfolders that are "
            "called as its classes, or bring labels"
        )
    return known.index(name)


def encode(model: LatentVariableModel, rows: NamedRows, *, listener: StageListener | None = None) -> Tensor:
    """Posterior means, shape (N, *latent), on the CPU: (N, Z) where latents are a vector.

    Arguments:
        model: The model.
        rows: The rows.
        listener: Hears about the progress.
    """
    parts = []
    total = -(-len(rows) // AT_A_TIME)
    with chunks.estimating(model):
        for batch in rows.batches(model):
            q = chunks.posterior(model, chunks.batch(model, batch, 0, len(batch)))
            parts.append(centre(q).cpu())
            if listener is not None:
                listener("encoding", len(parts), total)
    return torch.cat(parts)


def score(
    model: LatentVariableModel,
    rows: NamedRows,
    *,
    samples: int = 100,
    memory: int = GIB,
    seed: int = 0,
    listener: StageListener | None = None,
) -> dict[str, Tensor]:
    """How unlikely rows are: the greater `nll`, the less likely.

    Likelihood is not familiarity: images that are simpler than those learned from can be likelier than these (Nalisnick
    et al. 2018, arXiv:1810.09136).

    Arguments:
        model: The model.
        rows: The rows.
        samples: K.
        memory: Bytes that decoding may take, about.
        seed: Seed of the samples.
        listener: Hears about the progress.

    Returns:
        Tensors (N,), float64, nats: "nll", −L_K, an upper bound on −log p(x); "distortion", −E_q log p(x | z); "rate",
        KL(q(z | x) ‖ p(z)).

    Raises:
        ConfigError: Fewer than one sample, or a model without densities.
    """
    parts: list[Tensor] = []
    total = -(-len(rows) // AT_A_TIME)
    for batch in rows.batches(model):
        # Each call of `bounds` begins its streams of noise anew, so that it needs a seed of its own.
        of_row = bounds(model, batch, samples=(samples,), memory=memory, seed=seed + len(parts)).per_row
        parts.append(torch.stack((-of_row[f"L_{samples}"], of_row["distortion"], of_row["rate"])))
        if listener is not None:
            listener(f"scoring {rows.name}", len(parts), total)
    return dict(zip(("nll", "distortion", "rate"), torch.cat(parts, 1), strict=True))


def likelihood_kind(model: LatentVariableModel, *several: NamedRows) -> LikelihoodKind:
    """The kind of the likelihood of rows: only where it is one do their scores say how likely they are.

    Arguments:
        model: The model.
        several: All rows whose scores are compared.
    """
    return likelihood_kind_of(model, (part for rows in several for part in _parts(model, rows)))


def _parts(model: LatentVariableModel, rows: NamedRows) -> Iterator[Batch]:
    for batch in rows.batches(model):
        observed = replace(batch, x=batch.known)
        yield from (observed.rows(slice(start, start + chunks.ROWS)) for start in range(0, len(batch), chunks.ROWS))


def reference(
    restored: RestoredRun,
    model: LatentVariableModel,
    *,
    most: int,
    samples: int = 100,
    seed: int = 0,
    listener: StageListener | None = None,
) -> tuple[Tensor, LikelihoodKind]:
    """Scores of test rows of a run, to compare others with, and what their likelihood is; kept in the run's folder.

    So later calls with the same samples and seed do not need the data of the run.

    Arguments:
        restored: The run.
        model: Its model.
        most: The greatest number of test rows; they are evenly spread.
        samples: K.
        seed: Seed of the samples.
        listener: Hears about the progress.
    """
    store = RunStores(restored.run, model)({"reference": most, "samples": samples, "seed": seed})
    tensors = store.load("reference")
    if tensors is None:
        usual = rows_of(restored).spread(most)
        likelihood = likelihood_kind(model, usual)
        nll = score(model, usual, samples=samples, seed=seed, listener=listener)["nll"]
        tensors = {"nll": nll, "nature": torch.tensor([likelihood.discrete, likelihood.inside])}
        store.save("reference", tensors)
    discrete, inside = tensors["nature"].tolist()
    return tensors["nll"], LikelihoodKind(discrete=discrete, inside=inside)


def percentiles(values: Tensor, reference: Tensor) -> Tensor:
    """How many of a hundred reference values are smaller than each value, shape (N,).

    >>> percentiles(torch.tensor([0.0, 1.5, 9.0]), torch.tensor([2.0, 1.0]))
    tensor([  0.,  50., 100.], dtype=torch.float64)
    """
    return 100 * torch.searchsorted(reference.sort().values, values).double() / len(reference)
