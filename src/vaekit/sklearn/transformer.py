"""A VAE as a transformer and a density: latents of rows, rows of latents, densities of rows, and new rows."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ..data.table.frames import frame_of
from ..errors import DataError, check_count
from ..evaluation.missing.imputation import posterior_mean
from ..rng import seeded
from .estimator import TableEstimator


class VAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, TableEstimator):  # type: ignore[misc]
    """Latents of the rows of a table, their densities, and new rows.

    It takes an array of numbers, with real columns, or a frame with columns of any kind. A missing value is NaN; it is
    left out of every density. Numbers need no scaling.

    Arguments:
        n_components: Z, the number of latents; by default the preset's.
        preset: Preset to train; `vaekit.presets()` lists all presets.
        hidden_layer_sizes: Widths of the hidden layers of both networks; by default the preset's.
        max_iter: Most epochs; by default about 4,000 steps, from 10 to 400 epochs.
        learning_rate: Learning rate of the optimizer; by default the preset's.
        validation_fraction: Share of the rows held out, to stop training and to choose the weights. With fewer than 10
            held-out rows there is no validation, and training takes `max_iter` epochs.
        n_draws: K, importance samples of each row, for densities.
        columns: Kinds of columns by name, such as {"age": "positive"}; arrays have columns x0, x1, ….
        settings: Sections of a config, such as {"prior": "vamp"}, on top of the other arguments.
        random_state: Seed of initialization, order and noise; None for one from NumPy's global stream.

    Attributes:
        model_: The trained `vaekit.LatentVariableModel`, in double precision.
        columns_: Columns that the model was trained on; constant columns are left out.
        n_iter_: Number of epochs.
        history_: A record of means for each epoch, as `vaekit.fit` returns them.
        n_features_in_: Number of columns of X.
        feature_names_in_: Names of the columns, if X had names.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(64, 3))
    >>> vae = VAE(2, hidden_layer_sizes=(8,), max_iter=2, random_state=0).fit(X)
    >>> vae.transform(X).shape, vae.get_feature_names_out().tolist()
    ((64, 2), ['vae0', 'vae1'])
    """

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Means of q(z | x), shape (N, Z)."""
        rows = self._rows(X)
        z = posterior_mean(self.model_, rows)
        return z.flatten(1).cpu().double().numpy()

    def inverse_transform(self, X: Any) -> Any:
        """Means of p(x | z), and the most likely levels: an array, or a frame if one of mixed columns was fitted.

        Arguments:
            X: Latents, shape (N, Z).
        """
        check_is_fitted(self)
        z = torch.from_numpy(np.array(check_array(X, dtype=np.float64)))
        if z.shape[1] != self._n_features_out:
            raise DataError(f"latents must have shape (N, {self._n_features_out}), got {tuple(z.shape)}")
        return self._table(self.model_.decode(z.to(self.model_.dtype).unflatten(1, self.model_.latent_shape)))

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Lower bounds L_K on log p(x), of the observed values of each row, shape (N,), nats; higher is more likely."""
        return self._log_prob(self._rows(X))

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of `score_samples`; `GridSearchCV` compares models of the same data by it."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, random_state: Any = None) -> Any:
        """New rows: an array, or a frame if one of mixed columns was fitted.

        Arguments:
            n_samples: Number of rows.
            random_state: Seed; None for one from NumPy's global stream.
        """
        check_is_fitted(self)
        check_count("n_samples", n_samples)
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        with seeded(torch.Generator().manual_seed(seed)):
            return self._table(self.model_.sample(n_samples, noise=True))

    def _table(self, x: Tensor) -> Any:
        """The model's rows, in the form of X."""
        decoded = self._decoded(x)
        if not self._fitted_mixed:
            return np.stack(decoded, 1)
        frame = frame_of(x.cpu().double().numpy(), self.columns_)
        for i in sorted(self.constants_):
            frame.insert(i, self._names[i], decoded[i])
        return frame

    @property
    def _n_features_out(self) -> int:
        return self.model_.latent_size
