"""`vaekit.check`: what it accepts, and what it says about parts that are not whole."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Laplace, Normal

import vaekit
from vaekit import build, likelihoods, nets, posteriors, priors
from vaekit.config.parts import PART_TABLE, find_part
from vaekit.errors import ConfigError


class Plain(nn.Module):
    """A posterior that knows nothing of this package."""

    def __init__(self, net: nn.Module, features: int, latent_size: int) -> None:
        super().__init__()
        self.net = net
        self.mu = nn.Linear(features, latent_size)

    def forward(self, x: Tensor, c: Tensor | None = None) -> object:
        return Independent(Normal(self.mu(self.net(x, c)), 1.0), 1)


class NoEvent(Plain):
    def forward(self, x: Tensor, c: Tensor | None = None) -> object:
        return Normal(self.mu(self.net(x, c)), 1.0)


class Cut(Plain):
    def forward(self, x: Tensor, c: Tensor | None = None) -> object:
        return Independent(Normal(self.mu(self.net(x, c)).detach(), 1.0), 1)


class NoDistribution(Plain):
    def forward(self, x: Tensor, c: Tensor | None = None) -> object:
        return self.mu(self.net(x, c))


class Wide(nn.Module):
    """A prior that forgets how wide the latents are."""

    def __init__(self, latent_size: int) -> None:
        super().__init__()

    def forward(self, c: Tensor | None = None) -> object:
        return Independent(Laplace(torch.zeros(7), 1.0), 1)


@pytest.mark.parametrize(
    "part",
    [
        Plain,
        *(posteriors.DiagonalNormal, posteriors.HierarchicalPosterior, posteriors.IAFPosterior),
        *(priors.StandardNormal, priors.NormalMixture, priors.MAFPrior),
        *(likelihoods.Bernoulli, likelihoods.Poisson, likelihoods.NegativeBinomial, likelihoods.BetaBinomial),
        *(nets.ConvEncoder, nets.ResNetEncoder, nets.ConvDecoder, nets.ResNetDecoder),
        *("standard-vae", "iwae-2l", "vamp"),
        priors.StandardNormal(4),
        vaekit.VAE(64, 3),
    ],
    ids=lambda part: part if isinstance(part, str) else getattr(part, "__name__", type(part).__name__),
)
def test_whole_parts_and_models_pass_and_no_random_number_is_drawn(part: object) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    vaekit.check(part)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (NoEvent, r"batch shape of the posterior is \(3, 4\); it must be \(3,\)"),
        (Cut, "no gradient flows from the posterior's samples"),
        (NoDistribution, r"posterior\(x, c\) returned Tensor; it must be a torch.distributions.Distribution"),
        (Wide, r"event shape of the prior is \(7,\); it must be \(4,\)"),
        (priors.StandardNormal(5), r"event shape of the prior is \(5,\); it must be \(4,\)"),
        (nn.Linear(2, 2), "Say kind="),
    ],
    ids=lambda part: getattr(part, "__name__", None),
)
def test_what_is_wrong_is_said(part: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        vaekit.check(part)


SMALL: dict[str, dict[str, Any]] = {
    "fsq": {"levels": [3, 3], "places": 2},
    "vq": {"codes": 8, "places": 2, "codebook": "gradient", "revive": 0.0},
    "categorical": {},
    "autoregressive-codes": {"width": 8},
}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in ("posterior", "prior") for name in PART_TABLE[kind]]
)
def test_every_posterior_and_prior_passes_beside_one_of_latents_of_its_kind(kind: str, name: str) -> None:
    several = (
        {"prior": {name: {"posterior": name}}}.get(kind, {}) if name in ("hierarchical", "ladder", "top-down") else {}
    )
    vaekit.check(find_part(kind, name), kind=kind, beside=several.get(name), **SMALL.get(name, {}))


def test_a_part_is_tried_beside_the_parts_that_are_named() -> None:
    with pytest.raises(ConfigError, match="are bits, and the prior StandardNormal is over real numbers"):
        vaekit.check(priors.StandardNormal, beside={"posterior": "bernoulli"})


def test_options_are_those_of_the_constructor() -> None:
    vaekit.check(priors.NormalMixture, components=3)
    with pytest.raises(ConfigError, match="did you mean 'components'"):
        vaekit.check(priors.NormalMixture, component=3)


@pytest.mark.parametrize("context_size", [0, 3])
def test_maps_end_with_the_features(context_size: int) -> None:
    for make in (nets.ConvEncoder, nets.ResNetEncoder, nets.MLP):
        net = make((1, 28, 28), context_size=context_size)
        x, c = torch.rand(2, 4, 1, 28, 28), torch.rand(4, context_size) if context_size else None
        maps = net.maps(x, c)
        assert [tuple(h.shape) for h in maps] == [(2, 4, *shape) for shape in net.map_shapes]
        assert torch.equal(maps[-1], net(x, c))
    assert nets.ConvEncoder((1, 28, 28)).map_shapes == ((16, 14, 14), (32, 7, 7), (256,))
    assert nets.ConvDecoder.wanted_shape(5, (1, 28, 28)) == (5, 7, 7)


def test_a_module_is_tried_as_a_copy_whatever_its_type() -> None:
    model = build("vq-vae", event_shape=(1, 8, 8), x=torch.rand(64, 1, 8, 8)).double().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    vaekit.check(model)
    assert model.training and all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class OnSimplex(priors.StandardNormal):
    latent_kind = "simplex"


class Detached(priors.LearnedNormal):
    def forward(self, c: Tensor | None = None) -> object:
        return Independent(Normal(super().forward(c).mean.detach(), 1.0), 1)


class Remembered(priors.StandardNormal):
    """A prior that begins at the mean of the posterior's means: soundly, without its posterior, or at 0 / 0."""

    def __init__(self, latent_size: int, *, how: str = "sound") -> None:
        super().__init__(latent_size)
        self.how = how
        self.register_buffer("centre", torch.zeros(latent_size))

    @torch.no_grad()
    def start(self, posterior: nn.Module, x: Tensor, c: Tensor | None = None) -> None:
        assert len(x) > 3 and (c is None or len(c) == len(x))
        q = posterior(x if self.how != "flat" else x.flatten(), c)
        self.centre.copy_(q.mean.mean(0) if self.how == "sound" else self.centre / self.centre)

    def forward(self, c: Tensor | None = None) -> object:
        return Independent(Normal(self.centre.nan_to_num(), 1.0), 1)


