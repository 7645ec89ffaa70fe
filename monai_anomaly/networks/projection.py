"""The projection layer of ESC-DRKD, which is to make normal features of abnormal ones (Neurocomputing 651, 2025, 130994)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["CentreMaskedConv2d", "Projection"]


class CentreMaskedConv2d(nn.Conv2d):
    """A 3 x 3 convolution that does not see the pixel it answers for: the weights of the kernel's centre count as 0.

    They are masked on the way, so they get no gradient and what is stored there has no effect. (The released code writes zeros into the weights at every
    call and lets the optimiser move them in between, which comes to the same.)

    Args:
        channels: of the input.
        out_channels: of the output.

    Example:
        >>> conv, x = CentreMaskedConv2d(1, 1), torch.zeros(1, 1, 5, 5)
        >>> x[..., 2, 2] = 1
        >>> answer = conv(x)[0, 0]
        >>> answer[2, 2].item(), (answer != 0).sum().item()
        (0.0, 8)
    """

    mask: Tensor

    def __init__(self, channels: int, out_channels: int):
        super().__init__(channels, out_channels, 3, padding=1, bias=False)
        mask = torch.ones(3, 3)
        mask[1, 1] = 0
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, out_channels, H, W)``."""
        return F.conv2d(x, self.weight * self.mask, padding=1)


class Projection(nn.Module):
    """Six 3 x 3 convolutions, the first two centre-masked, each followed by instance normalisation and LeakyReLU(0.01).

    Channels go ``c, c/2, c, c/2, c/4, c/2, c``. The released convolutions have biases, which the instance normalisation takes away again: they are left out.
    Weights start as torch draws them by default, as in the released code.

    Args:
        channels: ``c``, of input and output.

    Example:
        >>> tuple(Projection(16)(torch.rand(2, 16, 8, 8)).shape)
        (2, 16, 8, 8)
    """

    def __init__(self, channels: int):
        super().__init__()
        c, half, quarter = channels, channels // 2, channels // 4
        self.convs = nn.ModuleList([
            CentreMaskedConv2d(c, half),
            CentreMaskedConv2d(half, c),
            *(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in ((c, half), (half, quarter), (quarter, half), (half, c))),
        ])  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to the same shape; H x W must be more than one pixel."""
        for conv in self.convs:
            x = F.leaky_relu(F.instance_norm(conv(x)), 0.01)
        return x
