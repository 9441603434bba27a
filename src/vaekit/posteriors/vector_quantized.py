"""The posterior over learned codes: vector quantization, in one step or several.

Not for: codes that are not learned, and the base of both (`quantized`).
"""

import math
from collections.abc import Sequence
from itertools import repeat
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import one_hot

from ..distributions import CertainCodes, full_precision
from ..errors import ConfigError, check_count, check_range, one_of
from .quantized import MOST_CODES, CodesPosterior

MOST_SUMS = 1 << 16  # sums of the codes of several steps
LLOYD_STEPS = 10  # of k-means
START_ROWS = 2000  # training rows that the codes start from, evenly spread; up to twice as many
START_ROWS_AT_A_TIME = 500
START_POINTS = 20_000  # outputs of the encoder for these rows that the codes start from


class VQPosterior(CodesPosterior):
    """Vector quantization: the encoder's output at a place becomes the nearest of K learned codes.

    With several steps it becomes a sum of codes. Each step has its own K codes, and takes the one nearest to the
    remainder of the earlier steps. So there are K^steps codes at a place (residual quantization).

    Where a gradient is recorded, β‖z − sg(e)‖² draws the encoder to its codes (`commitment`). The codes follow it: as
    running means of the outputs assigned to them ("ema"), or by the gradient of ‖sg(z) − e‖² (`codebook`). Both costs
    are sums over places, values and steps; e is the sum so far. Without a gradient there are no penalties, and the ELBO
    is a bound.

    Arguments:
        net: See `CodesPosterior`.
        features: Width of the network's output.
        latent_size: D.
        wanted_shape: Shape of latents that suits the decoder (`Decoder.wanted_shape`).
        context_size: C; 0 for an unconditional model.
        codes: K.
        steps: Number of codes that are added up at a place.
        commitment: β.
        codebook: How the codes learn.
        decay: Decay of the running means, and of the counts that tell dead codes.
        revive: A code used less often than this share of the mean use is replaced by a random output of the encoder.
            0 never replaces one.
        gradient: How the decoder's gradient reaches the encoder: unchanged ("straight-through"), or rotated and scaled
            like z to its code ("rotation").
        places: Number of codes of a row, if the decoder reads no grid.

    Reference: van den Oord, Vinyals and Kavukcuoglu 2017, arXiv:1711.00937, eq. 3 and appendix A.1; Fifty et al. 2024,
    arXiv:2410.06424, for the rotation; Lee et al. 2022, arXiv:2203.01941, eq. 2 to 5, for the steps.
    """

    couples_rows = True  # codes move by a whole batch
    counts: Tensor
    sums: Tensor

    def __init__(
        self,
        net: nn.Module,
        features: int,
        latent_size: int,
        wanted_shape: Sequence[int],
        context_size: int = 0,
        *,
        codes: int = 64,
        steps: int = 1,
        commitment: float = 0.25,
        codebook: Literal["ema", "gradient"] = "ema",
        decay: float = 0.99,
        revive: float = 0.01,
        gradient: Literal["straight-through", "rotation"] = "straight-through",
        places: int = 16,
    ) -> None:
        check_count("codes", codes, 2, MOST_CODES)
        for name, value, most in (("commitment", commitment, math.inf), ("decay", decay, 1.0), ("revive", revive, 1.0)):
            check_range(name, value, 0, most)
        most = int(MOST_SUMS ** (1 / check_count("steps", steps, 1)) + 1e-9)
        if steps > 1 and codes > most:
            raise ConfigError(f"codes must be at most {most} with steps = {steps}, got {codes}")
        super().__init__(net, features, latent_size, wanted_shape, places)
        self.num_codes = codes**steps
        self.steps = steps
        self.codes_per_step = codes
        self.context_size = context_size
        self.commitment = commitment
        self.decay = decay
        self.revive = revive
        self.gradient = one_of("gradient", gradient, ("straight-through", "rotation"))
        self.learns = one_of("codebook", codebook, ("ema", "gradient")) == "gradient"
        start = torch.randn(steps * codes, latent_size)
        if self.learns:
            self.codes = nn.Parameter(start)
        else:
            self.register_buffer("codes", start)
        self.register_buffer("counts", torch.ones(steps * codes))
        self.register_buffer("sums", start.clone())

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """The codes of each row of x; they move, where a gradient is recorded in training mode."""
        z = self.vectors(self.unquantized(x, c))
        with full_precision(z):
            return self._quantized(z)

    def _quantized(self, z: Tensor) -> CertainCodes:
        moves = self.training and torch.is_grad_enabled()
        if moves and self.revive:
            self._revive(z.detach().flatten(0, -2))
        places = self._chosen(z.detach())
        parts = self.codes[places]
        sums = parts.detach().cumsum(-2)
        e = sums[..., -1, :]
        penalties = {}
        if torch.is_grad_enabled():
            penalties["commitment"] = self.commitment * _sum_of_squares(z.unsqueeze(-2) - sums)
            if self.learns:
                learned_sums = sums - parts.detach() + parts  # the sums, with the gradient of the code of each step
                penalties["codebook"] = _sum_of_squares(z.detach().unsqueeze(-2) - learned_sums)
        passed = rotated(z, e) if self.gradient == "rotation" else e + (z - z.detach())
        if moves:
            self._follow(self._left(z.detach(), places).flatten(0, -2), places.flatten())
        return CertainCodes(self.grid(passed), penalties, self.usage(self._index(places)))

    def nearest(self, vectors: Tensor) -> Tensor:
        """The index of the code that each row becomes, shape (..., D) → (...)."""
        return self._index(self._chosen(vectors))

    def index_of(self, z: Tensor) -> Tensor:
        """The indices of the codes."""
        vectors = self.vectors(z.detach())
        every = torch.arange(self.num_codes, device=vectors.device)
        return _nearest(vectors, self._sum(every)) if self.steps > 1 else self.nearest(vectors)

    def codes_of(self, index: Tensor) -> Tensor:
        """The codes with these indices."""
        return self.grid(self._sum(index))

    def _sum(self, index: Tensor) -> Tensor:
        """The codes with these indices, shape (...) → (..., D)."""
        step = torch.arange(self.steps, device=index.device)
        digits = index.unsqueeze(-1) // self.codes_per_step**step % self.codes_per_step
        return self.codes.detach()[digits + self.codes_per_step * step].cumsum(-2)[..., -1, :]

    def _index(self, places: Tensor) -> Tensor:
        step = torch.arange(self.steps, device=places.device)
        return ((places - self.codes_per_step * step) * self.codes_per_step**step).sum(-1)

    def _chosen(self, vectors: Tensor) -> Tensor:
        """The index in `codes` of the code of each step, shape (..., D) → (..., steps)."""
        places = []
        for step, codes in enumerate(self.codes.detach().split(self.codes_per_step)):
            index = _nearest(vectors, codes)
            places.append(index + self.codes_per_step * step)
            vectors = vectors - codes[index]
        return torch.stack(places, -1)

    def _left(self, vectors: Tensor, places: Tensor) -> Tensor:
        """The remainder that each step quantizes, shape (..., D) → (..., steps, D)."""
        parts = self.codes.detach()[places]
        return vectors.unsqueeze(-2) - (parts.cumsum(-2) - parts)

    @torch.no_grad()
    def _follow(self, vectors: Tensor, index: Tensor) -> None:
        """Update counts, sums and running means by the assigned latents."""
        assigned = one_hot(index, len(self.codes)).to(vectors.dtype)
        self.counts.lerp_(assigned.sum(0), 1 - self.decay)
        if not self.learns:
            self.sums.lerp_(assigned.T @ vectors, 1 - self.decay)
            self.codes.copy_(self.sums / self.counts.clamp_min(1e-9).unsqueeze(-1))

    @torch.no_grad()
    def _revive(self, vectors: Tensor) -> None:
        """Move codes that are hardly used to outputs of the encoder."""
        average = self.counts.mean()
        dead = self.counts < self.revive * average
        left = self._left(vectors, self._chosen(vectors)) if self.steps > 1 else vectors.unsqueeze(-2)
        step = torch.arange(len(self.codes), device=vectors.device) // self.codes_per_step
        outputs = left[torch.randint(len(vectors), (len(self.codes),), device=vectors.device), step]
        self.codes.copy_(torch.where(dead.unsqueeze(-1), outputs, self.codes))
        self.counts.copy_(torch.where(dead, average, self.counts))
        self.sums.copy_(torch.where(dead.unsqueeze(-1), average * outputs, self.sums))

    @torch.no_grad()
    def start(self, x: Tensor, c: Tensor | None = None) -> None:
        """Start the codes at the k-means centres of the encoder's outputs for some data.

        Without the classes that a conditional encoder needs, the codes stay unchanged.
        """
        if self.context_size and c is None:
            return
        was_training = self.training
        self.eval()
        stride = max(1, len(x) // START_ROWS)
        contexts = repeat(None) if c is None else c[::stride].split(START_ROWS_AT_A_TIME)
        outputs = [
            self.vectors(self.unquantized(rows, context)).flatten(0, -2)
            for rows, context in zip(x[::stride].split(START_ROWS_AT_A_TIME), contexts, strict=False)
        ]
        self.train(was_training)
        vectors = torch.cat(outputs)
        points = vectors[torch.randperm(len(vectors), device=vectors.device)[:START_POINTS]]
        centres = []
        for _ in range(self.steps):
            centres.append(k_means(points, self.codes_per_step))
            points = points - centres[-1][_nearest(points, centres[-1])]
        self.codes.copy_(torch.cat(centres))
        self.sums.copy_(self.codes)
        self.counts.fill_(1.0)


def k_means(points: Tensor, k: int) -> Tensor:
    """Centres of k clusters, shape (k, D), by Lloyd's algorithm from random points (N, D); an empty cluster stays."""
    centres = points[torch.arange(k, device=points.device) % len(points)].clone()
    if k > len(points):
        centres += 1e-3 * torch.randn_like(centres)  # or copies of a point would stay the same code
    for _ in range(LLOYD_STEPS):
        index = _nearest(points, centres)
        counts = index.bincount(minlength=k).to(points)
        sums = torch.zeros_like(centres).index_add_(0, index, points)
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], centres)
    return centres


