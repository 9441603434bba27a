"""A loss with an opponent, of somebody else: trained, killed, resumed, written down and drawn under its own name."""

from pathlib import Path
from typing import Any

import proof
import pytest
import torch

import vaekit
from vaekit import plot
from vaekit.errors import ConfigError
from vaekit.training import Ranks
from vaekit.training.ranks import check_ranks


def test_factor_vae(tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ("objective.name=factor_vae:FactorVAE", "objective.gamma=3.0")
    run = proof.prove("factor_vae", *settings, folder=tmp_path, command=command, monkeypatch=monkeypatch)
    checkpoint = run.load_checkpoint()
    parts = {name.partition("/")[0] for name in checkpoint.tensors}
    assert {"optimizer", "optimizer-discriminator", "loss", "model", "ema"} <= parts
    assert "optimizer-discriminator/0.exp_avg" in checkpoint.tensors
    names = ("loss", "neg_elbo", "rate", "distortion", "total_correlation", "discriminator")
    assert checkpoint.state["logged"] == list(names)
    for record in run.metrics():
        assert set(names) < set(record)
        assert record["loss"] == pytest.approx(record["neg_elbo"] + 3 * record["total_correlation"], rel=1e-4)
        assert record["validation_loss"] != record["validation_neg_elbo"]
        assert "validation_discriminator" not in record
    first, last = run.metrics()[0], run.metrics()[-1]
    assert first["discriminator"] != last["discriminator"]
    figure = plot.curves(run.metrics())
    titles = [axes.get_title() for axes in figure.axes]
    assert {"−ELBO", "Loss", "Total correlation", "Discriminator"} <= set(titles)
    assert (run.path / "samples" / "curves.png").exists()
    again = command("train", "--trust", "--config", "config.toml", "--name", "shown", "--epochs", 1)
    assert "  discriminator 0." in again.err
    model = vaekit.load(run, trust=True)
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    evaluated = command("evaluate", "killed", "--trust", "--samples", 10, "--json")
    assert evaluated.status == 0, evaluated.err


def test_the_discriminator_learns_and_the_model_does_not_feel_its_steps() -> None:
    from factor_vae import FactorVAE

    from vaekit import VAE, fit

    torch.manual_seed(0)
    model, loss = VAE(16, 2), FactorVAE(2, gamma=0.0)
    plain = VAE(16, 2)
    plain.load_state_dict(model.state_dict())
    before = [p.clone() for p in loss.parameters()]
    images = [torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(i)) for i in range(6)]
    (record,) = fit(model, images, objective=loss, epochs=1)
    assert 0.6 < record["discriminator"] < 0.8  # log 2 for one that knows nothing
    assert any(not torch.equal(p, q) for p, q in zip(loss.parameters(), before, strict=True))


def test_opponents_take_one_rank() -> None:
    from factor_vae import FactorVAE

    from vaekit import VAE

    model, loss = VAE(64), FactorVAE(2)
    with pytest.raises(ConfigError, match="FactorVAE brings opponents"):
        check_ranks(Ranks(0, 2), model, loss, loss.opponents(model))