class FromRows(Plain):
    def start(self, x: Tensor) -> None:
        """Forgets the context."""


class Loud(nets.ConvDecoder):
    def start_output(self, value: Tensor | None = None, scale: float = 1.0) -> None:
        if value is not None:
            raise RuntimeError("no bias here")


def test_a_part_is_started_from_rows_as_a_training_would() -> None:
    for context_size in (0, 3):
        vaekit.check(Remembered, context_size=context_size)
    vaekit.check(Remembered, x=torch.rand(9, 1, 8, 8))
    with pytest.raises(ConfigError, match=r"- prior.start\(posterior, x, c\) raised DataError"):
        vaekit.check(Remembered, how="flat")
    with pytest.raises(ConfigError, match="a weight or a buffer of the prior is not finite at the start"):
        vaekit.check(Remembered, how="0 / 0")
    with pytest.raises(ConfigError, match=r"- posterior.start\(x, c\) raised TypeError"):
        vaekit.check(FromRows)
    with pytest.raises(ConfigError, match=r"- decoder.start_output\(value, scale\) raised RuntimeError: no bias here"):
        vaekit.check(Loud)


def test_latents_of_an_own_kind_have_a_message_and_a_prior_without_gradient_is_found() -> None:
    with pytest.raises(ConfigError, match="are real numbers, and the prior OnSimplex is over 'simplex'"):
        vaekit.check(OnSimplex, beside={"posterior": "diagonal-normal"})
    with pytest.raises(ConfigError, match="no posterior here has latents of the kind 'simplex'; pass beside="):
        vaekit.check(OnSimplex)
    with pytest.raises(ConfigError, match="no gradient flows from the prior's log_prob"):
        vaekit.check(Detached)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_any_number_of_rows_will_do_for_a_trial(rows: int) -> None:
    vaekit.check(likelihoods.Bernoulli, event_shape=(1, 4, 4), x=torch.rand(rows, 1, 4, 4))
