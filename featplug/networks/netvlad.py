"""NetVLAD: a set of local descriptors, summed up by their differences from cluster centres.

Arandjelović et al., "NetVLAD: CNN Architecture for Weakly Supervised Place Recognition", CVPR 2016,
section 3.1. LISRD's meta descriptors are computed by such layers, too.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MIN_SIDE = 16
"""Smallest image side in pixels: VGG16 halves it four times."""


class NetVLAD(nn.Module):
    """Aggregates sets of descriptors of ``dim`` D by ``num_clusters`` K.

    The paper's networks have no ``bias`` of the assignment.
    """

    def __init__(self, num_clusters: int = 8, dim: int = 128, bias: bool = True) -> None:
        super().__init__()
        self.centroids = nn.Parameter(torch.rand(num_clusters, dim))
        # A convolution in name and shape only, as in the authors' checkpoints.
        self.conv = nn.Conv2d(dim, num_clusters, 1, bias=bias)

    def forward(self, descriptors: Tensor, sets: Tensor | None = None) -> Tensor:
        """Aggregate B sets of P descriptors, or S sets of each.

        Args:
            descriptors: B×P×D, of any length.
            sets: B×S×P, 1 where a descriptor belongs to a set and 0 elsewhere; all are one set
                by default.

        Returns:
            B×(K·D), or B×S×(K·D), of unit length, one cluster after the other; zeros of an empty
            set.
        """
        descriptors = F.normalize(descriptors, dim=2)
        logits = F.linear(descriptors, self.conv.weight.flatten(1), self.conv.bias)
        assignment = logits.softmax(2).mT
        if sets is not None:
            # All sets' clusters as one axis, so that the descriptors are not repeated.
            assignment = (sets[:, :, None] * assignment[:, None]).flatten(1, 2)
        # Σ a (x − c) = Σ a x − c Σ a, without the residuals of each descriptor.
        num_clusters = len(self.centroids)
        sums = (assignment @ descriptors).unflatten(1, (-1, num_clusters))
        totals = assignment.sum(2).unflatten(1, (-1, num_clusters))
        residuals = sums - totals[..., None] * self.centroids
        vlad = F.normalize(F.normalize(residuals, dim=3).flatten(2), dim=2)
        return vlad[:, 0] if sets is None else vlad


VGG16_CHANNELS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)
"""Outputs of VGG16's convolutions, 0 for a pooling."""


class VGG16NetVLAD(nn.Module):
    """The paper's network for place recognition: VGG16, NetVLAD, whitening.

    VGG16 (Simonyan and Zisserman, ICLR 2015) ends with conv5_3, not rectified. The whitening is
    that of section 5.1 as a linear layer.

    Args:
        channels: as :data:`VGG16_CHANNELS`.
        num_clusters: clusters of NetVLAD.
        dimensions: length of the whitened descriptor.
    """

    def __init__(
        self,
        channels: Sequence[int] = VGG16_CHANNELS,
        num_clusters: int = 64,
        dimensions: int = 4096,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        previous = 3
        for width in channels:
            if width == 0:
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [nn.Conv2d(previous, width, 3, padding=1), nn.ReLU(inplace=True)]
            previous = width
        self.backbone = nn.Sequential(*layers[:-1])
        self.vlad = NetVLAD(num_clusters, previous, bias=False)
        self.whitening = nn.Linear(num_clusters * previous, dimensions)
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(3))  # grey values, RGB

    def forward(self, images: Tensor, whiten: bool = True) -> Tensor:
        """Describe images.

        Args:
            images: B×3×H×W RGB in [0, 1], sides of at least :data:`MIN_SIDE` pixels.
            whiten: return the whitened descriptor, not NetVLAD's.

        Returns:
            B×4096, or B×32768 (one cluster after the other), of unit length.
        """
        images = images * 255 - self.mean[:, None, None]
        # Channels-last is the faster layout on CPUs and on tensor cores.
        features = self.backbone(images.contiguous(memory_format=torch.channels_last))
        vectors = self.vlad(features.flatten(2).transpose(1, 2))
        return F.normalize(self.whitening(vectors), dim=1) if whiten else vectors
