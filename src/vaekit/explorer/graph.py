"""From a model to lists of operators that a page can run: torch.export, constants folded, weights in one block.

Not for: running them (`assets/interpreter.mjs`), or models themselves.
"""

import copy
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Node

from ..errors import ConfigError
from ..model import LatentVariableModel
from ..model.exportable import Decoding, Encoding

# The operators of assets/interpreter.mjs, by torch's names; a test keeps the two lists equal.
OPERATORS = """
abs ceil cos erf exp expm1 floor log log1p neg reciprocal relu round rsqrt sigmoid sign sin sqrt tanh
add div eq ge gt le lt maximum minimum mul ne pow sub clamp elu gelu leaky_relu where
amax amin mean prod sum _softmax _log_softmax
alias cat clone copy expand permute select slice split_with_sizes squeeze unsqueeze view
addmm bmm mm convolution upsample_nearest2d
native_group_norm native_layer_norm _native_batch_norm_legit_no_training
"""
KNOWN = frozenset(OPERATORS.split())

_SYNONYMS = {"_to_copy": "clone", "_unsafe_view": "view", "reshape": "view", "detach": "alias"}
_NOTHING = {"_assert_tensor_metadata", "_assert_async", "_assert_scalar"}
_SMALL = 64  # values; a constant of at most this size stays float32, which coefficients of a series need
_GREATEST = 6e4  # limit for float16, whose greatest number is 65504
_BITS = 10  # significand bits that are kept of float16's 11, which makes the page 8 % smaller


@dataclass
class Weights:
    """Constants of all programs, each stored once.

    Arguments:
        half: Whether large constants are stored as float16.
        table: Shape, number format, offset in bytes and size of each constant.
        data: The bytes of all constants, one after another.
        known: Index in the table by shape and content.
    """

    half: bool = True
    table: list[dict[str, Any]] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)
    known: dict[tuple[tuple[int, ...], bytes], int] = field(default_factory=dict)

    def add(self, tensor: Tensor) -> int:
        """Store a tensor, unless it is stored; return its index in the table."""
        values = tensor.detach().cpu().contiguous().float().numpy()
        key = (values.shape, values.tobytes())
        if key not in self.known:
            half = self.half and values.size > _SMALL and float(np.abs(values).max()) < _GREATEST
            content = rounded(values).astype("<f2").tobytes() if half else values.astype("<f4").tobytes()
            self.data.extend(b"\0" * (-len(self.data) % 4))
            kind = "f2" if half else "f4"
            self.table.append({"shape": list(values.shape), "kind": kind, "at": len(self.data), "size": values.size})
            self.data.extend(content)
            self.known[key] = len(self.table) - 1
        return self.known[key]

    @property
    def value_count(self) -> int:
        """How many values all constants hold."""
        return sum(entry["size"] for entry in self.table)


