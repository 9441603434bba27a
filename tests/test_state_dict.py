"""Checkpoints of the course: plain weights load, anything else is refused in one line."""

import pickle
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

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


def student(num_classes: int, hidden: tuple[int, ...], *, flatten: bool, wrapped: bool = False) -> nn.Module:
    """A student's own class, 12 pixels and 3 latents."""

    def dense(sizes: tuple[int, ...]) -> list[nn.Module]:
        return [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]

    model = nn.Module()
    body = dense((12 + num_classes, *hidden))
    model.encoder = nn.Sequential(*([nn.Flatten()] if flatten else []), *body)
    heads = [nn.Linear(hidden[-1], 3) for _ in range(2)]
    model.mu_layer, model.logvar_layer = (nn.Sequential(head) for head in heads) if wrapped else heads
    model.decoder = nn.Sequential(
        *dense((3 + num_classes, *reversed(hidden))),
        nn.Linear(hidden[0], 12),
        nn.Sigmoid(),
        nn.Unflatten(1, (1, 1, 12)),
    )
    return model


@pytest.mark.parametrize("num_classes", [0, 4])
@pytest.mark.parametrize("hidden", [(400, 400, 400), (7, 7, 7), (9, 5), (8, 6, 5, 4)])
@pytest.mark.parametrize("flatten", [False, True])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_weights_of_other_solutions_load(
    tmp_path: Path, num_classes: int, hidden: tuple[int, ...], flatten: bool, prefix: str
) -> None:
    torch.manual_seed(0)
    model = student(num_classes, hidden, flatten=flatten, wrapped=bool(prefix))
    torch.save({prefix + name: tensor for name, tensor in model.state_dict().items()}, tmp_path / "model.pt")
    x, c = torch.rand(5, 1, 1, 12), torch.eye(4)[torch.arange(5) % 4] if num_classes else None
    loaded = (CVAE if num_classes else VAE).from_checkpoint(tmp_path / "model.pt")
    joined = x.flatten(1) if c is None else torch.cat((x.flatten(1), c), 1)
    mu = model.mu_layer(model.encoder(joined))
    torch.testing.assert_close(loaded.encode(x, c), mu)
    torch.testing.assert_close(loaded.decode(mu, c), model.decoder(mu if c is None else torch.cat((mu, c), 1)))
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert loaded.sample(2, c[:2] if num_classes else None).shape == (2, 1, 1, 12)


@pytest.mark.parametrize("wrong", ["convolution", "one layer", "sizes", "normalization", "no head", "no bias"])
def test_weights_of_another_architecture_are_refused_in_one_line(tmp_path: Path, wrong: str) -> None:
    state = student(0, (7, 7, 7), flatten=True).state_dict()
    if wrong == "convolution":
        state["encoder.1.weight"] = torch.zeros(7, 1, 3, 3)
    elif wrong == "one layer":
        state = {name: tensor for name, tensor in state.items() if name[:9] not in ("encoder.3", "encoder.5")}
    elif wrong == "sizes":
        state["encoder.1.weight"] = torch.zeros(7, 13)
    elif wrong == "normalization":
        state["encoder.2.running_mean"] = torch.zeros(7)
    else:
        del state["mu_layer.weight" if wrong == "no head" else "logvar_layer.bias"]
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(DataError, match="does not hold the weights of a VAE") as caught:
        VAE.from_checkpoint(tmp_path / "model.pt")
    assert "\n" not in str(caught.value)


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
