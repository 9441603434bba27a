"""Bounds on log p(x): ELBO, rate, distortion, importance-weighted bounds, and whether the weights can be believed.

Each image is encoded once; its samples are decoded in slices that fit a memory limit, and nothing of size K is kept.
They may be decoded in bfloat16: an exact density of one of them at a time keeps the estimate of p(x) unbiased.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from ..errors import ConfigError
from ..model import LatentVariableModel, Level
from ..rng import seeded
from ..training.precision import Lowered, find_precision
from . import chunks
from .chunks import GIB, SAMPLES, Store
from .record import Listener, Value, mean_of

DEFAULT_SAMPLES = (1, 10, 100, 1000, 5000)
FEW_IN_TAIL = 5  # with fewer weights there is no tail to fit
FLAT = 1e-3  # a tail that rises by less than this share of its largest weight is flat
ROUNDED = 100  # samples that one exact density corrects
COARSE = 0.3  # nats that a log-likelihood in bfloat16 may be off, in the root mean square


@dataclass(frozen=True)
class Bounds:
    """What importance sampling says about N images.

    Arguments:
        samples: The numbers of samples K, ascending.
        per_image: Tensors (N,), float64, nats: "elbo", "rate", "distortion" and for each K "L_K"; "ess", the effective
            sample size of the greatest K; "pareto_k" of its weights, NaN where K is too small; as "noise …" the
            Monte Carlo variance of a number, infinite where the samples do not tell; and "rounding", by how much log
            p(x | z) was off before it was corrected, in the root mean square, 0 for float32.
    """

    samples: tuple[int, ...]
    per_image: dict[str, Tensor]

    @property
    def threshold(self) -> float:
        """The Pareto k̂ above which the greatest K is too small: min(1 − 1 / log₁₀ K, 0.7) (Vehtari et al. 2024)."""
        return min(1 - 1 / math.log10(max(self.samples[-1], 2)), 0.7)

    @property
    def values(self) -> list[Value]:
        """Every number with its standard error over images."""
        some = self.per_image
        kinds = {"elbo": "lower bound", "rate": "estimate", "distortion": "estimate"}
        kinds |= {f"L_{k}": "lower bound" for k in self.samples}
        found = [
            mean_of(name, some[name], "nats", kind, some.get(f"noise {name}"))  # type: ignore[arg-type]
            for name, kind in kinds.items()
        ]
        last = f"L_{self.samples[-1]}"
        found.append(mean_of("nll", -some[last], "nats", "upper bound", some[f"noise {last}"]))
        found.append(mean_of("effective sample size", some["ess"], "samples"))
        tails = some["pareto_k"]
        if bool(tails.isfinite().any()):
            found.append(Value("pareto k, median", tails.median().item(), None, ""))
            found.append(Value("pareto k, largest", tails.max().item(), None, ""))
        return found

    @property
    def warnings(self) -> list[str]:
        """Sentences where the weights of more than 5 % of the images cannot be believed, or bfloat16 is too coarse."""
        found = []
        rounding = self.per_image["rounding"].square().mean().sqrt().item()
        if rounding > COARSE:
            found.append(
                f"in bfloat16 log p(x | z) is off by {rounding:.2g} nats, more than the {COARSE:g} that can be made up "
                'for well; use precision="fp32"'
            )
        share = (self.per_image["pareto_k"] > self.threshold).double().mean().item()
        if share <= 0.05:
            return found
        k = self.samples[-1]
        return [
            *found,
            f"for {share:.0%} of the images a few of the {k} importance weights outweigh the rest (Pareto k > "
            f"{self.threshold:.2g}): L_{k} is a bound, but no estimate of log p(x); try more samples, or annealing",
        ]


def up_to(samples: int) -> tuple[int, ...]:
    """1, 10, 100 … and `samples` itself.

    Raises:
        ConfigError: less than 1.

    >>> up_to(5000)
    (1, 10, 100, 1000, 5000)
    """
    if samples < 1:
        raise ConfigError(f"samples must be at least 1, got {samples}; papers report 5000")
    return (*(10**i for i in range(len(str(samples))) if 10**i < samples), samples)


def bounds(
    model: LatentVariableModel,
    images: Tensor,
    c: Tensor | None = None,
    *,
    samples: Sequence[int] = DEFAULT_SAMPLES,
    memory: int = GIB,
    seed: int = 0,
    precision: str = "fp32",
    store: Store | None = None,
    listener: Listener | None = None,
) -> Bounds:
    """Importance-weighted bounds L_K = E log (1/K) Σ_k p(x, z_k | c) / q(z_k | x, c), z_k ~ q, for several K at once.

    All K share max(K) samples, in a fixed order: L_K is the mean over the ⌊max(K)/K⌋ consecutive groups of K samples,
    each group giving an unbiased value of the bound. So the noise falls with max(K), the values of one image are
    ordered in expectation, and those of a smaller max(K) are the first group of a larger one. Rate and distortion
    are means over all max(K) samples; the rate has its closed form where there is one.

    In bfloat16, of every 100 samples of an image one, i, is drawn with probability w_i / Σ w by its rounded weights w
    and decoded in float32 as well, which gives w'_i; the weights of all of them are multiplied by w'_i / w_i. As the
    mean of this ratio is Σ w' / Σ w, their sum is unbiased for the model as it is in float32, and L_K of K ≥ 100 stays
    a lower bound; the ELBO is too low by the variance of the rounding, 0.003 nats for the course's model on MNIST.

    Arguments:
        model: Any latent-variable model with densities.
        images: Shape (N, *image), uint8 (then x = pixel / 255) or floating-point.
        c: Classes, shape (N,), or context rows, shape (N, C), for a conditional model.
        samples: Numbers of samples K.
        memory: Bytes that decoding may take, about.
        seed: Of the samples.
        precision: Of the decoder's matrix products: "fp32", "bf16", or "auto", which is "bf16" where that is fast and
            safe.
        store: Keeps finished batches.
        listener: Told about the progress.

    Raises:
        ConfigError: a K below 1, no such precision, or a model without a density q.

    Reference: Burda, Grosse and Salakhutdinov 2015, arXiv:1509.00519, eq. 8; Nowozin 2018, "Debiasing evidence
    approximations", ICLR, for the mean over groups.
    """
    numbers = tuple(sorted(set(samples)))
    if not numbers or numbers[0] < 1:
        raise ConfigError(f"samples must be at least 1, got {list(samples)}; papers report 5000")
    with chunks.evaluating(model):
        chunks.check(model, images, c, memory)
        lowered = find_precision(precision, model)

        def compute(index: int) -> dict[str, Tensor]:
            x, context = chunks.batch(model, images, c, index)
            decoder = _Decoder(model, x, context, memory, lowered, chunks.generator(seed, "rounding", index))
            with seeded(chunks.generator(seed, "bounds", index)):
                return _of_batch(decoder, model.posterior(x, context), numbers)

        found = chunks.over_batches("bounds", images, compute, store=store, listener=listener)
    return Bounds(numbers, found)


def _of_batch(decoder: "_Decoder", q: Distribution, numbers: tuple[int, ...]) -> dict[str, Tensor]:
    kl = _closed_form(q, decoder.prior, decoder.rows)
    log_likelihood, log_ratio, log_weight = _Mean(), _Mean(), _Mean()
    nested = [_Nested(k) for k in numbers]
    tail = _Tail(numbers[-1])
    for done in range(0, numbers[-1], decoder.samples):
        z = q.rsample(torch.Size((min(decoder.samples, numbers[-1] - done),)))
        log_q = chunks.wide(q.log_prob(z))  # at once: some posteriors know it for this very tensor only
        log_p, log_lik = decoder.densities(z, log_q)
        log_likelihood.add(log_lik)
        log_ratio.add(log_q - log_p)
        log_w = log_lik + log_p - log_q
        log_weight.add(log_w)
        tail.add(log_w)
        for estimate in nested:
            estimate.add(log_w)
    found = {"distortion": -log_likelihood.mean, "noise distortion": log_likelihood.noise}
    found |= {"rate": log_ratio.mean, "noise rate": log_ratio.noise} if kl is None else {"rate": chunks.wide(kl)}
    found["elbo"] = -found["rate"] - found["distortion"]
    found["noise elbo"] = log_weight.noise if kl is None else log_likelihood.noise
    for estimate in nested:
        found |= {f"L_{estimate.k}": estimate.mean, f"noise L_{estimate.k}": estimate.noise}
    found |= {"ess": nested[-1].effective_sample_size, "pareto_k": tail.shape}
    return found | {"rounding": decoder.rounding}


class _Decoder:
    """The densities of latents of one batch, slice by slice.

    Arguments:
        model: The model.
        x: Images, shape (B, *image).
        c: Context, shape (B, C) or None.
        memory: Bytes.
        precision: Of the likelihood's networks, which is made up for.
        generator: Chooses the samples by which it is.
    """

    def __init__(
        self,
        model: LatentVariableModel,
        x: Tensor,
        c: Tensor | None,
        memory: int,
        precision: str,
        generator: torch.Generator,
    ) -> None:
        self.model, self.rows, self.prior, self.generator = model, len(x), model.prior(c), generator
        self.exact = precision == "fp32"
        self.samples = SAMPLES if self.exact else ROUNDED
        self.slices = chunks.slices(model, x, c, self.samples, memory)
        self.wholes = [] if self.exact else chunks.slices(model, x, c, 1, memory)
        self.lowered = Lowered(model, precision)
        self.squares = _Mean()

    def densities(self, z: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
        """Log p(z | c) and log p(x | z, c) of latents, shape (K, B), beside log q(z | x, c)."""
        blocks = [(part.prior, z[:, part.rows]) for part in self.slices]
        log_p = chunks.wide(torch.cat([prior.log_prob(some).expand(some.shape[:2]) for prior, some in blocks], 1))
        with self.lowered:
            log_lik = self._log_likelihood(z, self.slices)
        return log_p, log_lik if self.exact else log_lik + self._correction(z, log_lik, log_p - log_q)

    def _log_likelihood(self, z: Tensor, slices: Sequence[chunks.Slice]) -> Tensor:
        found = [self.model.likelihood(z[:, part.rows], part.c).log_prob(part.x) for part in slices]
        return chunks.wide(torch.cat(found, 1))

    def _correction(self, z: Tensor, log_lik: Tensor, log_rest: Tensor) -> Tensor:
        """What to add to rounded log-likelihoods (K, B), shape (B,)."""
        shares = (log_lik + log_rest).softmax(0).cumsum(0)
        u = torch.rand(self.rows, dtype=shares.dtype, generator=self.generator).to(z.device)
        chosen = (shares[:-1] < u * shares[-1]).sum(0)
        rows = torch.arange(self.rows, device=z.device)
        exact = self._log_likelihood(z[chosen, rows][None], self.wholes)[0]
        off = exact - log_lik[chosen, rows]
        self.squares.add(off.square()[None])
        return off

    @property
    def rounding(self) -> Tensor:
        """By how much a log-likelihood was off, in the root mean square, shape (B,)."""
        return self.slices[0].x.new_zeros(self.rows) if self.exact else self.squares.mean.sqrt()


def _closed_form(q: Distribution, p: Distribution, n: int) -> Tensor | None:
    """KL(q ‖ p) of each of n rows, or None. A hierarchy has none: it is no single pair of distributions."""
    level = Level(torch.empty(1, n, 0), q, p)
    return level.analytic_kl


class _Mean:
    """Mean over samples and the variance of that mean, for each image."""

    def __init__(self) -> None:
        self.count = 0
        self.total = self.squares = self.origin = torch.zeros(())

    def add(self, values: Tensor) -> None:
        """Take in samples, shape (s, B)."""
        if not self.count:
            self.origin = values[:1].mean(0)  # numbers near 1e4 whose squares would cancel
        self.count += len(values)
        self.total = self.total + (values - self.origin).sum(0)
        self.squares = self.squares + (values - self.origin).square().sum(0)

    @property
    def mean(self) -> Tensor:
        """Shape (B,)."""
        return self.origin + self.total / self.count

    @property
    def noise(self) -> Tensor:
        """Variance of the mean, shape (B,); infinite for one sample."""
        if self.count < 2:
            return torch.full_like(self.total, math.inf)
        spread = self.squares - self.total.square() / self.count
        return spread.clamp_min(0) / (self.count - 1) / self.count


class _Nested:
    """Mean over groups of k consecutive samples of log (1/k) Σ w; samples after the last whole group do not count."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.filled = 0
        self.open: Tensor | None = None  # log Σ w and log Σ w² of the group that is not whole yet, shape (2, B)
        self.last: Tensor | None = None  # the same of the last whole group
        self.groups = _Mean()

    def add(self, log_w: Tensor) -> None:
        """Take in log-weights, shape (s, B)."""
        if self.filled:
            missing = self.k - self.filled
            self._extend(log_w[:missing])
            log_w = log_w[missing:]
        whole = len(log_w) // self.k * self.k
        if whole:
            groups = log_w[:whole].reshape(-1, self.k, log_w.shape[1])
            self._close(torch.stack((groups.logsumexp(1), (2 * groups).logsumexp(1)), 1))
        self._extend(log_w[whole:])

    def _extend(self, log_w: Tensor) -> None:
        if not len(log_w):
            return
        sums = torch.stack((log_w.logsumexp(0), (2 * log_w).logsumexp(0)))
        self.open = sums if self.open is None else torch.logaddexp(self.open, sums)
        self.filled += len(log_w)
        if self.filled == self.k:
            self._close(self.open[None])
            self.open, self.filled = None, 0

    def _close(self, sums: Tensor) -> None:
        """Count whole groups, shape (groups, 2, B)."""
        self.groups.add(sums[:, 0] - math.log(self.k))
        self.last = sums[-1]

    @property
    def mean(self) -> Tensor:
        """The bound, shape (B,)."""
        return self.groups.mean

    @property
    def effective_sample_size(self) -> Tensor:
        """(Σ w)² / Σ w² of the last group, shape (B,), between 1 and k."""
        assert self.last is not None
        return (2 * self.last[0] - self.last[1]).exp()

    @property
    def noise(self) -> Tensor:
        """Variance of the mean: from the spread of the groups, or for one group by the delta method."""
        if self.groups.count > 1:
            return self.groups.noise
        if self.k == 1:
            return torch.full_like(self.mean, math.inf)
        return (1 / self.effective_sample_size - 1 / self.k).clamp_min(0)


