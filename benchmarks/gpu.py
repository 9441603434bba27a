"""What only a GPU can tell, in at most ten minutes: `python benchmarks/gpu.py`; it needs torch and this checkout.

Every part is recorded as soon as it is measured, and one that fails is recorded with its error, so that no minute on a
borrowed GPU is lost. Parts: epochs, quality, step, evaluation, ranks, resume, deterministic. Writes gpu.json, which
docs/speed.md reads. `--device cpu --quick` tries the script itself.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
import contenders
from vaekit import build, data
from vaekit.config import read
from vaekit.config.recipe import Recipe
from vaekit.evaluation.likelihood.bounds import bounds
from vaekit.objectives import elbo
from vaekit.runs.job import Job
from vaekit.store import Run

RESULTS = Path(__file__).parent / "gpu.json"
VAE = [sys.executable, "-m", "vaekit"]
ENVIRONMENT = os.environ | {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


class Bench:
    """Where to measure, and how long.

    Arguments:
        device: "cuda", or "cpu" to try the script.
        quick: Measure next to nothing, to try the script.
    """

    def __init__(self, device: str, quick: bool) -> None:
        self.device = device
        self.quick = quick
        self.precisions = ("fp32", "tf32", "bf16") if device == "cuda" else ("fp32", "bf16")
        self.short = ("--set", "data.validation=59000") if quick else ()

    def wait(self) -> None:
        """Wait until the device has done what it was told."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def milliseconds(self, step: Callable[[], object], repeats: int, rounds: int = 5) -> float:
        """Median over rounds of what a step takes, after a warm-up."""
        repeats = 2 if self.quick else repeats
        for _ in range(min(10, repeats)):
            step()
        taken = []
        for _ in range(rounds):
            self.wait()
            begun = time.perf_counter()
            for _ in range(repeats):
                step()
            self.wait()
            taken.append(1e3 * (time.perf_counter() - begun) / repeats)
        return statistics.median(taken)

    def train(self, folder: str, preset: str, *options: str, name: str = "r", launcher: list[str] = VAE) -> Run:
        """A training by the command line."""
        place = ["--device", self.device, "--runs", folder, "--name", name]
        subprocess.run([*launcher, "train", preset, *place, *self.short, *options], check=True, env=ENVIRONMENT)
        return Run.open(name, root=folder)


def epochs(bench: Bench) -> dict[str, Any]:
    """Ten epochs of the assignment's recipe, after a warm-up, and its own loop with the batches moved to the device."""
    with tempfile.TemporaryDirectory() as folder:
        run = bench.train(folder, "course-vae", "--epochs", "3" if bench.quick else "11")
        ours = [record["seconds"] for record in run.metrics()][1:]
    theirs = assignment(bench)
    ratio = statistics.median(theirs) / statistics.median(ours)
    return {
        "ours_seconds": ours,
        "assignment_seconds": theirs,
        "times_as_fast": ratio,
        "ten_epochs": 10 * statistics.median(ours),
    }


