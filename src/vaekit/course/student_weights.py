"""Weights of the assignment's models as students store them: their sizes, and the names of their layers here.

Not for: reading the file itself (`store.state_dict`), or the models (`models`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from ..errors import DataError, reason


@dataclass(frozen=True)
class CourseWeights:
    """The weights of one of the assignment's models.

    Arguments:
        state: Weights by their names in `models`.
        sizes: The arguments that make the model: input_size, latent_size and, for a CVAE, num_classes.
        encoder: Widths of the encoder's layers.
        decoder: Widths of the decoder's hidden layers.
    """

    state: dict[str, Tensor]
    sizes: dict[str, int]
    encoder: list[int]
    decoder: list[int]

    @property
    def is_conditional(self) -> bool:
        """Whether these are the weights of a CVAE."""
        return "num_classes" in self.sizes

    @classmethod
    def of(cls, stored: Mapping[str, Tensor]) -> Self:
        """The weights in a state dict, with any numbers of layers and any wrapper of the model.

        Raises:
            ValueError: These are not the weights of an assignment's model.
        """
        state = {_plain(name): tensor.float() for name, tensor in stored.items()}
        encoder, decoder = _linear_layers(state, "encoder"), _linear_layers(state, "decoder")
        sizes = _sizes(state, encoder, decoder)
        first = 0 if "num_classes" in sizes else 1  # the encoder of a VAE begins with a layer that flattens
        numbers = {name: 2 * i for i, name in enumerate(decoder)}
        numbers |= {name: 2 * i + first for i, name in enumerate(encoder)}
        renumbered = {_renumbered(name, numbers): value for name, value in state.items()}
        return cls(renumbered, sizes, _outputs(state, encoder), _outputs(state, decoder[:-1]))


@contextmanager
def refusing(path: str | Path, kind: str) -> Iterator[None]:
    """Within the block an error about weights becomes a `DataError` with the path of their file.

    Arguments:
        path: The file.
        kind: Name of the model's class.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise DataError(f"{path} does not hold the weights of a {kind}: {reason(error)}") from error


def unwrap_heads(state: dict[str, Any], prefix: str) -> None:
    """Rename the weights of heads that a solution wrapped in a `Sequential`: mu_layer.0.weight is mu_layer.weight."""
    for head in ("mu_layer", "logvar_layer"):
        for name in ("weight", "bias"):
            wrapped = f"{prefix}{head}.0.{name}"
            if wrapped in state:
                state[f"{prefix}{head}.{name}"] = state.pop(wrapped)


def _plain(name: str) -> str:
    """The name of a weight, without the additions of `DataParallel` and `torch.compile`."""
    return ".".join(part for part in name.split(".") if part not in ("module", "_orig_mod"))


def _linear_layers(state: Mapping[str, Tensor], part: str) -> list[str]:
    """Names of the linear layers of the encoder or decoder, in their order.

    Raises:
        ValueError: There are fewer than two layers, or a layer is not linear.
    """
    matches = [match for name in state if (match := re.fullmatch(rf"({part}\.(\d{{1,4}}))\.weight", name))]
    names = [match[1] for match in sorted(matches, key=lambda match: int(match[2]))]
    if len(names) < 2:
        raise ValueError(f"it has no {part}.0.weight" if not names else f"its {part} has one layer only")
    for name in names:
        if state[f"{name}.weight"].ndim != 2:
            raise ValueError(f"{name}.weight has shape {tuple(state[f'{name}.weight'].shape)}")
    return names


def _outputs(state: Mapping[str, Tensor], layers: Sequence[str]) -> list[int]:
    return [len(state[f"{name}.weight"]) for name in layers]


def _renumbered(name: str, numbers: Mapping[str, int]) -> str:
    """The name of a weight in `models`, given the number of each layer there."""
    layer, _, kind = name.rpartition(".")
    return f"{layer.split('.')[0]}.{numbers[layer]}.{kind}" if layer in numbers else name


def _sizes(state: Mapping[str, Tensor], encoder: Sequence[str], decoder: Sequence[str]) -> dict[str, int]:
    """The arguments that made a model, from the shapes of its weights.

    Raises:
        ValueError: These are not the weights of an assignment's model.
    """
    head = next((state[name] for name in ("mu_layer.weight", "mu_layer.0.weight") if name in state), None)
    if head is None or head.ndim != 2:
        raise ValueError("it has no mu_layer.weight" if head is None else "its mu_layer.weight is not a matrix")
    input_size, latent_size = len(state[f"{decoder[-1]}.weight"]), len(head)
    num_classes = state[f"{decoder[0]}.weight"].shape[1] - latent_size
    first = state[f"{encoder[0]}.weight"].shape[1]
    if num_classes < 0 or first != input_size + num_classes:
        raise ValueError(
            f"its encoder takes {first} values and its decoder {latent_size + num_classes}, which do not fit "
            f"{input_size} pixels and {latent_size} latents"
        )
    sizes = {"input_size": input_size, "latent_size": latent_size}
    return sizes | ({"num_classes": num_classes} if num_classes else {})
