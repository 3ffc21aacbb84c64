"""A convolution with the batch normalisation that follows it, folded together at inference.

Batch normalisation: Ioffe and Szegedy, ICML 2015, algorithm 2 (inference as one affine map).
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-5
"""Epsilon that is added to variances, as ContextDesc's authors do."""
MOMENTUM = 0.01
"""Weight of a new batch in the running statistics; TensorFlow calls it a momentum of 0.99."""


class ConvBN(nn.Conv2d):
    """A convolution, then batch normalisation; keys ``weight``, ``bias`` and ``bn.…``.

    In evaluation the normalisation is folded into weight and bias on every call, which costs at
    most a pass over the output, so that weights can be loaded or trained at any time.

    Args:
        in_channels, out_channels, kernel_size, stride, bias, convolution: see
            :class:`torch.nn.Conv2d`.
        affine: whether the normalisation has a gain and a bias.
        epsilon: added to variances.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        *,
        bias: bool = False,
        affine: bool = False,
        epsilon: float = EPSILON,
        **convolution: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, bias=bias, **convolution)
        self.bn = nn.BatchNorm2d(out_channels, epsilon, MOMENTUM, affine)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and normalise B×C×H×W."""
        if self.training:
            return self.bn(super().forward(x))
        mean, variance = self.bn.get_buffer("running_mean"), self.bn.get_buffer("running_var")
        gain = (variance + self.bn.eps).rsqrt()
        if self.bn.affine:
            gain = gain * self.bn.weight
        bias = (-mean if self.bias is None else self.bias - mean) * gain
        if self.bn.affine:
            bias = bias + self.bn.bias
        weight = self.weight * gain[:, None, None, None]
        return F.conv2d(x, weight, bias, self.stride, self.padding, groups=self.groups)
