"""Latents that are a grid of codes, with penalties, of somebody else: trained, killed, resumed, sampled, evaluated."""

import json
import math
from pathlib import Path
from typing import Any

import proof
import pytest
import torch
import vq_vae

import vaekit
from vaekit.errors import ConfigError

SETTINGS = (
    "posterior.name=vq_vae:Quantized",
    "prior.name=vq_vae:UniformCodes",
    "encoder.name=conv",
    "encoder.channels=[4, 4]",
    "encoder.dense=4",
    "decoder.name=conv",
    "decoder.channels=[4, 4]",
    "objective.name=beta",
    "objective.beta=1.0",
)


def test_vq_vae(tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sections = {"model": {"latent_size": 3}, "encoder": {}, "decoder": {}}
    run = proof.prove("vq_vae", *SETTINGS, sections=sections, folder=tmp_path, command=command, monkeypatch=monkeypatch)
    model = vaekit.load(run, trust=True)
    assert model.latent_shape == (3, 7, 7)
    assert model.latent_size == 147
    for record in run.metrics():
        assert record["rate"] == pytest.approx(49 * math.log(16))
        terms = record["neg_elbo"] + record["codebook"] + record["commitment"]
        assert record["loss"] == pytest.approx(terms, rel=1e-5)
    losses = [record["loss"] for record in run.metrics()]
    assert losses[-1] < losses[0]
    x = vq_vae.dataset().test.x[:2] / 255
    assert model.encode(x).shape == (2, 3, 7, 7)
    assert model.reconstruct(x).shape == (2, 1, 28, 28)
    monkeypatch.setattr(vaekit.data, "load", vq_vae.dataset)
    evaluated = command("evaluate", "killed", "--trust", "--samples", 10, "--json")
    assert evaluated.status == 0, evaluated.err
    names = {value["name"] for value in json.loads(evaluated.out)["values"]}
    assert {"distortion", "codebook", "commitment"} <= names
    assert not {"nll", "elbo"} & names


def small() -> vaekit.LatentVariableModel:
    torch.manual_seed(0)
    return vaekit.build(
        "standard-vae",
        trust=True,
        model={"latent_size": 3},
        encoder={"name": "conv", "channels": [4, 4]},
        decoder={"name": "conv", "channels": [4, 4]},
        posterior={"name": "vq_vae:Quantized"},
        prior={"name": "vq_vae:UniformCodes"},
    )


def test_penalties_are_subtracted_once_and_never_weighted() -> None:
    model = small()
    draw = model.draw(torch.rand(5, 1, 28, 28))
    penalty = sum(draw.penalties.values())
    for beta in (0.0, 4.0):
        objective = vaekit.objectives.OfDraw(vaekit.objectives.beta_elbo, {"beta": beta})
        torch.testing.assert_close(objective.of(draw), -draw.distortion - beta * draw.rate() - penalty)
    with pytest.raises(ConfigError, match="penalty 'codebook'"):
        vaekit.objectives.OfDraw(vaekit.elbo).of(draw)
    with pytest.raises(ConfigError, match="no density"):
        _ = draw.log_w


def test_every_part_gets_a_gradient_and_check_finds_nothing() -> None:
    model = small()
    vaekit.check(model)
    draw = model.draw(torch.rand(5, 1, 28, 28))
    vaekit.objectives.OfDraw(vaekit.objectives.beta_elbo).of(draw).sum().backward()
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert all(".net.dense." in name for name in without), without  # which nobody reads


def test_the_decoder_reads_the_grid_without_dense_layers() -> None:
    names = {name for name, _ in small().parts["likelihood"].net.named_parameters()}
    assert {name for name in names if name.startswith("dense")} == {"dense.weight", "dense.bias"}
    assert small().parts["likelihood"].net.dense.kernel_size == (1, 1)
