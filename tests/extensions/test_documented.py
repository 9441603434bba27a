"""A posterior, a likelihood, a prior, an encoder and a decoder written as docs/extending.md says, in one model."""

from pathlib import Path
from typing import Any

import documented
import proof
import pytest

import vaekit

SETTINGS = (
    "encoder.name=my_encoder:Averages",
    "encoder.width=8",
    "posterior.name=my_posterior:OneScale",
    "prior.name=my_prior:LaplacePrior",
    "decoder.name=my_decoder:LowRank",
    "decoder.rank=3",
    "likelihood.name=my_likelihood:Student",
)


def test_the_parts_of_the_page(tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    documented.write(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    run = proof.prove(
        "documented",
        *SETTINGS,
        sections={"encoder": {}, "decoder": {}},
        folder=tmp_path,
        command=command,
        monkeypatch=monkeypatch,
    )
    model = vaekit.load(run, trust=True)
    vaekit.check(model)
    records = run.metrics()
    assert records[-1]["loss"] < records[0]["loss"]
    evaluated = command("evaluate", "killed", "--trust", "--samples", 10, "--json")
    assert evaluated.status == 0, evaluated.err
    assert '"nll"' in evaluated.out
