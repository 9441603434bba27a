"""Priors fitted to the aggregate posterior of a trained model.

They improve samples, because they put no mass between the encoded latents.

A model with such a prior (`vaekit.model.WithPrior`) is a model like any other.

Not for: the aggregate posterior in numbers (`aggregate`, `latent_statistics`).
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ...data import Batches, Dataset, Split
from ...data.chosen_rows import keep_labels
from ...data.pixels import repeatable
from ...distributions import support_of, takes_any_real
from ...errors import ConfigError, DataError, RunError, one_of
from ...model import LatentVariableModel, WithPrior
from ...posteriors import CodesPosterior
from ...priors import AutoregressiveCodesPrior, FullCovarianceNormalMixture, SecondStagePrior, fit_mixture
from ...priors.base import OverGrid, Prior, over_grid
from ...rng import forked, seeded
from ...runs.model_weights import check_weights
from ...runs.restore import RestoredRun
from ...store import Run, files
from ...store.tensors import pack, sha256, unpack
from .. import batchwise

Density = Literal["mixture", "normal", "flow", "vae", "codes"]

FITTED_ROWS = 20_000  # latents that a density is fitted to
COMPONENTS = 100
PER_COMPONENT = 5  # least number of latents of a component, for each dimension
WIDEST_COVARIANCE = 512  # most dimensions of a full covariance
EPOCHS, BATCH, LEARNING_RATE = 20, 256, 2e-3  # of a flow, or of a network over codes
PRIOR_FILE_LIMIT = 1 << 30  # bytes of a file


def fit_prior(
    model: LatentVariableModel,
    data: Dataset | Split,
    density: Density = "mixture",
    *,
    binarize: str = "none",
    seed: int = 0,
) -> Prior:
    """A prior fitted to the aggregate posterior, by one latent of each of at most 20,000 training rows.

    Arguments:
        model: A trained model; a conditional one gets a density for each class.
        data: A split, or a data set with a training split.
        density: "mixture", at most 100 normals with full covariances, by expectation maximization; "normal", a
            single normal; "flow", a masked autoregressive flow, by gradient; or "vae", a second VAE, over the latents.
            For codes it is "codes", a network that draws one code after another; "mixture" then means "codes".
        binarize: How grey values become binary, as in the config of the training.
        seed: Seed of the latents and of the fit.

    Raises:
        ConfigError: The density is unknown, or not for these latents. Or the latents are neither real numbers nor
            codes, or too many for a covariance.
        DataError: There are no rows, or no classes for a conditional model.

    Reference: Ghosh et al. 2020, arXiv:1903.12436, section 4, with ten normals where we use up to 100; Dai and Wipf
    2019, arXiv:1903.05789, for the second VAE.
    """
    density = density_for(model, density)
    if not isinstance(data, (Dataset, Split)):
        raise ConfigError(f"data must be a Dataset or a Split, got {type(data).__name__}; pass Split(x, labels)")
    given = data.train if isinstance(data, Dataset) else data
    rows = _training_rows(model, given)
    if not len(rows):
        fault = f"none of the {len(given)} has a class; pass Split(x, labels)" if len(given) else "there are none"
        raise DataError(f"a density of latents is fitted to training rows, and {fault}")
    with seeded(batchwise.stream_of(seed, "ex post", 0)):
        z, labels = _latents(model, rows, binarize)
        prior = _empty(model, density, len(z))
        inner = prior.prior if isinstance(prior, OverGrid) else prior
        z = z if density == "codes" else z.flatten(1)
        if isinstance(inner, FullCovarianceNormalMixture):
            fit_mixture(inner, z, labels)
        else:
            _descend(inner, z, None if labels is None else model.context(labels, len(z)))
    return prior.to(model.device, model.dtype).eval().requires_grad_(False)


def fitted_prior(run: Run | RestoredRun, model: LatentVariableModel, density: Density = "mixture") -> WithPrior:
    """A run's model with a prior fitted to its aggregate posterior. The prior is fitted once and stored with the run.

    Arguments:
        run: The run; a `RestoredRun` if its config names parts by import path.
        model: The model of the run, as `vaekit.load(run)` gives it.
        density: The kind of prior, as for `fit_prior`.

    Raises:
        ConfigError, DataError: The model is that of another run, or the prior cannot be fitted; see `fit_prior`.
    """
    stored_run = run if isinstance(run, Run) else run.run
    density = density_for(model, density)
    name, weights = _prior_file(density), sha256(model.state_dict())
    try:
        path = files.confine(stored_run.path, name)
        tensors, metadata = unpack(files.read(path, PRIOR_FILE_LIMIT), path)
        with forked():
            prior = _empty(model, density, int(metadata["rows"]))
        prior.load_state_dict(tensors)
        if metadata["weights"] == weights and metadata["sha256"] == sha256(tensors):
            return WithPrior(model, prior.to(model.device, model.dtype).requires_grad_(False)).eval()
    except (RunError, KeyError, ValueError, RuntimeError):
        pass  # absent, damaged, or of other weights: fitted anew
    restored = RestoredRun.of(run)
    check_weights(restored.run, model)
    dataset, section = restored.dataset(), restored.recipe.config.data
    if section.labelled is not None:
        dataset = keep_labels(dataset, section.labelled)  # no more labels than the run had
    rows = _training_rows(model, dataset.train)
    prior = fit_prior(model, rows, density, binarize=section.binarize)
    tensors = {name: tensor.cpu() for name, tensor in prior.state_dict().items()}
    metadata = {"weights": weights, "rows": str(len(rows)), "sha256": sha256(tensors)}
    stored_run.write_bytes(name, pack(tensors, metadata))
    return WithPrior(model, prior).eval()


def has_fitted_codes(run: Run) -> bool:
    """Whether a network over the codes of a run's model was fitted before, and is stored with the run."""
    return (run.path / _prior_file("codes")).is_file()


