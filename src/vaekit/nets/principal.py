"""A start from principal components: from the first step a perceptron VAE encodes and decodes like PCA."""

import torch
from torch import Tensor, nn

from ..data.dataset import evenly_spread
from ..errors import ConfigError
from .mlp import MLP

MOST_ROWS = 8000  # rows that the components are computed from
LOG_VARIANCE = -2.0


@torch.no_grad()
def principal_start(
    encoder: nn.Module, mu: nn.Linear, log_var: nn.Linear, decoder: nn.Module, x: Tensor, slope: Tensor
) -> None:
    """Make both networks pass on the first Z principal components, as pairs of rectified linear units (+c, −c).

    The mean of the posterior is then the component, divided by its standard deviation, and its log-variance is −2. The
    output is its start plus the reconstruction from the components, times `slope`. The other units keep their weights.
    No latent collapses, and trainings differ less from seed to seed.

    Arguments:
        encoder: A perceptron with rectified linear units, at least 2 Z in each layer.
        mu: Layer from the encoder's features to the posterior's mean.
        log_var: Layer from the encoder's features to the posterior's log-variance.
        decoder: A perceptron of the same kind.
        x: Training rows, shape (N, *event).
        slope: Derivative of the output by the mean of x, shape event.

    Raises:
        ConfigError: A network is of another kind or too narrow, or there are too few rows.
    """
    latents = mu.out_features
    into, *inner = _layers(encoder, latents, "encoder")
    first, *later, last = _layers(decoder, latents, "decoder")
    mean, directions, deviations = principal_components(x[evenly_spread(len(x), MOST_ROWS)].flatten(1).float(), latents)
    pair = slice(0, 2 * latents)
    towards = (directions / deviations).T
    into.weight[pair] = 0
    into.weight[pair, : len(mean)] = torch.cat((towards, -towards))
    into.bias[pair] = 0 if encoder.centre is not None else -into.weight[pair, : len(mean)] @ mean
    for layer in (*inner, *later):
        layer.weight[pair] = 0
        layer.weight[pair, pair] = torch.eye(2 * latents)
        layer.bias[pair] = 0
    eye = torch.eye(latents)
    for head in (mu, log_var):
        head.weight.mul_(0.1)
    mu.weight[:, pair] = torch.cat((eye, -eye), 1)
    mu.bias.zero_()
    log_var.bias.fill_(LOG_VARIANCE)
    first.weight[pair] = 0
    first.weight[pair, :latents] = torch.cat((eye, -eye))
    first.bias[pair] = 0
    back = directions * deviations * slope.reshape(-1, 1)
    last.weight[:, pair] = torch.cat((back, -back), 1)


def principal_components(rows: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, directions (D, count) and standard deviations (count,) of rows (N, D), by subspace iteration.

    Reference: Halko, Martinsson and Tropp 2011, arXiv:0909.4061, algorithm 4.4.
    """
    if count > min(rows.shape):
        raise ConfigError(
            f"model.init = 'pca' needs at least {count} rows of {count} values, one for each latent, "
            f"got {len(rows)} of {rows.shape[1]}"
        )
    mean = rows.mean(0)
    centred = rows - mean
    _, deviations, directions = torch.svd_lowrank(centred, q=min(count + 10, *rows.shape), niter=4)
    scale = (deviations[:count] / len(rows) ** 0.5).clamp_min(1e-3)
    return mean, directions[:, :count], scale


def _layers(network: nn.Module, latents: int, kind: str) -> list[nn.Linear]:
    plain = isinstance(network, MLP) and all(isinstance(m, (nn.Linear, nn.ReLU)) for m in network.layers)
    if not plain:
        raise ConfigError(
            f"model.init = 'pca' needs {kind}.name = 'mlp' with activation 'relu' and neither gates nor norm; "
            "choose init = 'he' for any other network"
        )
    layers = [m for m in network.modules() if isinstance(m, nn.Linear)]
    widths = [layer.out_features for layer in (layers if kind == "encoder" else layers[:-1])]
    if not widths or min(widths) < 2 * latents:
        raise ConfigError(
            f"model.init = 'pca' needs {kind}.hidden layers of at least {2 * latents} units, twice the latents, "
            f"got {widths}"
        )
    return layers
