"""The estimators by scikit-learn's own checks, what these do not call, and the closed forms behind them."""

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from vaekit import build, fit
from vaekit.config.recipe import Recipe
from vaekit.runs import own_model
from vaekit.sklearn import VAE, VAEImputer, VAEOutlierDetector

TINY: dict[str, Any] = {"hidden_layer_sizes": (8,), "max_iter": 2, "n_draws": 5, "validation_fraction": 0.0}
ESTIMATORS = [VAE(2, **TINY), VAEImputer(2, **TINY), VAEOutlierDetector(2, **TINY)]
TRANSFORMERS = ESTIMATORS[:2]


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda estimator: type(estimator).__name__)
def test_names_of_columns_are_remembered_and_compared(estimator: Any) -> None:
    estimator_checks.check_dataframe_column_names_consistency(type(estimator).__name__, estimator)


@pytest.mark.filterwarnings("ignore:X (has|does not have)")  # which scikit-learn means to say here
@pytest.mark.parametrize(
    "check",
    [
        "check_transformer_get_feature_names_out",
        "check_transformer_get_feature_names_out_pandas",
        "check_get_feature_names_out_error",
        "check_set_output_transform",
        "check_set_output_transform_pandas",
        "check_global_output_transform_pandas",
    ],
)
@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=lambda transformer: type(transformer).__name__)
def test_names_of_outputs_and_set_output(transformer: Any, check: str) -> None:
    getattr(estimator_checks, check)(type(transformer).__name__, transformer)


@pytest.fixture(scope="module")
def plane() -> np.ndarray:
    """200 rows of five columns near a plane, in units and places of their own; a fifth of the values missing."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 5)) + 0.1 * rng.normal(size=(200, 5))
    x = x * [1, 10, 100, 0.1, 1] + [0, 5, -300, 1e6, 2]
    x[rng.random(x.shape) < 0.2] = np.nan
    return x


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """60 rows of six columns, each of another type; two values missing in each but the last, which is constant."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "mass": rng.normal(4000, 800, 60),
            "female": rng.choice(["no", "yes"], 60),
            "island": pd.Categorical(rng.choice(["Biscoe", "Dream", "Torgersen"], 60)),
            "day": pd.date_range("2007-11-11", periods=60),
            "eggs": pd.array(rng.integers(0, 3, 60), "Int64"),
            "planet": "Earth",
        }
    )
    for place, name in enumerate(frame.columns[:-1]):
        frame.loc[[2 * place, 2 * place + 1], name] = None
    return frame


def test_a_row_scores_the_same_in_any_company(plane: np.ndarray) -> None:
    vae = VAE(2, hidden_layer_sizes=(512,), max_iter=2, n_draws=20, random_state=0).fit(plane)
    scores = vae.score_samples(plane)
    alone = np.concatenate([vae.score_samples(plane[i : i + 1]) for i in range(20)])
    np.testing.assert_allclose(scores[:20], alone, rtol=1e-10)
    assert vae.score(plane) == scores.mean()


def test_densities_are_in_the_units_of_the_data(plane: np.ndarray) -> None:
    """A column in other units moves log p by the log of the factor, wherever its value is observed."""
    options = {"hidden_layer_sizes": (8,), "max_iter": 3, "random_state": 0}
    scores = VAE(2, **options).fit(plane).score_samples(plane)
    other = VAE(2, **options).fit(plane * [1, 1, 1, 1, 1024]).score_samples(plane * [1, 1, 1, 1, 1024])
    seen = ~np.isnan(plane[:, 4])
    np.testing.assert_allclose(other - scores, -np.log(1024) * seen, atol=1e-3)


def test_filled_in_values_follow_the_plane(plane: np.ndarray) -> None:
    options = {"hidden_layer_sizes": (32,), "max_iter": 100, "learning_rate": 2e-2}
    imputer = VAEImputer(2, **options, n_draws=100, random_state=0)
    filled = imputer.fit_transform(plane)
    known = ~np.isnan(plane)
    np.testing.assert_array_equal(filled[known], plane[known])
    left = PCA(2).fit(filled / filled.std(0)).explained_variance_ratio_.sum()
    constant = np.where(known, plane, np.nanmean(plane, 0))
    assert left > 0.95 > PCA(2).fit(constant / constant.std(0)).explained_variance_ratio_.sum()
    several = np.stack(imputer.impute(plane, 20, random_state=0))
    np.testing.assert_array_equal(several[:, known], np.broadcast_to(plane[known], (20, known.sum())))
    spread = several.std(0)[~known] / np.broadcast_to(filled.std(0), plane.shape)[~known]
    assert 0.05 < np.median(spread) < 0.6  # the noise is about a tenth of the columns
    again = np.stack(imputer.impute(plane, 20, random_state=0))
    np.testing.assert_array_equal(several, again)