class _Tail:
    """The greatest of K importance weights, and the shape k̂ of the Pareto distribution that they look like.

    Reference: Vehtari et al. 2015, arXiv:1507.02646, section 2.4: min(K/5, 3√K) weights.
    """

    def __init__(self, k: int) -> None:
        self.size = int(min(k / 5, 3 * math.sqrt(k)))
        self.seen: list[Tensor] = []  # the greatest of all, and more that came later
        self.waiting = 0

    def add(self, log_w: Tensor) -> None:
        """Take in log-weights, shape (s, B)."""
        self.seen.append(log_w)
        self.waiting += len(log_w)
        if self.waiting > self.size:
            self._sort()

    def _sort(self) -> None:
        seen = torch.cat(self.seen)
        self.seen, self.waiting = [seen.topk(min(self.size + 1, len(seen)), 0).values], 0

    @property
    def shape(self) -> Tensor:
        """k̂, shape (B,): NaN where there are too few weights to tell, 0 where they are all equal."""
        self._sort()
        top = self.seen[0]
        if self.size < FEW_IN_TAIL:
            return torch.full_like(top[0], math.nan)
        weights = (top - top[0]).exp()
        excess = weights[:-1] - weights[-1]
        # Equal but for rounding: there is no tail, and what rounding looks like does not matter.
        return torch.where(excess[0] < FLAT, 0.0, pareto_shape(excess))


