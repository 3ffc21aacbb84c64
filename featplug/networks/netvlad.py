"""NetVLAD: a set of local descriptors summed up by how they differ from cluster centres.

Arandjelović et al., "NetVLAD: CNN Architecture for Weakly Supervised Place Recognition", CVPR 2016,
section 3.1. LISRD's meta descriptors are computed by such layers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NetVLAD(nn.Module):
    """Aggregates sets of descriptors.

    Args:
        num_clusters: K, the number of clusters.
        dim: D, the length of a descriptor.
    """

    def __init__(self, num_clusters: int = 8, dim: int = 128) -> None:
        super().__init__()
        self.centroids = nn.Parameter(torch.rand(num_clusters, dim))
        # A convolution in name and shape only, as in the authors' checkpoints.
        self.conv = nn.Conv2d(dim, num_clusters, 1)

    def forward(self, descriptors: Tensor) -> Tensor:
        """Aggregate B sets of P descriptors.

        Args:
            descriptors: B×P×D, of any length.

        Returns:
            B×(K·D) of unit length, one cluster after the other.
        """
        descriptors = F.normalize(descriptors, dim=2)
        logits = F.linear(descriptors, self.conv.weight.flatten(1), self.conv.bias)
        assignment = logits.softmax(2)
        # Σ a (x − c) = Σ a x − c Σ a, without the B×P×K×D residuals.
        residuals = assignment.transpose(1, 2) @ descriptors
        residuals = residuals - assignment.sum(1)[:, :, None] * self.centroids
        return F.normalize(F.normalize(residuals, dim=2).flatten(1), dim=1)
