"""Losses, which a trainer minimises, and objectives, functions of a `Draw`. Most losses are made of an objective.

An objective returns one number per row, in nats, to be maximised. `@bound` marks a lower bound on log p(x), in
expectation, that the exact posterior attains: only a bound may be called an ELBO or an NLL. `@couples_rows` marks an
objective that compares the rows of a batch. K is `len(draw.z)`, B the number of rows. The keyword-only parameters are
options of a config; a float among them may follow a schedule. `OfDraw` turns an objective into a loss.

A loss that needs more than a draw, such as labels, weights of its own or an opponent, is a class: see `Loss`.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce, wraps
from operator import add
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn

from ..data import Batch
from ..distributions import full_precision, is_relaxed, logged_of
from ..errors import ConfigError, check_count, one_of, unknown
from ..model import Draw, LatentVariableModel
from ..model.draw import no_bound

F = TypeVar("F", bound=Callable[..., Tensor])


@dataclass(frozen=True)
class Traits:
    """The properties of an objective.

    Arguments:
        bound: Whether it is a lower bound on log p(x) that the exact posterior attains.
        couples_rows: Whether its value for a row depends on the other rows of the batch.
        uses_score_gradient: Whether its gradient comes from the score of q; then it needs none through the samples.
        antithetic: Whether its samples are drawn in pairs.
    """

    bound: bool = False
    couples_rows: bool = False
    uses_score_gradient: bool = False
    antithetic: bool = False


def objective(**traits: bool) -> Callable[[F], F]:
    """Mark a function as an objective with these `Traits`; it then refuses anything but a draw, and unknown words."""
    function_traits = Traits(**traits)

    def mark(function: F) -> F:
        words = words_of(function)

        @wraps(function)
        def checked(draw: object, *arguments: Any, **options: Any) -> Tensor:
            if not isinstance(draw, Draw):
                name = function.__name__
                raise ConfigError(f"{name} takes a Draw, got {type(draw).__name__}; write {name}(model.draw(x))")
            if function_traits.bound and not draw.has_density:
                raise ConfigError(no_bound(draw))
            for option in words.keys() & options.keys():
                one_of(option, options[option], words[option])
            return function(draw, *arguments, **options)

        vars(checked)["traits"] = function_traits
        return cast("F", checked)

    return mark


def words_of(function: Callable[..., Any]) -> dict[str, tuple[Any, ...]]:
    """The words that an option takes, by its type hint `Literal[…]`, for each option that takes words."""
    try:
        hints = get_type_hints(function)
    except (NameError, TypeError):  # a type that is imported for a type checker only, or an object without hints
        return {}
    return {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Literal}


def traits_of(function: Callable[..., Any]) -> Traits:
    """The properties of an objective; the defaults, unless it is marked."""
    while isinstance(function, partial):
        function = function.func
    traits: Traits = getattr(function, "traits", Traits())
    return traits


def bound(function: F) -> F:
    """Mark an objective as a lower bound on log p(x) that the exact posterior attains."""
    return objective(bound=True)(function)


def couples_rows(function: F) -> F:
    """Mark an objective that couples rows: the value of a row depends on the other rows of the batch."""
    return objective(couples_rows=True)(function)


def score_function(function: F) -> F:
    """Mark an objective that takes its gradient from the score of q, and needs none through the samples."""
    return objective(uses_score_gradient=True)(function)


@dataclass(frozen=True)
class Terms:
    """The values of a loss on a batch.

    Arguments:
        loss: The minimised values, shape (B,).
        logged: Further values to log, by name: tensors of shape (B,). Their gradient is dropped. Their means over the
            epoch go into metrics.jsonl, the progress line and the curves under these names.
    """

    loss: Tensor
    logged: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "logged", {name: value.detach() for name, value in self.logged.items()})


Minimised = Callable[[LatentVariableModel, Batch, float], Terms]


@dataclass(frozen=True)
class Player:
    """Weights and the loss that they minimise: the model's, or an opponent's, such as a discriminator.

    An opponent steps on every batch, with gradients at the same weights as the model's.

    Arguments:
        name: Name of its mean loss in the log, and of its optimizer in checkpoints.
        parameters: The weights that it changes; an opponent's weights belong to the loss module.
        loss: The loss that it minimises; the logged values join the model's.
        optimizer: Optimizer of its parameters. Schedules and clipping are for the model alone.
    """

    name: str
    parameters: Sequence[nn.Parameter]
    loss: Minimised
    optimizer: torch.optim.Optimizer


class Loss:
    """A loss, which a trainer minimises: (model, batch, epoch) → `Terms`, for a batch on the model's device.

    The epoch need not be whole. A loss with weights is a module too, `class Mine(nn.Module, Loss)`: the weights are
    trained with the model's and stored in checkpoints. Wrap a plain module, or a function of these arguments:
    `OfBatch(function)`.

    Attributes:
        samples: K, the number of samples that it draws for each row.
        couples_rows: Whether the loss of a row depends on the other rows of the batch.
        needs_classes: Whether a class-conditional model must know the class of every row. A loss that sees labels of
            −1, for an unknown class, says False.
    """

    samples: int = 1
    couples_rows: bool = False
    needs_classes: bool = True
    __call__: Callable[..., Terms]  # (model, batch, epoch); declared only, so that a module keeps its own

    def opponents(self, model: LatentVariableModel) -> Sequence[Player]:
        """Players that take a step beside the model, each with weights and an optimizer; none by default."""
        return ()

    def from_means(self, means: Mapping[str, float]) -> dict[str, float]:
        """The values of a validation, from the means of `loss` and of the logged values over all of its rows.

        A loss overrides it if a value is not a mean over all rows, but over some of them.
        """
        return dict(means)


class OfBatch(Loss):
    """Adapts a function or a module of (model, batch, epoch) to `Loss`, with defaults for missing attributes.

    Arguments:
        function: (model, batch, epoch) → `Terms`. It may have the attributes and the methods of a `Loss`.
    """

    def __init__(self, function: Minimised) -> None:
        self.function = function
        self.samples = getattr(function, "samples", Loss.samples)
        self.couples_rows = getattr(function, "couples_rows", Loss.couples_rows)
        self.needs_classes = getattr(function, "needs_classes", False)  # it may take labels of −1

    def __call__(self, model: LatentVariableModel, batch: Batch, epoch: float) -> Terms:
        """The value of the function."""
        return self.function(model, batch, epoch)

    def opponents(self, model: LatentVariableModel) -> Sequence[Player]:
        """The opponents that the function brings."""
        bring = getattr(self.function, "opponents", None)
        return () if bring is None else list(bring(model))

    def from_means(self, means: Mapping[str, float]) -> dict[str, float]:
        """The values of a validation, as the function computes them from the means."""
        compute = getattr(self.function, "from_means", None)
        return dict(means if compute is None else compute(means))


@dataclass(frozen=True)
class OfDraw(Loss):
    """The loss that an objective gives: minus its value for K samples of each row.

    It logs `neg_elbo`, `rate` and `distortion`, in nats. With several latent levels it also logs the rate of each;
    `rate_1` belongs to the level nearest to the data. The draw's penalties, and the values in `logged` of the
    posterior's distribution, are logged under their own names. A draw without levels has neither a rate nor an ELBO;
    a draw with relaxed samples has no ELBO.

    Arguments:
        function: The objective, called with a `Draw` and the options.
        options: Keyword arguments. A callable value is a schedule, called with the epoch, a float.
        samples: K, the number of samples for each row, at least 1.
        antithetic: Draw the samples in pairs; see `LatentVariableModel.draw`.

    Raises:
        ConfigError: `function` is not a function in Python, an option or its word is unknown, a schedule is not a
            function of the epoch alone, or `samples` is below 1.
    """

    function: Callable[..., Tensor]
    options: Mapping[str, Any] = field(default_factory=dict)
    samples: int = 1
    antithetic: bool = False

    def __post_init__(self) -> None:
        check_count("samples", self.samples)
        if not callable(self.function):
            raise ConfigError(
                f"an objective must be a function of a draw, such as vaekit.elbo, got {self.function!r:.60}; the "
                "objective of a preset comes with fit(..., preset=name)"
            )
        try:
            parameters = inspect.signature(self.function).parameters.values()
        except ValueError:
            raise ConfigError(f"an objective must be written in Python, got {self.function!r:.60}") from None
        takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
        names, words = [p.name for p in parameters][1:], words_of(self.function)
        for option, value in self.options.items():
            if option not in names and not takes_any:
                raise ConfigError(unknown(f"option of objective {self.name!r}:", option, names))
            if option in words:
                one_of(option, value, words[option])
            if callable(value) and _mismatch(value, 0.0):
                raise ConfigError(
                    f"option {option!r} of an objective follows a function of the epoch alone, such as "
                    f"schedules.Linear(), got {value!r:.60}"
                )

    def __call__(self, model: LatentVariableModel, batch: Batch, epoch: float) -> Terms:
        """The loss of each row of a new draw."""
        draw = draw_of(model, batch, self.samples, self.antithetic or self.traits.antithetic)
        loss = -self.of(draw, epoch)
        with torch.no_grad():
            distortion = draw.distortion
            logged = {"distortion": distortion}
            if draw.levels:
                rate = draw.rate()
                logged = {"rate": rate} | logged
                if not is_relaxed(draw.q):
                    logged = {"neg_elbo": rate + distortion} | logged
            if len(draw.levels) > 1:
                logged |= {f"rate_{i}": level.kl() for i, level in enumerate(draw.levels, 1)}
            return Terms(loss, {**logged, **draw.penalties, **logged_of(draw.q)})

    def of(self, draw: Draw, epoch: float = math.inf) -> Tensor:
        """The objective of each row, shape (B,), nats, to be maximised; at the end of every schedule by default.

        The draw's penalties are subtracted from the function's value.

        Raises:
            ConfigError: The draw has no density q and the function is a bound on log p(x); or the function needs a
                gradient through the samples, and they have none.
        """
        options = {name: value(epoch) if callable(value) else value for name, value in self.options.items()}
        if not self.traits.uses_score_gradient:
            need_gradient(draw)
        with full_precision(draw.x):
            value = self.function(draw, **options)
        return value - reduce(add, draw.penalties.values()) if draw.penalties else value

    @property
    def name(self) -> str:
        """The name of the function, as a config spells it."""
        return getattr(self.function, "__name__", "this objective").replace("_", "-")

    @property
    def traits(self) -> Traits:
        """The properties of the function."""
        return traits_of(self.function)

    @property
    def is_bound(self) -> bool:
        """Whether the function is a lower bound on log p(x)."""
        return self.traits.bound

    @property
    def couples_rows(self) -> bool:  # type: ignore[override]
        """Whether the value of a row depends on the other rows of the batch."""
        return self.traits.couples_rows


def draw_of(model: LatentVariableModel, batch: Batch, samples: int = 1, antithetic: bool = False) -> Draw:
    """K samples for each row of a batch that is on the model's device.

    Arguments:
        model: The model.
        batch: The batch.
        samples: K.
        antithetic: Draw the samples in pairs.
    """
    options: dict[str, Any] = {"antithetic": True} if antithetic else {}
    if batch.observed is not None:
        options["observed"] = batch.observed
    return model.draw(batch.x, batch.c, k=samples, **options)


def need_plain(draw: Draw) -> None:
    """Refuse a draw for which a loss of rate and distortion alone would be silently wrong.

    Raises:
        ConfigError: No gradient goes through the samples, or the draw has penalties.
    """
    need_gradient(draw)
    if draw.penalties:
        raise ConfigError(no_bound(draw, choose="'beta'"))


def need_gradient(draw: Draw) -> None:
    """Refuse samples that hand no gradient to the posterior, while gradients are recorded.

    Raises:
        ConfigError: q has no reparametrized samples.
    """
    q = draw.levels[0].q if draw.q is None and draw.levels else draw.q
    if q is None or q.has_rsample or not torch.is_grad_enabled():
        return
    raise ConfigError(
        f"the samples of {type(getattr(q, 'base_dist', q)).__name__} latents hand no gradient to the encoder; choose "
        "the objective 'rloo', or the posterior 'gumbel-softmax' or 'diagonal-normal'"
    )


def with_value(surrogate: Tensor, value: Tensor) -> Tensor:
    """A tensor with this value and the gradient of the surrogate."""
    return value.detach() + surrogate - surrogate.detach()


def as_loss(objective: Callable[..., Any]) -> Loss:
    """The loss of an objective. A `Loss` or a module is a loss already; any other function is an objective of a draw.

    Raises:
        ConfigError: The objective is a class or cannot be called; a function does not take a draw and its options, or a
            module does not take a model, a batch and the epoch.
    """
    if inspect.isclass(objective):
        raise ConfigError(f"the objective must be a function or an object, got the class {objective.__name__}; call it")
    if isinstance(objective, nn.Module) and not isinstance(objective, Loss):
        mismatch = _mismatch(objective.forward, ..., ..., ...)
        if mismatch:
            raise ConfigError(f"a module as a loss is called with a model, a batch and the epoch ({mismatch})")
        return OfBatch(objective)
    loss = objective if isinstance(objective, Loss) else OfDraw(objective)
    mismatch = _mismatch(loss.function, ..., **loss.options) if isinstance(loss, OfDraw) else None
    if mismatch:
        raise ConfigError(
            f"an objective is called with a draw alone ({mismatch}); give it options by OfDraw(function, options), or "
            "make a function of (model, batch, epoch) a loss by vaekit.objectives.OfBatch(function)"
        )
    return loss


def _mismatch(function: Callable[..., Any], *arguments: Any, **options: Any) -> str | None:
    """Why a function cannot be called with these arguments; None if it can."""
    try:
        inspect.signature(function).bind(*arguments, **options)
    except TypeError as error:
        return str(error)
    except ValueError:  # a builtin, which has no signature
        return None
    return None


def module_of(loss: Loss) -> nn.Module | None:
    """The module with a loss's weights, or None where it has none."""
    inner = loss.function if isinstance(loss, OfBatch) else loss
    return inner if isinstance(inner, nn.Module) else None


def name_of(loss: Loss) -> str:
    """The name of a loss in messages."""
    if isinstance(loss, OfDraw):
        return loss.name
    inner = loss.function if isinstance(loss, OfBatch) else loss
    return getattr(inner, "__name__", type(inner).__name__)
