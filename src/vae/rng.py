"""Random numbers: the global streams lent to an explicit generator.

`torch.distributions` draws from torch's global stream only. `seeded` lends that stream to a `torch.Generator` for the
length of a block: any distribution becomes a deterministic function of the generator, and the caller's own stream is
left as it was.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
