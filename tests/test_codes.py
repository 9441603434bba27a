"""Grids of codes: an honest bound, gradients by hand, running means, bijections, dead codes, priors over codes."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from test_cli import assert_refused
from test_train import StopAt, new_run, weights
from vaekit import build, elbo, fit, iwae
from vaekit.config import read
from vaekit.data import Batch, Batches, Split
from vaekit.distributions import CertainCodes, UniformCodes
from vaekit.errors import ConfigError
from vaekit.evaluation.latent_space import ex_post
from vaekit.evaluation.latent_space.ex_post import fit_prior
from vaekit.evaluation.likelihood.bounds import bounds
from vaekit.model import WithPrior
from vaekit.objectives import OfDraw, beta_elbo
from vaekit.posteriors import FSQPosterior, VQPosterior
from vaekit.posteriors.quantized import perplexity
from vaekit.posteriors.vector_quantized import k_means, rotated
from vaekit.priors import AutoregressiveCodesPrior
from vaekit.runs import lifecycle
from vaekit.training import Interrupted, Ranks
from vaekit.training.ranks import check_ranks

MLPS: dict[str, Any] = {
    "encoder": {"name": "mlp", "hidden": [8]},
    "decoder": {"name": "mlp", "hidden": [8]},
    "model": {"latent_size": 2},
}


def made(preset: str, context: str = "none", prior: str = "uniform-codes", **posterior: Any) -> Any:
    torch.manual_seed(0)
    sections = MLPS | {"posterior": posterior, "prior": {"name": prior}}
    sections["model"] = {"latent_size": 2, "condition": context}
    return build(read(preset, sections=sections), event_shape=(1, 4, 4), num_classes=3)


def binary(n: int, seed: int = 0) -> Tensor:
    return (torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed)) > 0.5).float()


class Said(nn.Module):
    """An encoder that says what it is given."""

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        return x


def quantizer(**options: Any) -> VQPosterior:
    """Two-dimensional codes at one place, of what is given, as it is given."""
    torch.manual_seed(1)
    posterior = VQPosterior(Said(), 2, 2, (2,), places=1, **({"revive": 0.0} | options))
    posterior.to_codes = nn.Identity()
    posterior.latent_shape = (2, 1)
    posterior.unquantized = lambda x, c=None: x.unsqueeze(-1)  # type: ignore[method-assign, assignment]
    return posterior.train()


# -- the bound ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("preset", "options"), [("fsq", {"levels": [3, 2]}), ("vq-vae", {"codes": 6})])
@pytest.mark.parametrize("prior", ["uniform-codes", "autoregressive-codes"])
def test_the_bound_is_honest(preset: str, options: dict[str, Any], prior: str) -> None:
    """It is −distortion + log p(codes), below log p(x) by −log p(codes | x), all summed over every grid of codes."""
    model = made(preset, prior=prior, places=2, **options).eval()
    x = binary(5)
    posterior = model.parts["posterior"]
    index = torch.tensor(list(itertools.product(range(6), repeat=2)))
    z = posterior.codes_of(index)
    with torch.no_grad():
        log_p = model.prior().log_prob(z)
        torch.testing.assert_close(log_p.logsumexp(0).item(), 0.0, rtol=0, atol=1e-5)  # probabilities sum to one
        log_joint = model.likelihood(z[:, None]).log_prob(x) + log_p[:, None]
        draw = model.draw(x)
        bound = elbo(draw)
        chosen = posterior.index_of(draw.z[0]) @ torch.tensor([6, 1])
        found = bounds(model, x, samples=(1, 10)).per_row
    evidence = log_joint.logsumexp(0)
    expected = log_joint.gather(0, chosen[None])[0]
    torch.testing.assert_close(bound, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(iwae(draw), expected, rtol=0, atol=1e-5)
    gap = -(log_joint - evidence).gather(0, chosen[None])[0]
    torch.testing.assert_close(evidence - bound, gap, rtol=0, atol=1e-5)
    assert (gap > 0).all()
    if prior == "uniform-codes":
        torch.testing.assert_close(bound, -draw.distortion - 2 * math.log(6), rtol=0, atol=1e-5)
    for name in ("elbo", "L_1", "L_10"):
        torch.testing.assert_close(found[name].float(), bound, rtol=0, atol=1e-4)


def test_other_codes_are_impossible() -> None:
    q = CertainCodes(torch.tensor([[[0.0], [1.0]], [[1.0], [1.0]]]))
    same = q.log_prob(q.z.flip(0))
    assert same.tolist() == [-math.inf, -math.inf]
    assert q.log_prob(q.rsample((3,))).tolist() == [[0.0, 0.0]] * 3


# -- gradients by hand -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.25, 1.5])
def test_gradients_of_the_codebook_and_the_encoder(beta: float) -> None:
    """∂/∂e = 2(e − z), ∂/∂z = 2β(z − e) + the decoder's, which passes straight through."""
    posterior = quantizer(codes=4, commitment=beta, codebook="gradient")
    said = torch.randn(6, 2, requires_grad=True)
    q = posterior(said)
    of_decoder = torch.randn(6, 2, 1)
    ((q.z * of_decoder).sum() + sum(term.sum() for term in q.penalties.values())).backward()
    with torch.no_grad():
        index = posterior.nearest(said)
        e = posterior.codes[index]
        by_code = torch.zeros(4, 2).index_add_(0, index, 2 * (e - said))
        by_said = 2 * beta * (said - e) + of_decoder[..., 0]
    torch.testing.assert_close(posterior.codes.grad, by_code)
    torch.testing.assert_close(said.grad, by_said)
    wrong = torch.zeros(4, 2).index_add_(0, index, 2 * beta * (e - said.detach()))  # β on the wrong term
    assert not torch.allclose(posterior.codes.grad, wrong)
    assert not torch.allclose(said.grad, 2 * (said.detach() - e) + of_decoder[..., 0])
    torch.testing.assert_close(q.z[..., 0], e, rtol=0, atol=0)


