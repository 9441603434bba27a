"""Every posterior × prior × likelihood × objective, conditional or not: finite, the right shapes, trains, saves and loads."""

import inspect
import math
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vaekit.config import Config, parse, preset_names, read
from vaekit.config.building import build
from vaekit.config.parts import PART_TABLE, find_part
from vaekit.config.recipe import Recipe
from vaekit.data import Batch, Batches
from vaekit.errors import ConfigError, VAEError
from vaekit.evaluation.missing.imputation import weighted_latents
from vaekit.model import Composed
from vaekit.objectives import Loss
from vaekit.runs import lifecycle

SHAPE, CLASSES = (1, 6, 5), 3
POSTERIORS, PRIORS, LIKELIHOODS, OBJECTIVES = (
    sorted(PART_TABLE[kind]) for kind in ("posterior", "prior", "likelihood", "objective")
)
LIKELIHOODS.remove("columns")  # of tables: test_table_model.py
OF_IMAGES = [name for name in preset_names() if read(name).likelihood.name != "columns"]
SMALL: dict[str, dict[str, Any]] = {
    "hierarchical": {"hidden": [8]},
    "ladder": {"hidden": [8]},
    "top-down": {"levels": 2, "width": 8, "hidden": [8]},
    "m2": {"hidden": [8]},
    "iaf": {"hidden": [8], "steps": 2},
    "nsf": {"hidden": [8], "steps": 1, "bins": 4},
    "planar": {"steps": 2},
    "maf": {"hidden": [8], "steps": 2},
    "mixture": {"components": 3},
    "vamp": {"components": 4},
    "discretized-logistic-mixture": {"components": 2},
    "miwae": {"groups": 2},
    "piwae": {"groups": 2},
    "aae": {"hidden": [8]},
    "factor": {"hidden": [8]},
    "gumbel-softmax": {"categories": 4},
    "fsq": {"levels": [3, 3], "places": 3},
    "vq": {"codes": 8, "places": 3, "codebook": "gradient", "revive": 0.0},
    "autoregressive-codes": {"width": 8},
}


def combination(posterior: str, prior: str, likelihood: str, objective: str, condition: str) -> Config:
    parts = {"posterior": posterior, "prior": prior, "likelihood": likelihood, "objective": objective}
    tree: dict[str, Any] = {kind: {"name": name, **SMALL.get(name, {})} for kind, name in parts.items()}
    make = find_part("objective", objective)
    if not inspect.isclass(make) or "samples" in inspect.signature(make).parameters:
        tree["objective"]["samples"] = 4
    if prior in ("ladder", "top-down"):  # which have the posterior's sizes
        tree["prior"] = {"name": prior}
    tree |= {
        "encoder": {"hidden": [12]},
        "decoder": {"hidden": [12]},
        "model": {"latent_size": 3, "condition": condition},
    }
    return parse(tree)


def pixels(likelihood: str, n: int = 8) -> Tensor:
    """Images that a likelihood takes: counts, or multiples of 1/255 that are 0 or 1 here and there."""
    g = torch.Generator().manual_seed(1)
    if likelihood in ("poisson", "negative-binomial"):
        return torch.poisson(3 * torch.rand(n, *SHAPE, generator=g), generator=g)
    return (torch.rand(n, *SHAPE, generator=g) * 1.4 - 0.2).clamp(0, 1).mul(255).round() / 255


def refusal(posterior: str, prior: str, objective: str, condition: str) -> str | None:
    """Why a combination cannot be, or None."""
    values = [find_part(kind, name).latent_kind for kind, name in (("posterior", posterior), ("prior", prior))]
    if values[0] != values[1]:
        return "and the prior .* is over"
    for shared in ("hierarchical", "ladder", "top-down"):
        if prior == shared != posterior:
            return "needs a posterior with several levels"
    if (
        prior == "full-covariance-mixture"
        and posterior in ("hierarchical", "ladder", "top-down")
        and condition == "none"
    ):
        return "is for one latent level"
    if objective == "rae" and posterior != "deterministic":
        return r"choose the posterior 'deterministic'"
    if objective == "m2" and condition == "none":
        return "needs a class-conditional model"
    if objective == "aae" and prior not in ("standard-normal", "ladder"):
        return "does not train a prior"
    if prior == "vamp" and posterior == "deterministic":
        return "no density"
    if objective == "disarm" and posterior != "bernoulli":
        single = ("planar", "iaf", "nsf", "hierarchical", "ladder", "top-down", "deterministic")
        return "pairs of samples" if values[0] != "real" or posterior in single else "are for|is for"
    if objective == "rloo" and posterior not in ("bernoulli", "categorical"):
        return "scores are for discrete samples|carries the penalty|no density"
    if posterior == "deterministic" and objective not in ("aae", "mmd", "rae"):
        return "no density|needs one latent level"
    if objective == "dip" and posterior not in ("diagonal-normal", "full-covariance-normal"):
        return "dip needs one latent level"
    if objective == "beta-tc" and posterior != "diagonal-normal":
        return "factorized posterior"
    if objective == "mmd" and prior in ("vamp", "mixture", "full-covariance-mixture"):
        return "whose samples have no gradient"
    return None


