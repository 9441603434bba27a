"""The base of the estimators: from X to the columns of a table, and to a model trained on them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from ..config import read
from ..config.recipe import Recipe
from ..data import Batch, Split
from ..data.batches import rows_to_start_from
from ..data.table.column_kinds import Raw, check_kinds, column_of, kind_of
from ..data.table.columns import Column
from ..data.table.frames import is_frame, raws_of, raws_of_array
from ..data.table.standardization import statistics_of
from ..errors import ConfigError, DataError, check_count, check_range
from ..evaluation.missing.imputation import weighted_latents
from ..model import LatentVariableModel
from ..nets.base import widths
from ..rng import seeded
from ..runs.own_model import fit
from ..training import find_device

FEWEST_TO_LEARN = 2  # rows
FEWEST_TO_VALIDATE = 10  # rows; the mean of fewer is too noisy for stopping
STEPS, MOST_EPOCHS, FEWEST_EPOCHS = 4000, 400, 10  # of a training without a given length


class TableEstimator(BaseEstimator):  # type: ignore[misc]
    """A preset for tables that is trained by `fit`. Its columns may be of any kind, and values may be missing.

    Training is in single precision. Everything after it is in double precision, except on MPS, so that a row's
    numbers do not depend on the other rows.

    scikit-learn reads the parameters of an estimator from its own `__init__`, so subclasses repeat them all.
    """

    _fitted_mixed: bool  # whether X was a frame of mixed columns

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
        columns: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.preset = preset
        self.hidden_layer_sizes = hidden_layer_sizes
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.n_draws = n_draws
        self.columns = columns
        self.settings = settings
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags

    def fit(self, X: Any, y: Any = None) -> Any:
        """Train a new model.

        Arguments:
            X: Rows, shape (N, D), N ≥ 2: an array of numbers, or a frame with columns of any kind.
            y: Not used.

        Raises:
            ValueError: X is not a table, a column has no value at all, or all columns are constant.
        """
        self._train(self._raws(X, fitting=True))
        return self

    def _train(self, raws: list[Raw]) -> None:
        """Train a new model."""
        check_count("n_draws", self.n_draws)
        check_range("validation_fraction", self.validation_fraction, 0, 1)
        self._learn_columns(raws)
        rows = self._batch(raws)
        recipe = self._recipe(len(rows))
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with seeded(torch.Generator().manual_seed(seed)):
            self._fit_model(recipe, rows)

    def _fit_model(self, recipe: Recipe, rows: Batch) -> None:
        config = recipe.config
        validation_rows = self._validation_rows(len(rows))
        order = torch.randperm(len(rows))
        train, validation = rows.rows(order[validation_rows:]), rows.rows(order[:validation_rows])
        shape = tuple(rows.x.shape[1:])
        training = Split(train.x, None, train.observed)
        start, _ = rows_to_start_from(training, value_kind=recipe.value_kind)
        model = recipe.model(event_shape=shape, num_classes=0, x=start, columns=self.columns_)
        model = model.to(find_device(config.train.device))
        options = config.train.for_fit()
        records = fit(
            model,
            training,
            Split(validation.x, None, validation.observed) if validation_rows else None,
            objective=recipe.loss(model, dataset_size=len(train)),
            optimizer=recipe.optimizer(model),
            schedule=recipe.schedule(),
            options=options if validation_rows else options.model_copy(update={"patience": None}),
            progress=False,
        )
        self.n_iter_ = len(records)
        self.history_ = records
        self.model_: LatentVariableModel = model if model.device.type == "mps" else model.double()

    def _validation_rows(self, rows: int) -> int:
        """The number of rows to hold out; 0 if they are too few."""
        held_out = round(self.validation_fraction * rows)
        if held_out < FEWEST_TO_VALIDATE:
            return 0
        if rows - held_out < FEWEST_TO_LEARN:
            most = math.floor(100 * (rows - FEWEST_TO_LEARN) / rows) / 100
            raise DataError(
                f"validation_fraction = {self.validation_fraction} of {rows} rows leaves {rows - held_out} to learn "
                f"from, and a training needs at least {FEWEST_TO_LEARN}; set it to at most {most}"
            )
        return held_out

    def _recipe(self, rows: int) -> Recipe:
        """The preset with this estimator's parameters, and about 4,000 steps unless they set the length."""
        sections: dict[str, Any] = {"train": {"precision": "fp32"}, "model": {}, "encoder": {}, "decoder": {}}
        if self.n_components is not None:
            sections["model"]["latent_size"] = int(check_count("n_components", self.n_components))
        if self.hidden_layer_sizes is not None:
            hidden = [int(width) for width in widths("hidden_layer_sizes", self.hidden_layer_sizes)]
            sections["encoder"]["hidden"] = sections["decoder"]["hidden"] = hidden
        if self.max_iter is not None:
            sections["train"]["epochs"] = int(check_count("max_iter", self.max_iter))
        if self.learning_rate is not None:
            sections["train"]["learning_rate"] = float(check_range("learning_rate", self.learning_rate, 0, ends="()"))
        for name, section in _mapping("settings", self.settings).items():
            sections[name] = {**sections.get(name, {}), **section} if isinstance(section, Mapping) else section
        _mapping("settings: train", sections["train"])
        sections = {name: section for name, section in sections.items() if section}
        if "epochs" not in sections.setdefault("train", {}):
            size = read(self.preset, sections=sections).train.batch_size
            epochs = round(STEPS * size / rows)
            sections["train"]["epochs"] = min(MOST_EPOCHS, max(FEWEST_EPOCHS, epochs))
        config = read(self.preset, sections=sections)
        if config.model.condition == "class":
            raise ConfigError(
                f"preset {self.preset!r} is class-conditional, and the estimators know no classes; choose "
                "another preset, or set settings={'model': {'condition': 'none'}}"
            )
        return Recipe.resolve(config)

    def _raws(self, X: Any, *, fitting: bool = False) -> list[Raw]:
        """The columns of X after scikit-learn's checks: numbers of an array or a frame, or a frame of mixed columns."""
        mixed = _is_mixed(X) if fitting else self._fitted_mixed
        if mixed:
            if not is_frame(X):
                raise DataError(f"X must be a frame, as in fit, got {type(X).__name__}")
            validate_data(self, X, reset=fitting, skip_check_array=True)
            raws = raws_of(X)
            if fitting and len(X) < 2:
                raise DataError("X has 1 sample, but at least 2 are needed to learn from")
        else:
            least = 2 if fitting else 1
            X = validate_data(
                self, X, reset=fitting, dtype=np.float64, ensure_all_finite="allow-nan", ensure_min_samples=least
            )
            raws = raws_of_array(X, getattr(self, "feature_names_in_", [f"x{i}" for i in range(X.shape[1])]))
        if fitting:
            self._fitted_mixed = mixed
        return raws

    def _learn_columns(self, raws: list[Raw]) -> None:
        """Set `columns_`, the columns that vary; `varying_`, their numbers; `constants_`, the values of the others.

        Raises:
            DataError: A column has no value, or none varies.
        """
        kinds_by_name = _mapping("columns", self.columns)
        check_kinds(kinds_by_name, [raw.name for raw in raws])
        varying, constants = {}, {}
        for i, raw in enumerate(raws):
            present = raw.values[~raw.missing]
            if not len(present):
                raise DataError(f"column {raw.name!r} has no value in any of {len(raw.values)} rows; leave it out")
            if (present == present[0]).all():
                constants[i] = present[0]
                continue
            kind = kind_of(raw.name, kinds_by_name)
            if kind in ("label", "ignore"):
                raise ConfigError(f"columns: {raw.name!r} is a {kind}: leave it out of X")
            column = column_of(raw, "real" if kind is None and raw.values.dtype.kind in "iuf" else kind)
            x = column.encode(raw.values, raw.missing)[:, None]
            (varying[i],) = statistics_of([column], x, np.arange(len(x))).fitted([column])
        if not varying:
            raise DataError("all columns are constant: there is nothing to learn")
        self._names = [raw.name for raw in raws]
        self.varying_ = tuple(varying)
        self.columns_: tuple[Column, ...] = tuple(varying.values())
        self.constants_ = constants

    def _rows(self, X: Any) -> Batch:
        """Rows of X for the fitted model."""
        check_is_fitted(self)
        return self._batch(self._raws(X))

    def _batch(self, raws: list[Raw]) -> Batch:
        """Rows for the model, with 0 for a missing value."""
        varying = [raws[i] for i in self.varying_]
        values = [column.encode(raw.values, raw.missing) for column, raw in zip(self.columns_, varying, strict=True)]
        x = torch.from_numpy(np.stack(values, 1))
        missing = x.isnan()
        return Batch(x.nan_to_num(0), observed=~missing if bool(missing.any()) else None)

    def _log_prob(self, rows: Batch) -> NDArray[np.float64]:
        """L_K of the observed values of each row, shape (N,), nats."""
        log_p = torch.cat([part.log_prob.cpu() for part in weighted_latents(self.model_, rows, self.n_draws)])
        return log_p.double().numpy()

    def _decoded(self, x: Tensor) -> list[NDArray[Any]]:
        """Values of all columns, constant ones too, from the model's rows, shape (N, D)."""
        values = x.cpu().double().numpy()
        varying = zip(self.varying_, self.columns_, strict=True)
        decoded = {i: column.decode(values[:, place]) for place, (i, column) in enumerate(varying)}
        decoded |= {i: np.full(len(values), constant) for i, constant in self.constants_.items()}
        return [decoded[i] for i in sorted(decoded)]


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    """A parameter that is a mapping; an empty one for None."""
    if not isinstance(value, Mapping | None):
        raise ConfigError(f"{name} must be a dict, or None, got {value!r:.60}")
    return value or {}


def _is_mixed(X: Any) -> bool:
    """Whether X is a frame with a column that is not numeric."""
    return is_frame(X) and any(getattr(dtype, "kind", "O") not in "iuf" for dtype in list(X.dtypes))
