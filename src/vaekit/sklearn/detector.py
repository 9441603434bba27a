"""Unusual rows: rows of low density."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import OutlierMixin

from ..errors import check_range
from .estimator import TableEstimator


class VAEOutlierDetector(OutlierMixin, TableEstimator):  # type: ignore[misc]
    """Finds rows of low log p(x), in scikit-learn's signs: lower scores are more abnormal, and −1 is an outlier.

    Missing values are left out of the density; a constant column tells nothing and is ignored.

    Arguments:
        n_components, preset, hidden_layer_sizes, max_iter, learning_rate, validation_fraction, columns, settings,
            random_state: See `VAE`.
        n_draws: K, importance samples of each row.
        contamination: Share of outliers among the training rows, in (0, 0.5].

    Attributes:
        offset_: The score below which the share `contamination` of the training rows lies. `decision_function` is
            `score_samples` less `offset_`.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(64, 3))
    >>> detector = VAEOutlierDetector(2, max_iter=20, contamination=0.05, random_state=0).fit(X)
    >>> detector.predict([[0.0, 0.0, 0.0], [50.0, 50.0, 50.0]]).tolist()
    [1, -1]
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        preset: str = "table-vae",
        hidden_layer_sizes: Sequence[int] | None = None,
        max_iter: int | None = None,
        learning_rate: float | None = None,
        validation_fraction: float = 0.1,
        n_draws: int = 100,
        contamination: float = 0.1,
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
        self.contamination = contamination

    def fit(self, X: Any, y: Any = None) -> Any:
        """Train on X, shape (N, D), and find the offset; y is not used."""
        check_range("contamination", self.contamination, 0, 0.5, ends="(]")
        raws = self._raws(X, fitting=True)
        self._train(raws)
        self.offset_ = float(np.percentile(self._log_prob(self._batch(raws)), 100 * self.contamination))
        return self

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Lower bounds L_K on log p(x), shape (N,), nats: lower is more abnormal."""
        return self._log_prob(self._rows(X))

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """`score_samples` less `offset_`, shape (N,): negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> NDArray[np.int64]:
        """−1 for outliers and 1 for others, shape (N,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)