def rounded(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Values rounded to `_BITS` bits, so that they compress better."""
    significand, exponent = np.frexp(values)
    return np.ldexp(np.round(significand * 2**_BITS), exponent - _BITS)


Program = dict[str, Any]  # inputs, steps and outputs, as JSON


def decoding(model: LatentVariableModel, weights: Weights) -> Program:
    """The program of `Decoding`, for one latent at a time.

    Raises:
        ConfigError: The page cannot run the model.
    """
    model = _portable(model)
    z = torch.zeros(1, model.latent_size)
    return lowered(Decoding(model), _with_context(model, z), weights)


def encoding(model: LatentVariableModel, weights: Weights, event_shape: Sequence[int]) -> Program:
    """The program of `Encoding`, for one image at a time; without rate and distortion if these cannot be exported.

    Raises:
        ConfigError: The page cannot run the model.
    """
    model = _portable(model)
    inputs = _with_context(model, torch.full((1, *event_shape), 0.5))
    try:
        return lowered(Encoding(model), inputs, weights)
    except ConfigError:
        return lowered(Encoding(model, with_terms=False), inputs, weights)


def _portable(model: LatentVariableModel) -> LatentVariableModel:
    """The model on the CPU in float32; a copy where it is elsewhere."""
    parameters = list(model.parameters())
    if all(p.device.type == "cpu" and p.dtype == torch.float32 for p in parameters):
        return model
    return copy.deepcopy(model).cpu().float()


def _with_context(model: LatentVariableModel, first: Tensor) -> tuple[Tensor, ...]:
    return (first, torch.eye(model.context_size)[:1]) if model.context_size else (first,)


def lowered(module: nn.Module, inputs: tuple[Tensor, ...], weights: Weights) -> Program:
    """A module as a list of operators.

    Arguments:
        module: Tensors → a tensor or a tuple of tensors, in evaluation mode and float32.
        inputs: Examples with the exact shapes that the program will take.
        weights: Block that receives the constants.

    Raises:
        ConfigError: Torch cannot export the module, or it has an operator that the page does not know.
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exported = torch.export.export(module.eval(), inputs, strict=False).run_decompositions()
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise ConfigError(f"torch cannot export this model: {reason[0]:.200}") from error
        return _Lowering(exported, weights).program()


class _Lowering:
    """One exported program, node by node."""

    def __init__(self, exported: Any, weights: Weights) -> None:
        self.exported = exported
        self.weights = weights
        self.constants: dict[Node, Any] = {}  # nodes that depend on no input, and their values
        self.ids: dict[Node, int] = {}  # other nodes, and their ids
        self.steps: list[dict[str, Any]] = []

    def program(self) -> Program:
        """The whole program."""
        inputs, outputs = self._inputs(), []
        for node in self.exported.graph.nodes:
            if node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                outputs = [self._reference(value) for value in node.args[0]]
        steps = _needed(self.steps, outputs)
        for step in steps:  # only now, so that unused constants take no room
            step["args"] = {name: self._stored(value) for name, value in step["args"].items()}
        return {"inputs": inputs, "steps": steps, "outputs": [self._stored(value) for value in outputs]}

    def _inputs(self) -> list[dict[str, Any]]:
        """Give the inputs ids, and collect the parameters as constants."""
        signature, inputs = self.exported.graph_signature, []
        stored = {**self.exported.state_dict, **self.exported.constants}
        names = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        for node in self.exported.graph.nodes:
            if node.op != "placeholder":
                continue
            if node.name in names:
                self.constants[node] = stored[names[node.name]]
            elif node.name in signature.user_inputs:
                inputs.append({"id": self._id(node), "shape": list(node.meta["val"].shape)})
        return inputs

    def _id(self, node: Node) -> int:
        return self.ids.setdefault(node, len(self.ids))

    def _call(self, node: Node) -> None:
        if not hasattr(node.target, "_schema"):  # operator.getitem
            self._item(node)
            return
        name = node.target._schema.name.removeprefix("aten::")
        if name in _NOTHING:
            return
        folded = all(source in self.constants for source in node.all_input_nodes)
        if folded or name in ("full_like", "zeros_like", "ones_like"):
            self.constants[node] = self._value(node)
            return
        name = _SYNONYMS.get(name, name)
        if name not in KNOWN:
            raise ConfigError(f"the page does not know torch's operator {name}")
        schema = node.target._schema.arguments
        arguments = dict(zip((argument.name for argument in schema), node.args, strict=False)) | node.kwargs
        args = {key: self._reference(value) for key, value in arguments.items() if not isinstance(value, torch.dtype)}
        self.steps.append({"op": name, "args": args, "out": self._id(node), "shape": _shapes(node.meta["val"])})

    def _item(self, node: Node) -> None:
        source: Any = node.args[0]
        index = node.args[1]
        if source in self.constants:
            self.constants[node] = self.constants[source][index]
            return
        args = {"self": self._reference(source), "index": index}
        self.steps.append({"op": "item", "args": args, "out": self._id(node), "shape": _shapes(node.meta["val"])})

    def _value(self, node: Node) -> Any:
        """The value of a node that depends only on constants and shapes."""
        empty = {source: torch.empty(source.meta["val"].shape) for source in node.all_input_nodes}
        constants = empty | self.constants
        args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), lambda source: constants[source])
        return node.target(*args, **kwargs)  # type: ignore[operator]

    def _reference(self, value: Any) -> Any:
        if isinstance(value, Node):
            return {"t": value} if value in self.constants else {"v": self._id(value)}
        if isinstance(value, list | tuple):
            return [self._reference(part) for part in value]
        if isinstance(value, float) and not math.isfinite(value):
            return {"n": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        return None  # a device, a layout

    def _stored(self, value: Any) -> Any:
        if isinstance(value, dict) and "t" in value:
            return {"t": self.weights.add(self.constants[value["t"]])}
        return [self._stored(part) for part in value] if isinstance(value, list) else value


def _shapes(value: Any) -> list[Any]:
    """The shape of a tensor, or a list of the shapes of several."""
    return list(value.shape) if isinstance(value, Tensor) else [list(part.shape) for part in value]


def _needed(steps: list[dict[str, Any]], outputs: list[Any]) -> list[dict[str, Any]]:
    """The steps that outputs depend on."""
    needed_values, needed_steps = _values(outputs), []
    for step in reversed(steps):
        if step["out"] in needed_values:
            needed_steps.append(step)
            needed_values |= _values(step["args"])
    return needed_steps[::-1]


def _values(nested: Any) -> set[int]:
    """The ids of values within references."""
    if isinstance(nested, dict):
        return {nested["v"]} if "v" in nested else set().union(*map(_values, nested.values()))
    return set().union(*map(_values, nested)) if isinstance(nested, list) else set()
