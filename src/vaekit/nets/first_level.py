"""A decoder network for latents of several levels."""

from torch import Tensor, nn


class FirstLevel(nn.Module):
    """A decoder network that reads only the level nearest to the data.

    Arguments:
        net: Network (..., size), (B, C) → (..., *out_shape).
        size: Width of z_1.
    """

    def __init__(self, net: nn.Module, size: int) -> None:
        super().__init__()
        self.net, self.size = net, size

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Map all latents, (..., Z), to (..., *out_shape)."""
        out: Tensor = self.net(z[..., : self.size], c)
        return out
