"""Ways between two latents: where they lead, against Clairaut's relation and a mixture with a valley."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from vaekit import build, plot
from vaekit.distributions import UnitSphere
from vaekit.errors import ConfigError
from vaekit.plot.ways import between, circle, even

LINE: dict[str, Any] = {"log_prob": lambda z: z.new_zeros(z.shape[:2])}


def ends(*points: tuple[list[float], list[float]]) -> Tensor:
    return torch.tensor(points, dtype=torch.float64).transpose(0, 1)


def test_steps_along_a_line_and_a_circle_are_even() -> None:
    z = ends(([3.0, 0.0], [0.0, 3.0]), ([2.0, 0.0], [-2.0, 0.0]), ([1.0, 1.0], [0.0, 0.0]))
    line = between(z, 7, "line", **LINE)
    torch.testing.assert_close(line.diff(dim=1, n=2), torch.zeros(3, 5, 2, dtype=torch.float64))
    way = between(z, 7, "circle", **LINE)
    for path in (line, way):
        torch.testing.assert_close(path[:, [0, -1]], z.transpose(0, 1))
    angle = torch.linspace(0, torch.pi / 2, 7, dtype=torch.float64)
    torch.testing.assert_close(way[0], 3 * torch.stack((angle.cos(), angle.sin()), 1))
    torch.testing.assert_close(way[1:], line[1:])  # opposite to each other, or at 0: no circle is the one
    longer = circle(ends(([1.0, 0.0], [0.0, 3.0])), 3)
    assert torch.linalg.vector_norm(longer[0], dim=-1).tolist() == pytest.approx([1, 2, 3])


def test_points_are_spread_evenly_over_a_path_of_any_spacing() -> None:
    corner = torch.tensor([[[0.0, 0.0], [0.1, 0.0], [2.0, 0.0], [2.0, 1.9], [2.0, 2.0]]])
    wanted = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [2.0, 1.0], [2.0, 2.0]]])
    torch.testing.assert_close(even(corner, 5), wanted)
    stays = torch.ones(1, 4, 3)
    assert torch.equal(even(stays, 6), torch.ones(1, 6, 3))


def test_a_dense_path_is_a_geodesic() -> None:
    """Of n(|z|)² |dz|², n = p^(−1/Z), of N(0, I): n·r·sin ψ, ψ the angle to the radius, stays (Clairaut; Bouguer)."""
    z = ends(([1.5, 0.0], [0.0, 1.5]))
    path = between(z, 40, "density", log_prob=lambda z: -0.5 * z.square().sum(-1))[0]
    middle, step = (path[1:] + path[:-1]) / 2, path.diff(dim=0)
    across = middle[:, 0] * step[:, 1] - middle[:, 1] * step[:, 0]
    kept = (middle.square().sum(1) / 4).exp() * across / torch.linalg.vector_norm(step, dim=1)
    assert kept.std() / kept.mean() < 0.01
    line = between(z, 40, "line", **LINE)[0]  # the negative control
    middle, step = (line[1:] + line[:-1]) / 2, line.diff(dim=0)
    across = middle[:, 0] * step[:, 1] - middle[:, 1] * step[:, 0]
    assert (kept := (middle.square().sum(1) / 4).exp() * across).std() / kept.mean() > 0.05
    assert (
        torch.linalg.vector_norm(path, dim=1).min() < torch.linalg.vector_norm(line, dim=1).min()
    )  # nearer to the mode


def test_every_path_between_equal_ends_stays_there() -> None:
    z = ends(([1.0, 2.0], [1.0, 2.0]), ([0.0, 0.0], [1.0, 0.0]))
    standard = Independent(Normal(torch.zeros(2, dtype=torch.float64), 1.0), 1)
    for way in ("line", "circle", "density"):
        paths = between(z, 3, way, log_prob=standard.log_prob)
        torch.testing.assert_close(paths[0], z[0, :1].expand(3, 2))
        torch.testing.assert_close(paths[1, [0, -1]], z[:, 1])


def test_a_dense_path_goes_round_a_valley() -> None:
    means = torch.tensor([[0.0, 0.0], [1.5, 0.0], [3.0, 0.0], [3.0, 1.5], [3.0, 3.0]], dtype=torch.float64)
    components = Independent(Normal(means, 0.4), 1)
    prior = MixtureSameFamily(Categorical(torch.full((5,), 0.2, dtype=torch.float64)), components)
    z = ends(([0.0, 0.0], [3.0, 3.0]), ([3.0, 3.0], [0.0, 0.0]))
    least = {way: prior.log_prob(between(z, 20, way, log_prob=prior.log_prob)).amin(1) for way in ("line", "density")}
    assert (least["line"] < -7).all() and (least["density"] > -3).all()


@pytest.mark.parametrize("preset", ["standard-vae", "cvae", "flow-prior", "iwae-2l"])
def test_models_walk_on_every_path(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaekit.plot.ways.ITERATIONS", 3)
    torch.manual_seed(0)
    hidden = {"encoder": {"hidden": [32]}, "decoder": {"hidden": [32]}}
    model = build(preset, event_shape=(1, 6, 6), num_classes=3, init="he", **({} if preset == "iwae-2l" else hidden))
    pair = torch.rand(2, 1, 6, 6)
    c = torch.tensor([0, 2]) if model.context_size else None
    shown = {
        way: plot.interpolation(model, steps=4, path=way, between=(pair[0], pair[1]), c=c).images
        for way in ("line", "circle", "density")
    }
    for images in shown.values():
        assert images.shape == (4, 1, 6, 6)
        torch.testing.assert_close(images[[0, -1]], shown["line"][[0, -1]])
    assert not torch.equal(shown["circle"][1], shown["line"][1]) and shown["density"].isfinite().all()
    assert not any(parameter.grad is not None for parameter in model.parameters())
    assert plot.interpolation(model, rows=2, steps=3, path="density", c=c).images.shape == (6, 1, 6, 6)


def test_what_makes_no_way_is_refused() -> None:
    z = ends(([1.0, 0.0], [0.0, 1.0]))
    with pytest.raises(ConfigError, match="unknown path 'dens'; did you mean 'density'"):
        between(z, 3, "dens", **LINE)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="on the unit sphere, where path='line' is the shortest way already"):
        between(z, 3, "density", space=UnitSphere(), **LINE)
