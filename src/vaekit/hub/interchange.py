"""The model as ONNX and as torch's exported programs, each compared with PyTorch.

Not for: weights and config (`writing`).
"""

import contextlib
import copy
import io
import logging
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..model import LatentVariableModel
from ..model.exportable import Decoding, PosteriorMoments

PARITY_ROWS = 64  # rows on which a port is compared
PARITY_LIMIT = 1e-5

Parity = dict[str, float]  # greatest deviation from PyTorch by output; relative for values above 1


def encoder_and_decoder(
    model: LatentVariableModel, x: Tensor, c: Tensor | None
) -> dict[str, tuple[nn.Module, tuple[Tensor, ...], list[str]]]:
    """The encoder and the decoder of a model by name: each a module, its inputs, and the names of its outputs.

    Arguments:
        model: The model.
        x: Data, shape (B, *event).
        c: Context, shape (B, C) or None.
    """
    z = torch.randn(len(x), model.latent_size, generator=torch.Generator().manual_seed(0))
    context = () if c is None else (c,)
    try:
        PosteriorMoments(model)(x, c)
        encoder, outputs = PosteriorMoments(model), ["mean", "scale"]
    except (NotImplementedError, AttributeError):
        encoder, outputs = PosteriorMoments(model, with_sd=False), ["mean"]
    return {"encoder": (encoder, (x, *context), outputs), "decoder": (Decoding(model), (z, *context), ["x"])}


@torch.no_grad()
def to_onnx(model: LatentVariableModel, x: Tensor, c: Tensor | None, folder: Path) -> dict[str, Parity]:
    """Write encoder.onnx and decoder.onnx, for any batch size, and compare them with PyTorch.

    Returns:
        The deviation of each output, by file.

    Raises:
        ConfigError: The extra `onnx` is not installed, a part cannot be exported, or the port deviates.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"ONNX needs {error.name}; pip install 'vaekit[onnx]'") from None
    parity = {}
    for name, (module, inputs, outputs) in encoder_and_decoder(model, x, c).items():
        path = folder / f"{name}.onnx"
        names = [{"encoder": "x", "decoder": "z"}[name], "c"][: len(inputs)]
        with _quietly(), _explained(name):
            torch.onnx.export(
                module.eval(),
                inputs,
                path,
                input_names=names,
                output_names=outputs,
                dynamic_shapes=_any_batch(inputs),
                dynamo=True,
                external_data=False,
            )
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        worst: Parity = {}
        for rows in (1, len(inputs[0])):
            example = [value[:rows] for value in inputs]
            port = session.run(None, {key: value.numpy() for key, value in zip(names, example, strict=True)})
            _compare(worst, outputs, [torch.from_numpy(value) for value in port], module(*example))
        parity[f"{name}.onnx"] = _near(f"{name}.onnx", worst)
    return parity


@torch.no_grad()
def to_exported_program(model: LatentVariableModel, x: Tensor, c: Tensor | None, folder: Path) -> dict[str, Parity]:
    """Write encoder.pt2 and decoder.pt2, for any batch size, read them back, and compare with PyTorch.

    Returns:
        The deviation of each output, by file.

    Raises:
        ConfigError: A part cannot be exported, or the file that is read back deviates.
    """
    parity = {}
    for name, (module, inputs, outputs) in encoder_and_decoder(model, x, c).items():
        path = folder / f"{name}.pt2"
        with _quietly(), _explained(name):
            shapes = _any_batch(inputs)
            empty = tuple(torch.zeros_like(value[:2]) for value in inputs)  # the file keeps them, and x may be private
            exported = torch.export.export(module.eval(), empty, dynamic_shapes=shapes, strict=False)
            needed = _without_unused(module, exported)
            torch.export.save(torch.export.export(needed, empty, dynamic_shapes=shapes, strict=False), path)
            port = torch.export.load(path).module()
        worst: Parity = {}
        for rows in (1, len(inputs[0])):
            example = [value[:rows] for value in inputs]
            _compare(worst, outputs, port(*example), module(*example))
        parity[f"{name}.pt2"] = _near(f"{name}.pt2", worst)
    return parity


def _without_unused(module: nn.Module, exported: Any) -> nn.Module:
    """A copy of a module without the parameters that its exported program does not use."""
    signature = exported.graph_signature
    targets = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    used = {targets[node.name] for node in exported.graph.nodes if node.name in targets and node.users}
    copied = copy.deepcopy(module)
    for name in [*dict(copied.named_parameters()), *dict(copied.named_buffers())]:
        if name not in used:
            path, _, leaf = name.rpartition(".")
            setattr(copied.get_submodule(path), leaf, None)
    return copied


def _any_batch(inputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
    """Dynamic shapes: the first dimension of every input is one shared batch size."""
    batch = torch.export.Dim("batch", min=1)
    first: dict[int, Any] = {0: batch}
    # `forward` has an optional context: it is left out where the model has none.
    return tuple(first for _ in inputs)


def _compare(worst: Parity, names: list[str], port: Any, original: Any) -> None:
    port, original = ([value] if isinstance(value, Tensor) else list(value) for value in (port, original))
    for name, a, b in zip(names, port, original, strict=True):
        deviation = ((a - b).abs() / b.abs().clamp(min=1)).max().item()
        before = worst.get(name, 0.0)
        worst[name] = math.nan if math.isnan(before) or math.isnan(deviation) else max(before, deviation)


def _near(file: str, parity: Parity) -> Parity:
    deviating = {name: value for name, value in parity.items() if not value <= PARITY_LIMIT}
    if deviating:
        raise ConfigError(f"{file} deviates from PyTorch by {max(deviating.values()):.1e}, more than {PARITY_LIMIT:g}")
    return parity


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"torch cannot export the {name} of this model: {reason:.200}") from error


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Silence the exporters, which print and warn about their own internals."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
