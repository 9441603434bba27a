"""What the families of models come to in a short training each: `python benchmarks/families.py [PART …]`.

    ex-post     Fréchet distance of samples from the prior, and from a mixture and a normal fitted to the latents
    labels      error of m2 with few labels
    latents     the same over the latents of another model
    spheres     −log p(x) of a spherical and of a normal posterior
    levels      bounds of ladders and of iwae-2l's network after equal time
    factors     disentanglement on the shapes
    discrete    −ELBO of bits and of categories

A part's trainings that are in families.json already are not repeated. Those of `spheres` have the paper's schedule,
half an hour of a core or more each. The others are far shorter than the papers': their figures show orders, not how
good a family becomes. `--quick` trains for 20 steps, prints, and records nothing.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import vaekit
from common import ROOT, processor, train
from vaekit import data
from vaekit.data import Split
from vaekit.data.batches import as_one_batch
from vaekit.data.pixels import binarized, repeatable
from vaekit.data.sources.shapes import every_shape
from vaekit.evaluation import fitted_prior
from vaekit.evaluation.latent_space.disentanglement import disentanglement_of
from vaekit.evaluation.likelihood.bounds import bounds
from vaekit.evaluation.samples.classifier import classifier_for
from vaekit.evaluation.samples.quality import quality
from vaekit.model import WithPrior
from vaekit.store import Run

RESULTS = Path(__file__).parent / "families.json"
Found = Iterator[tuple[str, dict[str, Any]]]

PRIORS = ("standard-vae", "beta-vae", "standard-cvae", "iaf-vae")
JUDGED = 2000
LABELS = (100, 600, 1000)
SEEDS = range(3)
DISENTANGLING = ("beta-vae", "beta-tcvae", "factor-vae", "dip-vae")
SCORES = ("MIG", "SAP", "FactorVAE score", "DCI disentanglement", "DCI completeness", "DCI informativeness")
QUICK = ("--set", "train.steps=20")


def trained(preset: str, *options: str, seed: int = 0, quick: bool = False) -> tuple[dict[str, Any], Run]:
    """A training by the command line, its record, and its run."""
    record = train(preset, *options, *(QUICK if quick else ()), seed=seed)
    kept = ("command", "seed", "epochs", "wall_clock_seconds", "hardware", "date", "torch")
    return {key: record[key] for key in kept}, Run.open(f"{preset}-seed{seed}", root=ROOT)


def nll(run: Run, *, samples: int, images: int) -> dict[str, Any]:
    """−L_K of the first test images."""
    split = data.load("mnist").test.rows(slice(images))
    x = binarized(split.x[:], repeatable(run.config["data"]["binarize"]))
    found = bounds(vaekit.load(run.path), as_one_batch(Split(x)).x, samples=(samples,), precision="auto")
    value = -found.per_row[f"L_{samples}"]
    error = value.std().item() / len(value) ** 0.5
    return {"nll": value.mean().item(), "error": error, "samples": samples, "images": images}


def ex_post(quick: bool, done: set[str]) -> Found:
    digits = data.load("mnist")
    judge = classifier_for(digits)
    for preset in PRIORS:
        if preset in done:
            continue
        record, run = trained(preset, "--epochs", "2", quick=quick)
        model = vaekit.load(run.path)
        models = {"prior": model}
        models |= {density: fitted_prior(run, model, density) for density in ("mixture", "normal")}  # type: ignore[arg-type]
        for name, some in models.items():
            assert name == "prior" or isinstance(some, WithPrior)
            values = {v.name: v for v in quality(some, digits, judge, n=JUDGED).values}
            distance = values["squared Fréchet distance (classifier features)"]
            record[name] = {"frechet": distance.value, "error": distance.standard_error}
        yield preset, record | {"samples": JUDGED}


def labels(quick: bool, done: set[str]) -> Found:
    yield from with_few_labels("M2", 1, (), quick, done)


def latents(quick: bool, done: set[str]) -> Found:
    path = ROOT / "m1-latents.npz"
    if not path.exists() or quick:
        _, run = trained("standard-vae", "--epochs", "2", quick=quick)
        command = [sys.executable, "-m", "vaekit", "encode", str(run.path), "--split", "train", "-o", str(path)]
        subprocess.run(command, check=True)
    over_latents = ("--data", str(path), "--set", "likelihood.name=normal", "--set", "data.binarize=none")
    for name, record in with_few_labels("M1+M2", 3, over_latents, quick, done):
        yield name, record | {"command": record["command"].replace(str(path), path.name)}


def with_few_labels(name: str, epochs: int, more: tuple[str, ...], quick: bool, done: set[str]) -> Found:
    for seed in SEEDS:
        for count in LABELS:
            if f"{name}, {count}, seed {seed}" in done:
                continue
            asked = ("--labelled", str(count), "--epochs", str(epochs), "--set", "data.validation=2000", *more)
            record, run = trained("m2", *asked, seed=seed, quick=quick)
            test = run.read_json("test.json")
            yield f"{name}, {count}, seed {seed}", record | {"error": 100 * test["error"], "images": test["rows"]}


def spheres(quick: bool, done: set[str]) -> Found:
    normal = ("--set", "posterior.name=diagonal-normal", "--set", "prior.name=standard-normal")
    for key in ("sphere 2", "normal 2", "sphere 5", "normal 5", "sphere 10", "normal 20"):
        if key in done:
            continue
        dimensions = int(key.split()[1])
        size, more = (dimensions + 1, ()) if key.startswith("sphere") else (dimensions, normal)
        options = ("--set", f"model.latent_size={size}", *more)
        record, run = trained("spherical-vae", *options, quick=quick)
        yield key, record | nll(run, samples=500, images=1000)


def levels(quick: bool, done: set[str]) -> Found:
    for preset, epochs, more in (
        ("ladder-vae", 3, ("--set", "objective.beta.epochs=0.6")),
        ("top-down-vae", 2, ()),
        ("iwae-2l", 1, ("--set", "objective.samples=1", "--set", "data.validation=5000")),
    ):
        if preset in done:
            continue
        record, run = trained(preset, "--epochs", str(epochs), *more, quick=quick)
        rates = {key: value for key, value in run.metrics()[-1].items() if key.startswith("validation_rate_")}
        yield preset, record | {"rates": rates} | nll(run, samples=100, images=500)


def discrete(quick: bool, done: set[str]) -> Found:
    for preset, epochs in (("gumbel-vae", 20), ("discrete-vae", 100)):
        if preset in done:
            continue
        record, run = trained(preset, "--epochs", str(epochs), quick=quick)
        test = run.read_json("test.json")
        yield preset, record | {name: test[name] for name in ("neg_elbo", "rate", "distortion")}


def factors(quick: bool, done: set[str]) -> Found:
    for preset in DISENTANGLING:
        if preset in done:
            continue
        options = ("--data", "shapes", "--set", "model.latent_size=10", "--set", "train.steps=600")
        record, run = trained(preset, *options, quick=quick)
        named = {value.name: value.value for value in disentanglement_of(vaekit.load(run.path), *every_shape())}
        test = run.read_json("test.json")
        figures = {name: named.get(name) for name in SCORES} | {name: test[name] for name in ("rate", "distortion")}
        yield preset, record | figures


PARTS: dict[str, Callable[[bool, set[str]], Found]] = {
    "ex-post": ex_post,
    "labels": labels,
    "latents": latents,
    "spheres": spheres,
    "levels": levels,
    "factors": factors,
    "discrete": discrete,
}


def main() -> None:
    """Run the parts that are asked for, all by default, and record each training when it is judged."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for part in options.parts or list(PARTS):
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        done = set() if options.quick else set(results.get(part, {}))
        began = time.perf_counter()
        for name, record in PARTS[part](options.quick, done):
            made = record | {"seconds": round(time.perf_counter() - began, 1), "hardware": processor()}
            print(part, name, json.dumps(made, ensure_ascii=False), flush=True)
            if not options.quick:  # other parts may be recorded meanwhile
                results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
                results.setdefault(part, {})[name] = made
                RESULTS.write_text(json.dumps(dict(sorted(results.items())), indent=1, ensure_ascii=False) + "\n")
            began = time.perf_counter()


if __name__ == "__main__":
    main()
