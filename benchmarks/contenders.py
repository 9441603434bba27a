"""What the speed benchmark runs, each in a process of its own: `python benchmarks/contenders.py NAME [NUMBER]`.

Every one prints one line of JSON. The first epoch of a training is a warm-up and is not counted.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy

HIDDEN, LATENT, BATCH = 400, 15, 128
LAYERS = [(784, 400), (400, 400), (400, 400), (400, 15), (400, 15), (15, 400), (400, 400), (400, 400), (400, 784)]


def between(ends: list[float]) -> dict[str, Any]:
    return {"epoch_seconds": [later - earlier for earlier, later in pairwise(ends)]}


# -- ours --------------------------------------------------------------------------------------------------------------


def ours(epochs: int, precision: str = "auto") -> dict[str, Any]:
    """The preset course-vae, whole epochs: data, steps, validation, metrics, picture, checkpoint."""
    from vaekit.config import read
    from vaekit.runs import lifecycle
    from vaekit.training import Listener

    class Clock(Listener):
        def __init__(self) -> None:
            self.ends: list[float] = []

        def epoch(self, record: Any) -> None:
            self.ends.append(time.perf_counter())

    clock = Clock()
    settings = [f"train.epochs={epochs + 1}", f"train.precision={precision}", "train.device=cpu"]
    with tempfile.TemporaryDirectory() as root:
        run = lifecycle.train_run(read("course-vae", settings=settings), root=root, listener=clock)
        return between(clock.ends) | {"precision": run.environment["precision"]}


def ours_fp32(epochs: int) -> dict[str, Any]:
    return ours(epochs, "fp32")


# -- the assignment's own loop -----------------------------------------------------------------------------------------


def mnist(train: bool, **options: Any) -> Any:
    from torchvision.datasets import MNIST

    from vaekit import data
    from vaekit.data.registry import resolve_root

    data.load("mnist")  # leaves the unpacked files where torchvision looks for them
    return MNIST(str(resolve_root(None)), train=train, **options)


class Plain(nn.Module):
    """The assignment's networks, as one writes them."""

    def __init__(self) -> None:
        super().__init__()
        hidden: list[nn.Module] = [nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU()]
        again: list[nn.Module] = [nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU()]
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, HIDDEN), nn.ReLU(), *hidden)
        self.mu, self.logvar = nn.Linear(HIDDEN, LATENT), nn.Linear(HIDDEN, LATENT)
        self.decoder = nn.Sequential(
            nn.Linear(LATENT, HIDDEN),
            nn.ReLU(),
            *again,
            nn.Linear(HIDDEN, 784),
            nn.Sigmoid(),
            nn.Unflatten(1, (1, 28, 28)),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.encoder(x)
        mu, logvar = self.mu(h), self.logvar(h)
        return self.decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp()), mu, logvar


def loss_of(x_hat: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    bce = binary_cross_entropy(x_hat, x, reduction="sum")
    return (bce - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()) / len(x)


@torch.no_grad()
def score(forward: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]) -> float:
    """−ELBO over the test images, nats per image."""
    images = mnist(train=False).data.float().div(255).unsqueeze(1)
    parts = [(len(x), loss_of(*forward(x)[:1], x, *forward(x)[1:])) for x in images.split(500)]
    return sum(n * loss.item() for n, loss in parts) / len(images)