def test_indicators_are_of_the_columns_that_had_missing_values() -> None:
    x = np.random.default_rng(0).normal(size=(30, 3))
    x[:3, 1] = np.nan
    imputer = VAEImputer(2, **TINY, add_indicator=True).fit(x)
    assert imputer.get_feature_names_out().tolist() == ["x0", "x1", "x2", "missingindicator_x1"]
    np.testing.assert_array_equal(imputer.transform(x)[:, 3], np.isnan(x[:, 1]))
    framed = imputer.set_output(transform="pandas").transform(x)
    assert framed.columns.tolist() == imputer.get_feature_names_out().tolist()


def test_a_frame_of_mixed_columns_comes_back_as_one(frame: pd.DataFrame) -> None:
    imputer = VAEImputer(2, **TINY, random_state=0).fit(frame)
    for filled in (imputer.transform(frame), imputer.impute(frame, 1, random_state=0)[0]):
        assert not filled.isna().any().any()
        pd.testing.assert_series_equal(filled.dtypes, frame.dtypes)
        pd.testing.assert_frame_equal(filled.where(frame.notna()), frame, check_dtype=False)
        assert set(filled["female"]) == {"no", "yes"}
        assert (filled["female"][frame["female"].notna()] == frame["female"].dropna()).all()
    vae = VAE(2, **TINY, random_state=0).fit(frame)
    for rows in (vae.sample(7, random_state=0), vae.inverse_transform(vae.transform(frame))[:7]):
        assert rows.columns.tolist() == frame.columns.tolist()
        assert rows["island"].dtype == frame["island"].dtype
        assert set(rows["planet"]) == {"Earth"}
    assert np.isfinite(vae.score_samples(frame)).all()
    assert set(VAEOutlierDetector(2, **TINY).fit_predict(frame)) == {-1, 1}


def test_pandas_in_and_out(plane: np.ndarray) -> None:
    named = pd.DataFrame(plane, columns=list("abcde"), index=range(1000, 1200))
    for transformer in TRANSFORMERS:
        out = clone(transformer).set_output(transform="pandas").fit_transform(named)
        assert out.index.equals(named.index)
        assert out.columns.tolist() == (["vae0", "vae1"] if isinstance(transformer, VAE) else list("abcde"))


def test_seeds() -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    state = torch.get_rng_state()
    first, again, other = (VAE(2, **TINY, random_state=seed).fit_transform(x) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    np.random.seed(5)
    unseeded = [VAE(2, **TINY).fit_transform(x) for _ in range(2)]
    assert np.abs(unseeded[0] - unseeded[1]).max() > 1e-3  # 0 is a seed, None is not
    assert torch.equal(torch.get_rng_state(), state)
    vae = VAE(2, **TINY, random_state=0).fit(x)
    np.testing.assert_array_equal(vae.sample(5, random_state=0), vae.sample(5, random_state=0))


@pytest.fixture(scope="module")
def pipeline() -> Any:
    options = {"hidden_layer_sizes": (16,), "max_iter": 3, "n_draws": 5, "random_state": 0}
    return make_pipeline(VAEImputer(4, **options), VAE(**options), LogisticRegression(max_iter=1000))


@pytest.fixture(scope="module")
def tumours() -> tuple[np.ndarray, np.ndarray]:
    data = load_breast_cancer()
    x, y = data.data[:120].copy(), data.target[:120]
    x[::3, 4] = np.nan
    return x, y


def test_pipeline_clone_and_pickle(pipeline: Any, tumours: Any) -> None:
    x, y = tumours
    fitted = clone(pipeline).set_params(vae__n_components=2).fit(x, y)
    assert fitted.score(x, y) > 0.5
    restored = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(restored.predict_proba(x), fitted.predict_proba(x))
    assert clone(restored).get_params()["vae__n_components"] == 2
    search = GridSearchCV(VAE(**TINY), {"n_components": [1, 2]}, cv=2).fit(x)  # by the mean of log p
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.slow  # two processes import torch
def test_grid_search_in_processes(pipeline: Any, tumours: Any) -> None:
    grid = {"vae__n_components": [2, 3]}
    scores = [
        GridSearchCV(pipeline, grid, cv=2, n_jobs=jobs).fit(*tumours).cv_results_["mean_test_score"] for jobs in (1, 2)
    ]
    np.testing.assert_allclose(scores[0], scores[1], atol=0.05)  # threads may round differently


def test_outliers_have_low_scores() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 1)) * [1, 1, 1] + 0.1 * rng.normal(size=(200, 3))
    x[:5] = rng.uniform(1, 2, (5, 1)) * rng.choice([-1, 1], (5, 1)) * [1, -1, 1]  # each column alone is as usual
    detector = VAEOutlierDetector(2, max_iter=100, learning_rate=3e-3, contamination=0.025, random_state=0).fit(x)
    found = detector.predict(x) == -1
    assert found.sum() == 5
    assert found[:5].all()
    np.testing.assert_array_equal(detector.decision_function(x), detector.score_samples(x) - detector.offset_)