def assignment(bench: Bench) -> list[float]:
    """Seconds of epochs of the assignment's own loop; the first one is a warm-up."""
    from torchvision.transforms import ToTensor

    chosen = torch.utils.data.Subset(
        contenders.mnist(train=True, transform=ToTensor()), range(1000 if bench.quick else 55_000)
    )
    loader = torch.utils.data.DataLoader(chosen, batch_size=contenders.BATCH, shuffle=True, num_workers=2)
    model = contenders.Plain().to(bench.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    taken = []
    for _ in range(3):
        begun = time.perf_counter()
        for x, _ in loader:
            x = x.to(bench.device)
            x_hat, mu, logvar = model(x)
            loss = contenders.loss_of(x_hat, x, mu, logvar)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        bench.wait()
        taken.append(time.perf_counter() - begun)
    return taken[1:]


def quality(bench: Bench) -> dict[str, Any]:
    """From the start of the process to finished pictures: the default recipe."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        run = bench.train(folder, "vae", *(("--epochs", "1") if bench.quick else ()))
        return {"seconds": time.perf_counter() - begun, "test": run.read_json("test.json")}


def step(bench: Bench) -> dict[str, Any]:
    """Milliseconds of a training step of `course-vae`, 128 images: as it is, compiled, and as a CUDA graph."""
    taken: dict[str, Any] = {}
    for precision in bench.precisions:
        settings = [f"train.device={bench.device}", f"train.precision={precision}"]
        job = Job.prepare(Recipe.resolve(read("course-vae", settings=settings)))
        trainer = job.trainer()
        batch = next(iter(job.batches(job.data.train, training=True)))
        taken[f"{precision}, as it is"] = bench.milliseconds(lambda: trainer.step(batch, 0.0), 200)  # noqa: B023
    x = data.load("mnist").train.x[:128].float().div(255).to(bench.device)
    for name, make in (("compiled", compiled), ("graph", captured)):
        if name == "graph" and bench.device == "cpu":
            continue
        begun = time.perf_counter()
        one = make(bench, x)
        one()
        bench.wait()
        taken[f"fp32, {name}, seconds to begin"] = time.perf_counter() - begun
        taken[f"fp32, {name}"] = bench.milliseconds(one, 200)
    return taken


def plain_step(bench: Bench, x: Tensor) -> tuple[Callable[[], Tensor], torch.optim.Optimizer]:
    """The gradient of −ELBO, and the optimizer that takes the step."""
    model = build("course-vae").to(bench.device).train()
    optimizer = torch.optim.Adam(model.parameters(), fused=True, capturable=bench.device == "cuda")
    return lambda: -elbo(model.draw(x)).mean(), optimizer


def compiled(bench: Bench, x: Tensor) -> Callable[[], object]:
    loss, optimizer = plain_step(bench, x)
    fast = torch.compile(loss)

    def one() -> None:
        optimizer.zero_grad()
        fast().backward()
        optimizer.step()

    return one


def captured(bench: Bench, x: Tensor) -> Callable[[], object]:
    loss, optimizer = plain_step(bench, x)
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    optimizer.zero_grad()
    with torch.cuda.graph(graph):
        loss().backward()
        optimizer.step()
    return graph.replay


def evaluation(bench: Bench) -> dict[str, Any]:
    """Microseconds a sample of L_5000, the assignment's networks."""
    images, samples = (4, 100) if bench.quick else (1000, 5000)
    x = data.load("mnist").test.x[:images].float().div(255)
    model = build("course-vae").to(bench.device).eval()
    taken = {}
    for precision in ("fp32", "bf16"):
        bounds(model, x[:2], samples=(samples,), precision=precision)
        begun = time.perf_counter()
        bounds(model, x, samples=(samples,), precision=precision)
        bench.wait()
        taken[precision] = 1e6 * (time.perf_counter() - begun) / images / samples
    return {"microseconds_per_sample": taken}


def ranks(bench: Bench) -> dict[str, Any]:
    """One rank of torchrun, by NCCL on a GPU, ends with the weights of a plain training."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=1", "-m", "vaekit"]
    with tempfile.TemporaryDirectory() as folder:
        alone = bench.train(folder, "course-vae", "--epochs", "1", name="alone")
        rank = bench.train(folder, "course-vae", "--epochs", "1", name="rank", launcher=torchrun)
        return {
            "same_weights": weights(alone) == weights(rank),
            "seconds": [r.metrics()[0]["seconds"] for r in (alone, rank)],
        }


def resume(bench: Bench) -> dict[str, Any]:
    """A training of one epoch that goes on for another one has the weights of two in a row."""
    with tempfile.TemporaryDirectory() as folder:
        whole = bench.train(folder, "course-vae", "--epochs", "2", "--deterministic", name="whole")
        halves = bench.train(folder, "course-vae", "--epochs", "1", "--deterministic", name="halves")
        more = [*VAE, "resume", "halves", "--runs", folder, "--set", "train.epochs=2"]
        subprocess.run(more, check=True, env=ENVIRONMENT)
        return {"same_weights": weights(whole) == weights(halves)}


def deterministic(bench: Bench) -> dict[str, Any]:
    """Two trainings with `--deterministic` are the same, and what that costs."""
    with tempfile.TemporaryDirectory() as folder:
        fast = bench.train(folder, "course-vae", "--epochs", "2", name="fast")
        one, two = (
            bench.train(folder, "course-vae", "--epochs", "2", "--deterministic", name=name) for name in ("one", "two")
        )
        seconds = {run.name: run.metrics()[1]["seconds"] for run in (fast, one, two)}
        return {"same_weights": weights(one) == weights(two), "seconds_of_second_epoch": seconds}


def weights(run: Run) -> str:
    return run.sha256("checkpoints/last/model.safetensors")


PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "epochs": epochs,
    "quality": quality,
    "step": step,
    "evaluation": evaluation,
    "resume": resume,
    "deterministic": deterministic,
    "ranks": ranks,
}


@click.command(help=__doc__)
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--device", default="cuda")
@click.option("--quick", is_flag=True, help="Measure next to nothing, to try the script.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=RESULTS)
def main(parts: tuple[str, ...], device: str, quick: bool, output: Path) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise click.UsageError("there is no GPU that torch can use; --device cpu --quick tries the script")
    results = json.loads(output.read_text()) if output.exists() else {}
    results["machine"] = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "date": time.strftime("%Y-%m-%d"),
        "quick": quick,
    }
    bench = Bench(device, quick)
    for part in parts or PARTS:
        begun = time.perf_counter()
        try:
            measured = PARTS[part](bench)
        except Exception:  # a borrowed GPU is not given back for one part that fails
            measured = {"error": traceback.format_exc()}
        what, seconds = (PARTS[part].__doc__ or "").strip(), round(time.perf_counter() - begun, 1)
        results[part] = measured | {"what": what, "wall_clock_seconds": seconds}
        output.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        print(f"{part}: {json.dumps(measured)}", flush=True)


if __name__ == "__main__":
    main()