def test_running_means_have_no_codebook_term_and_codes_without_a_gradient() -> None:
    posterior = quantizer(codes=4)
    q = posterior(torch.randn(6, 2, requires_grad=True))
    assert set(q.penalties) == {"commitment"}
    assert not list(posterior.parameters())
    with torch.no_grad():
        assert posterior.eval()(torch.randn(6, 2)).penalties == {}


def test_codes_are_running_means_of_what_was_assigned() -> None:
    posterior = quantizer(codes=3, decay=0.8)
    batches = [torch.randn(20, 2, generator=torch.Generator().manual_seed(i)) for i in range(12)]
    counts, sums = torch.ones(3), posterior.codes.clone()
    for said in batches:
        index = posterior.nearest(said)
        posterior(said.requires_grad_())
        for k in range(3):  # by hand
            mine = said.detach()[index == k]
            counts[k] = 0.8 * counts[k] + 0.2 * len(mine)
            sums[k] = 0.8 * sums[k] + 0.2 * mine.sum(0)
        torch.testing.assert_close(posterior.codes, sums / counts[:, None])
        torch.testing.assert_close(posterior.counts, counts)
    before = posterior.codes.clone()
    with torch.no_grad():
        posterior(batches[0])  # nothing is learned without a gradient
    posterior.eval()(batches[0])
    assert torch.equal(posterior.codes, before)


def test_each_step_of_a_residual_codebook_learns_what_the_steps_before_it_leave() -> None:
    """∂/∂e_s = 2(e_1 + … + e_s − z), ∂/∂z = 2β Σ_s (z − e_1 − … − e_s); running means are of what is left."""
    posterior = quantizer(codes=3, steps=2, commitment=0.25, codebook="gradient")
    said = torch.randn(9, 2, requires_grad=True)
    q = posterior(said)
    sum(term.sum() for term in q.penalties.values()).backward()
    by_said, left, sums = torch.zeros(9, 2), said.detach(), torch.zeros(9, 2)
    for step, codes in enumerate(posterior.codes.detach().split(3)):
        index = torch.cdist(left, codes).argmin(1)
        left, sums = left - codes[index], sums + codes[index]
        by_code = torch.zeros(3, 2).index_add_(0, index, 2 * (sums - said.detach()))
        torch.testing.assert_close(posterior.codes.grad[3 * step : 3 * step + 3], by_code)
        by_said += 0.5 * (said.detach() - sums)
    torch.testing.assert_close(said.grad, by_said)
    torch.testing.assert_close(q.z[..., 0], sums)

    means = quantizer(codes=3, steps=2, decay=0.8)
    before = means.codes.clone().split(3)
    left = said.detach()
    means(said)
    for step, codes in enumerate(before):
        index = torch.cdist(left, codes).argmin(1)
        taken = [left[index == k] for k in range(3)]
        expected = [
            (0.8 * e + 0.2 * mine.sum(0)) / (0.8 + 0.2 * len(mine)) for e, mine in zip(codes, taken, strict=True)
        ]
        torch.testing.assert_close(means.codes[3 * step : 3 * step + 3], torch.stack(expected))
        left = left - codes[index]


