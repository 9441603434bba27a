"""Random numbers: the global streams lent to an explicit generator.

`torch.distributions` draws from torch's global stream only. `seeded` lends that stream to a `torch.Generator` for the
length of a block: any distribution becomes a deterministic function of the generator, and the caller's own stream is
left as it was.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


@contextmanager
def seeded(generator: torch.Generator | None) -> Iterator[None]:
    """Within the block every random draw is determined by `generator`; with None the global stream is used as it is."""
    if generator is None:
        yield
        return
    seed = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def random_state() -> dict[str, Tensor]:
    """Where the global streams of torch, its CUDA devices and numpy stand; `random` has a state of its own kind."""
    stream = np.random.get_state(legacy=False)
    state = {
        "torch": torch.get_rng_state(),
        "numpy_keys": torch.from_numpy(stream["state"]["key"].copy()),
        "numpy_rest": torch.tensor([stream["state"]["pos"], stream["has_gauss"], stream["gauss"]], dtype=torch.float64),
    }
    if torch.cuda.is_available():
        state |= {f"cuda{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    return state


def set_random_state(state: Mapping[str, Tensor]) -> None:
    """Put the global streams back to where `random_state` found them."""
    torch.set_rng_state(state["torch"])
    position, has_gauss, gauss = state["numpy_rest"].tolist()
    np.random.set_state(("MT19937", state["numpy_keys"].numpy(), int(position), int(has_gauss), gauss))
    if torch.cuda.is_available():
        devices = range(torch.cuda.device_count())
        torch.cuda.set_rng_state_all([state[f"cuda{i}"] for i in devices if f"cuda{i}" in state])
