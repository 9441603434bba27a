"""A semi-supervised loss of somebody else: it sees labels, and rows whose class is unknown."""

from pathlib import Path
from typing import Any

import m2
import proof
import pytest

from vaekit.data import Batches


def test_m2(tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ("objective.name=m2:M2", "model.condition=class")
    run = proof.prove("m2", *settings, folder=tmp_path, command=command, monkeypatch=monkeypatch)
    for record in run.metrics():
        assert record["known"] == 1 / 4
        assert record["validation_known"] == 1
        assert record["cross_entropy"] > 0
    records = run.metrics()
    assert records[-1]["cross_entropy"] < records[0]["cross_entropy"]
    tensors = run.load_checkpoint().tensors
    assert "loss/classifier.1.weight" in tensors
    weights = len([name for name in tensors if name.startswith(("model/", "loss/")) and "running" not in name])
    assert len([name for name in tensors if name.startswith("optimizer/") and name.endswith("exp_avg")]) <= weights
    evaluated = command("evaluate", "killed", "--trust", "--samples", 10, "--json")
    assert evaluated.status == 0, evaluated.err


def test_unknown_labels_reach_the_loss() -> None:
    batch = next(iter(Batches(m2.dataset().train, batch_size=8)))
    assert batch.labels is not None
    assert batch.labels.tolist() == [0, -1, -1, -1, 1, -1, -1, -1]