def check(config: Config, likelihood: str, why_not: str | None, folder: Path) -> Composed | None:
    """Train, save and load a combination, and return it; where it is refused, check that and return None."""
    x, c = pixels(likelihood), torch.arange(8) % CLASSES if config.model.condition == "class" else None
    torch.manual_seed(0)
    if why_not:
        with pytest.raises(ConfigError, match=why_not):
            model = build(config, event_shape=SHAPE, num_classes=CLASSES, x=x)
            value(model, made(config, model), x, c)
        return None
    model = build(config, event_shape=SHAPE, num_classes=CLASSES, x=x)
    objective = made(config, model)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    first, second = (step(model, objective, optimizer, x, c) for _ in range(2))
    assert first.shape == second.shape == (8,)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert step(model, objective, optimizer, x, c).mean() > first.mean()
    same_after_loading(model, config, x, c, folder)
    return model


def fills_gaps(model: Composed, x: Tensor, c: Tensor | None) -> None:
    """Half of the rows' values are filled in, with probabilities, by the values that are observed."""
    observed = torch.arange(x[0].numel()).reshape(x.shape[1:]).expand_as(x) % 2 == 0
    (result,) = weighted_latents(model, Batch(x, labels=c, observed=observed), 5)
    filled = result.filled(result.mean())
    assert filled.shape == x.shape and torch.equal(filled[observed], x[observed])
    assert ((filled >= 0) & (filled <= 1)).all()
    assert result.sample(3).shape == (3, *x.shape)


def made(config: Config, model: Composed) -> Loss:
    """The loss, which has seen whether it can train this model."""
    some = Batches(pixels("bernoulli"), torch.arange(8) % CLASSES, batch_size=8)
    facts = {"dataset_size": 100, "num_classes": CLASSES, "event_shape": SHAPE, "batches": some}
    objective = Recipe.resolve(config).loss(model, **facts)
    objective.opponents(model)
    return objective


def value(model: Composed, objective: Loss, x: Tensor, c: Tensor | None) -> Tensor:
    """What is maximised, at the end of all schedules."""
    return -objective(model, model.to_model(Batch(x, labels=c)), math.inf).loss


def step(model: Composed, objective: Loss, optimizer: torch.optim.Optimizer, x: Tensor, c: Any) -> Tensor:
    """One step; the noise is the same at every step, so that only the weights tell."""
    torch.manual_seed(7)
    found = value(model, objective, x, c)
    assert found.isfinite().all()
    optimizer.zero_grad()
    (-found.mean()).backward()
    optimizer.step()
    return found.detach()


def same_after_loading(model: Composed, config: Config, x: Tensor, c: Tensor | None, folder: Path) -> None:
    state = model.state_dict()
    assert len({t.data_ptr() for t in state.values() if t.numel()}) == len([t for t in state.values() if t.numel()])
    save_file(state, folder / "model.safetensors")
    torch.manual_seed(99)
    other = build(config, event_shape=SHAPE, num_classes=CLASSES)
    other.load_state_dict(load_file(folder / "model.safetensors"))
    n, seed = (len(x), 4)
    has_density, results = model.draw(x, c).has_density, []
    for m in (model.eval(), other.eval()):
        g = torch.Generator().manual_seed(seed)
        results.append(
            (
                m.sample(n, c, generator=g),
                m.reconstruct(x, c),
                m.log_prob(x, c, k=3, generator=g) if has_density else torch.zeros(n),
                m.encode(x, c),
            )
        )
    for ours, theirs in zip(*results, strict=True):
        assert ours.isfinite().all()
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    sample, reconstruction, log_prob, mean = results[0]
    assert sample.shape == reconstruction.shape == x.shape
    assert log_prob.shape == (n,)
    assert mean.shape == (n, *model.latent_shape)