def rotated(z: Tensor, e: Tensor) -> Tensor:
    """The value of e, with the gradient of λRz: R turns z to e and λ = ‖e‖/‖z‖, both held fixed; shape (..., D).

    Reference: Fifty et al. 2024, arXiv:2410.06424, eq. 4: R = I − 2rrᵀ + 2êẑᵀ with r the unit vector along ẑ + ê.
    """
    size = z.detach().norm(dim=-1, keepdim=True).clamp_min(1e-6)
    from_, to = z.detach() / size, e / e.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    r = nn.functional.normalize(from_ + to, dim=-1, eps=1e-6)
    turned = z - 2 * (z * r).sum(-1, keepdim=True) * r + 2 * (z * from_).sum(-1, keepdim=True) * to
    turned = e.norm(dim=-1, keepdim=True) / size * turned
    passed: Tensor = e + (turned - turned.detach())
    return passed


def _nearest(vectors: Tensor, codes: Tensor) -> Tensor:
    """The index of the code nearest to each row, shapes (..., D) and (K, D) → (...)."""
    return (codes.square().sum(-1) - 2 * vectors @ codes.T).argmin(-1)


def _sum_of_squares(vectors: Tensor) -> Tensor:
    total: Tensor = vectors.square().flatten(1).sum(1)
    return total
