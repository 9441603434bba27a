"""`image_shape` and `images` are the former names of `event_shape` and `x`: callers and parts may still say them."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

import vaekit
from vaekit import VAE, Composed, LatentVariableModel, build
from vaekit.config import read
from vaekit.config.inspection import _resolved
from vaekit.config.recipe import Recipe
from vaekit.data import Split
from vaekit.errors import DataError
from vaekit.likelihoods import Bernoulli
from vaekit.priors import StandardNormal

X = torch.rand(40, 1, 4, 4)


def test_a_split_takes_and_gives_its_values_by_either_name() -> None:
    split = Split(images=X, labels=torch.arange(40))
    assert split.x is X and split.images is X and Split(X).images is X
    assert replace(split, x=X + 1).images.min() >= 1 and replace(split, labels=None).x is X
    assert repr(split).startswith("Split(40 rows") and split.rows(slice(2)).images.shape == (2, 1, 4, 4)
    for values in ({}, {"x": X, "images": X}):
        with pytest.raises(DataError, match="takes its values once"):
            Split(**values)


def test_build_and_check_take_either_name() -> None:
    torch.manual_seed(0)
    former = build("vae", image_shape=(1, 4, 4), images=X)
    torch.manual_seed(0)
    model = build("vae", event_shape=(1, 4, 4), x=X)
    assert former.image_shape == former.event_shape == model.event_shape == (1, 4, 4)
    for name, value in former.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    vaekit.check(Bernoulli, image_shape=(1, 4, 4))
    assert VAE(16, 2).image_shape == (1, 4, 4)


class Former(LatentVariableModel):
    """A model written before the names changed."""

    latent_size, image_shape = 2, (1, 4, 4)

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(2, 16)

    def posterior(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        return Independent(Normal(self.net.weight.new_zeros(len(x), 2), 1.0), 1)

    def prior(self, c: Tensor | None = None) -> Distribution:
        return Independent(Normal(torch.zeros(2), 1.0), 1)

    def likelihood(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        return Independent(Normal(self.net(z).unflatten(-1, self.image_shape), 1.0), 3)


def test_a_model_may_say_its_shape_by_the_former_name() -> None:
    model = Former()
    assert model.event_shape == model.image_shape == Former.event_shape == (1, 4, 4)
    with pytest.raises(DataError, match="x must have shape"):
        model.encode(torch.rand(2, 16))
    model.image_shape = (16,)  # type: ignore[assignment]
    assert model.event_shape == (16,)
    parts = (nn.Identity(), StandardNormal(2), Bernoulli(nn.Identity()))
    assert Composed(*parts, latent_size=2, image_shape=(4,)).event_shape == (4,)


class FormerPrior(StandardNormal):
    """A prior that asks for facts by their former names."""

    def __init__(self, latent_size: int, image_shape: tuple[int, ...], images: Tensor | None) -> None:
        super().__init__(latent_size)
        self.facts = image_shape, images


class FormerModel(Former):
    """A whole model of a config that asks by the former name."""

    def __init__(self, image_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.image_shape = image_shape


def test_parts_get_facts_by_either_name() -> None:
    recipe = Recipe.resolve(read("vae"))
    parts = {**recipe.parts, "prior": _resolved(FormerPrior)}
    model = replace(recipe, parts=parts).model(event_shape=(1, 4, 4), num_classes=0, x=X)
    shape, x = model.parts["prior"].facts
    assert shape == (1, 4, 4) and x is X
    whole = replace(recipe, parts={**recipe.parts, "model": _resolved(FormerModel)})
    assert whole.model(event_shape=(7,), num_classes=0).event_shape == (7,)