@pytest.mark.parametrize("condition", ["none", "class"])
@pytest.mark.parametrize(("posterior", "prior"), list(product(POSTERIORS, PRIORS)))
def test_posterior_times_prior(posterior: str, prior: str, condition: str, tmp_path: Path) -> None:
    objective = {"bernoulli": "rloo", "categorical": "rloo", "vq": "beta"}.get(posterior, "elbo")
    config = combination(posterior, prior, "bernoulli", objective, condition)
    model = check(config, "bernoulli", refusal(posterior, prior, objective, condition), tmp_path)
    x, c = pixels("bernoulli"), torch.arange(8) % CLASSES if condition == "class" else None
    if model is not None and model.draw(x, c).has_density:
        fills_gaps(model, x, c)


@pytest.mark.parametrize("condition", ["none", "class"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("posterior", ["diagonal-normal", "iaf"])
def test_likelihood(likelihood: str, posterior: str, condition: str, tmp_path: Path) -> None:
    config = combination(posterior, "standard-normal", likelihood, "iwae", condition)
    check(config, likelihood, None, tmp_path)


@pytest.mark.parametrize("condition", ["none", "class"])
@pytest.mark.parametrize("prior", ["standard-normal", "vamp", "hierarchical"])
@pytest.mark.parametrize("posterior", ["diagonal-normal", "planar", "hierarchical"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_objective(objective: str, posterior: str, prior: str, condition: str, tmp_path: Path) -> None:
    config = combination(posterior, prior, "bernoulli", objective, condition)
    check(config, "bernoulli", refusal(posterior, prior, objective, condition), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("condition", ["none", "class"])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_whole_matrix(likelihood: str, objective: str, condition: str, tmp_path: Path) -> None:
    for posterior, prior in product(POSTERIORS, PRIORS):
        if find_part("posterior", posterior).latent_kind != "real":
            continue  # see test_discrete.py and test_codes.py
        config = combination(posterior, prior, likelihood, objective, condition)
        check(config, likelihood, refusal(posterior, prior, objective, condition), tmp_path)


@pytest.mark.parametrize("name", OF_IMAGES)
@pytest.mark.parametrize("condition", ["none", "class"])
def test_every_preset_lowers_its_loss_on_a_fixed_batch(name: str, condition: str) -> None:
    settings = [f"model.condition={condition}", f"objective.samples={min(read(name).objective.samples, 8)}"]
    settings += ["prior.components=20"] if name == "vamp" else []
    config = read(name, settings=settings)
    g = torch.Generator().manual_seed(1)
    x = (torch.rand(16, 1, 28, 28, generator=g) > 0.8).float()
    c = torch.arange(16) % 10 if condition == "class" else None
    torch.manual_seed(0)
    model = build(config, x=x)
    some = Batches(x, torch.arange(16) % 10, batch_size=16)
    objective = Recipe.resolve(config).loss(model, dataset_size=16, num_classes=10, batches=some)
    if name == "m2" and condition == "none":
        with pytest.raises(ConfigError, match="needs a class-conditional model"):
            value(model, objective, x, c)
        return
    optimizer = torch.optim.Adam(model.parameters(), 3e-4)
    values = [step(model, objective, optimizer, x, c).mean() for _ in range(6)]
    assert values[-1] > values[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["posterior.name=iaf", "objective.kl=analytic"], "no closed-form KL; use 'auto' or 'sampled'"),
        (["prior.name=vamp", "prior.components=4", "objective.kl=analytic"], "no closed-form KL"),
        (["objective.name=miwae", "objective.samples=5", "objective.groups=2"], "multiple of groups"),
        (["prior.name=hierarchical"], "needs a posterior with several levels"),
        (["objective.gradient=stl", "objective.kl=analytic"], "needs the sampled KL"),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_any_work(settings: list[str], message: str, tmp_path: Path) -> None:

    with pytest.raises(VAEError, match=message):
        lifecycle.train_run(read("standard-vae", settings=settings), root=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
