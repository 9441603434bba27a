"""The course's helpers, and a notebook written for the assignment's names."""

import random
import re
import struct
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from nndl2 import helper
from nndl2.grad import rel_error
from nndl2.helper import count_params, hello_helper, one_hot, show_images, train_vae
from nndl2.utils import reset_seed
from vaekit import CVAE, VAE, loss_function
from vaekit.data import Batches

LINE = r"Train Epoch: {} \tLoss: \d+\.\d{{6}}\n"


@pytest.fixture
def plt():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


def data(n=40):
    g = torch.Generator().manual_seed(n)
    return torch.rand(n, 1, 28, 28, generator=g), torch.randint(10, (n,), generator=g)


# Small things -------------------------------------------------------------------------------------------------------


def test_hello_helper(capsys):
    hello_helper()
    assert capsys.readouterr().out == "Hello from helper.py!\n"


def test_star_import_is_the_helpers_and_nothing_else():
    names = {}
    exec("from nndl2.helper import *", names)
    assert names.keys() - {"__builtins__"} == set(helper.__all__)
    assert {"hello_helper", "show_images", "train_vae", "one_hot", "count_params"} == set(helper.__all__)


def test_import_is_cheap():
    code = "import sys, nndl2.helper; sys.exit(bool({'matplotlib', 'torchvision', 'vae'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_rel_error():
    x, y = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([1.0, -2.5, 3.0])
    assert rel_error(x, y) == pytest.approx(0.5 / 6)
    assert isinstance(rel_error(x, y), float)
    assert rel_error(x, x) == 0
    zero, tiny = torch.zeros(1), torch.tensor([1e-12])
    assert rel_error(zero, zero) == 0
    assert rel_error(tiny, zero) == pytest.approx(1e-2)  # not 1: the denominator is at least eps
    assert rel_error(tiny, zero, eps=1e-20) == pytest.approx(1)
    assert rel_error(x.mean().requires_grad_(), torch.tensor([-0.4363])) > 0


def test_reset_seed():
    draws = []
    for seed in (0, 0, 1):
        reset_seed(seed)
        draws.append((random.random(), torch.randn(3).tolist()))
    assert draws[0] == draws[1]
    assert draws[0][0] != draws[2][0]
    assert draws[0][1] != draws[2][1]


def test_one_hot():
    rows = one_hot(torch.tensor([2, 0, 1]), 4)
    assert rows.dtype == torch.float32
    assert rows.tolist() == [[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0]]
    assert torch.equal(one_hot(torch.tensor([2, 0, 1], dtype=torch.uint8), 4), rows)


def test_count_params():
    assert count_params(nn.Linear(3, 2)) == 8
    assert count_params(VAE(784)) == 1_288_414
    assert count_params(CVAE(784)) == 1_296_414


# Pictures -----------------------------------------------------------------------------------------------------------


def shown(plt):
    """The picture in the newest figure, gaps as NaN, and its axes."""
    (axes,) = plt.gcf().axes
    (picture,) = axes.images
    return picture.get_array().filled(np.nan), axes


