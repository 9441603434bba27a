"""Determinism: random draws from an explicit generator, the state of the random streams, and exact algorithms.

`torch.distributions` draws from torch's global stream only. `seeded` seeds that stream from a `torch.Generator` for the
length of a block. So every draw in the block is a function of the generator, and the caller's stream stays as it was.
"""

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from .errors import ConfigError, is_whole

_WORDS = 624  # in the state of the Mersenne twister
_CUBLAS = (":4096:8", ":16:8")


@contextmanager
def seeded(generator: torch.Generator | None) -> Iterator[None]:
    """Within the block every random draw is determined by `generator`; with None the global stream is used as it is."""
    if generator is None:
        yield
        return
    check_generator(generator)
    seed = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
    with forked():
        torch.manual_seed(seed)
        yield


def generator_of(seed: int) -> torch.Generator:
    """A generator on the CPU with this seed.

    Raises:
        ConfigError: The seed is not a whole number, or has more than 64 bits.
    """
    if not is_whole(seed):
        raise ConfigError(f"seed must be a whole number, got {seed!r:.60}")
    if not -(1 << 63) <= seed < 1 << 64:
        raise ConfigError(f"seed must have at most 64 bits, got {seed!r:.60}")
    return torch.Generator().manual_seed(int(seed))


def check_generator(generator: torch.Generator | None) -> None:
    """Refuse what is neither a generator nor None, such as a seed.

    Raises:
        ConfigError: The argument is neither.
    """
    if not isinstance(generator, torch.Generator | None):
        raise ConfigError(
            f"generator must be a torch.Generator, got {generator!r:.60}; pass torch.Generator().manual_seed(0)"
        )


@contextmanager
def forked() -> Iterator[None]:
    """Restore torch's global random streams, on all devices, after the block."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            if mps is not None:  # fork_rng leaves it out
                torch.mps.set_rng_state(mps)


def random_state() -> dict[str, Tensor]:
    """The state of the global random streams of torch, its devices and numpy, but not of Python's `random`."""
    stream = np.random.get_state(legacy=False)
    state = {
        "torch": torch.get_rng_state(),
        "numpy_keys": torch.from_numpy(stream["state"]["key"].copy()),
        "numpy_rest": torch.tensor([stream["state"]["pos"], stream["has_gauss"], stream["gauss"]], dtype=torch.float64),
    }
    if torch.cuda.is_available():
        state |= {f"cuda{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: Mapping[str, Tensor]) -> None:
    """Restore the global random streams to what `random_state` returned.

    Raises:
        ValueError: No generator can have this state.
    """
    position, has_gauss, gauss = state["numpy_rest"].tolist()
    keys = state["numpy_keys"].numpy()
    if keys.shape != (_WORDS,) or keys.dtype != np.uint32 or not 0 <= position <= _WORDS:  # numpy reads out of bounds
        raise ValueError(f"not a state of numpy's generator: {keys.dtype} of shape {keys.shape}, position {position}")
    check_generator_state(state["torch"])
    torch.set_rng_state(state["torch"])
    np.random.set_state(("MT19937", keys, int(position), int(has_gauss), gauss))
    if torch.cuda.is_available():
        devices = range(torch.cuda.device_count())
        torch.cuda.set_rng_state_all([state[f"cuda{i}"] for i in devices if f"cuda{i}" in state])
    if torch.backends.mps.is_available() and "mps" in state:
        torch.mps.set_rng_state(state["mps"])


@contextmanager
def streams_kept() -> Iterator[None]:
    """Restore the global random streams, including Python's `random`, after the block."""
    state, python = random_state(), random.getstate()
    try:
        yield
    finally:
        set_random_state(state)
        random.setstate(python)


def check_generator_state(state: Tensor) -> None:
    """Check the state of a generator from an untrusted file, since torch does not.

    Raises:
        ValueError: With this state a CPU generator would read beyond its end.
    """
    if state.dtype != torch.uint8 or state.shape != torch.Generator().get_state().shape:
        return  # the state of another kind of generator, or no state at all: torch finds that out
    words = state.numpy()
    left, position = int(words[8:12].view("<i4")[0]), int(words[16:24].view("<u8")[0])
    if not 1 <= left <= _WORDS or position + left > _WORDS + 1:
        raise ValueError(f"not a state of a generator: position {position} with {left} words left of {_WORDS}")


@contextmanager
def deterministic(on: bool, device: str) -> Iterator[None]:
    """Within the block torch uses deterministic algorithms only; afterwards the settings are as before.

    Arguments:
        on: Whether to use them; False changes nothing.
        device: Name of the device that the block will use.

    Raises:
        ConfigError: The environment variable for cuBLAS is not set, or an operation has no deterministic algorithm.
    """
    if not on:
        yield
        return
    cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if cuda and os.environ.get("CUBLAS_WORKSPACE_CONFIG") not in _CUBLAS:
        raise ConfigError(
            "train.deterministic on a GPU needs the environment variable CUBLAS_WORKSPACE_CONFIG=:4096:8 before CUDA "
            "starts; set it (`vae` sets it itself)"
        )
    cudnn = torch.backends.cudnn
    algorithms = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    flags = cudnn.deterministic, cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic = True
    cudnn.benchmark = False
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        raise ConfigError(f"{str(error).splitlines()[0]} Leave out train.deterministic.") from error
    finally:
        torch.use_deterministic_algorithms(algorithms[0], warn_only=algorithms[1])
        cudnn.deterministic = flags[0]
        cudnn.benchmark = flags[1]
