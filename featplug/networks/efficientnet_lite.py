"""EfficientNet-Lite0 up to the features that its classifier averages.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
table 1, in Google's Lite variant for small devices: without squeeze-and-excitation, and with ReLU6
for Swish. Trained with TensorFlow, whose padding rules are followed.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featplug.networks.conv_bn import ConvBN
from featplug.networks.regional import RegionalNetwork

NUM_CHANNELS = 1280

_EPSILON = 1e-3
_STEM_CHANNELS = 32
# Per stage: kernel, stride of its first block, expansion, channels, blocks.
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


def pad_same(x: Tensor, kernel_size: int, stride: int) -> Tensor:
    """Pad B×C×H×W with zeros as TensorFlow's ``SAME`` does: the smaller half comes first."""
    border = []
    for length in reversed(x.shape[-2:]):
        total = max((-(-length // stride) - 1) * stride + kernel_size - length, 0)
        border += [total // 2, total - total // 2]
    return F.pad(x, border)


def _conv_bn(in_channels: int, out_channels: int, kernel: int, stride: int, groups: int) -> ConvBN:
    return ConvBN(
        in_channels,
        out_channels,
        kernel,
        stride,
        padding=kernel // 2 if stride == 1 else 0,
        affine=True,
        groups=groups,
        epsilon=_EPSILON,
    )


def _same(layer: ConvBN, x: Tensor) -> Tensor:
    """Run a layer; with a stride, its padding depends on the size."""
    kernel, stride = layer.kernel_size[0], layer.stride[0]
    return layer(x if stride == 1 else pad_same(x, kernel, stride))


class _Block(nn.Module):
    """1×1 to more channels, depthwise, 1×1 to fewer; added to the input where shapes allow."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        width = expansion * in_channels
        self.expand = _conv_bn(in_channels, width, 1, 1, 1) if expansion > 1 else None
        self.depthwise = _conv_bn(width, width, kernel, stride, width)
        self.project = _conv_bn(width, out_channels, 1, 1, 1)
        self.is_residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(_same(self.depthwise, y)))
        return x + y if self.is_residual else y


class EfficientNetLite0(RegionalNetwork):
    """Regional features: EfficientNet-Lite0 without its classifier."""

    num_channels = NUM_CHANNELS
    mean_rgb = (127.0, 127.0, 127.0)
    deviation = 128.0
    # 4:3 images then have the area of the squares that visual context is trained with.
    max_side = 512

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv_bn(3, _STEM_CHANNELS, 3, 2, 1)
        blocks = []
        channels = _STEM_CHANNELS
        for kernel, stride, expansion, out_channels, count in _STAGES:
            for number in range(count):
                first = stride if number == 0 else 1
                blocks.append(_Block(channels, out_channels, kernel, first, expansion))
                channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.head = _conv_bn(channels, NUM_CHANNELS, 1, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the map.

        Args:
            images: B×3×H×W RGB, from :meth:`standardise`, of any size.

        Returns:
            B×1280×⌈H/32⌉×⌈W/32⌉ in channels-last memory, values from 0 to 6.
        """
        # A clone for the reason given in D2Net.forward.
        x = F.relu6(_same(self.stem, images.clone(memory_format=torch.channels_last)))
        return F.relu6(self.head(self.blocks(x)))
