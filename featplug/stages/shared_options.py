"""Options that several stages share, each written once; commands are made from them."""

from dataclasses import dataclass
from typing import Literal

from featplug.io.images import MAX_MEGAPIXELS


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """Where a method runs."""

    device: str | None = None
    """Device of the computation, for example cpu or cuda:1; the best available one by default."""
    overwrite: bool = False
    """Replace what an earlier run wrote."""


@dataclass(frozen=True, kw_only=True)
class ReadingOptions(DeviceOptions):
    """Which photographs are read."""

    max_megapixels: float = MAX_MEGAPIXELS
    """Limit of memory for decoding a photograph, as that of a JPEG of so many megapixels. A larger
    JPEG is reduced while it is decoded; other larger photographs are skipped."""


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(ReadingOptions):
    """Which weights a feature uses, how its network computes, and how much is kept of it."""

    max_keypoints: int | None = None
    """Number of keypoints to keep in each image, the strongest by score; -1 keeps all, the default
    is the feature's own."""
    weights: str | None = None
    """Weights of the networks: official, featplug, or a file for the feature's own network; by
    default the authors' where they are installed."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Floating-point type of the network's products; detection is always in float32."""
