"""Bounds on log p(x): ELBO, rate, distortion, importance-weighted bounds, and whether the weights can be trusted.

Each row is encoded once. Its samples are decoded in slices that fit a memory limit, and nothing of size K is kept.
Samples may be decoded in bfloat16 or TF32: the exact density of one sample in a hundred keeps the estimate unbiased.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from ...data import Batch
from ...distributions import closed_form_kl, draw_samples
from ...errors import ConfigError, check_count, is_whole
from ...model import LatentVariableModel
from ...rng import seeded
from ...training.precision import LoweredPrecision, find_precision
from .. import batchwise
from ..batch_cache import BatchCache
from ..batchwise import DECODED_SAMPLES, GIB
from ..values import EstimateKind, Setting, StageListener, Value, bound_name, mean_over_rows, variance_key
from .weights import Mean, NestedBounds, Tail

MOST_SAMPLES = 1 << 20  # of a row; papers have 5000
DEFAULT_SAMPLES = (1, 10, 100, 1000, 5000)
ROUNDED = 100  # samples that one exact density corrects
COARSE = 0.3  # nats, the greatest root mean square error of a log-likelihood in a lower precision


@dataclass(frozen=True)
class Bounds:
    """Estimates by importance sampling for N rows.

    Arguments:
        samples: Every K, the number of samples of a bound, ascending.
        per_row: Tensors (N,), float64, nats: "elbo", "rate", "distortion" and for each K "L_K"; "ess", the effective
            sample size of the greatest K; "pareto_k" of its weights, NaN where K is too small or they are all 0; under
            `variance_key(name)` the Monte Carlo variance of a number, infinite where it is unknown; and "rounding",
            the root mean square error of log p(x | z) before its correction, 0 for float32.
        precision: Precision of the decoder's matrix products: "fp32", "tf32" or "bf16".
    """

    samples: tuple[int, ...]
    per_row: dict[str, Tensor]
    precision: str = "fp32"

    @property
    def tightest(self) -> Tensor:
        """L_K of the greatest K, shape (N,), nats."""
        return self.per_row[bound_name(self.samples[-1])]

    @property
    def threshold(self) -> float:
        """The Pareto k̂ above which the greatest K is too small: min(1 − 1 / log₁₀ K, 0.7) (Vehtari et al. 2024)."""
        return min(1 - 1 / math.log10(max(self.samples[-1], 2)), 0.7)

    @property
    def values(self) -> list[Value]:
        """Every number with its standard error over rows."""
        per_row = self.per_row
        kinds: dict[str, EstimateKind] = {"elbo": "lower bound", "rate": "estimate", "distortion": "estimate"}
        kinds |= {bound_name(k): "lower bound" for k in self.samples}
        values = [
            mean_over_rows(
                name, per_row[name], "nats", kind, per_row.get(variance_key(name)), likelihood=name != "rate"
            )
            for name, kind in kinds.items()
        ]
        last = bound_name(self.samples[-1])
        settings: tuple[Setting, ...] = ("samples",)
        nll = mean_over_rows(
            "nll",
            -per_row[last],
            "nats",
            "upper bound",
            per_row[variance_key(last)],
            depends_on=settings,
            likelihood=True,
        )
        values += [nll, mean_over_rows("effective sample size", per_row["ess"], "samples", depends_on=settings)]
        tails = per_row["pareto_k"][~per_row["pareto_k"].isnan()]
        if len(tails):
            values.append(Value("pareto k, median", tails.median().item(), None, "", depends_on=settings))
            values.append(Value("pareto k, largest", tails.max().item(), None, "", depends_on=settings))
        return values

    @property
    def warnings(self) -> list[str]:
        """Warnings: rows have no density, over 5 % of the rows have unreliable weights, or the precision is too low."""
        warnings = density_warnings(self.tightest)
        rounding = self.per_row["rounding"].square().mean().sqrt().item()
        if rounding > COARSE:
            warnings.append(
                f'with precision="{self.precision}" log p(x | z) is off by {rounding:.2g} nats, and more than '
                f'{COARSE:g} cannot be corrected well; use precision="fp32"'
            )
        share = (self.per_row["pareto_k"] > self.threshold).double().mean().item()
        if share <= 0.05:
            return warnings
        k = self.samples[-1]
        return [
            *warnings,
            f"for {share:.0%} of the rows a few of the {k} importance weights outweigh the rest (Pareto k > "
            f"{self.threshold:.2g}): L_{k} is a bound, but no estimate of log p(x); try more samples, or annealing",
        ]


def density_warnings(log_p: Tensor) -> list[str]:
    """A sentence if some rows have no density under the model; `log_p` is their log p(x), shape (N,)."""
    count = int((log_p == -math.inf).sum())
    if not count:
        return []
    return [f"{count} row{'s have' if count > 1 else ' has'} no density under the model; look for extreme values"]


def up_to(samples: int) -> tuple[int, ...]:
    """1, 10, 100 … and `samples` itself.

    Raises:
        ConfigError: `samples` is below 1 or above 2^20.

    >>> up_to(5000)
    (1, 10, 100, 1000, 5000)
    """
    check_samples(samples)
    return (*(10**i for i in range(len(str(samples))) if 10**i < samples), samples)


def check_samples(samples: int) -> None:
    """Refuse a number of samples that is not from 1 to 2^20.

    Raises:
        ConfigError: The number is out of range, or not whole.
    """
    check_count("samples", samples, 1, MOST_SAMPLES, hint="; papers report 5000")


def bounds(
    model: LatentVariableModel,
    rows: Tensor | Batch,
    *,
    samples: Sequence[int] = DEFAULT_SAMPLES,
    memory: int = GIB,
    seed: int = 0,
    precision: str = "fp32",
    cache: BatchCache | None = None,
    listener: StageListener | None = None,
) -> Bounds:
    """Importance-weighted bounds L_K = E log (1/K) Σ_k p(x, z_k | c) / q(z_k | x, c), z_k ~ q, for several K at once.

    All K share max(K) samples, in a fixed order. L_K is the mean over the ⌊max(K)/K⌋ consecutive groups of K samples;
    each group gives an unbiased value of the bound. So the noise falls with max(K), and the bounds of one row are
    ordered in expectation. Rate and distortion are means over all max(K) samples; a rate with a closed form is
    computed by it.

    In a lower precision, one of every 100 samples of a row is decoded in float32 as well. Sample i is drawn with
    probability w_i / Σ w, where w are the rounded weights; in float32 its weight is w'_i. All 100 weights are
    multiplied by w'_i / w_i. The mean of this ratio is Σ w' / Σ w, so that the sum of all 100 is unbiased for the model
    in float32.
    The samples are exchangeable: E[w_k Σ w' / Σ w] is the same for each k, and so E[Σ w'] / 100. Hence the mean of any
    K weights is unbiased, and the mean of its logarithm is a lower bound on log p(x), for every K and for the ELBO.
    The ELBO is lower than in float32 by the variance of the rounding: 0.003 nats in bfloat16 for the course's model on
    MNIST.

    Arguments:
        model: Any latent-variable model with densities.
        rows: Shape (N, *event), uint8 (then x = pixel / 255) or floating-point; or a `Batch`, with the context or the
            labels of a conditional model; only its observed values count.
        samples: Numbers of samples K.
        memory: About how many bytes decoding may take.
        seed: Seed of the samples.
        precision: Precision of the decoder's matrix products: "fp32", "bf16", "tf32" on CUDA devices, or "auto", the
            lowest that is fast and safe here; see `vaekit.training.precision.find_precision`.
        cache: Keeps finished batches.
        listener: Called with the stage, the batches done and the total.

    Raises:
        ConfigError: A K is below 1 or above 2^20, the precision is unknown, or the posterior has no density.

    Reference: Burda, Grosse and Salakhutdinov 2015, arXiv:1509.00519, eq. 8; Nowozin 2018, "Debiasing evidence
    approximations", ICLR, for the mean over groups.
    """
    try:
        numbers = tuple(samples)
    except TypeError:
        example = f"({samples},) or " if is_whole(samples) else ""
        raise ConfigError(
            f"samples are the numbers of samples K, such as {example}(1, 10, 100), got {samples!r:.60}"
        ) from None
    for count in numbers:
        check_samples(count)
    numbers = tuple(sorted(set(numbers)))
    if not numbers:
        raise ConfigError("samples must be at least one number of samples, got none; papers report 5000")
    with batchwise.estimating(model):
        rows = batchwise.rows_as_batch(rows)
        batchwise.check_evaluable(model, rows, memory)
        lowered = find_precision(precision, model)

        def compute(index: int) -> dict[str, Tensor]:
            batch = batchwise.batch_of(model, rows, index)
            return batch_bounds(model, batch, index, numbers, memory=memory, seed=seed, precision=lowered)

        per_row = batchwise.over_batches("bounds", len(rows), compute, cache=cache, listener=listener)
    return Bounds(numbers, per_row, lowered)


def batch_bounds(
    model: LatentVariableModel,
    batch: Batch,
    index: int,
    samples: tuple[int, ...],
    *,
    memory: int = GIB,
    seed: int = 0,
    precision: str = "fp32",
) -> dict[str, Tensor]:
    """The numbers of `Bounds.per_row` for one batch.

    Arguments:
        model: The model, in evaluation mode.
        batch: The rows as the model takes them.
        index: Number of the batch among all, from 0; the samples depend on this number.
        samples: Numbers of samples K, ascending.
        memory: About how many bytes decoding may take.
        seed: Seed of the samples.
        precision: "fp32", "tf32" or "bf16".
    """
    decoder = _Decoder(model, batch, memory, precision, batchwise.stream_of(seed, "rounding", index))
    with seeded(batchwise.stream_of(seed, "bounds", index)):
        return _estimates(decoder, model.posterior_of(batch), samples)


def _estimates(decoder: "_Decoder", q: Distribution, numbers: tuple[int, ...]) -> dict[str, Tensor]:
    kl = _closed_form(q, decoder.prior, decoder.num_rows)
    log_likelihood = Mean()
    log_ratio = Mean()
    log_weight = Mean()
    nested = [NestedBounds(k) for k in numbers]
    tail = Tail(numbers[-1])
    for done in range(0, numbers[-1], decoder.samples):
        z = draw_samples(q, min(decoder.samples, numbers[-1] - done))
        # Before z is cut: some posteriors know its density only for this very tensor.
        log_q = batchwise.to_float64(q.log_prob(z))
        log_p, log_lik = decoder.densities(z, log_q)
        log_likelihood.add(log_lik)
        log_ratio.add(log_q - log_p)
        log_w = log_lik + log_p - log_q
        log_weight.add(log_w)
        tail.add(log_w)
        for estimate in nested:
            estimate.add(log_w)
    results = {"distortion": -log_likelihood.mean, "rate": log_ratio.mean if kl is None else batchwise.to_float64(kl)}
    results["elbo"] = -results["rate"] - results["distortion"]
    of_elbo = log_weight if kl is None else log_likelihood
    results |= {
        variance_key("distortion"): log_likelihood.variance_of_mean,
        variance_key("elbo"): of_elbo.variance_of_mean,
    }
    if kl is None:
        results[variance_key("rate")] = log_ratio.variance_of_mean
    for estimate in nested:
        name = bound_name(estimate.k)
        results |= {name: estimate.mean, variance_key(name): estimate.variance_of_mean}
    results |= {"ess": nested[-1].effective_sample_size, "pareto_k": tail.shape}
    return results | {"rounding": decoder.rounding}


class _Decoder:
    """The densities of latents of one batch, slice by slice.

    Arguments:
        model: The model.
        rows: The rows as the model takes them.
        memory: Bytes.
        precision: Precision of the likelihood's networks.
        generator: Chooses the samples that correct for a low precision.
    """

    def __init__(
        self,
        model: LatentVariableModel,
        rows: Batch,
        memory: int,
        precision: str,
        generator: torch.Generator,
    ) -> None:
        self.model = model
        self.num_rows = len(rows)
        self.prior = model.prior(rows.c)
        self.generator = generator
        self.exact = precision == "fp32"
        self.samples = DECODED_SAMPLES if self.exact else ROUNDED
        self.slices = batchwise.slices(model, rows, self.samples, memory)
        self.exact_slices = [] if self.exact else batchwise.slices(model, rows, 1, memory)
        self.lowered = LoweredPrecision(model, precision)
        self.squares = Mean()

    def densities(self, z: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
        """Log p(z | c) and log p(x | z, c) of latents, shape (K, B), given log q(z | x, c)."""
        blocks = [(part.prior, z[:, part.rows]) for part in self.slices]
        parts = [prior.log_prob(block).expand(block.shape[:2]) for prior, block in blocks]
        log_p = batchwise.to_float64(torch.cat(parts, 1))
        with self.lowered:
            log_lik = self._log_likelihood(z, self.slices)
        return log_p, log_lik if self.exact else log_lik + self._correction(z, log_lik, log_p - log_q)

    def _log_likelihood(self, z: Tensor, slices: Sequence[batchwise.Slice]) -> Tensor:
        log_p = [batchwise.log_likelihood(self.model, z[:, part.rows], part.batch) for part in slices]
        return batchwise.to_float64(torch.cat(log_p, 1))

    def _correction(self, z: Tensor, log_lik: Tensor, log_rest: Tensor) -> Tensor:
        """The correction of rounded log-likelihoods (K, B), shape (B,)."""
        shares = (log_lik + log_rest).softmax(0).cumsum(0)
        u = torch.rand(self.num_rows, dtype=shares.dtype, generator=self.generator).to(z.device)
        picked = (shares[:-1] < u * shares[-1]).sum(0)
        rows = torch.arange(self.num_rows, device=z.device)
        exact = self._log_likelihood(z[picked, rows][None], self.exact_slices)[0]
        error = exact - log_lik[picked, rows]
        self.squares.add(error.square()[None])
        return error

    @property
    def rounding(self) -> Tensor:
        """The root mean square error of a log-likelihood, shape (B,)."""
        return self.slices[0].batch.x.new_zeros(self.num_rows) if self.exact else self.squares.mean.sqrt()


def _closed_form(q: Distribution, p: Distribution, n: int) -> Tensor | None:
    """KL(q ‖ p) of each of n rows; None where there is no closed form, as for a hierarchy."""
    kl = closed_form_kl(q, p)
    return None if kl is None else kl.expand(n)
