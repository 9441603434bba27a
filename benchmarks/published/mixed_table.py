"""New rows of a mixed table: ours beside a bootstrap and a Gaussian copula, on the penguins of Palmer station.

pip install palmerpenguins
python benchmarks/published/mixed_table.py --seeds 5

Half of the complete rows is learned from, the other half, drawn by the seed, is what new rows are compared with:

shapes   1 less the distance of a column's distributions, Kolmogorov–Smirnov's or the total variation; mean of columns
pairs    1 less half the difference of Spearman correlations (levels by number); mean of pairs
C2ST     AUROC of a random forest that tells new rows from real ones, five-fold: 0.5 is best
TSTR     accuracy of a random forest for the sex, trained on new rows, tested on real ones
copies   median distance of a new row to the nearest row learned from, over that of a real one; 0 is a copy, 1 is best
"""

import argparse
import warnings
from collections.abc import Callable
from importlib.resources import files

import numpy as np
import pandas as pd
from measured import measured, record
from scipy import stats
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import NearestNeighbors

from vaekit.sklearn import VAE

TARGET = "sex"
Maker = Callable[[pd.DataFrame, int, int], pd.DataFrame]


def penguins() -> pd.DataFrame:
    """333 complete rows: species, island, four measures, sex, year."""
    return pd.read_csv(str(files("palmerpenguins") / "data" / "penguins.csv")).dropna(ignore_index=True)


def ours(train: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    vae = VAE(random_state=seed, columns={"year": "categorical"}).fit(train)
    return vae.sample(n, random_state=seed)


def bootstrap(train: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    return train.sample(n, replace=True, random_state=seed, ignore_index=True)


def independent(train: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """Each column by itself."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame({name: rng.choice(train[name], n) for name in train})


def copula(train: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """A Gaussian copula; levels take intervals as long as they are frequent, from which a value is drawn."""
    rng = np.random.default_rng(seed)
    codes = numbers(train, train)
    ranks = (stats.rankdata(codes + 1e-6 * rng.random(codes.shape), axis=0) - 0.5) / len(codes)
    correlation = np.corrcoef(stats.norm.ppf(ranks).T)
    drawn = rng.multivariate_normal(np.zeros(len(correlation)), correlation, n)
    places = stats.norm.cdf(drawn)
    made = {}
    for i, name in enumerate(train):
        order = np.argsort(codes[:, i], kind="stable")
        if train[name].dtype.kind == "f":
            made[name] = np.quantile(train[name], places[:, i])
        else:
            made[name] = train[name].to_numpy()[order[(places[:, i] * len(order)).astype(int)]]
    return pd.DataFrame(made)


MAKERS: dict[str, Maker] = {
    "bootstrap": bootstrap,
    "independent columns": independent,
    "Gaussian copula": copula,
    "ours": ours,
}


def numbers(frame: pd.DataFrame, like: pd.DataFrame) -> np.ndarray:
    """Rows as numbers, (N, D); levels by number."""
    found = []
    for name in like:
        levels = sorted(like[name].unique())
        numeric = like[name].dtype.kind == "f"
        found.append(frame[name] if numeric else frame[name].map({level: i for i, level in enumerate(levels)}))
    return np.stack([np.asarray(column, float) for column in found], 1)


def one_hot(frame: pd.DataFrame, like: pd.DataFrame) -> np.ndarray:
    """Standardized numbers and one-hot levels."""
    parts = []
    for name in like:
        if like[name].dtype.kind == "f":
            parts.append(((frame[name] - like[name].mean()) / like[name].std()).to_numpy(float)[:, None])
        else:
            parts.append((np.asarray(frame[name])[:, None] == np.asarray(sorted(like[name].unique()))) * 1.0)
    return np.hstack(parts)


def report(new: pd.DataFrame, train: pd.DataFrame, real: pd.DataFrame, seed: int) -> dict[str, float]:
    """The five figures."""
    shapes = []
    for name in real:
        if real[name].dtype.kind == "f":
            shapes.append(1 - stats.ks_2samp(new[name], real[name]).statistic)
        else:
            a, b = (frame[name].value_counts(normalize=True) for frame in (new, real))
            shapes.append(1 - a.sub(b, fill_value=0).abs().sum() / 2)
    trends = [stats.spearmanr(numbers(frame, train)).statistic for frame in (new, real)]
    upper = np.triu_indices(len(real.columns), 1)
    forest = RandomForestClassifier(200, min_samples_leaf=3, random_state=seed)
    both = np.vstack([one_hot(new, train), one_hot(real, train)])
    which = np.r_[np.zeros(len(new)), np.ones(len(real))]
    told = cross_val_predict(forest, both, which, cv=5, method="predict_proba")[:, 1]
    inputs = [name for name in real if name != TARGET]
    forest.fit(one_hot(new[inputs], train[inputs]), new[TARGET])
    nearest = NearestNeighbors(n_neighbors=1).fit(one_hot(train, train))
    distances = [np.median(nearest.kneighbors(one_hot(frame, train))[0]) for frame in (new, real)]
    return {
        "shapes": float(np.mean(shapes)),
        "pairs": 1 - float(np.abs(trends[0] - trends[1])[upper].mean()) / 2,
        "C2ST": float(roc_auc_score(which, told)),
        "TSTR": float((forest.predict(one_hot(real[inputs], train[inputs])) == real[TARGET]).mean()),
        "copies": float(distances[0] / distances[1]),
    }


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--contenders", nargs="+", choices=list(MAKERS), default=list(MAKERS))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    table = penguins()
    for contender in options.contenders:

        def figures(seed: int, make: Maker = MAKERS[contender]) -> dict[str, float]:
            order = np.random.default_rng(seed).permutation(len(table))
            train, real = (table.iloc[rows].reset_index(drop=True) for rows in np.array_split(order, 2))
            return report(make(train, len(real), seed), train, real, seed)

        values, seconds = measured(figures, range(options.seeds))
        for metric in values[0]:
            what = {"data": "penguins", "task": "new rows", "contender": contender, "metric": metric, "published": None}
            record("mixed-table.json", [value[metric] for value in values], seconds, **what)


if __name__ == "__main__":
    main()
