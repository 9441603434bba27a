"""The meaning of numbers, and the check that a likelihood takes them.

    "pixels"  in [0, 1]; bytes are divided by 255
    "counts"  whole numbers ≥ 0, of any type, as they are
    "real"    any finite numbers; bytes are divided by 255
    "table"   columns, each with a kind of its own; see `columns`

Not for: turning bytes into floats (`pixels`), or the support of a distribution (`likelihoods`).
"""

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..errors import DataError

ValueKind = Literal["pixels", "counts", "real", "table"]
VALUE_KINDS: tuple[ValueKind, ...] = get_args(ValueKind)
Range = tuple[float, float] | None
RANGES: dict[object, Range] = {"pixels": (0.0, 1.0), "counts": (0.0, math.inf), "real": None, "table": None}


def value_kind_of(part: object) -> ValueKind:
    """The meaning of the numbers in x for a likelihood or a model, or for its class.

    It is the attribute `value_kind`. Without one it is "pixels" if `value_range` is (0, 1), else "real".
    """
    kind: Any = getattr(part, "value_kind", None)
    if kind in RANGES:
        return kind
    return "pixels" if getattr(part, "value_range", None) == RANGES["pixels"] else "real"


def check_values(x: Tensor, value_range: Range, *, whole: bool = False, who: str = "this model") -> None:
    """Refuse numbers that are not finite or lie outside of a range. This waits for the device.

    Arguments:
        x: Numbers, of any shape.
        value_range: The least and the greatest number; None accepts any finite number.
        whole: Whether only whole numbers are accepted.
        who: Subject of the message.

    Raises:
        DataError: A number is outside of the range, not finite or, with `whole`, not whole.
    """
    if not x.numel() or x.dtype == torch.bool:
        return
    low, high = (value.item() for value in x.aminmax())
    least, greatest = value_range or (-math.inf, math.inf)
    if not (least <= low and high <= greatest and math.isfinite(low) and math.isfinite(high)):
        meant = _meant(value_range, whole)
        if whole:
            raise DataError(f"{who} takes {meant}, got {_first(x, ~((x >= 0) & x.isfinite()))}{_OF_COUNTS}")
        raise DataError(f"{who} takes {meant}, got [{low:g}, {high:g}]{_hint(low, high, (least, greatest))}")
    broken = x != x.round() if whole and x.is_floating_point() else None
    if broken is not None and bool(broken.any()):
        raise DataError(f"{who} takes {_meant(value_range, whole)}, got {_first(x, broken)}{_OF_COUNTS}")


_OF_COUNTS = "; pass raw counts, or choose 'normal' or, for 8-bit images, 'discretized-logistic'"


def _first(x: Tensor, wrong: Tensor) -> str:
    return f"{x[wrong][0].item():g}"


def _meant(value_range: Range, whole: bool) -> str:
    if whole:
        return "counts, whole numbers ≥ 0"
    return "finite numbers" if value_range is None else f"values in [{value_range[0]:g}, {value_range[1]:g}]"


def _hint(low: float, high: float, allowed: tuple[float, float]) -> str:
    if not math.isfinite(low + high):
        return "; remove or mask values that are not finite"
    if allowed == (0.0, 1.0) and low >= 0 and high <= 255:
        return "; divide 8-bit images by 255"
    normalized = " to (x + 1) / 2 if they are in [-1, 1]," if allowed == (0.0, 1.0) and low >= -1 else ""
    return f"; scale the data,{normalized} or choose the likelihood 'normal'"
