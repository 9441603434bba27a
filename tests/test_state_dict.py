"""Checkpoints of the course: plain weights load, anything else is refused in one line."""

import pickle
from pathlib import Path

import pytest
import torch

from vaekit import CVAE, VAE
from vaekit.errors import DataError


class Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('executed')",))


def test_the_weights_of_the_course_come_back(tmp_path: Path) -> None:
    for model in (VAE(16, 3), CVAE(16, 4, 3)):
        path = tmp_path / "model.pt"
        torch.save(model.state_dict(), path)
        other = type(model).from_checkpoint(path)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("content", ["code", "pickle", "truncated", "text", "missing", "other weights"])
def test_anything_else_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "model.pt"
    if content == "code":
        torch.save({"encoder.1.weight": Code()}, path)
    elif content == "pickle":
        path.write_bytes(pickle.dumps(Code()))
    elif content == "truncated":
        torch.save(VAE(16, 3).state_dict(), path)
        path.write_bytes(path.read_bytes()[:-2000])
    elif content == "text":
        path.write_text("weights")
    elif content == "other weights":
        torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(DataError) as caught:
        VAE.from_checkpoint(path)
    assert "model.pt" in str(caught.value)
    assert "\n" not in str(caught.value)
