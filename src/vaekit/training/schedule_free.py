"""AdamW without a schedule: gradients are taken between an iterate and its running average, the result."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw as adamw_step
from torch.optim.optimizer import Optimizer

from ..errors import check_range
from .eager import eager


@eager
class ScheduleFreeAdamW(Optimizer):
    """AdamW with a running average of the weights, so that the learning rate need not fall.

    Let P be the iterate, A the average, and Y the weights for the gradients:

        P ← P − lr·(g(Y) / √v̂ + decay·P),  A ← A + (P − A)·w/Σw,  Y = (1 − mix)·P + mix·A,

    where w = lr²·t. A is evaluated, kept and used for drawing; `averages` gives it.

    Arguments:
        parameters: Parameters, or groups of them; a group may have its own `lr` and `weight_decay`.
        learning_rate: lr.
        mix: Weight of A in Y, β₁ of the paper.
        beta2: Decay of the mean square of the gradients.
        eps: Added to the root of the mean square.
        weight_decay: decay.

    Reference: Defazio et al. 2024, arXiv:2405.15682, algorithm 1, with weights that grow with t and weight decay at P.
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        learning_rate: float,
        *,
        mix: float = 0.95,
        beta2: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.1,
    ) -> None:
        check_range("weight_decay", weight_decay, 0, hint="; 0 turns it off")
        check_range("eps", eps, 0, hint="; 1e-8 is usual")
        check_range("beta2", beta2, 0, 1, hint="; 0.99 is usual")
        check_range("mix", mix, 0, 1, hint="; 0.95 is usual")
        check_range("learning_rate", float(learning_rate), 0)
        defaults = {"lr": learning_rate, "mix": mix, "beta2": beta2, "eps": eps, "weight_decay": weight_decay}
        super().__init__(parameters, defaults)

    def averages(self, parameters: Iterable[nn.Parameter]) -> list[Tensor]:
        """A of each of these parameters; the parameter itself before its first step."""
        return [self.state[p]["average"] if p in self.state else p.detach().clone() for p in parameters]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step on the gradients that the parameters have."""
        for group in self.param_groups:
            self._step([p for p in group["params"] if p.grad is not None], group)

    def _step(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        if not parameters:
            return
        for p in parameters:
            if p not in self.state:
                self.state[p] = self._start(p)
        state = [self.state[p] for p in parameters]
        iterates = [s["iterate"] for s in state]
        averages = [s["average"] for s in state]
        steps = [s["step"] for s in state]
        learning_rate = float(group["lr"])
        adamw_step(
            iterates,
            [p.grad for p in parameters if p.grad is not None],
            [s["exp_avg"] for s in state],
            [s["exp_avg_sq"] for s in state],
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=0.0,
            beta2=group["beta2"],
            lr=learning_rate,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
        totals = state[0]["totals"].cpu()  # `load_state_dict` may have moved it to a device
        count, total = totals.tolist()
        weight = learning_rate * learning_rate * (count + 1)
        totals = totals + torch.tensor([1.0, weight])
        for s in state:
            s["totals"] = totals
        torch._foreach_lerp_(averages, iterates, weight / (total + weight) if weight else 0.0)
        for p, iterate, average in zip(parameters, iterates, averages, strict=True):
            torch.lerp(iterate, average, group["mix"], out=p)

    @staticmethod
    def _start(p: nn.Parameter) -> dict[str, Tensor]:
        return {
            "step": torch.zeros((), dtype=torch.float32, device=p.device),
            "totals": torch.zeros(2),  # steps and Σw, on the CPU: a step waits for no device
            "exp_avg": torch.zeros_like(p),
            "exp_avg_sq": torch.zeros_like(p),
            "iterate": p.detach().clone(),
            "average": p.detach().clone(),
        }