def test_more_steps_leave_less() -> None:
    """k-means, step after step, on what is left over: each step lowers the error."""
    points = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    errors = []
    for steps in (1, 2, 3):
        posterior = quantizer(codes=8, steps=steps)
        posterior.start(points)
        quantized = posterior.codes_of(posterior.nearest(points)[:, None])[..., 0]
        errors.append((quantized - points).square().sum(1).mean().item())
    assert errors[1] < 0.5 * errors[0] and errors[2] < 0.5 * errors[1]


def test_rotation_turns_the_gradient_with_the_code() -> None:
    torch.manual_seed(0)
    z, e = torch.randn(5, 4, dtype=torch.float64, requires_grad=True), torch.randn(5, 4, dtype=torch.float64)
    out = rotated(z, e)
    torch.testing.assert_close(out, e)
    gradient = torch.randn(5, 4, dtype=torch.float64)
    (out * gradient).sum().backward()
    scale = e.norm(dim=1) / z.detach().norm(dim=1)
    torch.testing.assert_close(z.grad.norm(dim=1), scale * gradient.norm(dim=1))  # type: ignore[union-attr]
    # The angle between gradient and code becomes that between its image and z.
    cosine = nn.functional.cosine_similarity
    torch.testing.assert_close(cosine(z.grad, z.detach()), cosine(gradient, e))  # type: ignore[arg-type]


# -- codes and their numbers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [[2], [3, 2], [8, 5, 5, 5], [4, 7]])
def test_numbers_and_codes_of_levels_are_a_bijection(levels: list[int]) -> None:
    posterior = FSQPosterior(Said(), 4, (4,), levels=levels, places=1)
    index = torch.arange(math.prod(levels)).reshape(-1, 1)
    z = posterior.codes_of(index)
    assert torch.equal(posterior.index_of(z), index)
    assert len(z.flatten(1).unique(dim=0)) == math.prod(levels) == posterior.num_codes
    assert [len(z[:, d].unique()) for d in range(len(levels))] == levels
    assert z.abs().max() <= 1
    with torch.no_grad():
        posterior.to_codes.weight.mul_(30)
        said = posterior(torch.randn(3000, 4))  # every level is reached, and nothing else
    assert [len(said.z[:, d].unique()) for d in range(len(levels))] == levels
    assert torch.equal(posterior.codes_of(posterior.index_of(said.z)), said.z)


@pytest.mark.parametrize(("preset", "options"), [("vq-vae", {"codes": 20}), ("residual-vq", {"codes": 4, "steps": 3})])
def test_numbers_and_codes_of_vectors_are_a_bijection(preset: str, options: dict[str, Any]) -> None:
    posterior = made(preset, places=3, **options).parts["posterior"]
    index = torch.randint(posterior.num_codes, (80, 3))
    assert torch.equal(posterior.index_of(posterior.codes_of(index)), index)


def test_the_gradient_of_rounding_is_that_of_the_bounded_value() -> None:
    posterior = FSQPosterior(Said(), 2, (2,), levels=[5, 5], places=1)
    posterior.unquantized = lambda x, c=None: x.unsqueeze(-1)  # type: ignore[method-assign, assignment]
    said = torch.randn(7, 2, requires_grad=True)
    posterior(said).z.sum().backward()
    torch.testing.assert_close(said.grad, 2 * 1.001 * (1 - said.detach().tanh() ** 2) / 2)