def _prior_file(density: Density) -> str:
    return f"prior-{density}.safetensors"


def density_for(model: LatentVariableModel, density: Density) -> Density:
    """The density for a model's latents: "mixture" means "codes" if they are codes.

    Raises:
        ConfigError: The density is unknown, or not for these latents.
    """
    one_of("density", density, get_args(Density))
    has_codes = codes_posterior_of(model) is not None
    if has_codes and density == "mixture":
        return "codes"
    if has_codes != (density == "codes"):
        latents = "codes" if has_codes else "no codes"
        raise ConfigError(f"density = {density!r} is not for this model, whose latents are {latents}; leave it out")
    return density


def codes_posterior_of(model: LatentVariableModel) -> CodesPosterior | None:
    """The posterior of a model of codes; None for other models."""
    posterior = model.posterior_module
    return posterior if isinstance(posterior, CodesPosterior) else None


def _training_rows(model: LatentVariableModel, split: Split) -> Split:
    """Up to 20,000 rows; for a conditional model, rows with a known class."""
    split = split.labelled() if model.context_size and split.c is None else split
    return split.thinned(FITTED_ROWS)


def _latents(model: LatentVariableModel, split: Split, binarize: str) -> tuple[Tensor, Tensor | None]:
    """One latent of each row, shape (N, *latent), and the classes, shape (N,), of a conditional model."""
    if model.context_size and (split.c is not None or not model.takes_classes):
        raise ConfigError("a density of latents is fitted class by class, and this model's context is not a class")
    drawn: list[Tensor] = []
    with batchwise.estimating(model):
        for item in Batches(
            split, batch_size=batchwise.BATCH_ROWS, binarize=repeatable(binarize), value_kind=model.value_kind
        ):
            batch = model.to_model(item)
            q = model.posterior_of(batch)
            if not drawn and codes_posterior_of(model) is None:
                _refuse(q)
            drawn.append(q.sample())
    z = torch.cat(drawn)
    # A prior of codes shares the codebook, which is on the model's device; the others are small, and fitted on the CPU.
    z = z if codes_posterior_of(model) is not None else z.cpu()
    return z, split.required_labels() if model.context_size else None


def _refuse(q: torch.distributions.Distribution) -> None:
    support, z = support_of(q), q.sample()
    if support is not None and not takes_any_real(support, z):
        raise ConfigError(f"a density needs latents that can be any real numbers, but these have values in {support}")


def _empty(model: LatentVariableModel, density: Density, rows: int) -> Prior:
    """An unfitted prior, with the kind and size for a model and a number of rows."""
    size, classes = model.latent_size, model.context_size
    codes = codes_posterior_of(model)
    if codes is not None:
        return AutoregressiveCodesPrior(codes, model.latent_shape, classes)
    if density == "flow":
        from ...priors.flows import MAFPrior

        return over_grid(MAFPrior(size, classes), model.latent_shape)
    if density == "vae":
        return over_grid(SecondStagePrior(size, classes), model.latent_shape)
    if size > WIDEST_COVARIANCE:
        raise ConfigError(
            f"a full covariance of {size} latents is too large, at most {WIDEST_COVARIANCE}; fit 'flow' instead"
        )
    most = 1 if density == "normal" else max(1, min(COMPONENTS, rows // (PER_COMPONENT * size)))
    components = max(1, most // max(1, classes)) * max(1, classes)
    return over_grid(FullCovarianceNormalMixture(size, classes, components=components), model.latent_shape)


def _descend(prior: nn.Module, z: Tensor, c: Tensor | None) -> None:
    """Train a prior on latents, by Adam with a learning rate that falls to 0."""
    optimizer = torch.optim.Adam(prior.to(z.device).parameters(), LEARNING_RATE)
    steps, z = EPOCHS * -(-len(z) // BATCH), z.float()
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(EPOCHS):
        for index in torch.randperm(len(z)).split(BATCH):
            loss = -prior(None if c is None else c[index.to(c.device)].float().to(z.device)).log_prob(z[index]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
