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
