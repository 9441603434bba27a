"""Noise as one rank alone would have drawn it, so that N ranks agree with one.

Not for: seeds or streams (`rng`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..errors import ConfigError

# Names of torch's functions that draw once for each element of their result or argument.
_BY_SIZE = frozenset({"rand", "randn", "randint"})
_IN_PLACE = frozenset(
    ("normal_", "uniform_", "exponential_", "bernoulli_", "log_normal_", "cauchy_", "geometric_", "random_")
)
_NEW = frozenset({"rand_like", "randn_like", "randint_like", "normal", "bernoulli", "multinomial"})
_FACTORS = frozenset({"dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout"})
_BY_TENSOR = _IN_PLACE | _NEW | _FACTORS | {"gumbel_softmax", "alpha_dropout", "feature_alpha_dropout"}
# How many numbers these draw depends on their values: a row's place in the stream depends on the rows before it.
_BY_VALUE = frozenset({"rrelu", "_standard_gamma", "_sample_dirichlet", "poisson", "binomial"})


class RowLayout(NamedTuple):
    """The leading dimensions for these rows and for all rows: `blocks` copies of the rows, concatenated."""

    blocks: int
    part: tuple[int, ...]
    whole: tuple[int, ...]


class NoiseOfRows(TorchFunctionMode):
    """Within the block some rows of a batch get the same noise as in a draw of the whole batch.

    Every function of torch that draws noise draws it for the whole batch and keeps these rows, if its shape begins with
    (K, b), (b,) or (K·b,), for b rows. Other shapes, and noise for an `nn.Parameter`, are drawn as they are. A shape
    alone cannot tell rows from other things of the same size: noise for b weights from `torch.randn(b)` counts as rows.

    Arguments:
        samples: K.
        rows: The rows of the batch, b ≥ 1 of them.
        total: Rows of the whole batch.

    Raises:
        ConfigError: The values of a function decide how much of the stream it uses, as for a gamma sample.

    >>> import torch
    >>> noise = torch.Generator().manual_seed(0)
    >>> whole = torch.randn(2, 5, 3, generator=noise)
    >>> with NoiseOfRows(2, slice(1, 3), 5):
    ...     some = torch.randn(2, 2, 3, generator=noise.manual_seed(0))
    >>> torch.equal(some, whole[:, 1:3])
    True
    """

    def __init__(self, samples: int, rows: slice, total: int) -> None:
        super().__init__()
        self.rows = rows
        self.total = total
        b = rows.stop - rows.start
        self.layouts = (
            RowLayout(samples, (samples, b), (samples, total)),
            RowLayout(1, (b,), (total,)),
            RowLayout(samples, (samples * b,), (samples * total,)),
        )

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called by torch in place of each of its functions."""
        name = getattr(func, "__name__", "")
        kwargs = dict(kwargs or {})
        if name in _BY_VALUE:
            raise ConfigError(
                f"more than one rank cannot share the noise of torch's {name.strip('_')}, whose values decide how "
                "many random numbers it uses; train with one rank"
            )
        if name in _BY_SIZE or (name == "normal" and not any(isinstance(arg, Tensor) for arg in args)):
            return self._by_size(func, args, kwargs)
        return self._by_tensor(func, name, args, kwargs) if name in _BY_TENSOR else func(*args, **kwargs)

    def _by_size(self, func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        numbers: tuple[Any, ...] = ()
        if "size" in kwargs:
            numbers, shape = args, kwargs.pop("size")
        elif args and isinstance(args[-1], Sequence):
            numbers, shape = args[:-1], args[-1]
        else:
            shape = args
        layout = self._layout(tuple(shape))
        if layout is None:
            return func(*numbers, tuple(shape), **kwargs)
        whole = layout.whole + tuple(shape[len(layout.part) :])
        return self._select(func(*numbers, whole, **kwargs), layout)

    def _by_tensor(
        self, func: Callable[..., Tensor], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        layouts = [self._layout(tensor.shape) for tensor in tensors if not isinstance(tensor, nn.Parameter)]
        layout = next((layout for layout in layouts if layout is not None), None)
        if layout is None:
            return func(*args, **kwargs)
        wide_args = [self._widen(value, layout) for value in args]
        wide_kwargs = {key: self._widen(value, layout) for key, value in kwargs.items()}
        rows = self._select(func(*wide_args, **wide_kwargs), layout)
        return args[0].copy_(rows) if name.endswith("_") else rows

    def _layout(self, shape: tuple[int, ...]) -> RowLayout | None:
        return next((layout for layout in self.layouts if shape[: len(layout.part)] == layout.part), None)

    def _widen(self, value: Any, layout: RowLayout) -> Any:
        """A tensor of these rows, extended to all rows by ones; gradients go through it."""
        if not isinstance(value, Tensor) or value.shape[: len(layout.part)] != layout.part:
            return value
        whole = value.new_ones(layout.whole + value.shape[len(layout.part) :])
        blocks = whole.view(layout.blocks, self.total, -1)
        blocks[:, self.rows] = value.reshape(layout.blocks, blocks[:, self.rows].shape[1], -1)
        return whole

    def _select(self, whole: Tensor, layout: RowLayout) -> Tensor:
        rows = whole.reshape(layout.blocks, self.total, -1)[:, self.rows]
        return rows.reshape(layout.part + whole.shape[len(layout.whole) :])
