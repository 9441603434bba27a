"""One digit of MNIST is unusual: which score tells it from the nine that were trained on?

python benchmarks/published/one_digit.py --latents 2

Ten trainings for each size of the latents: preset standard-vae, hidden layers of 256 and one sample. With 32 latents 3
epochs on the first 20,000 training images of nine digits; two latents take longer to learn: 20 epochs on all of
them. The first 2,000 test images are scored; AUROC of the left-out digit, 1
being perfect and 0.5 chance. Scores, higher being more unusual: the negative ELBO; −L_10; and two that leave out how
complex an image is, which is its total variation V, the sum of the absolute differences of neighbouring pixels: −L_10 /
V, and what log(−L_10) is above a straight line over log V through 1,000 validation images of the nine digits. The
idea is that of Serrà et al. 2020
(arXiv:1909.11480), who subtract the length of a compressed file; on grey digits that helps less (docs/log.md).

Digits that are recorded already are not trained again; remove one-digit.json to begin anew.
"""

import argparse
from typing import Any

import numpy as np
import torch
from measured import measured, record, recorded
from sklearn.metrics import roc_auc_score

import vaekit
from vaekit.config import read
from vaekit.config.recipe import Recipe
from vaekit.data.batches import as_one_batch
from vaekit.evaluation.likelihood.bounds import bounds

PUBLISHED = {
    2: (0.96, 0.73, 0.97, 0.94, 0.73, 0.92, 0.95, 0.77, 0.92, 0.66),
    32: (0.81, 0.09, 0.92, 0.87, 0.78, 0.86, 0.87, 0.51, 0.89, 0.58),
}
LENGTH = {2: (20, None), 32: (3, 20_000)}  # epochs, and training images
K = 10


def variation(x: torch.Tensor) -> np.ndarray:
    """Total variation of images (N, 1, H, W): how long their edges are."""
    across, down = x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]
    return (across.abs().flatten(1).sum(1) + down.abs().flatten(1).sum(1)).double().numpy()


def aurocs(digit: int, latents: int, data: Any) -> dict[str, float]:
    """Train without a digit, and tell it by each score."""
    epochs, images = LENGTH[latents]
    kept = data.train.rows(torch.nonzero(data.train.labels != digit)[:images, 0])
    sections = {"model": {"latent_size": latents}, "encoder": {"hidden": [256, 256]}, "decoder": {"hidden": [256, 256]}}
    sections["objective"] = {"samples": 1}
    recipe = Recipe.resolve(read("standard-vae", sections={**sections, "train": {"epochs": epochs}}))
    torch.manual_seed(digit)
    model = recipe.model(event_shape=(1, 28, 28), num_classes=0, x=as_one_batch(kept.rows(slice(10_000))).x)
    loss = recipe.loss(model, dataset_size=len(kept))
    vaekit.fit(
        model,
        kept,
        objective=loss,
        optimizer=recipe.optimizer(model),
        schedule=recipe.schedule(),
        options=recipe.config.train.for_fit(),
    )
    normal = data.validation.rows(torch.nonzero(data.validation.labels != digit)[:1000, 0])
    tested = data.test.rows(slice(2000))
    known, test = (as_one_batch(split).x for split in (normal, tested))
    found, of_known = (bounds(model, x, samples=(K,), precision="auto").per_row for x in (test, known))
    nll, of_known = (-values[f"L_{K}"].numpy() for values in (found, of_known))
    line = np.polyfit(np.log(variation(known)), np.log(of_known), 1)
    scores = {
        "−ELBO": -found["elbo"].numpy(),
        f"−L_{K}": nll,
        f"−L_{K} / variation": nll / variation(test),
        f"log(−L_{K}), line of log variation": np.log(nll) - np.polyval(line, np.log(variation(test))),
    }
    unusual = (tested.labels == digit).numpy()
    return {name: float(roc_auc_score(unusual, score)) for name, score in scores.items()}


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latents", nargs="+", type=int, choices=list(PUBLISHED), default=list(PUBLISHED))
    parser.add_argument("--digits", nargs="+", type=int, default=list(range(10)))
    options = parser.parse_args()
    data = vaekit.data.load("mnist")
    for latents in options.latents:
        earlier = recorded("one-digit.json", task=f"one digit, z = {latents}")
        known: dict[str, dict[str, float]] = {one["contender"]: dict(one["digits"]) for one in earlier}
        seconds = [one["seconds"] for one in earlier[:1]]
        done = {int(digit) for one in earlier for digit in one["digits"]}
        for digit in (digit for digit in options.digits if digit not in done):
            values, took = measured(lambda seed, z=latents: aurocs(seed, z, data), [digit])
            seconds.append(took)
            for score, value in values[0].items():
                known.setdefault(score, {})[str(digit)] = round(value, 5)
                published = PUBLISHED[latents] if score == "−ELBO" else None
                what = {"data": "MNIST", "task": f"one digit, z = {latents}", "contender": score, "metric": "AUROC"}
                epochs, images = LENGTH[latents]
                by = {"digits": dict(sorted(known[score].items())), "published": published, "epochs": epochs}
                by["images"] = images or "all"
                record("one-digit.json", list(known[score].values()), sum(seconds) / len(seconds), **by, **what)


if __name__ == "__main__":
    main()