@pytest.mark.parametrize(
    ("estimator", "x", "message"),
    [
        (VAE(), [[1.0, np.nan], [2.0, np.nan]], "column 'x1' has no value in any of 2 rows; leave it out"),
        (VAE(), [[1.0, 2.0], [1.0, 2.0]], "all columns are constant"),
        (VAE(validation_fraction=1.0), [[1.0], [2.0]], "validation_fraction must be less than 1, got 1.0"),
        (VAE(validation_fraction=0.99), [[i / 9] for i in range(40)], "= 0.99 of 40 rows leaves 0 .* to at most 0.95"),
        (VAE(n_draws=0), [[1.0], [2.0]], "n_draws must be at least 1, got 0"),
        (VAE(n_draws=2.5), [[1.0], [2.0]], "n_draws must be a whole number, at least 1, got 2.5"),
        (VAE(2.5), [[1.0], [2.0]], "n_components must be a whole number, at least 1, got 2.5"),
        (VAE(hidden_layer_sizes=64), [[1.0], [2.0]], r"hidden_layer_sizes must be a list, .* pass \[64\]"),
        (VAE(max_iter=2.7), [[1.0], [2.0]], "max_iter must be a whole number, at least 1, got 2.7"),
        (VAE(learning_rate="adaptive"), [[1.0], [2.0]], "learning_rate must be a number, got 'adaptive'"),
        (VAE(columns=["x0"]), [[1.0], [2.0]], "columns must be a dict, or None"),
        (VAE(settings={"train": "long"}), [[1.0], [2.0]], "settings: train must be a dict, or None, got 'long'"),
        (VAEOutlierDetector(contamination="auto"), [[1.0], [2.0]], "contamination must be a number, got 'auto'"),
        (VAE(preset="cvae"), [[0.0], [1.0]], "preset 'cvae' is class-conditional"),
        (VAE(preset="table-vea"), [[1.0], [2.0]], "did you mean 'table-vae'"),
        (VAE(columns={"x7": "positive"}), [[1.0], [2.0]], "unknown column 'x7'"),
        (VAE(columns={"x0": "label"}), [[1.0], [2.0]], "columns: 'x0' is a label: leave it out of X"),
        (VAEOutlierDetector(contamination=0.7), [[1.0], [2.0]], "contamination must be at most 0.5, got 0.7"),
        (VAE(), pd.DataFrame({"a": ["x"], "b": ["y"]}), "X has 1 sample, but at least 2"),
    ],
)
def test_what_does_not_work_is_said(estimator: Any, x: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimator.fit(x)


def test_a_new_level_is_named_with_its_row(frame: pd.DataFrame) -> None:
    vae = VAE(2, **TINY).fit(frame)
    strange = frame.assign(female=["maybe", *frame["female"][1:]])
    with pytest.raises(ValueError, match="column 'female', row 1: unknown level 'maybe'"):
        vae.transform(strange)
    with pytest.raises(ValueError, match="X must be a frame, as in fit, got ndarray"):
        vae.transform(np.zeros((3, 6)))


def test_scikit_learn_is_imported_by_its_own_package_only() -> None:
    code = "import sys, vaekit; vaekit.fit; vaekit.train; print('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("vaekit.sklearn")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, sklearn.__name__, None)
    with pytest.raises(ImportError, match=r"install vaekit\[sklearn\]"):
        import vaekit.sklearn  # noqa: F401


def test_columns_with_integer_names_may_be_constant() -> None:
    frame = pd.DataFrame({0: ["a", "b"] * 20, 1: range(40), 2: [7] * 40})
    model = VAE(2, hidden_layer_sizes=(8,), max_iter=1, random_state=0).fit(frame)
    drawn = model.sample(3, random_state=0)
    assert list(drawn.columns) == ["0", "1", "2"] and (drawn["2"] == 7).all()


def test_parts_start_from_the_means_of_missing_values_as_in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    build = Recipe.model
    monkeypatch.setattr(Recipe, "model", lambda self, **facts: (seen.append(facts["x"]), build(self, **facts))[1])
    x = 1000 + np.random.default_rng(0).standard_normal((60, 2))
    x[::2, 0] = np.nan
    VAE(settings={"prior": "vamp"}, max_iter=1).fit(x)
    assert seen[0].min().item() > 990 and seen[0].max().item() < 1010


def test_estimators_are_silent_in_a_terminal(
    plane: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(own_model, "is_watched", lambda: True)
    model = build("vae", event_shape=(3,), likelihood="normal", latent_size=1)
    fit(model, torch.rand(20, 3), epochs=1)
    assert "epoch" in capsys.readouterr().err  # which would show it
    VAEOutlierDetector(max_iter=1, random_state=0).fit(plane)
    assert capsys.readouterr() == ("", "")
