"""The base of the networks of ContextDesc's regional features."""

from typing import ClassVar

from torch import Tensor, nn


class RegionalNetwork(nn.Module):
    """Turns standardised RGB images B×3×H×W into maps B×C×⌈H/32⌉×⌈W/32⌉."""

    num_channels: ClassVar[int]
    """Channels of the map."""
    mean_rgb: ClassVar[tuple[float, float, float]]
    """Mean that is subtracted from RGB values 0 to 255."""
    deviation: ClassVar[float]
    """Number that the differences are divided by."""
    max_side: ClassVar[int]
    """Side in pixels that larger images are reduced to."""

    def standardise(self, images: Tensor) -> Tensor:
        """Standardise ...×3×H×W RGB values 0 to 255."""
        return (images - images.new_tensor(self.mean_rgb)[:, None, None]) / self.deviation