def test_perplexity() -> None:
    assert perplexity(torch.tensor([3, 3, 3, 0])).item() == pytest.approx(3)
    assert perplexity(torch.tensor([5, 0, 0])).item() == pytest.approx(1)
    shares = torch.tensor([0.7, 0.2, 0.1])
    assert perplexity(100 * shares).item() == pytest.approx(math.exp(-(shares * shares.log()).sum()))


def test_dead_codes_come_back_where_the_encoder_is_and_others_stay() -> None:
    torch.manual_seed(0)
    posterior = quantizer(codes=4, revive=0.01)
    posterior.codes.copy_(torch.tensor([[0.0, 0.0], [1.0, 1.0], [90.0, 90.0], [-90.0, 90.0]]))
    posterior.sums.copy_(posterior.codes)
    for i in range(700):
        posterior(torch.rand(50, 2, generator=torch.Generator().manual_seed(i)).requires_grad_())
    assert posterior.codes.min() >= 0 and posterior.codes.max() <= 1
    assert perplexity(posterior.counts) > 3
    never = quantizer(codes=4)
    never.codes.copy_(torch.tensor([[0.0, 0.0], [1.0, 1.0], [90.0, 90.0], [-90.0, 90.0]]))
    never.sums.copy_(never.codes)
    for i in range(50):
        never(torch.rand(50, 2, generator=torch.Generator().manual_seed(i)).requires_grad_())
    assert never.codes.abs().max() > 80  # negative control


def test_k_means_finds_clusters_and_bears_too_few_points() -> None:
    torch.manual_seed(1)
    true = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    points = (true[:, None] + 0.1 * torch.randn(3, 100, 2)).flatten(0, 1)[torch.randperm(300)]
    errors = [torch.cdist(true, k_means(points[torch.randperm(300)], 3)).min(1).values.max() for _ in range(5)]
    assert min(errors) < 0.1
    assert len(k_means(points[:2], 5).unique(dim=0)) == 5


# -- priors ------------------------------------------------------------------------------------------------------------


def test_uniform_codes_are_drawn_alike() -> None:
    posterior = made("fsq", levels=[3, 2], places=2).parts["posterior"]
    torch.manual_seed(0)
    p = UniformCodes(posterior, (2, 2), torch.zeros(()))
    counts = posterior.index_of(p.sample((3000,))).flatten().bincount(minlength=6)
    z = (counts - 1000) / math.sqrt(6000 * 1 / 6 * 5 / 6)
    assert z.abs().max() < 4


@pytest.mark.parametrize("condition", ["none", "class"])
def test_autoregressive_samples_follow_their_probabilities(condition: str) -> None:
    model = made("fsq", condition, "autoregressive-codes", levels=[3], places=2)
    prior: AutoregressiveCodesPrior = model.parts["prior"]
    torch.manual_seed(0)
    for parameter in prior.parameters():
        parameter.data.mul_(3)
    posterior = model.parts["posterior"]
    index = torch.tensor(list(itertools.product(range(3), repeat=2)))
    c = None if condition == "none" else torch.eye(3)[1:2]
    with torch.no_grad():
        log_p = prior(c).log_prob(posterior.codes_of(index).unsqueeze(1)).flatten()
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-5)
    drawn = posterior.index_of(prior(c).sample((4000,)).reshape(4000, 1, 2)) @ torch.tensor([3, 1])
    counts = drawn.bincount(minlength=9).double()
    error = (4000 * log_p.exp() * (1 - log_p.exp())).sqrt()
    assert ((counts - 4000 * log_p.exp()).abs() < 5 * error + 1).all()
    if condition == "class":
        both = prior(torch.eye(3)[:2])
        z = posterior.codes_of(index[:2])
        torch.testing.assert_close(both.log_prob(z)[1], prior(c).log_prob(z[1:])[0])
        assert both.log_prob(z.flip(0))[1] != both.log_prob(z)[1]


def test_no_place_sees_itself_or_what_comes_later() -> None:
    prior = made("fsq", "none", "autoregressive-codes", levels=[3], places=5).parts["prior"]
    index = torch.randint(3, (1, 5))
    other = index.clone()
    other[:, 2] = (other[:, 2] + 1) % 3
    same = (prior.logits(index, None) == prior.logits(other, None)).all(-1)[0]
    assert same.tolist() == [True, True, True, False, False]


