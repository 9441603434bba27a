"""The names: a student's own `vae.py` and the course's own `nndl2/` come first, and `vaekit` works beside them."""

import subprocess
import sys
import tarfile
import textwrap
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
VAE = Path(sys.executable).with_name("vae")

STUDENT = """
    import torch
    from torch import nn

    def hello_vae():
        print("Hello from the student's vae.py!")

    def reparametrize(mu, logvar):
        return mu + (logvar / 2).exp() * torch.randn_like(mu)

    def loss_function(x_hat, x, mu, logvar):
        print("the student's loss")
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
        return (nn.functional.binary_cross_entropy(x_hat, x, reduction="sum") + kl) / len(x)

    class VAE(nn.Module):
        def __init__(self, input_size, latent_size=15):
            super().__init__()
            self.encoder = nn.Linear(input_size, 2 * latent_size)
            self.decoder = nn.Linear(latent_size, input_size)

        def forward(self, x):
            mu, logvar = self.encoder(x.flatten(1)).chunk(2, dim=1)
            return self.decoder(reparametrize(mu, logvar)).sigmoid().view_as(x), mu, logvar
"""

COURSE = """
    def hello_helper():
        print("Hello from the course's helper!")

    def train_vae(epoch, model, train_loader, cond=False):
        from vae import loss_function
        for x, _ in train_loader:
            loss_function(*(lambda x_hat, mu, logvar: (x_hat, x, mu, logvar))(*model(x))).backward()
        print("trained by the course's helper")
"""

CELLS = """
    import torch
    from nndl2.helper import hello_helper, train_vae
    from nndl2.utils import reset_seed
    from vae import VAE, hello_vae

    hello_vae()
    hello_helper()
    reset_seed(0)
    images = torch.rand(8, 1, 4, 4)
    model = VAE(16)
    train_vae(0, model, torch.utils.data.DataLoader(list(zip(images, torch.zeros(8))), batch_size=4))
    print("trained", VAE.__module__, sum(p.numel() for p in model.parameters()))

    import vaekit

    toolkit = vaekit.VAE(16, 3)
    print("toolkit", toolkit.sample(2).shape, vaekit.VAE is not VAE)
"""


def run(folder: Path, *command: object) -> str:
    done = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def write(path: Path, code: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(code))


def check_toolkit(folder: Path) -> None:
    """The command `vae` and `python -m vaekit` train here, whatever lies beside them."""
    np.save(folder / "images.npy", np.random.default_rng(0).integers(0, 255, (64, 8, 8), dtype=np.uint8))
    options = ("train", "vae", "--data", "images.npy", "--epochs", 1, "--set", "encoder.hidden=[8]")
    run(folder, VAE, *options, "--name", "one")
    run(folder, sys.executable, "-m", "vaekit", *options, "--name", "two", "--trust")
    assert {"one", "two"} <= {line.split()[0] for line in run(folder, VAE, "runs").splitlines()}
    weights = [folder / "runs" / name / "checkpoints/last/model.safetensors" for name in ("one", "two")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_cells_get_the_student_s_classes_and_our_helpers_train_them(tmp_path):
    write(tmp_path / "vae.py", STUDENT)
    said = run(tmp_path, sys.executable, "-c", textwrap.dedent(CELLS))
    assert "Hello from the student's vae.py!" in said
    assert "Hello from helper.py!" in said
    assert said.count("the student's loss") == 2  # which our helper looks up where the notebook is
    assert "trained vae 766" in said
    assert "toolkit torch.Size([2, 1, 4, 4]) True" in said
    check_toolkit(tmp_path)


def test_the_course_s_own_helpers_come_first_where_they_lie_beside_the_notebook(tmp_path):
    write(tmp_path / "vae.py", STUDENT)
    write(tmp_path / "nndl2" / "helper.py", COURSE)  # without __init__.py, as the course has it
    said = run(tmp_path, sys.executable, "-c", textwrap.dedent(CELLS))
    assert "Hello from the course's helper!" in said
    assert "trained by the course's helper" in said
    assert said.count("the student's loss") == 2
    check_toolkit(tmp_path)


def test_without_a_file_of_one_s_own_the_assignment_is_the_toolkit_s(tmp_path):
    cells = (
        "from vae import VAE, CVAE, reparametrize, loss_function, hello_vae; import vaekit; print(VAE is vaekit.VAE)"
    )
    assert run(tmp_path, sys.executable, "-c", cells) == "True\n"


def test_an_unfinished_vae_py_hinders_nothing_but_itself(tmp_path):
    write(tmp_path / "vae.py", "raise NotImplementedError('the student has only begun')")
    run(tmp_path, sys.executable, "-c", "import vaekit; vaekit.VAE(16); vaekit.fit; vaekit.load")
    check_toolkit(tmp_path)


def build(target: str, folder: Path) -> Path:
    pytest.importorskip("hatchling")
    run(ROOT, sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder)
    return next(folder.glob("vaekit-*"))


def install(source: Path, folder: Path) -> None:
    """Into a folder, without what it depends on, which is here."""
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", folder)
    run(ROOT, sys.executable, "-m", "pip", "install", *options, source)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["checkout", "sdist"])
def test_an_installation_is_whole(tmp_path, monkeypatch, source):
    (tmp_path / "empty").mkdir()
    site = tmp_path / "site"
    install(ROOT if source == "checkout" else build("sdist", tmp_path / "dist"), site)
    monkeypatch.setenv("PYTHONPATH", str(site))
    cells = "import vae, vaekit, nndl2.helper; print(vae.__file__, vaekit.__file__, nndl2.helper.__file__, sep='\\n')"
    said = run(tmp_path / "empty", sys.executable, "-c", cells)
    assert all(line.startswith(str(site)) for line in said.splitlines()), said
    loaded = "import vaekit; print(len(vaekit.data.load('mnist').test), vaekit.build('vae', event_shape=(1, 4, 4)))"
    assert "10000" in run(tmp_path / "empty", sys.executable, "-c", loaded)
    assert "MIT AND CC-BY-SA-3.0" in next(site.glob("vaekit-*.dist-info/METADATA")).read_text()
    assert len(list(site.glob("vaekit-*.dist-info/licenses/**/LICENSE*"))) == 2


@pytest.mark.slow
def test_the_sdist_has_every_tracked_file_that_the_tests_need(tmp_path):
    with tarfile.open(build("sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in tracked if not name.startswith(".ci/") and name not in names] == []
    assert not [name for name in names if name.startswith((".venv", "runs", ".git/"))]
