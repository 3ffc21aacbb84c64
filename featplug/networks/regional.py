"""What the networks have in common that ContextDesc takes regional features from."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn


class RegionalNetwork(nn.Module):
    """Turns standardised RGB images B×3×H×W into maps B×C×⌈H/32⌉×⌈W/32⌉."""

    num_channels: ClassVar[int]
    """Channels of the map."""
    mean_rgb: ClassVar[tuple[float, float, float]]
    """Subtracted from RGB grey values 0 to 255 ..."""
    deviation: ClassVar[float]
    """... which are then divided by this."""
    max_side: ClassVar[int]
    """Larger images are reduced to this side, in pixels."""

    def standardise(self, images: Tensor) -> Tensor:
        """Turn ...×3×H×W RGB grey values 0 to 255 into what the network takes."""
        return (images - images.new_tensor(self.mean_rgb)[:, None, None]) / self.deviation