@pytest.mark.parametrize("condition", ["none", "class"])
def test_a_network_fitted_to_codes_is_as_good_as_the_codes_allow(
    condition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three kinds of images, and so three grids of codes: log 3 nats, or none where the class tells them."""
    monkeypatch.setattr(ex_post, "LEARNING_RATE", 0.02)
    model = made("fsq", condition, levels=[3, 3], places=4).eval()
    x, labels = binary(3).repeat(40, 1, 1, 1), torch.arange(120) % 3
    prior = fit_prior(model, Split(x, labels))
    fitted = WithPrior(model, prior)
    c = labels[:3] if condition == "class" else None
    with torch.no_grad():
        rate = fitted.draw(x[:3], c=c).rate().mean().item()
        uniform = model.draw(x[:3], c=c).rate().mean().item()
        codes = len(model.parts["posterior"].index_of(model.draw(x[:3], c=c).z[0]).unique(dim=0))
    assert uniform == pytest.approx(4 * math.log(9))
    least = 0.0 if condition == "class" else math.log(codes)
    assert least - 1e-4 <= rate < least + 0.3
    assert fitted.sample(2, None if c is None else c[:2]).shape == (2, 1, 4, 4)
    with pytest.raises(ConfigError, match="is not for this model, whose latents are no codes"):
        fit_prior(build("standard-vae", event_shape=(1, 4, 4)), Split(x, labels), "codes")


# -- whole models ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "options"),
    [
        ("fsq", {"levels": [3, 3]}),
        ("vq-vae", {"codes": 5}),
        ("vq-vae", {"codes": 5, "codebook": "gradient", "gradient": "rotation"}),
        ("residual-vq", {"codes": 3}),
    ],
)
@pytest.mark.parametrize("condition", ["none", "class"])
def test_resume_is_exact(
    preset: str, options: dict[str, Any], condition: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaekit.training.loop.CHECK_EVERY", 0.0)

    def session(run: Any, stop_at: int | None = None, resume: bool = False) -> Tensor:
        model = made(preset, condition, "autoregressive-codes", places=3, **options)
        batches = Batches(
            binary(40), torch.arange(40) % 3, batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(3)
        )
        fit(
            model,
            batches,
            objective=OfDraw(beta_elbo, {"beta": 1.0}),
            epochs=3,
            run=run,
            resume=run.load_checkpoint() if resume else None,
            listener=StopAt(stop_at) if stop_at is not None else None,  # type: ignore[arg-type]
        )
        return torch.cat((weights(model), *(buffer.flatten() for buffer in model.buffers())))

    expected = session(new_run(tmp_path, "whole"))
    run = new_run(tmp_path)
    with pytest.raises(Interrupted):
        session(run, stop_at=7)
    torch.rand(3)
    assert torch.equal(session(run, resume=True), expected)


@pytest.mark.parametrize("preset", ["fsq", "vq-vae"])
def test_a_preset_trains_on_a_grid_and_is_evaluated(
    preset: str, tmp_path: Path, command: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vaekit.runs.job.draw_pictures", lambda *_, **__: [])
    generator = np.random.default_rng(0)
    np.savez("x.npz", images=generator.integers(0, 256, (150, 8, 8), "u1"), labels=np.arange(150) % 3)
    settings = ["encoder.channels=[4]", "decoder.channels=[4]", "encoder.dense=4", "prior.name=uniform-codes"]
    options = [word for setting in settings for word in ("--set", setting)]
    trained = command("train", preset, "--data", "x.npz", "--epochs", 2, "--device", "cpu", "--name", "a", *options)
    assert trained.status == 0, trained.err
    record = json.loads((tmp_path / "runs/a/metrics.jsonl").read_text().splitlines()[-1])
    assert {"perplexity", "validation_perplexity", "validation_neg_elbo"} <= set(record)
    assert ("commitment" in record) == (preset == "vq-vae")
    evaluated = command("evaluate", "--samples", 10, "--json")
    assert evaluated.status == 0, evaluated.err
    values = {value["name"]: value["value"] for value in json.loads(evaluated.out)["values"]}
    assert values["rate"] == pytest.approx(16 * math.log({"fsq": 27, "vq-vae": 32}[preset]), rel=1e-5)
    assert values["nll"] == pytest.approx(values["rate"] + values["distortion"], rel=1e-4)
    assert 1 <= values["perplexity of codes"] <= values["codes in use"]
    assert command("sample", "-n", 4, "-o", "s.png").status == 0
    assert command("reconstruct", "-n", 3, "-o", "r.png").status == 0
    assert not (tmp_path / "runs/a/prior-codes.safetensors").exists()
    assert command("sample", "-n", 4, "--from", "aggregate", "-o", "fitted.png").status == 0
    assert command("sample", "-n", 4, "-o", "again.png").status == 0  # with the network that was fitted
    pictures = [Path(name).read_bytes() for name in ("s.png", "fitted.png", "again.png")]
    assert pictures[0] != pictures[1] == pictures[2]
    assert command("sample", "-n", 4, "--from", "prior", "-o", "prior.png").status == 0
    assert Path("prior.png").read_bytes() == pictures[0]
    refused = command("sample", "-n", 4, "--from", "aggregate-flow", "-o", "f.png")
    assert_refused(refused, "'flow' is not for this model, whose latents are codes")
    assert_refused(command("interpolate", "-o", "i.png"), "nothing lies between two of them")
    assert_refused(command("evaluate", "--samples", 10, "--ais"), "needs continuous latents")


@pytest.mark.parametrize(
    ("preset", "settings", "message"),
    [
        ("vq-vae", ["objective.name=elbo"], "carries the penalty 'commitment'"),
        ("vq-vae", ["objective.name=factor"], "carries the penalty 'commitment'"),
        ("vq-vae", ["prior.name=standard-normal"], "are codes, and the prior StandardNormal is over real numbers"),
        ("fsq", ["posterior.name=diagonal-normal"], "the prior AutoregressiveCodesPrior is over codes"),
        ("fsq", ["posterior.levels=[1, 5]"], "levels must be at least 2"),
        ("fsq", ["posterior.levels=[]"], "at least one number of levels"),
        ("fsq", ["objective.name=rloo", "objective.samples=2"], "scores are for discrete samples"),
        ("vq-vae", ["posterior.codes=1"], "codes must be at least 2"),
        ("vq-vae", ["posterior.commitment=-1"], "commitment must be at least 0"),
        ("vq-vae", ["posterior.decay=1.0"], "decay must be less than 1.0, got 1.0"),
        ("residual-vq", ["posterior.steps=4", "posterior.codes=17"], "codes must be at most 16"),
    ],
)
def test_what_makes_no_sense_is_refused(preset: str, settings: list[str], message: str, tmp_path: Path) -> None:
    settings = ["encoder.channels=[4]", "decoder.channels=[4]", *settings]
    with pytest.raises(ConfigError, match=message):
        lifecycle.train_run(read(preset, settings=settings), root=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_several_ranks_are_refused_where_codes_follow_whole_batches() -> None:
    with pytest.raises(ConfigError, match="VQPosterior learns from whole batches"):
        check_ranks(Ranks(0, 2), made("vq-vae", codes=5), OfDraw(beta_elbo))
    check_ranks(Ranks(0, 2), made("fsq"), OfDraw(elbo))


def test_a_codebook_starts_where_the_encoder_is() -> None:
    torch.manual_seed(0)
    x = binary(200)
    config = read("vq-vae", sections=MLPS | {"posterior": {"codes": 8, "places": 3}})
    spread = []
    for given in (x, None):
        posterior = build(config, event_shape=(1, 4, 4), x=given).parts["posterior"].eval()
        with torch.no_grad():
            z_e, q = posterior.unquantized(x), posterior(x)
        spread.append(((z_e - q.z).square().sum() / (z_e - z_e.mean(0)).square().sum()).item())
    assert spread[0] < 0.5 < spread[1]
    model = made("vq-vae", codes=8, places=3)
    logged = OfDraw(beta_elbo)(model, Batch(x), 0.0).logged
    assert 1 <= logged["perplexity"][0] <= 8


def test_misspelt_words_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown codebook 'emma'; did you mean 'ema'"):
        quantizer(codebook="emma")
    with pytest.raises(ConfigError, match=r"unknown gradient 'rotate'; did you mean 'rotation'"):
        quantizer(gradient="rotate")
