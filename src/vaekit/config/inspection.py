"""Report what a part or a model lacks, before a training is started.

Not for: options of a config (`parts`) or data (`data`).
"""

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ..data.batch import as_tensor
from ..data.batches import as_one_batch
from ..data.evaluation_data import as_split
from ..data.value_kinds import value_kind_of
from ..distributions import draw_samples, is_discrete
from ..errors import ConfigError, check_count, check_range, unknown
from ..likelihoods import Likelihood, Normal
from ..model import LatentVariableModel, one_hot
from ..nets import MLP, Decoder, Encoder
from ..posteriors import Posterior
from ..priors import Prior
from ..rng import forked
from . import Config, Model, Part
from .assemble import POSTERIOR_OF, PRIOR_OF, assemble
from .contracts import Shape, as_shape, attribute_or_default, latent_shapes
from .parts import resolve, with_options
from .recipe import build

TRIAL_ROWS = 3
TRIAL_SAMPLES = 2
TRAINING_ROWS = 64  # that a part starts from
CONTRACTS = {"posterior": Posterior, "prior": Prior, "likelihood": Likelihood, "encoder": Encoder, "decoder": Decoder}
# The kind of a part without a contract, by a parameter of its constructor; the first match counts.
WIRING = (("posterior", "features"), ("decoder", "out_shape"), ("encoder", "in_shape"), ("likelihood", "net"))


def check(
    part: Any,
    *,
    kind: str | None = None,
    event_shape: Shape = (1, 8, 8),
    latent_size: int = 4,
    latent_shape: Shape | None = None,
    context_size: int = 0,
    x: Tensor | None = None,
    beside: Mapping[str, str] | None = None,
    **options: Any,
) -> None:
    """Try a part, or a whole model, on a few rows, and say in plain words everything that is missing or wrong.

    It is not the command `vae check`, which grades a student's file.

    A class is made, and started from training rows, as a config would do it, with default parts around it. Random
    numbers are drawn from a stream of their own, and a module is tried as a copy, on the CPU in float32: a later
    training is the same as without it.

    Arguments:
        part: The class of an encoder, decoder, posterior, prior or likelihood; a module of one of these kinds; a model;
            or a config, or the name of a preset.
        kind: One of the five kinds, if neither base class nor constructor shows it.
        event_shape: Event shape of x.
        latent_size: Width of the latents.
        latent_shape: Event shape of the latents, for a module that takes no vectors; a class gets its posterior's.
        context_size: C; 0 for none.
        x: Rows that the likelihood has a density for, shape (N, *event_shape); by default zeros and ones.
        beside: Names of the posterior or the prior that a class is tried with: `{"posterior": "hierarchical"}`. By
            default they have latents of the same kind as the part.
        options: Options of the class; sections of the preset, as `build` takes them.

    Raises:
        ConfigError: The part lacks something; the message has one finding a line. Or the arguments do not fit together.
        DataError: x has another shape.

    >>> from vaekit.priors import StandardNormal
    >>> check(StandardNormal)
    >>> check(nn.Linear(4, 4), kind="prior")
    Traceback (most recent call last):
    vaekit.errors.ConfigError: Linear is not a prior yet:
    - prior(c) raised TypeError: linear(): argument 'input' (position 1) must be Tensor, not NoneType
    """
    if not isinstance(beside, Mapping | None):
        raise ConfigError(f"beside is a table, such as {{'posterior': 'hierarchical'}}, got {beside!r:.80}")
    check_range("context_size", context_size, 0)
    event_shape = as_shape("event_shape", event_shape)
    shape = as_shape("latent_shape", check_count("latent_size", latent_size) if latent_shape is None else latent_shape)
    trial = _Trial(event_shape, shape, context_size, _rows(part, x, event_shape), dict(beside or {}))
    with torch.inference_mode(False), torch.enable_grad(), forked():
        torch.manual_seed(0)
        if isinstance(part, str | Config):
            part, options = build(part, event_shape=event_shape, num_classes=context_size or 10, **options), {}
        _check_part(part, options)
        name = part.__name__ if inspect.isclass(part) else type(part).__name__
        if isinstance(part, LatentVariableModel):
            kind = "model"
            trial.shape = part.latent_shape
            trial.event_shape = part.event_shape or trial.event_shape
            trial.context_size = part.context_size
        else:
            kind = kind or _kind_of(part)
            if kind not in CONTRACTS:
                raise ConfigError(unknown("kind of part", kind, CONTRACTS))
        with trial.reporting("a copy of it on the CPU in float32"):
            tried = copy.deepcopy(part).cpu().float() if isinstance(part, nn.Module) else part
            trial.run(kind, tried, latent_size, options)
    if trial.findings:
        raise ConfigError(
            "\n- ".join([f"{name} is not {'an' if kind == 'encoder' else 'a'} {kind} yet:", *trial.findings])
        )


