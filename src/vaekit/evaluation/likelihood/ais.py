"""Annealed importance sampling with Hamiltonian transitions, and bidirectional Monte Carlo on simulated data.

A chain walks over a path of unnormalized densities, from a distribution that is easy to draw from to the posterior. Its
weight is an unbiased estimate of p(x), so the logarithm of the weight is a lower bound on log p(x) in expectation. For
rows that the model has made, the chain can also walk backwards, from an exact sample of the posterior. That gives an
upper bound. The gap between the two bounds says how much there is left to gain.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from ...data import Batch
from ...distributions import draw_rows
from ...errors import ConfigError, check_count, one_of
from ...model import LatentVariableModel
from ...rng import seeded
from .. import batchwise
from ..batch_cache import BatchCache
from ..batchwise import GIB
from ..values import Setting, StageListener, Value, mean_over_rows, variance_key
from .support import refuse_annealing
from .weights import jackknife

ChainStart = Literal["prior", "posterior"]

ROWS_OF_CHAINS = 25  # rows, each with its chains
ACCEPTANCE = 0.65  # the best share of accepted proposals for Hamiltonian transitions (Beskos et al. 2013)


@dataclass(frozen=True)
class Annealing:
    """How carefully to anneal.

    Arguments:
        temperatures: Steps T of the path; the bound tightens like 1/T.
        chains: Chains for each row.
        leapfrog: Steps of a Hamiltonian transition; each takes a gradient.
        start: Where chains start: the encoder's posterior or, further away, the prior. The weights are unbiased for
            both, but the prior needs thousands of temperatures for a bound as tight.

    Raises:
        ConfigError: A number is below 1, or there is no such start.
    """

    temperatures: int = 200
    chains: int = 16
    leapfrog: int = 10
    start: ChainStart = "posterior"

    def __post_init__(self) -> None:
        for name in ("temperatures", "chains", "leapfrog"):
            check_count(name, getattr(self, name))
        one_of("start", self.start, get_args(ChainStart))

    @classmethod
    def of(cls, annealing: "Annealing | None") -> "Annealing":
        """The given options, or the defaults for None.

        Raises:
            ConfigError: The options are not an `Annealing`.
        """
        if not isinstance(annealing, Annealing | None):
            raise ConfigError(
                f"annealing must be an Annealing, got {annealing!r:.60}; pass "
                "vaekit.evaluation.Annealing(temperatures=200)"
            )
        return annealing or cls()


@dataclass(frozen=True)
class Annealed:
    """Estimates by annealing for N rows.

    Arguments:
        per_row: Tensors (N,), float64: "ais", nats; under `variance_key("ais")` its Monte Carlo variance; "acceptance",
            the share of accepted proposals; and on simulated data "upper", nats.
        source: Whether the rows were given or simulated; the names of the values say so.
    """

    per_row: dict[str, Tensor]
    source: Literal["given", "simulated"]

    @property
    def values(self) -> list[Value]:
        """Every number with its standard error over rows."""
        per_row = self.per_row
        how: tuple[Setting, ...] = ("annealing",)
        if self.source == "given":
            return [
                mean_over_rows(
                    "AIS",
                    per_row["ais"],
                    "nats",
                    "lower bound",
                    per_row[variance_key("ais")],
                    depends_on=how,
                    likelihood=True,
                ),
                mean_over_rows("AIS acceptance", 100 * per_row["acceptance"], "%", depends_on=how),
            ]
        values = [
            mean_over_rows(
                "BDMC lower, simulated data", per_row["ais"], "nats", "lower bound", per_row[variance_key("ais")]
            ),
            mean_over_rows("BDMC upper, simulated data", per_row["upper"], "nats", "upper bound"),
            mean_over_rows("BDMC gap, simulated data", per_row["upper"] - per_row["ais"], "nats"),
        ]
        return [replace(value, depends_on=how) for value in values]


def ais(
    model: LatentVariableModel,
    rows: Tensor | Batch,
    *,
    annealing: Annealing | None = None,
    memory: int = GIB,
    seed: int = 0,
    cache: BatchCache | None = None,
    listener: StageListener | None = None,
) -> Annealed:
    """A lower bound on log p(x | c) of each row by annealed importance sampling.

    The path is f_β(z) = p₀(z)^(1−β) (p(z | c) p(x | z, c))^β. A pilot run, which is thrown away, adapts the step size
    of each row at each β to an acceptance of 0.65. Adapting it in the run itself, as is often done, would bias the
    estimate of p(x).

    Arguments:
        model: Any latent-variable model with real latents.
        rows: Shape (N, *event), uint8 (then x = pixel / 255) or floating-point; or a `Batch`, with the context or the
            labels of a conditional model; only its observed values count.
        annealing: How carefully to anneal; by default 200 temperatures and 16 chains from the posterior.
        memory: About how many bytes a gradient may take.
        seed: Seed of the chains.
        cache: Keeps finished batches.
        listener: Called with the stage, the batches done and the total.

    Raises:
        ConfigError: The latents are discrete, cannot be any real number, or have no density.

    Reference: Neal 2001, "Annealed importance sampling", Statistics and Computing 11; Wu et al. 2017,
    arXiv:1611.04273, section 3.
    """
    how = Annealing.of(annealing)
    with batchwise.estimating(model):
        rows = batchwise.rows_as_batch(rows)
        batchwise.check_evaluable(model, rows, memory)
        refuse_annealing(model, rows)

        def compute(index: int) -> dict[str, Tensor]:
            batch = batchwise.batch_of(model, rows, index, ROWS_OF_CHAINS)
            with seeded(batchwise.stream_of(seed, "ais", index)):
                return _forward(_Chains(model, batch, how, memory))

        per_row = batchwise.over_batches("ais", len(rows), compute, size=ROWS_OF_CHAINS, cache=cache, listener=listener)
    return Annealed(per_row, "given")


def bidirectional(
    model: LatentVariableModel,
    n: int,
    c: Tensor | None = None,
    *,
    annealing: Annealing | None = None,
    memory: int = GIB,
    seed: int = 0,
    cache: BatchCache | None = None,
    listener: StageListener | None = None,
) -> Annealed:
    """Lower and upper bounds on log p(x | c) of n rows that the model makes: z ~ p(z | c), x ~ p(x | z, c).

    The z of a row is an exact sample of its posterior. Chains that start there and walk the path backwards have
    weights w with E 1/w = 1/p(x), so that −log mean 1/w is an upper bound in expectation.

    Arguments:
        model: Any latent-variable model with real latents and a likelihood that can be sampled.
        n: Number of rows.
        c: Classes, shape (n,), or context rows, shape (n, C), for a conditional model.
        annealing: How carefully to anneal; by default 200 temperatures and 16 chains from the posterior.
        memory: About how many bytes a gradient may take.
        seed: Seed of the rows and the chains.
        cache: Keeps finished batches.
        listener: Called with the stage, the batches done and the total.

    Raises:
        ConfigError: n is below 1, or the latents cannot be annealed; see `ais`.

    Reference: Grosse, Ghahramani and Adams 2015, arXiv:1511.02543, section 3.
    """
    how = Annealing.of(annealing)
    check_count("n", n)
    with batchwise.estimating(model):

        def compute(index: int) -> dict[str, Tensor]:
            with seeded(batchwise.stream_of(seed, "bdmc", index)):
                rows = slice(index * ROWS_OF_CHAINS, min((index + 1) * ROWS_OF_CHAINS, n))
                size = rows.stop - rows.start
                context = model.context(None if c is None else c[rows], size)
                z = draw_rows(model.prior(context), size)
                simulated = Batch(model.likelihood(z, context).sample(), c=context)
                if not index:
                    batchwise.check_evaluable(model, simulated, memory)
                    refuse_annealing(model, simulated)
                chains = _Chains(model, simulated, how, memory)
                return _forward(chains) | {"upper": _backward(chains, z)}

        per_row = batchwise.over_batches("bdmc", n, compute, size=ROWS_OF_CHAINS, cache=cache, listener=listener)
    return Annealed(per_row, "simulated")


@dataclass(frozen=True)
class _State:
    """The places of the chains, and the terms there; their weighted sum is the log-density of the path.

    Arguments:
        z: Shape (C, B, Z).
        terms: log p(z), log p(x | z) and, from the posterior, log q(z): shape (T, C, B).
        slopes: Gradients of the terms, shape (T, C, B, Z).
    """

    z: Tensor
    terms: Tensor
    slopes: Tensor

    def log_density(self, weights: Tensor) -> Tensor:
        """Log f_β(z), shape (C, B), for the weights (T,) of the terms at β."""
        return torch.einsum("t,tcb->cb", weights, self.terms)

    def slope(self, weights: Tensor) -> Tensor:
        """The gradient of `log_density`, shape (C, B, Z)."""
        return torch.einsum("t,tcbz->cbz", weights.to(self.slopes), self.slopes)

    def moved(self, accepted: Tensor, proposed: "_State") -> "_State":
        """The proposed state where `accepted`, shape (C, B), is true, and this state where it is false."""
        return _State(
            torch.where(accepted[..., None], proposed.z, self.z),
            torch.where(accepted, proposed.terms, self.terms),
            torch.where(accepted[..., None], proposed.slopes, self.slopes),
        )


class _Chains:
    """The path of one batch, and transitions that leave each density of the path invariant."""

    def __init__(self, model: LatentVariableModel, rows: Batch, how: Annealing, memory: int) -> None:
        self.model = model
        self.x = rows.x
        self.how = how
        self.parts = batchwise.slices(model, rows, how.chains, memory, gradient=True)
        self.q = model.posterior_of(rows) if how.start == "posterior" else None
        self.base = self.q or model.prior(rows.c)
        self.betas = _schedule(how.temperatures)
        self.dtype = batchwise.to_float64(rows.x).dtype
        self.steps = self._tuned()

    def start(self) -> _State:
        """Chains at β = 0."""
        c, n = self.how.chains, len(self.x)
        return self.at(self.base.sample(torch.Size((c,) if self.base.batch_shape else (c, n))))

    def weights(self, beta: float) -> Tensor:
        """The weight of each term at β, shape (T,)."""
        weights = [1.0, beta] if self.q is None else [beta, beta, 1 - beta]
        return torch.tensor(weights, dtype=self.dtype, device=self.x.device)

    def at(self, z: Tensor) -> _State:
        """The chains at z: their terms and gradients, computed slice by slice."""
        parts = [self._slice(part, z[:, part.rows]) for part in self.parts]
        terms, slopes = (torch.cat(tensors, 2) for tensors in zip(*parts, strict=True))
        if self.q is not None:
            log_q, slope = _with_slope(self.q.log_prob, z)
            terms, slopes = torch.cat((terms, log_q[None])), torch.cat((slopes, slope[None]))
        return _State(z, batchwise.to_float64(terms), slopes)

    def _slice(self, part: batchwise.Slice, z: Tensor) -> tuple[Tensor, Tensor]:
        prior = _with_slope(part.prior.log_prob, z)
        likelihood = _with_slope(lambda z: batchwise.log_likelihood(self.model, z, part.batch), z)
        terms, slopes = (torch.stack(pair) for pair in zip(prior, likelihood, strict=True))
        return terms, slopes

    def transition(self, state: _State, beta: float, step: Tensor) -> tuple[_State, Tensor]:
        """One Hamiltonian transition at β, and the probability that it was accepted, shape (C, B).

        Arguments:
            state: The chains.
            beta: Where on the path.
            step: Step size of each row, shape (B,).
        """
        weights = self.weights(beta)
        # A trajectory of fixed length may be a whole period of the motion and lead nowhere.
        size = (step * (0.8 + 0.4 * torch.rand_like(step)))[:, None].to(state.z)
        momentum = torch.randn_like(state.z)
        energy = state.log_density(weights) - 0.5 * batchwise.to_float64(momentum).square().sum(-1)
        new, momentum = state, momentum + 0.5 * size * state.slope(weights)
        for i in range(self.how.leapfrog):
            new = self.at(new.z + size * momentum)
            momentum = momentum + (size if i + 1 < self.how.leapfrog else 0.5 * size) * new.slope(weights)
        change = new.log_density(weights) - 0.5 * batchwise.to_float64(momentum).square().sum(-1) - energy
        probability = change.clamp_max(0).exp().nan_to_num(0)
        return state.moved(torch.rand_like(probability) < probability, new), probability

    def _tuned(self) -> Tensor:
        """Step sizes at every β, shape (T + 1, B), from a pilot run of a tenth of the temperatures, at least 50."""
        pilot = _schedule(max(50, self.how.temperatures // 10))
        log_step = torch.full((len(self.x),), math.log(0.1), dtype=self.dtype, device=self.x.device)
        state, sizes = self.start(), []
        # Twenty transitions at the first β adapt the step size before the path begins.
        for i, beta in enumerate([0.0] * 20 + pilot):
            state, probability = self.transition(state, beta, log_step.exp())
            log_step = log_step + 0.5 * (probability.mean(0) - ACCEPTANCE)
            if i >= 20:
                sizes.append(log_step)
        curve = torch.stack(sizes, 1)[:, None]
        smooth = torch.nn.functional.interpolate(curve, self.how.temperatures + 1, mode="linear", align_corners=True)
        return smooth[:, 0].T.exp()


def _schedule(temperatures: int) -> list[float]:
    """0 = β_0 < … < β_T = 1, dense at both ends: a sigmoid's middle part (Wu et al. 2017, appendix)."""
    ends = 4.0
    points = [1 / (1 + math.exp(-ends * (2 * t / temperatures - 1))) for t in range(temperatures + 1)]
    return [(point - points[0]) / (points[-1] - points[0]) for point in points]


