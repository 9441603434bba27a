"""Missing values filled in: ours beside the mean, nearest neighbours and scikit-learn's iterative imputer.

python benchmarks/published/imputation.py --data breast_cancer --missing mcar --share 0.5 --seeds 5
python benchmarks/published/imputation.py --data breast_cancer --missing self-masking --seeds 5
python benchmarks/published/imputation.py --data wine digits diabetes --missing mcar --share 0.2 0.5 --seeds 3

Columns are standardized with all values known, as Mattei and Frellsen 2019 (arXiv:1812.02633) and Ipsen et al. 2021
(arXiv:2006.12871) do; constant ones are left out. The error is that of the missing cells: the mean square ("mcar"), or
its root ("self-masking": in the first half of the columns every value above the mean is missing).
"""

import argparse
import warnings
from typing import Any

import numpy as np
from measured import measured, record
from sklearn import datasets
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

from vaekit.sklearn import VAEImputer

PUBLISHED = {  # data, task: contender: figure
    ("breast_cancer", "mcar 50 %"): {"ours": 0.280},
    ("breast_cancer", "self-masking"): {"ours": 0.72},
}


def contenders(name: str, task: str, seed: int) -> dict[str, Any]:
    """Imputers by name."""
    return {
        "mean": SimpleImputer(),
        "kNN": KNNImputer(),
        "iterative": IterativeImputer(max_iter=20, random_state=seed),
        "ours": ours(name, task, seed),
    }


def ours(name: str, task: str, seed: int) -> VAEImputer:
    """Our imputer as it comes; for pixels one scale for all, as for unusual rows; where values hide themselves, the
    preset that models this, trained in the same way."""
    if name == "digits":
        return VAEImputer(preset="sigma-vae", hidden_layer_sizes=(512,), random_state=seed)
    if task != "self-masking":
        return VAEImputer(random_state=seed)
    return VAEImputer(preset="not-miwae", random_state=seed)


def table(name: str) -> np.ndarray:
    """Standardized columns, (N, D)."""
    x = getattr(datasets, f"load_{name}")().data
    x = x[:, x.std(0) > 0]
    return (x - x.mean(0)) / x.std(0)


def holes(x: np.ndarray, share: float | None, seed: int) -> np.ndarray:
    """Which values are missing."""
    if share is not None:
        return np.random.default_rng(seed).random(x.shape) < share
    missing = np.zeros(x.shape, bool)
    half = x.shape[1] // 2
    missing[:, :half] = x[:, :half] > 0
    return missing


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["breast_cancer"])
    parser.add_argument("--missing", choices=("mcar", "self-masking"), default="mcar")
    parser.add_argument("--share", nargs="+", type=float, default=[0.5])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--contenders", nargs="+", default=["mean", "kNN", "iterative", "ours"])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in options.data:
        for share in options.share if options.missing == "mcar" else [None]:
            task = "self-masking" if share is None else f"mcar {share:.0%}".replace("%", " %")
            for contender in options.contenders:
                x = table(name)

                def error(
                    seed: int, x: Any = x, share: Any = share, on: Any = (name, task), who: str = contender
                ) -> float:
                    missing = holes(x, share, seed)
                    filled = contenders(*on, seed)[who].fit_transform(np.where(missing, np.nan, x))
                    square = float(((filled - x)[missing] ** 2).mean())
                    return square if share is not None else square**0.5

                one = options.missing == "self-masking" and contender in ("mean", "kNN", "iterative")  # the same mask
                values, seconds = measured(error, range(1 if one else options.seeds))
                metric = "MSE" if share is not None else "RMSE"
                published = PUBLISHED.get((name, task), {}).get(contender)
                what = {"data": name, "task": task, "contender": contender, "metric": metric, "published": published}
                record("imputation.json", values, seconds, **what)


if __name__ == "__main__":
    main()
