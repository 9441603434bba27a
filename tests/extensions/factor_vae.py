"""FactorVAE, written outside of the package: a loss with a discriminator of its own and a second optimizer.

Reference: Kim and Mnih 2018, arXiv:1802.05983, eq. 2 and 3 and algorithm 2.
"""

import torch
from torch import nn

from vaekit import LatentVariableModel
from vaekit.data import Batch
from vaekit.objectives import Loss, Player, Terms, draw_of


class FactorVAE(nn.Module, Loss):
    """−ELBO + γ·TC, where a discriminator between q(z) and Π_j q(z_j) estimates the total correlation TC."""

    couples_rows = True

    def __init__(self, latent_size: int, *, gamma: float = 5.0, hidden: int = 8, learning_rate: float = 0.01) -> None:
        super().__init__()
        self.gamma = gamma
        self.learning_rate = learning_rate
        layers = (nn.Linear(latent_size, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1))
        self.discriminator = nn.Sequential(*layers)

    def forward(self, model: LatentVariableModel, batch: Batch, epoch: float) -> Terms:
        """What the model minimises."""
        draw = draw_of(model, batch)
        correlation = self.discriminator(draw.z[0]).squeeze(-1)  # log q(z) − log Π_j q(z_j)
        rate = draw.rate()
        neg_elbo = rate + draw.distortion
        logged = {"neg_elbo": neg_elbo, "rate": rate, "distortion": draw.distortion, "total_correlation": correlation}
        return Terms(neg_elbo + self.gamma * correlation, {name: value.detach() for name, value in logged.items()})

    def discriminate(self, model: LatentVariableModel, batch: Batch, epoch: float) -> Terms:
        """What the discriminator minimises: to tell latents from latents whose dimensions were permuted apart."""
        with torch.no_grad():
            z = draw_of(model, batch).z[0]
            permuted = torch.stack([column[torch.randperm(len(z))] for column in z.T], 1)
        real, independent = self.discriminator(z).squeeze(-1), self.discriminator(permuted).squeeze(-1)
        return Terms(0.5 * (nn.functional.softplus(-real) + nn.functional.softplus(independent)))

    def opponents(self, model: LatentVariableModel) -> list[Player]:
        """The discriminator."""
        weights = list(self.discriminator.parameters())
        optimizer = torch.optim.Adam(weights, self.learning_rate, betas=(0.5, 0.9), fused=True)
        return [Player("discriminator", weights, self.discriminate, optimizer)]
