"""What the families of models come to in a short training each: `python benchmarks/families.py [PART …]`.

    ex-post     Fréchet distance of samples from the prior, and from a mixture and a normal fitted to the latents
    labels      error of m2 with 100, 600 and 1,000 labels
    spheres     −log p(x) of a spherical and of a normal posterior
    levels      bounds of ladders and of iwae-2l's network after equal time
    factors     disentanglement on the shapes

Parts that are in families.json already are not trained again. Trainings are far shorter than the papers': the figures
show orders, not how good a family becomes.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import vaekit
from common import ROOT, processor, train
from vaekit import data
from vaekit.evaluation import evaluate_run, fitted_prior
from vaekit.evaluation.classifier import classifier_for
from vaekit.evaluation.quality import quality
from vaekit.model import WithPrior
from vaekit.store import Run

RESULTS = Path(__file__).parent / "families.json"
PRIORS = ("standard-vae", "standard-cvae", "course-vae", "beta-vae", "iaf-vae")
JUDGED = 5000
LABELS = (100, 1000)


def trained(preset: str, *options: str, seed: int = 0) -> tuple[dict[str, Any], Run]:
    """A training by the command line, its record, and its run."""
    record = train(preset, *options, seed=seed)
    kept = ("command", "seed", "epochs", "wall_clock_seconds", "hardware", "date", "torch")
    return {key: record[key] for key in kept}, Run.open(f"{preset}-seed{seed}", root=ROOT)


def ex_post() -> dict[str, Any]:
    digits, results = data.load("mnist"), {}
    judge = classifier_for(digits)
    for preset in PRIORS:
        record, run = trained(preset, "--epochs", "2", "--set", "train.threads=1")
        model = vaekit.load(run.path)
        models = {"prior": model}
        models |= {density: fitted_prior(run, model, density) for density in ("mixture", "normal")}  # type: ignore[arg-type]
        for name, some in models.items():
            assert name == "prior" or isinstance(some, WithPrior)
            values = {v.name: v for v in quality(some, digits, judge, n=JUDGED).values}
            distance = values["Fréchet distance (classifier features)"]
            record[name] = {"frechet": distance.value, "error": distance.standard_error}
        results[preset] = record | {"samples": JUDGED}
        print(preset, {name: round(record[name]["frechet"], 1) for name in models}, flush=True)
    return results


def labels() -> dict[str, Any]:
    results = {}
    for count in LABELS:
        record, run = trained("m2", "--labelled", str(count), "--epochs", "5", "--set", "train.threads=1")
        records, test = run.metrics(), run.read_json("test.json")
        record |= {"error": 100 * test["error"], "validation": [100 * r["validation_error"] for r in records]}
        results[str(count)] = record
        print(count, record["error"], flush=True)
    return results


def spheres() -> dict[str, Any]:
    results = {}
    for dimensions in (2, 5):
        for name, preset, more in (
            ("sphere", "spherical-vae", [f"model.latent_size={dimensions + 1}"]),
            (
                "normal",
                "spherical-vae",
                [f"model.latent_size={dimensions}", "posterior.name=diagonal-normal", "prior.name=standard-normal"],
            ),
        ):
            settings = [word for setting in (*more, "train.threads=1") for word in ("--set", setting)]
            record, run = trained(preset, "--epochs", "6", *settings)
            evaluation = evaluate_run(run, vaekit.load(run.path), samples=500, images=1000)
            nll = next(value for value in evaluation.values if value.name == "nll")
            results[f"{name} {dimensions}"] = record | {"nll": nll.value, "error": nll.standard_error}
            print(name, dimensions, nll.value, flush=True)
    return results


def levels() -> dict[str, Any]:
    results = {}
    for preset, epochs in (("ladder-vae", 4), ("top-down-vae", 3), ("iwae-2l", 1)):
        options = ["--set", "objective.samples=1"] if preset == "iwae-2l" else []
        record, run = trained(preset, "--epochs", str(epochs), "--set", "train.threads=1", *options)
        evaluation = evaluate_run(run, vaekit.load(run.path), samples=100, images=500)
        nll = next(value for value in evaluation.values if value.name == "nll")
        rates = {key: value for key, value in run.metrics()[-1].items() if key.startswith("validation_rate_")}
        results[preset] = record | {"nll": nll.value, "error": nll.standard_error, "rates": rates}
        print(preset, nll.value, flush=True)
    return results


def factors() -> dict[str, Any]:
    results = {}
    for preset in ("beta-vae", "beta-tcvae", "factor-vae", "dip-vae", "standard-vae"):
        if preset not in vaekit.presets():
            continue
        settings = (
            "model.latent_size=10",
            "encoder.name=conv",
            "decoder.name=conv",
            "train.threads=1",
            "train.steps=600",
        )
        options = [word for setting in settings for word in ("--set", setting)]
        record, run = trained(preset, "--data", "shapes", *options)
        evaluation = evaluate_run(run, vaekit.load(run.path), samples=10, images=500)
        named = {value.name: value.value for value in evaluation.values}
        scores = ("MIG", "SAP", "FactorVAE score", "DCI disentanglement", "DCI completeness", "DCI informativeness")
        results[preset] = record | {name: named.get(name) for name in (*scores, "rate", "distortion")}
        print(preset, {name: results[preset][name] for name in scores}, flush=True)
    return results


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "ex-post": ex_post,
    "labels": labels,
    "spheres": spheres,
    "levels": levels,
    "factors": factors,
}


def main() -> None:
    """Run the parts that are asked for, all by default."""
    torch.set_num_threads(1)
    for name in sys.argv[1:] or list(PARTS):
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        if name in results:
            continue
        began = time.perf_counter()
        found = PARTS[name]()
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        results[name] = {"runs": found, "seconds": round(time.perf_counter() - began), "hardware": processor()}
        RESULTS.write_text(json.dumps(dict(sorted(results.items())), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
