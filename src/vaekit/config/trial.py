"""The trials of a part, or of a whole model, on a few rows.

Not for: what a caller may pass (`inspection`).
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ..distributions import draw_samples, is_discrete, is_relaxed, penalties_of
from ..errors import ConfigError
from ..likelihoods import Normal
from ..model import LatentVariableModel, one_hot
from ..nets import MLP, Encoder
from . import Model, Part
from .assemble import LATENT_KINDS, assemble
from .contracts import Shape, attribute_or_default, latent_shapes
from .parts import resolve, with_options

TRIAL_ROWS = 3
TRIAL_SAMPLES = 2
TRAINING_ROWS = 64  # rows that a part starts from


class Trial:
    """The trials of a part, and the findings.

    Arguments:
        event_shape: Event shape of x.
        shape: Event shape of z.
        context_size: C; 0 for none.
        x: Rows, shape (N, *event_shape); None for zeros and ones at random.
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
        """The rows of data for the trials, shape (3, *event_shape)."""
        if self.rows is None:
            return torch.ones(TRIAL_ROWS, *self.event_shape).bernoulli(0.5)
        return self.rows[torch.arange(TRIAL_ROWS) % len(self.rows)]

    @property
    def c(self) -> Tensor | None:
        """Their context, shape (3, C); None for an unconditional part."""
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
        fitting = LATENT_KINDS.get(latent_kind)
        names = {name: getattr(fitting, name, None) for name in ("posterior", "prior")} | self.beside
        for neighbour in names.keys() - {kind}:
            if names[neighbour] is None:
                raise ConfigError(
                    f"no {neighbour} here has latents of the kind {latent_kind!r}; pass beside={{{neighbour!r}: …}}"
                )
            parts[neighbour] = resolve(neighbour, Part(name=str(names[neighbour])))
        wiring: dict[str, Any] = {"event_shape": self.event_shape, "context_size": self.context_size}
        return assemble(parts, Model(latent_size=latent_size), x=self.rows, **wiring)

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
        if not is_relaxed(q):
            with suppress(NotImplementedError):  # a point mass has no density
                self.check_shape(
                    "shape of the posterior's log_prob(z)", q.log_prob(z).shape, (TRIAL_SAMPLES, TRIAL_ROWS), "(K, B)"
                )
        for name, penalty in penalties_of(q).items():
            self.check_shape(f"shape of the penalty {name!r}", penalty.shape, (TRIAL_ROWS,), "one number per row")
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
                part.draw(self.x, self.c, k=TRIAL_SAMPLES)

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
        """Check that a shape is the wanted one."""
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
        """Check that a gradient can flow from a result to the parameters of a module."""
        if not result.requires_grad and any(p.requires_grad for p in module.parameters()):
            self.findings.append(f"no gradient flows from {label} to its parameters")


def _part_of(model: Any, kind: str) -> nn.Module:
    """The part of this kind in a model with default parts around it."""
    whole = {"encoder": "posterior", "decoder": "likelihood"}.get(kind, kind)
    part: nn.Module = model.parts[whole]
    return part.get_submodule("net") if whole != kind else part