@pytest.mark.parametrize(("n", "side"), [(1, 1), (4, 2), (5, 3), (10, 4), (128, 12), (144, 12)])
def test_show_images_is_a_square_grid_without_axes(plt, n, side):
    images, _ = data(n)
    show_images(images)
    picture, axes = shown(plt)
    assert picture.shape == (29 * side - 1, 29 * side - 1)
    assert not axes.axison
    for i, image in enumerate(images[:, 0]):
        top, left = 29 * (i // side), 29 * (i % side)
        assert np.array_equal(picture[top : top + 28, left : left + 28], image)
    assert np.count_nonzero(~np.isnan(picture)) == n * 784  # gaps and empty tiles are transparent


def test_show_images_takes_whatever_a_notebook_has(plt):
    images, _ = data(5)
    expected = None
    for batch in (
        images,
        images.flatten(1),
        images.numpy(),
        images.flatten(1).numpy(),
        images.clone().requires_grad_(),
    ):
        show_images(batch)
        picture, _ = shown(plt)
        expected = picture if expected is None else expected
        assert np.array_equal(picture, expected, equal_nan=True)
    show_images((images * 255).byte())
    show_images(images.bfloat16())
    show_images(images[..., :20])
    assert shown(plt)[0].shape == (29 * 3 - 1, 21 * 3 - 1)
    assert len(plt.get_fignums()) == 8
    plt.gcf().canvas.draw()


@pytest.mark.parametrize("shape", [(4, 783), (4, 3, 8, 8), (0, 1, 28, 28), (784,)])
def test_show_images_refuses_other_shapes(plt, shape):
    with pytest.raises(ValueError, match=re.escape(f"N ≥ 1; got {shape}")):
        show_images(torch.zeros(shape))
    assert not plt.get_fignums()


# Training -----------------------------------------------------------------------------------------------------------


class Student(nn.Module):
    """A student's own class: only `forward` is there."""

    def __init__(self, num_classes=0):
        super().__init__()
        self.net = nn.Linear(784 + num_classes, 784)
        self.heads = nn.Linear(784, 8)
        self.seen = []

    def forward(self, x, *c):
        self.seen += c
        h = self.net(torch.cat((x.flatten(1), *c), dim=1)).relu()
        mu, logvar = self.heads(h).chunk(2, dim=1)
        return h.sigmoid().view_as(x), mu, logvar


def expected_lines(model, batches, epochs, cond):
    """The course's loop, written out."""
    lines = ""
    for epoch in epochs:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for x, y in batches:
            output = model(x, nn.functional.one_hot(y, 10).float()) if cond else model(x)
            optimizer.zero_grad()
            loss = loss_function(output[0], x, *output[1:])
            loss.backward()
            optimizer.step()
        lines += f"Train Epoch: {epoch} \tLoss: {loss:.6f}\n"
    return lines


@pytest.mark.parametrize("cond", [False, True])
def test_train_vae_is_the_courses_loop(capsys, cond):
    batches = list(DataLoader(TensorDataset(*data(40)), batch_size=16))
    build = lambda: CVAE(784) if cond else VAE(784)
    reset_seed(0)
    model = build().eval()
    for epoch in (0, 1):
        train_vae(epoch, model, batches, cond=cond)
    assert model.training
    reset_seed(0)
    assert capsys.readouterr().out == expected_lines(build(), batches, (0, 1), cond)


def test_train_vae_does_not_take_an_optimizer_for_the_condition():
    model = CVAE(784)
    with pytest.raises(TypeError, match="positional"):
        train_vae(0, model, [data(3)], torch.optim.Adam(model.parameters()))


def test_train_vae_learns(capsys):
    reset_seed(0)
    images, labels = data(64)
    model, loader = VAE(784), Batches(images**4, labels, batch_size=16, shuffle=True)
    for epoch in range(5):
        train_vae(epoch, model, loader)
    losses = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()]
    assert losses[-1] < losses[0] - 5


LOADERS = {
    "list": lambda x, y: [(x, y)],
    "iterator": lambda x, y: iter([(x, y)]),
    "DataLoader": lambda x, y: DataLoader(TensorDataset(x, y), 8),
    "Batches": lambda x, y: Batches(x, y, batch_size=8),
}


@pytest.mark.parametrize("loader", LOADERS.values(), ids=LOADERS.keys())
def test_train_vae_takes_any_loader_and_any_class_with_a_forward(capsys, loader):
    train_vae(3, Student(10), loader(*data(20)), cond=True)
    train_vae("last", Student(), loader(*data(20)))
    assert re.fullmatch(LINE.format(3) + LINE.format("last"), capsys.readouterr().out)


def test_train_vae_makes_as_many_one_hots_as_the_model_has_classes(capsys):
    labels = torch.tensor([0, 25, 3])
    student = Student(26)
    student.num_classes = 26
    train_vae(1, student, [(data(3)[0], labels)], cond=True)
    assert torch.equal(student.seen[0], one_hot(labels, 26))
    train_vae(1, CVAE(784, num_classes=26), [(data(3)[0], labels)], cond=True)


def test_train_vae_uses_the_students_own_loss(monkeypatch, capsys):
    written = SimpleNamespace(loss_function=lambda x_hat, x, mu, logvar: (x_hat - x).pow(2).sum() * 0 + 42)
    monkeypatch.setitem(sys.modules, "vae", written)
    train_vae(1, Student(), [data(3)])
    assert capsys.readouterr().out == "Train Epoch: 1 \tLoss: 42.000000\n"


def test_train_vae_refuses_an_empty_loader():
    with pytest.raises(ValueError, match="train_loader is empty"):
        train_vae(1, Student(), [])


# A teacher's notebook -----------------------------------------------------------------------------------------------

