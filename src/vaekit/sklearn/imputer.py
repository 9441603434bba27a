"""Missing values of a table, filled in."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ..data.table.column_kinds import Raw
from ..data.table.frames import pandas
from ..errors import check_count
from ..evaluation.missing.imputation import weighted_latents
from ..rng import seeded
from .estimator import TableEstimator


class VAEImputer(OneToOneFeatureMixin, TransformerMixin, TableEstimator):  # type: ignore[misc]
    """Fills in missing values, NaN, from the observed values of their row.

    A number becomes its mean given the observed values, and a level the most likely level, over `n_draws` weighted
    samples of the latents. Observed values stay as they are. `impute` draws several completed tables instead, for an
    analysis of the uncertainty of the filled-in values.

    Arguments:
        n_components, preset, hidden_layer_sizes, max_iter, learning_rate, columns, settings, random_state: See `VAE`.
        validation_fraction: See `VAE`; 0 by default, so that the model learns from all rows.
        n_draws: K, weighted samples of each row.
        add_indicator: Append an indicator for each column with missing values in `fit`: 1 where the value is missing.

    Reference: Mattei and Frellsen 2019, arXiv:1812.02633, section 3.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(64, 3))
    >>> X[0, 1] = np.nan
    >>> VAEImputer(max_iter=2, random_state=0).fit_transform(X).shape
    (64, 3)
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        preset: str = "table-vae",
        hidden_layer_sizes: Sequence[int] | None = None,
        max_iter: int | None = None,
        learning_rate: float | None = None,
        validation_fraction: float = 0.0,
        n_draws: int = 1000,
        add_indicator: bool = False,
        columns: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        random_state: Any = None,
    ) -> None:
        super().__init__(
            n_components,
            preset=preset,
            hidden_layer_sizes=hidden_layer_sizes,
            max_iter=max_iter,
            learning_rate=learning_rate,
            validation_fraction=validation_fraction,
            n_draws=n_draws,
            columns=columns,
            settings=settings,
            random_state=random_state,
        )
        self.add_indicator = add_indicator

    def fit(self, X: Any, y: Any = None) -> Any:
        """Train on the observed values of X, shape (N, D); y is not used."""
        raws = self._raws(X, fitting=True)
        self._train(raws)
        self.indicated_ = np.flatnonzero([raw.missing.any() for raw in raws])
        return self

    def transform(self, X: Any) -> Any:
        """X with its missing values filled in: an array of shape (N, D), or a frame for a frame of mixed columns."""
        check_is_fitted(self)
        raws = self._raws(X)
        rows = self._batch(raws)
        filled = torch.cat(
            [part.filled(part.best()).cpu() for part in weighted_latents(self.model_, rows, self.n_draws)]
        )
        return self._completed(X, raws, filled)

    def impute(self, X: Any, n_imputations: int = 5, random_state: Any = None) -> list[Any]:
        """Several completed tables; the filled-in values are draws from p(missing | observed).

        Arguments:
            X: Rows, shape (N, D).
            n_imputations: Number of tables.
            random_state: Seed; None for one from NumPy's global stream.
        """
        check_is_fitted(self)
        check_count("n_imputations", n_imputations)
        raws = self._raws(X)
        rows = self._batch(raws)
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        with seeded(torch.Generator().manual_seed(seed)):
            parts = [part.sample(n_imputations) for part in weighted_latents(self.model_, rows, self.n_draws)]
        return [self._completed(X, raws, values) for values in torch.cat(parts, 1)]

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Names of the columns that `transform` returns: X's columns, then the indicators."""
        check_is_fitted(self)
        names: NDArray[Any] = super().get_feature_names_out(input_features)
        if not self.add_indicator:
            return names
        return np.concatenate([names, np.array([f"missingindicator_{names[i]}" for i in self.indicated_], object)])

    def _completed(self, X: Any, raws: list[Raw], x: Tensor) -> Any:
        """X with the model's values x in place of the missing ones."""
        decoded = self._decoded(x)
        indicators = np.stack([raw.missing for raw in raws], 1)[:, self.indicated_ if self.add_indicator else []]
        if not self._fitted_mixed:
            array = np.stack([np.where(raw.missing, d, raw.values) for raw, d in zip(raws, decoded, strict=True)], 1)
            return np.hstack([array, indicators.astype(array.dtype)])
        frame = X.to_pandas() if not hasattr(X, "iloc") else X.copy()
        for i, raw in enumerate(raws):
            if raw.missing.any():
                frame.isetitem(i, with_filled(frame.iloc[:, i], raw.missing, decoded[i]))
        for column, place in enumerate(self.indicated_ if self.add_indicator else ()):
            frame[f"missingindicator_{raws[place].name}"] = indicators[:, column]
        return frame


def with_filled(series: Any, missing: NDArray[np.bool_], values: NDArray[Any]) -> Any:
    """A column with its missing values replaced, of the same type."""
    series, zone = series.copy(), getattr(series.dtype, "tz", None)
    filled = values[missing]
    series[missing] = filled if zone is None else pandas().to_datetime(filled, utc=True).tz_convert(zone)
    return series.infer_objects()