class Small(nn.Module):
    """What most public scripts train: one hidden layer of 400 units either way, and 20 latents."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, HIDDEN), nn.ReLU())
        self.mu, self.logvar = nn.Linear(HIDDEN, 20), nn.Linear(HIDDEN, 20)
        layers = [nn.Linear(20, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 784), nn.Sigmoid(), nn.Unflatten(1, (1, 28, 28))]
        self.decoder = nn.Sequential(*layers)

    forward = Plain.forward


def small(epochs: int, goals: tuple[float, ...] = ()) -> dict[str, Any]:
    """A well-known script of the genre, in our own words: the loop of the assignment on a network of one layer."""
    return assignment(epochs, goals, Small)


def assignment(epochs: int, goals: tuple[float, ...] = (), networks: type[nn.Module] = Plain) -> dict[str, Any]:
    """torchvision's data set, ToTensor, a DataLoader with two workers, Adam: the assignment's cells in a row."""
    from torchvision.transforms import ToTensor

    torch.manual_seed(int(os.environ.get("SEED", "0")))
    chosen = torch.utils.data.Subset(mnist(train=True, transform=ToTensor()), range(55_000))
    loader = torch.utils.data.DataLoader(chosen, batch_size=BATCH, shuffle=True, num_workers=2)
    model, reached = networks(), Goals(goals)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    ends = []
    for _ in range(epochs + 1):
        model.train()
        for x, _ in loader:
            x_hat, mu, logvar = model(x)
            loss = loss_of(x_hat, x, mu, logvar)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        ends.append(time.perf_counter())
        if reached.after_epoch(lambda: score(model.eval())):
            break
    return between(ends) | reached.record()


class Goals:
    """When, since the process began, a test −ELBO is reached; the clock stands still while it is measured."""

    def __init__(self, goals: tuple[float, ...]) -> None:
        self.goals, self.scores, self.stood, self.reached = goals, [], 0.0, {}
        self.scores: list[float]
        self.reached: dict[str, float]

    def after_epoch(self, measure: Callable[[], float]) -> bool:
        """Whether all are reached."""
        if not self.goals:
            return False
        before = time.perf_counter()
        self.scores.append(measure())
        now = since_start() - self.stood - (time.perf_counter() - before)
        self.stood += time.perf_counter() - before
        for goal in self.goals:
            if self.scores[-1] <= goal:
                self.reached.setdefault(str(goal), now)
        return len(self.reached) == len(self.goals)

    def record(self) -> dict[str, Any]:
        return {"reached_seconds": self.reached, "test_neg_elbo": self.scores} if self.goals else {}


def since_start() -> float:
    """Seconds since this process began."""
    return time.time() - float(os.environ["BEGAN"])


# -- Pythae ------------------------------------------------------------------------------------------------------------


def pythae_model() -> Any:
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            plain = Plain()
            self.layers, self.mu, self.logvar = plain.encoder, plain.mu, plain.logvar

        def forward(self, x: Tensor) -> Any:
            h = self.layers(x)
            return ModelOutput(embedding=self.mu(h), log_covariance=self.logvar(h))

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = Plain().decoder

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.layers(z))

    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce")
    return VAE(config, encoder=Encoder(), decoder=Decoder())


def pythae(epochs: int, goals: tuple[float, ...] = ()) -> dict[str, Any]:
    """Its trainer over tensors in memory, no validation, nothing saved on the way."""
    from pythae.data.datasets import BaseDataset
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    reached, ends, model = Goals(goals), [], pythae_model()

    class Clock(TrainingCallback):
        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())
            if reached.after_epoch(lambda: score(forward)):
                raise StopIteration

    def forward(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = model.encoder(x)
        mu, logvar = found.embedding, found.log_covariance
        return model.decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp()).reconstruction, mu, logvar

    images = mnist(train=True).data[:55_000].float().div(255).unsqueeze(1)
    with tempfile.TemporaryDirectory() as folder:
        settings = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=epochs + 1,
            per_device_train_batch_size=BATCH,
            learning_rate=1e-3,
            no_cuda=True,
            seed=int(os.environ.get("SEED", "0")),
        )
        data = BaseDataset(images, torch.zeros(len(images)))
        trainer = BaseTrainer(model=model, train_dataset=data, training_config=settings, callbacks=[Clock()])
        with suppress(StopIteration):
            trainer.train()
    return between(ends) | reached.record()


# -- the floor ---------------------------------------------------------------------------------------------------------


def floor(epochs: int) -> dict[str, Any]:
    """Nothing but the matrix products of every step, in fp32 and in bf16, and Adam's one pass over the weights."""
    steps = 430
    found: dict[str, Any] = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        x = [torch.randn(BATCH, i, dtype=dtype) for i, _ in LAYERS]
        g = [torch.randn(BATCH, o, dtype=dtype) for _, o in LAYERS]
        w = [torch.randn(o, i, dtype=dtype) for i, o in LAYERS]
        weights = [nn.Parameter(torch.randn(o, i)) for i, o in LAYERS]
        for weight in weights:
            weight.grad = torch.randn_like(weight)
        adam = torch.optim.Adam(weights, fused=True)
        ends = []
        for _ in range(epochs + 1):
            ends.append(time.perf_counter())
            for _ in range(steps):
                for layer in range(len(LAYERS)):
                    x[layer] @ w[layer].T
                    g[layer].T @ x[layer]
                    if layer:
                        g[layer] @ w[layer]
                adam.step()
        ends.append(time.perf_counter())
        found[name] = between(ends[1:])["epoch_seconds"]
    return {"epoch_seconds": found["fp32"], "bf16": found["bf16"]}


