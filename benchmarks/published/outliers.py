"""Rows that are unusual: ours beside scikit-learn's detectors and PyOD's.

python benchmarks/published/outliers.py --seeds 5
python benchmarks/published/outliers.py --seeds 5 --contenders "PyOD VAE" "PyOD AutoEncoder"   # where PyOD is installed

Half of the normal rows are trained on, drawn by the seed; the other half and all unusual rows are told apart. Columns
are standardized by the training rows for all but ours, which takes them as they are; digits stay as they are for the
neighbours, whose distances the scaling of nearly constant pixels spoils. AUROC: 1 is perfect, 0.5 is chance.
"""

import argparse
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from measured import measured, record
from sklearn import datasets
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler

from vaekit.sklearn import VAEOutlierDetector

Scores = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def forest(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Higher is more unusual, as of all functions here."""
    return -IsolationForest(random_state=seed).fit(train).score_samples(test)


def factor(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    return -LocalOutlierFactor(novelty=True).fit(train).score_samples(test)


def neighbours(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    return NearestNeighbors(n_neighbors=5).fit(train).kneighbors(test)[0].mean(1)


def ours(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """As it comes for columns of different kinds; pixels have one unit, and so one σ."""
    if train.shape[1] < 64:
        return -VAEOutlierDetector(random_state=seed).fit(train).score_samples(test)
    pixels: dict[str, Any] = {"preset": "sigma-vae", "n_components": 10, "hidden_layer_sizes": (512,), "max_iter": 150}
    pixels["validation_fraction"] = 0.0  # a tenth of 811 images is better learned from
    return -VAEOutlierDetector(**pixels, random_state=seed).fit(train / 16).score_samples(test / 16)


def pyod_vae(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    from pyod.models.vae import VAE

    return _pyod(VAE, train, test, seed)


def pyod_auto_encoder(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    from pyod.models.auto_encoder import AutoEncoder

    return _pyod(AutoEncoder, train, test, seed)


def _pyod(detector: Any, train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    torch.manual_seed(seed)
    return detector(random_state=seed, verbose=0).fit(train).decision_function(test)


CONTENDERS: dict[str, Scores] = {
    "IsolationForest": forest,
    "LOF": factor,
    "kNN": neighbours,
    "PyOD VAE": pyod_vae,
    "PyOD AutoEncoder": pyod_auto_encoder,
    "ours": ours,
}
DATA = {"digits": 8, "breast_cancer": 0}  # and the class that is unusual: an eight, malignant


def auroc(name: str, contender: str, seed: int) -> float:
    """How well a contender tells the unusual class."""
    data = getattr(datasets, f"load_{name}")()
    unusual = data.target == DATA[name]
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(~unusual))
    half = len(normal) // 2
    train, test = data.data[normal[:half]], data.data[np.concatenate([normal[half:], np.flatnonzero(unusual)])]
    if contender != "ours" and name != "digits":
        scaler = StandardScaler().fit(train)
        train, test = scaler.transform(train), scaler.transform(test)
    truth = np.r_[np.zeros(len(normal) - half), np.ones(unusual.sum())]
    return float(roc_auc_score(truth, CONTENDERS[contender](train, test, seed)))


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", nargs="+", choices=list(DATA), default=list(DATA))
    parser.add_argument(
        "--contenders", nargs="+", choices=list(CONTENDERS), default=["IsolationForest", "LOF", "kNN", "ours"]
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in options.data:
        for contender in options.contenders:
            values, seconds = measured(lambda seed, n=name, c=contender: auroc(n, c, seed), range(options.seeds))
            task = "8 against the rest" if name == "digits" else "malignant"
            what = {"data": name, "task": task, "contender": contender, "metric": "AUROC", "published": None}
            record("outliers.json", values, seconds, **what)


if __name__ == "__main__":
    main()