def _check_part(part: Any, options: Mapping[str, Any]) -> None:
    """Check that something can be tried.

    Raises:
        ConfigError: The part is the class of a model, a module with options, or an object that cannot be called.
    """
    if inspect.isclass(part) and issubclass(part, LatentVariableModel):
        raise ConfigError(f"{part.__name__} is the class of a model; make one, and pass it: check({part.__name__}(…))")
    if isinstance(part, nn.Module) and options:
        raise ConfigError(f"options are for a class, and this {type(part).__name__} is made: {', '.join(options)}")
    if not callable(part):
        raise ConfigError(f"a part is a class, a module, or the name of a preset, got {part!r:.80}")


def _rows(part: Any, x: Any, event_shape: Shape) -> Tensor | None:
    """Rows as the part takes them.

    Raises:
        DataError: The rows have another shape, or there are 0 rows.
    """
    if x is None:
        return None
    kind = value_kind_of(part)
    rows = as_split(as_tensor(x, "x"), event_shape=event_shape, value_kind=kind, conditional=False)
    return as_one_batch(rows, value_kind=kind).x.float()


class _Trial:
    """The trials of a part, and the findings.

    Arguments:
        event_shape: Event shape of x.
        shape: Event shape of z.
        context_size: C.
        x: Rows, or None.
        beside: Names of the parts that a class is tried with.
    """

    def __init__(
        self, event_shape: Shape, shape: Shape, context_size: int, x: Tensor | None, beside: dict[str, str]
    ) -> None:
        self.event_shape = event_shape
        self.shape = shape
        self.context_size = context_size
        self.rows = x
        self.beside = beside
        self.findings: list[str] = []

    @cached_property
    def x(self) -> Tensor:
        """Rows of data."""
        return torch.ones(TRIAL_ROWS, *self.event_shape).bernoulli(0.5) if self.rows is None else self.rows[:TRIAL_ROWS]

    @property
    def c(self) -> Tensor | None:
        """Context."""
        return self._context(TRIAL_ROWS)

    def _context(self, n: int) -> Tensor | None:
        return one_hot(torch.arange(n) % self.context_size, self.context_size) if self.context_size else None

    def run(self, kind: str, part: Any, latent_size: int, options: dict[str, Any]) -> None:
        """Make the part, if it is a class, and try it."""
        if inspect.isclass(part) or not isinstance(part, nn.Module):
            model: Any = None
            with self.reporting(f"making a model with this {kind}"):
                model = self._make_model(kind, part, latent_size, options)
            if model is None:
                return
            part = _part_of(model, kind)
            self.shape = model.latent_shape
            self._start(model, kind, part)
        getattr(self, kind)(part)

    def _make_model(
        self, kind: str, part: Callable[..., Any], latent_size: int, options: dict[str, Any]
    ) -> LatentVariableModel:
        """A model with the part, and default parts around it."""
        parts = {
            "encoder": with_options("encoder", "mlp", MLP, {"hidden": (8,)}),
            "decoder": with_options("decoder", "mlp", MLP, {"hidden": (8,)}),
            "likelihood": with_options("likelihood", "normal", Normal, {"scale": 1.0}),
        }
        parts[kind] = with_options(kind, getattr(part, "__name__", type(part).__name__), part, options)
        latent_kind = attribute_or_default(kind, part, "latent_kind") if kind in ("posterior", "prior") else "real"
        names = {"posterior": POSTERIOR_OF.get(latent_kind), "prior": PRIOR_OF.get(latent_kind)} | self.beside
        for neighbour in names.keys() - {kind}:
            if names[neighbour] is None:
                raise ConfigError(
                    f"no {neighbour} here has latents of the kind {latent_kind!r}; pass beside={{{neighbour!r}: …}}"
                )
            parts[neighbour] = resolve(neighbour, Part(name=str(names[neighbour])))
        facts: dict[str, Any] = {"event_shape": self.event_shape, "context_size": self.context_size}
        return assemble(parts, Model(latent_size=latent_size), x=self.rows, **facts)

    def _start(self, model: Any, kind: str, part: nn.Module) -> None:
        """Try the methods that start a part before the training, and check that its weights stay finite."""
        x = torch.ones(TRAINING_ROWS, *self.event_shape).bernoulli(0.5) if self.rows is None else self.rows
        c = self._context(len(x))
        if kind == "posterior":
            with self.reporting("posterior.start(x, c)"):
                attribute_or_default(kind, part, "start")(x, c)
        elif kind == "prior":
            with self.reporting("prior.start(posterior, x, c)"):
                attribute_or_default(kind, part, "start")(model.parts["posterior"], x, c)
        elif kind == "decoder":
            with self.reporting("decoder.start_output(value, scale)"):
                attribute_or_default(kind, part, "start_output")(torch.zeros(self.event_shape), 0.5)
        tensors = [*part.parameters(), *part.buffers()]
        if not all(tensor.isfinite().all() for tensor in tensors):
            self.findings.append(f"a weight or a buffer of the {kind} is not finite at the start")

    # -- trials --------------------------------------------------------------------------------------------------------

    def posterior(self, part: nn.Module) -> None:
        """Try whether a posterior gives latents of the right shape, their density, and a gradient."""
        with self.reporting("posterior(x, c)"):
            self._posterior(part, part(self.x, self.c), latent_shapes(part, prod(self.shape))[0])

    def _posterior(self, module: nn.Module, q: Any, shape: Shape) -> None:
        if not self.check_distribution("posterior(x, c)", q):
            return
        self.check_shape(
            "batch shape of the posterior", q.batch_shape, (TRIAL_ROWS,), "one distribution for each row of x"
        )
        self.check_shape("event shape of the posterior", q.event_shape, shape, "the latent_shape")
        if not (q.has_rsample or is_discrete(q)):
            self.findings.append("the posterior's distribution has no rsample, so that no gradient reaches the encoder")
            return
        z = draw_samples(q, TRIAL_SAMPLES)
        self.check_shape(
            "shape of posterior.rsample((K,))", z.shape, (TRIAL_SAMPLES, TRIAL_ROWS, *shape), "(K, B, *latent_shape)"
        )
        if not getattr(q, "relaxed", False):
            with suppress(NotImplementedError):  # a point mass has no density
                self.check_shape(
                    "shape of the posterior's log_prob(z)", q.log_prob(z).shape, (TRIAL_SAMPLES, TRIAL_ROWS), "(K, B)"
                )
        for name, penalty in getattr(q, "penalties", {}).items():
            self.check_shape(f"shape of the penalty {name!r}", penalty.shape, (TRIAL_ROWS,), "one number a row")
        with self.reporting("the posterior's mean, which encode() and pictures take"):
            self.check_shape("shape of the posterior's mean", q.mean.shape, (TRIAL_ROWS, *shape), "(B, *latent_shape)")
        if q.has_rsample:
            self.check_gradient(module, "the posterior's samples", z)
        else:
            self.check_gradient(module, "the posterior's log_prob(z)", q.log_prob(z))

    def prior(self, part: nn.Module) -> None:
        """Try whether a prior has a density for latents, and samples."""
        with self.reporting("prior(c)"):
            self._prior(part, part(self.c))

    def _prior(self, module: nn.Module, p: Any) -> None:
        if not self.check_distribution("prior(c)", p):
            return
        if tuple(p.batch_shape) not in ((), (TRIAL_ROWS,)):
            self.findings.append(f"the batch shape of the prior is {tuple(p.batch_shape)}; it must be () or (B,)")
        self.check_shape("event shape of the prior", p.event_shape, self.shape, "the posterior's latent_shape")
        z = torch.randn(TRIAL_SAMPLES, TRIAL_ROWS, *self.shape)
        with self.reporting("the prior's sample()"):
            drawn = p.sample(torch.Size(() if p.batch_shape else (TRIAL_ROWS,)))
            self.check_shape(
                "shape of the prior's samples", drawn.shape, (TRIAL_ROWS, *self.shape), "(B, *latent_shape)"
            )
            z = drawn.expand(TRIAL_SAMPLES, *drawn.shape)
        with self.reporting("the prior's log_prob(z)"):
            log_p = p.log_prob(z)
            self.check_shape("shape of the prior's log_prob(z)", log_p.shape, (TRIAL_SAMPLES, TRIAL_ROWS), "(K, B)")
            self.check_gradient(module, "the prior's log_prob(z)", log_p)

    def likelihood(self, part: nn.Module) -> None:
        """Try whether a likelihood has a density for data, samples and a mean."""
        with self.reporting("likelihood(z, c)"):
            z = torch.randn(TRIAL_SAMPLES, TRIAL_ROWS, *self.shape, requires_grad=True)
            self._likelihood(part(z, self.c), z)

    def _likelihood(self, p: Any, z: Tensor) -> None:
        if not self.check_distribution("likelihood(z, c)", p):
            return
        self.check_shape(
            "batch shape of the likelihood", p.batch_shape, (TRIAL_SAMPLES, TRIAL_ROWS), "(K, B), as z has"
        )
        self.check_shape("event shape of the likelihood", p.event_shape, self.event_shape, "as x has")
        with self.reporting("the likelihood's log_prob(x)"):
            log_p = p.log_prob(self.x)
            self.check_shape(
                "shape of the likelihood's log_prob(x)", log_p.shape, (TRIAL_SAMPLES, TRIAL_ROWS), "(K, B)"
            )
            if not log_p.isfinite().all():
                self.findings.append("the likelihood's log_prob(x) is not finite; pass suitable data as x")
            if not log_p.requires_grad:
                self.findings.append("no gradient flows from the likelihood's log_prob(x) to z")
        with self.reporting("the likelihood's mean, which pictures show"):
            self.check_shape(
                "shape of the likelihood's mean",
                p.mean.shape,
                (TRIAL_SAMPLES, TRIAL_ROWS, *self.event_shape),
                "as x has",
            )
        with self.reporting("the likelihood's sample()"):
            p.sample()

    def encoder(self, part: nn.Module) -> None:
        """Try whether an encoder gives features, and the maps that it promises."""
        with self.reporting("encoder(x, c)"):
            h = part(self.x, self.c)
            shape: Any = getattr(part, "out_shape", tuple(h.shape[1:]))
            self.check_shape("shape of the encoder's output", h.shape, (TRIAL_ROWS, *shape), "(B, *out_shape)")
            self.check_gradient(part, "the encoder's output", h)
        if isinstance(part, Encoder):
            with self.reporting("encoder.maps(x, c)"):
                shapes = [tuple(h.shape[1:]) for h in part.maps(self.x, self.c)]
                self.check_shape("event shapes of encoder.maps", shapes, part.map_shapes, "its map_shapes")

    def decoder(self, part: nn.Module) -> None:
        """Try whether a decoder takes leading dimensions, and gives the shape that it was made for."""
        with self.reporting("decoder(z, c) for z of shape (K, B, *latent)"):
            y = part(torch.randn(TRIAL_SAMPLES, TRIAL_ROWS, *self.shape), self.c)
            shape: Any = getattr(part, "out_shape", self.event_shape)
            self.check_shape(
                "shape of the decoder's output", y.shape, (TRIAL_SAMPLES, TRIAL_ROWS, *shape), "(K, B, *out_shape)"
            )
            self.check_gradient(part, "the decoder's output", y)

    def model(self, part: LatentVariableModel) -> None:
        """Try whether the three methods of a model fit together."""
        with self.reporting("posterior(x, c)"):
            self._posterior(part, part.posterior(self.x, self.c), self.shape)
        with self.reporting("prior(c)"):
            self._prior(nn.ModuleList(), part.prior(self.c))
        with self.reporting("likelihood(z, c)"):
            z = torch.randn(TRIAL_SAMPLES, TRIAL_ROWS, *self.shape, requires_grad=True)
            self._likelihood(part.likelihood(z, self.c), z)
        if not self.findings:
            with self.reporting("draw(x)"):
                part.draw(self.x, TRIAL_SAMPLES, self.c)

    # -- findings ------------------------------------------------------------------------------------------------------

    @contextmanager
    def reporting(self, label: str) -> Iterator[None]:
        """Within the block an exception is a finding."""
        try:
            yield
        except ConfigError as error:
            self.findings.append(str(error))
        except Exception as error:
            reason = str(error).strip().splitlines() or ["without a message"]
            self.findings.append(f"{label} raised {type(error).__name__}: {reason[0]}")

    def check_shape(self, label: str, shape: Any, wanted: Any, meaning: str) -> None:
        """Compare two shapes."""
        if tuple(shape) != tuple(wanted):
            self.findings.append(f"the {label} is {tuple(shape)}; it must be {tuple(wanted)}, {meaning}")

    def check_distribution(self, label: str, returned: Any) -> bool:
        """Whether a part returned a distribution."""
        if isinstance(returned, Distribution):
            return True
        self.findings.append(
            f"{label} returned {type(returned).__name__}; it must be a torch.distributions.Distribution"
        )
        return False

    def check_gradient(self, module: nn.Module, label: str, result: Tensor) -> None:
        """Whether a gradient can flow from a result to the parameters of a module."""
        if not result.requires_grad and any(p.requires_grad for p in module.parameters()):
            self.findings.append(f"no gradient flows from {label} to its parameters")


def _kind_of(part: Any) -> str:
    """The kind of a part by its base class, or by a parameter of its constructor.

    Raises:
        ConfigError: Neither shows the kind.
    """
    part_class: Any = part if inspect.isclass(part) else type(part)
    for kind, contract in CONTRACTS.items():
        if issubclass(part_class, contract):
            return kind
    wiring = set(inspect.signature(part_class).parameters)
    for kind, name in WIRING:
        if name in wiring:
            return kind
    if wiring & {"latent_size", "latent_shape", "posterior"}:
        return "prior"
    raise ConfigError(f"what is {part_class.__name__}? Say kind=, one of: {', '.join(CONTRACTS)}")


def _part_of(model: Any, kind: str) -> nn.Module:
    """The part of this kind in a model with default parts around it."""
    whole = {"encoder": "posterior", "decoder": "likelihood"}.get(kind, kind)
    part: nn.Module = model.parts[whole]
    return part.get_submodule("net") if whole != kind else part