def _with_slope(log_density: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    """A log-density, shape (C, B), and its gradient, shape (C, B, Z)."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        value = log_density(z)
        (slope,) = torch.autograd.grad(value.sum(), z)
    return value.detach().expand(z.shape[:2]), slope


def _forward(chains: _Chains) -> dict[str, Tensor]:
    """The lower bound from chains that walk from β = 0 to β = 1."""
    betas = chains.betas
    state, log_w, accepted = chains.start(), torch.zeros((), device=chains.x.device), []
    for t in range(1, len(betas)):
        log_w = log_w + state.log_density(chains.weights(betas[t]) - chains.weights(betas[t - 1]))
        if t + 1 < len(betas):
            state, probability = chains.transition(state, betas[t], chains.steps[t])
            accepted.append(probability.mean(0))
    count = len(log_w)
    variance = jackknife(log_w, [1] * count) if count > 1 else torch.full_like(log_w[0], math.inf)
    acceptance = torch.stack(accepted).mean(0) if accepted else torch.ones_like(variance)
    return {"ais": log_w.logsumexp(0) - math.log(count), variance_key("ais"): variance, "acceptance": acceptance}


def _backward(chains: _Chains, z: Tensor) -> Tensor:
    """The upper bound, shape (B,), from chains that walk from exact posterior samples z, shape (B, Z), to β = 0."""
    betas = chains.betas
    state, log_w = chains.at(z.expand(chains.how.chains, *z.shape)), torch.zeros((), device=z.device)
    for t in range(len(betas) - 1, 0, -1):
        log_w = log_w + state.log_density(chains.weights(betas[t]) - chains.weights(betas[t - 1]))
        if t > 1:
            state, _ = chains.transition(state, betas[t - 1], chains.steps[t - 1])
    return math.log(len(log_w)) - (-log_w).logsumexp(0)