def pareto_shape(excess: Tensor) -> Tensor:
    """Shape k̂ of a generalized Pareto distribution fitted to excesses over a threshold.

    Above 0.7 importance sampling is unreliable; a mean exists below 1, a variance below ½.

    Arguments:
        excess: Shape (M, ...), ≥ 0, float64, in any order.

    Returns:
        Shape (...).

    Reference: Zhang and Stephens 2009, "A new and efficient estimation method for the generalized Pareto
    distribution", Technometrics 51; with the weak prior of 10 observations at k = ½ of Vehtari et al. 2015,
    arXiv:1507.02646, appendix C.
    """
    excess = excess.sort(0).values
    n = len(excess)
    largest = excess[-1].clamp_min(torch.finfo(excess.dtype).tiny)
    quartile = torch.maximum(excess[int(n / 4 + 0.5) - 1], 1e-10 * largest)
    points = 30 + int(math.sqrt(n))
    grid = 1 - (points / (torch.arange(1, points + 1, dtype=excess.dtype, device=excess.device) - 0.5)).sqrt()
    theta = 1 / largest + grid.reshape(-1, *[1] * (excess.ndim - 1)) / (3 * quartile)
    shapes = torch.stack([torch.log1p(-t * excess).mean(0) for t in theta])
    likelihood = n * ((-theta / shapes).log() - shapes - 1)
    weight = likelihood.nan_to_num(-math.inf).softmax(0)
    shape = torch.log1p(-(weight * theta).sum(0) * excess).mean(0)
    return (shape * n + 10 * 0.5) / (n + 10)
