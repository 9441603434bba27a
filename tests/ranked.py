"""Trainings that several ranks and one rank both do, for `test_ranks`: a script for torchrun, and a module."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

import tiny
import vaekit
from vaekit import cli, fit
from vaekit.data import Batches
from vaekit.errors import VAEError
from vaekit.objectives import OfDraw, beta_elbo, elbo, iwae
from vaekit.training import Ranks, joined
from vaekit.training.trainer import Trainer

BATCH = 9  # 64 images: the last batch has one row, fewer than there are ranks
SMALL = {"model": {"latent_size": 3}, "encoder": {"hidden": [6]}, "decoder": {"hidden": [6]}}


class Noisy(vaekit.LatentVariableModel):
    """A model of somebody else, that drops out units of h, (B, H), and of the decoder, (K, B, H)."""

    latent_size = 2

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Dropout(0.3), nn.Tanh(), nn.Linear(8, 4))
        self.decoder = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 64))

    def posterior(self, x: Tensor, c: Tensor | None = None) -> Independent:
        mu, log_sigma = self.encoder(x).chunk(2, -1)
        return Independent(Normal(mu, log_sigma.exp()), 1)

    def prior(self, c: Tensor | None = None) -> Independent:
        zeros = self.encoder[1].weight.new_zeros(2)
        return Independent(Normal(zeros, torch.ones_like(zeros)), 1)

    def likelihood(self, z: Tensor, c: Tensor | None = None) -> Any:
        return vaekit.likelihoods.bernoulli(self.decoder(z).unflatten(-1, (1, 8, 8)))


class OddNoise(Noisy):
    """Draws noise whose shape tells nobody where the rows are."""

    def posterior(self, x: Tensor, c: Tensor | None = None) -> Independent:
        torch.randn(3, len(x) + 1, 2)
        return super().posterior(x)


def preset(name: str, **sections: dict[str, Any]) -> Callable[[], vaekit.LatentVariableModel]:
    return partial(
        vaekit.build, vaekit.config.read(name, sections={**SMALL, **sections}), event_shape=(1, 8, 8), num_classes=3
    )


def train(
    make: Callable[[], vaekit.LatentVariableModel],
    ranks: Ranks,
    *,
    bad: int | None = None,
    binarize: str = "none",
    **options: Any,
) -> dict[str, Any]:
    """Weights and records, in float64, after three epochs on the tiny data."""
    data = tiny.dataset()
    torch.manual_seed(1 + ranks.rank)  # each rank starts elsewhere: they have to find together
    model = make().double()
    images = data.train.x.double() / 255
    if bad is not None:
        images[bad] = torch.nan
    generator = torch.Generator().manual_seed(2 + ranks.rank)
    loader = Batches(images, data.train.labels, batch_size=BATCH, shuffle=True, generator=generator, binarize=binarize)
    validation = Batches(data.validation.x.double() / 255, data.validation.labels, batch_size=5)
    options.setdefault("objective", elbo)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02, fused=True)
    records = fit(model, loader, validation, epochs=3, optimizer=optimizer, **options)
    times = ("seconds", "rows_per_second")
    return {
        "weights": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "records": [{key: value for key, value in record.items() if key not in times} for record in records],
    }


def without_slicing(ranks: Ranks) -> dict[str, Any]:
    """The mistake: each rank draws noise for its own rows only, and nobody checks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vaekit.training.ranks.NoiseOfRows", lambda *_: contextlib.nullcontext())
        patch.setattr(Ranks, "check_in_step", lambda *_: None)
        return train(preset("standard-vae"), ranks)


CASES: dict[str, Callable[[Ranks], dict[str, Any]]] = {
    "elbo": partial(train, preset("standard-vae")),
    "assignment": partial(train, lambda: vaekit.VAE(64)),
    "iwae": partial(train, preset("standard-vae"), objective=OfDraw(iwae, samples=3), clip_norm=0.5, ema=0.9),
    "conditional": partial(train, preset("standard-cvae")),
    "two levels, dreg": partial(
        train,
        preset("standard-vae", posterior={"name": "hierarchical"}, prior={"name": "hierarchical"}),
        objective=OfDraw(iwae, {"gradient": "stl"}, samples=4),
    ),
    "flow": partial(train, preset("iaf-vae"), objective=OfDraw(elbo, samples=2)),
    "dropout": partial(train, Noisy, objective=OfDraw(beta_elbo, {"beta": lambda epoch: epoch / 3}, samples=2)),
    "binarized": partial(train, preset("standard-vae"), binarize="per-epoch"),
    "skipped": partial(train, preset("standard-vae"), bad=5, on_nan="skip"),
    "patience": partial(train, preset("standard-vae"), patience=1),
    "without slicing": without_slicing,
}


def drift(ranks: Ranks) -> str:
    try:
        train(OddNoise, ranks)
    except VAEError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def prove(folder: Path) -> None:
    """Do every case, and write what came out, on each rank."""
    with joined() as ranks:
        found: dict[str, Any] = {name: case(ranks) for name, case in CASES.items()}
        found["drift"] = drift(ranks)
        torch.save(found, folder / f"{ranks.world_size}-{ranks.rank}.pt")


def command_line() -> None:
    """The command line, on the tiny data; with KILL_AT=n the last rank dies before its step n."""
    tiny.install()
    die_at, real = int(os.environ.get("KILL_AT", "-1")), Trainer.step

    def step(self: Trainer, batch: Any, epoch: float) -> None:
        if self.progress.step == die_at and self.ranks.rank == self.ranks.world_size - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        real(self, batch, epoch)

    Trainer.step = step  # type: ignore[method-assign]
    cli.main()


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "--prove":
        prove(Path(sys.argv[2]))
    else:
        command_line()
