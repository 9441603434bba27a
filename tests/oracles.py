"""Models whose evidence and posterior are known in closed form: what bounds and estimators are measured against."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from vaekit import Draw, LatentLevel, LatentVariableModel


class LinearGaussian(LatentVariableModel):
    """z ~ N(0, I), x | z ~ N(Wz + b, σ²I) and q(z | x) = N(Ax + a, TTᵀ), all in float64 with dense matrices.

    The evidence is N(b, WWᵀ + σ²I) and the exact posterior N(S Wᵀ(x − b)/σ², S) with S = (I + WᵀW/σ²)⁻¹.

    Arguments:
        data_size: D.
        latent_size: Z.
        exact: Start A, a and T at the exact posterior; otherwise at a wrong one, a little wider than it, so that
            importance weights keep a finite variance.

    Reference: Bishop 2006, Pattern Recognition and Machine Learning, eq. 2.113 to 2.117.
    """

    def __init__(self, data_size: int = 5, latent_size: int = 3, *, exact: bool = True) -> None:
        super().__init__()
        self.latent_size, self.event_shape, self.sigma = latent_size, (data_size,), 0.7
        g = torch.Generator().manual_seed(20130612)
        randn = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
        self.weight, self.bias = nn.Parameter(randn(data_size, latent_size)), nn.Parameter(randn(data_size))
        gain, covariance = self._exact()
        offset, tril = -gain @ self.bias, torch.linalg.cholesky(covariance)
        if not exact:
            gain, offset, tril = gain + 0.05 * randn(*gain.shape), offset + 0.1 * randn(latent_size), 1.2 * tril
        self.gain, self.offset, self.tril = (nn.Parameter(t.detach()) for t in (gain, offset, tril))

    def _exact(self) -> tuple[Tensor, Tensor]:
        """Gain S Wᵀ/σ² and covariance S of the exact posterior."""
        identity = torch.eye(self.latent_size, dtype=torch.float64)
        covariance = torch.linalg.inv(identity + self.weight.T @ self.weight / self.sigma**2)
        return covariance @ self.weight.T / self.sigma**2, covariance

    def posterior(self, x: Tensor, c: Tensor | None = None) -> MultivariateNormal:
        return MultivariateNormal(x @ self.gain.T + self.offset, scale_tril=self.tril.tril())

    def prior(self, c: Tensor | None = None) -> MultivariateNormal:
        zeros = torch.zeros_like(self.offset)
        return MultivariateNormal(zeros, scale_tril=torch.diag(zeros + 1))

    def likelihood(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        return Independent(Normal(z @ self.weight.T + self.bias, self.sigma), 1)

    def evidence(self) -> MultivariateNormal:
        """p(x)."""
        noise = torch.diag(torch.full_like(self.bias, self.sigma**2))
        return MultivariateNormal(self.bias, self.weight @ self.weight.T + noise)

    def exact_posterior(self, x: Tensor) -> MultivariateNormal:
        """p(z | x), whatever q is."""
        gain, covariance = self._exact()
        return MultivariateNormal((x - self.bias) @ gain.T, covariance)

    def data(self, n: int) -> Tensor:
        """n rows from p(x), always the same ones."""
        g = torch.Generator().manual_seed(n)
        noise = torch.randn(n, len(self.bias), generator=g, dtype=torch.float64)
        return (self.bias + noise @ self.evidence().scale_tril.T).detach()

    def quadrature(self, x: Tensor) -> Draw:
        """A draw whose 2Z latents are the sigma points μ ± √Z T eᵢ of q.

        Their mean is the exact expectation under q of any quadratic function of z, and here every log-density is one:
        averages over K have no sampling error.
        """
        q, p = self.posterior(x), self.prior()
        arms = self.latent_size**0.5 * self.tril.tril().T[:, None]
        z = torch.cat((q.mean + arms, q.mean - arms))
        return Draw(x, z, (LatentLevel(z, q, p),), self.likelihood(z))