# -- evaluation --------------------------------------------------------------------------------------------------------


def test_images(n: int) -> Tensor:
    return mnist(train=False).data[:n].float().div(255).unsqueeze(1)


def per_sample(images: int, samples: int, action: Callable[[], object]) -> dict[str, Any]:
    begun = time.perf_counter()
    action()
    return {"microseconds_per_sample": 1e6 * (time.perf_counter() - begun) / images / samples}


def ours_nll(images: int, precision: str = "fp32") -> dict[str, Any]:
    """L_5000 by `vaekit.evaluation.likelihood.bounds`."""
    from vaekit import build
    from vaekit.evaluation.likelihood.bounds import bounds

    model, x = build("course-vae").eval(), test_images(images)
    bounds(model, x[:2], samples=(10,), precision=precision)
    return per_sample(images, 5000, lambda: bounds(model, x, samples=(5000,), precision=precision))


def pythae_nll(images: int) -> dict[str, Any]:
    """5,000 samples by its `get_nll`, a hundred at a time as it does by default."""
    model, x = pythae_model().eval(), test_images(images)
    with torch.no_grad():
        model.get_nll(x[:1], n_samples=200)
        return per_sample(images, 5000, lambda: model.get_nll(x, n_samples=5000))


def decoder_floor(images: int) -> dict[str, Any]:
    """Nothing but the decoder's matrix products, on rows that stay in the cache."""
    rows = 500
    layers = LAYERS[5:]
    x = [torch.randn(rows, i) for i, _ in layers]
    w = [torch.randn(o, i) for i, o in layers]

    def action() -> None:
        for _ in range(images * 5000 // rows):
            for a, b in zip(x, w, strict=True):
                a @ b.T

    return per_sample(images, 5000, action)


# -- memory and starting -----------------------------------------------------------------------------------------------


def loaded(_: int) -> dict[str, Any]:
    """`import torch`, the data as bytes, the model with its gradient and Adam's two moments: what must be there."""
    from vaekit import build, data

    kept = data.load("mnist"), [torch.zeros(4, p.numel()) + 1 for p in build("standard-vae").parameters()]
    return {"kept": len(kept)}


def mnist_load(_: int) -> dict[str, Any]:
    from vaekit import data

    data.load("mnist")
    begun = time.perf_counter()
    data.load("mnist")
    return {"seconds": time.perf_counter() - begun}


GOALS = (109.1, 100.0, 97.4, 95.1, 93.5)
CONTENDERS: dict[str, Callable[[int], dict[str, Any]]] = {
    "ours": ours,
    "ours-fp32": ours_fp32,
    "assignment": assignment,
    "pythae": pythae,
    "small": small,
    "floor": floor,
    "assignment-quality": lambda epochs: assignment(epochs - 1, GOALS),
    "pythae-quality": lambda epochs: pythae(epochs - 1, GOALS),
    "small-quality": lambda epochs: small(epochs - 1, GOALS),
    "ours-nll": ours_nll,
    "ours-nll-bf16": lambda images: ours_nll(images, "bf16"),
    "pythae-nll": pythae_nll,
    "decoder-floor": decoder_floor,
    "loaded": loaded,
    "mnist-load": mnist_load,
}

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    print(json.dumps(CONTENDERS[sys.argv[1]](int(sys.argv[2]) if len(sys.argv) > 2 else 0)))
