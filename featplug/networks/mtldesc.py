"""MTLDesc's network: a VGG-like encoder with heads for keypoints, descriptors and attention.

Wang et al., "MTLDesc: Looking Wider to Describe Better", AAAI 2022, sections "Local Descriptors
with Non-local Information" and "Local Features Detection with Feature Pyramid". Module names, also
the misspelt one, are those of the authors' checkpoints, which load strictly.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featplug.networks.vision_transformer import PatchTransformer

NUM_CHANNELS = 128
"""Dimensions of a descriptor."""
UNUSED = ("heatmap4.", "conv_avg.", "transfomer.conv_more.")
"""Beginnings of the names of parameters in the checkpoints that change no output."""

_POOLED_SIDE = 64


class Maps(NamedTuple):
    """Maps of the network, h = ⌊H/4⌋ and w = ⌊W/4⌋."""

    logits: Tensor
    """B×1×H×W; their sigmoid is the probability of a keypoint."""
    descriptors: Tensor
    """B×128×h×w, not normalised."""
    attention: Tensor
    """B×1×h×w, positive: the weight of a descriptor."""


def normalize(images: Tensor) -> Tensor:
    """Turn 8-bit grey values, of any type of number, into the network's float32 in [-1, 1]."""
    return images.float() / 255 * 2 - 1


def _conv(in_channels: int, out_channels: int, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation)


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize bilinearly, with cell areas aligned, without antialiasing."""
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


class MTLDesc(nn.Module):
    """Keypoint logits, dense descriptors and dense attention of images.

    Where paper and released code differ, the code is followed, for the authors' weights need it:

    ==========================  ==========================  ====================================
    what                        paper                       code, and here
    ==========================  ==========================  ====================================
    transformer layers          8                           12
    input of the transformer    C4, pooled to 64×64         C4 resized to C3's size, then pooled
    first branch of the DLCA    1×1 convolution             3×3 convolution
    detection head of C4        its own                     C3's (``heatmap4`` is not used)
    ==========================  ==========================  ====================================

    The parameters of :data:`UNUSED` change no output. Dropout acts in training mode only.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1a, self.conv1b = _conv(3, 64), _conv(64, 64)
        self.conv2a, self.conv2b = _conv(64, 64), _conv(64, 64)
        self.conv3a, self.conv3b = _conv(64, 128), _conv(128, 128)
        self.conv4a, self.conv4b = _conv(128, 128), _conv(128, 128)

        self.heatmap1, self.heatmap2 = _conv(64, 1), _conv(64, 1)
        self.heatmap3, self.heatmap4 = _conv(128, 1), _conv(128, 1)
        self.fuse_weight_1 = nn.Parameter(torch.tensor([0.1]))
        self.fuse_weight_2 = nn.Parameter(torch.tensor([0.2]))
        self.fuse_weight_3 = nn.Parameter(torch.tensor([0.3]))
        self.fuse_weight_4 = nn.Parameter(torch.tensor([0.4]))

        self.scalemap = _conv(1, 1)
        self.conv_avg = _conv(128, 384)
        self.transfomer = PatchTransformer(
            NUM_CHANNELS, grid_side=4, patch_side=16, num_layers=12, num_heads=8, hidden_dim=2048
        )
        self.mask = _conv(128, 1)
        self.conv_des = nn.Conv2d(384, NUM_CHANNELS, 1)
        self.conv_des_1 = _conv(NUM_CHANNELS, 32)
        self.conv_des_2 = _conv(NUM_CHANNELS, 32, dilation=6)
        self.conv_des_3 = _conv(NUM_CHANNELS, 32, dilation=12)
        self.conv_des_4 = _conv(NUM_CHANNELS, 32, dilation=18)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Maps:
        """Compute the maps of images.

        Args:
            images: B×3×H×W, normalised by :func:`normalize`, sides of at least 8
                pixels; the released extraction makes them multiples of 16.

        Returns:
            The maps. The centre of cell (i, j) lies at row 4i + 1.5 and column 4j + 1.5.
        """
        size = (images.shape[-2], images.shape[-1])
        cells = (size[0] // 4, size[1] // 4)
        blocks = (
            (self.conv1a, self.conv1b, self.heatmap1, self.fuse_weight_1),
            (self.conv2a, self.conv2b, self.heatmap2, self.fuse_weight_2),
            (self.conv3a, self.conv3b, self.heatmap3, self.fuse_weight_3),
            (self.conv4a, self.conv4b, self.heatmap3, self.fuse_weight_4),
        )
        # Channels-last is the faster layout; a clone for the reason given in D2Net.forward. A map
        # is used up before the next block, so that at most two maps of full resolution exist.
        x = images.clone(memory_format=torch.channels_last)
        logits, columns = [], []
        for rank, (conv_a, conv_b, head, weight) in enumerate(blocks):
            if rank:
                x = F.max_pool2d(x, 2)
            x = F.relu_(conv_b(F.relu_(conv_a(x))))
            logits.append(_resize(head(x), size) * weight)
            columns.append(_resize(x, cells))
        hypercolumn = torch.cat(columns, dim=1)
        attention = F.softplus(self.scalemap(hypercolumn.mean(1, keepdim=True)))
        descriptors = self.conv_des(hypercolumn) + self._global_context(columns[-1], cells)
        branches = (self.conv_des_1, self.conv_des_2, self.conv_des_3, self.conv_des_4)
        local_context = torch.cat([branch(descriptors) for branch in branches], dim=1)
        return Maps(sum(logits[1:], logits[0]), descriptors + local_context, attention)

    def _global_context(self, features: Tensor, cells: tuple[int, int]) -> Tensor:
        """Compute the paper's AGCA: the transformer's output for C4 times the gate."""
        pooled = F.adaptive_avg_pool2d(features, _POOLED_SIDE)
        gate = F.relu_(self.mask(pooled))
        return _resize(self.transfomer(pooled), cells) * _resize(gate, cells)