CELLS = """
from __future__ import print_function
import math, os, random, time
import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision
import torchvision.datasets as dset
import torchvision.transforms as T
from torch.utils.data import DataLoader, sampler
import matplotlib.pyplot as plt
import matplotlib.gridspec as gridspec
from nndl2.grad import rel_error
from nndl2.utils import reset_seed
plt.rcParams['image.interpolation'] = 'nearest'
plt.rcParams['image.cmap'] = 'gray'

# %%
from nndl2.helper import *
from vaekit import *
from vaekit import hello_vae, VAE, CVAE, reparametrize, loss_function
hello_vae()
hello_helper()
device = 'cuda' if torch.cuda.is_available() else 'cpu'

# %%
batch_size = 128
mnist_train = dset.MNIST(DATA, train=True, download=True, transform=T.ToTensor())
loader_train = DataLoader(mnist_train, batch_size=batch_size, shuffle=True, drop_last=True, num_workers=0)
imgs = next(iter(loader_train))[0].view(batch_size, 784)
show_images(imgs)

# %%
reset_seed(0)
latent_size = 15
mu = torch.zeros((1, latent_size)).to(device=device)
logvar = torch.ones((1, latent_size)).to(device=device)
z = reparametrize(mu, logvar)
z_mean, z_std = torch.mean(z, dim=-1), torch.std(z, dim=-1)
assert device == 'cuda' or rel_error(z_mean, torch.FloatTensor([-0.4363])) < 1e-4
assert device == 'cuda' or rel_error(z_std, torch.FloatTensor([1.6860])) < 1e-4

# %%
size = (1, 15)
x_hat = torch.sigmoid(torch.FloatTensor([[2, 5], [6, 7]]).unsqueeze(0).unsqueeze(0)).to(device=device)
x = torch.sigmoid(torch.FloatTensor([[1, 10], [9, 3]]).unsqueeze(0).unsqueeze(0)).to(device=device)
loss = loss_function(x_hat, x, torch.ones(size).to(device=device), torch.zeros(size).to(device=device))
assert rel_error(torch.tensor(8.5079), loss.cpu()) < 1e-5

# %%
num_epochs = 1
input_size = 28 * 28
vae_model = VAE(input_size, latent_size=latent_size)
vae_model.to(device=device)
for epoch in range(0, num_epochs):
    train_vae(epoch, vae_model, loader_train)

# %%
z = torch.randn(10, latent_size).to(device=device)
vae_model.eval()
samples = vae_model.decoder(z).data.cpu().numpy()
fig = plt.figure(figsize=(10, 1))
gspec = gridspec.GridSpec(1, 10)
gspec.update(wspace=0.05, hspace=0.05)
for i, sample in enumerate(samples):
    ax = plt.subplot(gspec[i])
    plt.axis('off')
    plt.imshow(sample.reshape(28, 28), cmap='Greys_r')

# %%
S = 12
z0 = torch.randn(S, latent_size).to(device=device)
z1 = torch.randn(S, latent_size).to(device=device)
w = torch.linspace(0, 1, S).to(device=device).view(S, 1, 1)
z = (w * z0 + (1 - w) * z1).transpose(0, 1).reshape(S * S, latent_size)
x = vae_model.decoder(z)
show_images(x.data.cpu())

# %%
cvae = CVAE(input_size, latent_size=latent_size)
cvae.to(device=device)
print(count_params(cvae))
for epoch in range(0, num_epochs):
    train_vae(epoch, cvae, loader_train, cond=True)

# %%
z = torch.randn(10, latent_size).to(device=device)
c = torch.eye(10, 10).to(device=device)
z = torch.cat((z, c), dim=-1)
cvae.eval()
samples = cvae.decoder(z).data.cpu().numpy()
show_images(samples)
c = one_hot(torch.LongTensor([1, 2]), 10).to(device)
x_hat, mu, logvar = cvae(torch.rand(2, 1, 28, 28).to(device), c)
"""


@pytest.fixture
def mnist_folder(tmp_path):
    """256 random images where torchvision looks for MNIST."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images, labels = data(256)
    for split in ("train", "t10k"):
        header = struct.pack(">4i", 2051, 256, 28, 28)
        (raw / f"{split}-images-idx3-ubyte").write_bytes(header + (images * 255).byte().numpy().tobytes())
        header = struct.pack(">2i", 2049, 256)
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(header + labels.byte().numpy().tobytes())
    return str(tmp_path)


def test_a_teachers_notebook_runs_unchanged(plt, mnist_folder, capsys):
    names = {"DATA": mnist_folder}
    with plt.rc_context():
        for cell in CELLS.split("# %%"):
            exec(cell, names)
    lines = LINE.format(0) + "1296414\n" + LINE.format(0)
    assert re.fullmatch(r"Hello from vae\.py!\nHello from helper\.py!\n" + lines, capsys.readouterr().out)
    assert names["samples"].shape == (10, 1, 28, 28)
    assert names["x_hat"].shape == (2, 1, 28, 28)
    assert len(plt.get_fignums()) == 4
