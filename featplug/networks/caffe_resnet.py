"""ResNet-50 in the layout of the Caffe models, up to its last residual sum.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1, as its authors
released it for Caffe: the stride of a stage lies on its first 1×1 convolutions. ContextDesc (Luo
et al., CVPR 2019, section 3.1) takes its regional features from such a network, trained for image
retrieval with TensorFlow, whose padding rules hold here. Names of layers are Caffe's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featplug.networks.conv_bn import ConvBN
from featplug.networks.regional import RegionalNetwork

MEAN_RGB = (124.0, 117.0, 104.0)
"""Mean of RGB values 0 to 255; Caffe's own networks take BGR."""
NUM_CHANNELS = 2048

_STAGES = (("2", "abc", 64), ("3", "abcd", 128), ("4", "abcdef", 256), ("5", "abc", 512))
_EXPANSION = 4


class _Bottleneck(nn.Module):
    """1×1, 3×3, 1×1, and the shortcut; the sum is not rectified."""

    def __init__(self, in_channels: int, width: int, stride: int, project: bool) -> None:
        super().__init__()
        out_channels = _EXPANSION * width
        self.branch1 = (
            ConvBN(in_channels, out_channels, 1, stride, affine=True) if project else None
        )
        self.branch2a = ConvBN(in_channels, width, 1, stride, affine=True)
        self.branch2b = ConvBN(width, width, 3, padding=1, affine=True)
        self.branch2c = ConvBN(width, out_channels, 1, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.branch1 is None else self.branch1(x)
        x = F.relu(self.branch2a(x), inplace=True)
        x = F.relu(self.branch2b(x), inplace=True)
        return self.branch2c(x) + shortcut


class CaffeResNet50(RegionalNetwork):
    """Regional features: ResNet-50 up to ``res5c``, before the last rectification."""

    num_channels = NUM_CHANNELS
    mean_rgb = MEAN_RGB
    deviation = 1.0
    max_side = 1024

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvBN(3, 64, 7, stride=2, padding=3, bias=True, affine=True)
        blocks: dict[str, nn.Module] = {}
        channels = 64
        for stage, letters, width in _STAGES:
            for letter in letters:
                first = letter == "a"
                stride = 2 if first and stage != "2" else 1
                blocks[f"res{stage}{letter}"] = _Bottleneck(channels, width, stride, first)
                channels = _EXPANSION * width
        self.blocks = nn.ModuleDict(blocks)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the map.

        Args:
            images: B×3×H×W RGB, grey values 0 to 255 minus :data:`MEAN_RGB`, of any size.

        Returns:
            B×2048×⌈H/32⌉×⌈W/32⌉ in channels-last memory; values may be negative.
        """
        # A clone for the reason given in D2Net.forward.
        x = images.clone(memory_format=torch.channels_last)
        x = max_pool_same(F.relu(self.conv1(x), inplace=True))
        for name, block in self.blocks.items():
            x = block(x)
            if name != "res5c":
                x = F.relu(x, inplace=True)
        return x


def max_pool_same(x: Tensor) -> Tensor:
    """Pool 3×3 with stride 2 as TensorFlow's padding ``SAME`` does.

    The total padding is split with the smaller half first: an even side gets 0 before and 1
    after, which is PyTorch's ``ceil_mode``, an odd side 1 and 1. A fixed padding of 1 would
    shift the windows of even sides by a pixel.
    """
    height, width = x.shape[-2:]
    return F.max_pool2d(x, 3, stride=2, padding=(height % 2, width % 2), ceil_mode=True)
