"""Options that several stages share, each written once; commands are made from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from featplug.io.images import MAX_MEGAPIXELS
from featplug.io.orientation import Orientation
from featplug.methods import (
    Conf,
    features,
    matcher_conf,
    matcher_conf_for,
    matchers,
    resolve_conf,
)
from featplug.methods.method_files import add_methods
from featplug.methods.method_options import resized, with_options
from featplug.methods.method_table import STRONGEST

Texts = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]
Files = Annotated[tuple[Path, ...], tyro.conf.UseAppendAction]


class _AddedFiles(tuple[Path, ...]):
    """Files whose methods were added, which a copy of the options does not read again."""


@dataclass(frozen=True, kw_only=True)
class MethodOptions:
    """Which methods exist besides featplug's and those of installed packages.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: something in a file does not fit.
    """

    methods: Files = ()
    """TOML file of further methods, as tables [features.NAME], [matchers.NAME] and
    [retrieval.NAME] in hloc's form."""

    def __post_init__(self) -> None:
        if not isinstance(self.methods, _AddedFiles):
            add_methods(self.methods)
            object.__setattr__(self, "methods", _AddedFiles(self.methods))


@dataclass(frozen=True, kw_only=True)
class MatcherOptions:
    """Options of the matcher itself."""

    matcher_option: Texts = ()
    """Option of the matcher, NAME=VALUE, such as ratio_threshold=0.9.
    `featplug list MATCHER` shows them."""

    def matcher_conf(
        self, matcher: str | Mapping[str, Any], feature: Mapping[str, Any] | None = None
    ) -> Conf:
        """Return the conf of a matcher, by name or as it is, with these options.

        Args:
            matcher: name of the matcher, or its conf.
            feature: conf of the feature that is matched, if it is known.

        Raises:
            ValueError: no such matcher or option exists, or the matcher is for other features.
        """
        conf = matcher_conf(matcher) if isinstance(matcher, str) else matcher
        chosen = with_options(matchers, conf, self.matcher_option, "matcher-option")
        return matcher_conf_for(feature, chosen)


@dataclass(frozen=True, kw_only=True)
class GuidedOptions:
    """Whether matching is guided by the geometry of the strongest keypoints."""

    strongest: int = STRONGEST
    """Number of each image's strongest keypoints that are matched first, where images have over
    twice as many; the others are then matched near their epipolar lines only. Nearest-neighbour
    matchers do so, such as NN-ratio; others match all with all, as -1 does."""


@dataclass(frozen=True, kw_only=True)
class DeviceOptions(MethodOptions):
    """Where a method runs."""

    device: str | None = None
    """Device of the computation, for example cpu or cuda:1; the best available one by default."""
    overwrite: bool = False
    """Replace what an earlier run wrote."""


@dataclass(frozen=True, kw_only=True)
class ReadingOptions(DeviceOptions):
    """Which photographs are read, and how."""

    resize_max: int | None = None
    """Longest side in pixels that larger photographs are reduced to before anything is extracted;
    -1 keeps their size, the default is the method's own."""
    option: Texts = ()
    """Option of the method, NAME=VALUE, such as contrast_threshold=0.01.
    `featplug list METHOD` shows them."""
    orientation: Orientation = "exif"
    """Which way up photographs are looked at: exif turns them upright by their EXIF data, stored
    takes them as they are stored. Coordinates in files are of the stored image in any case."""
    max_megapixels: float = MAX_MEGAPIXELS
    """Limit of memory for decoding a photograph, as that of a JPEG of so many megapixels. A larger
    JPEG is reduced while it is decoded; other larger photographs are skipped."""


@dataclass(frozen=True, kw_only=True)
class MaskOptions:
    """Where images have no keypoints."""

    masks: Path | None = None
    """Folder of masks, black where an image has no keypoints: that of dir/name.jpg is
    dir/name.jpg.png, as for COLMAP, or dir/name.png, in pixels of the image as stored."""


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(MaskOptions, ReadingOptions):
    """Which weights a feature uses, how its network computes, and how much is kept of it."""

    max_keypoints: int | None = None
    """Number of keypoints to keep in each image, the strongest by score; -1 keeps all, the default
    is the feature's own."""
    weights: str | None = None
    """Weights of the networks: official, featplug, or a file for the feature's own network; by
    default the authors' where they are installed."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Floating-point type of the network's products; detection is always in float32."""
    batch_size: int = 1
    """Number of images of one size that a network takes at once, fewer where they do not fit
    memory; several are faster on a GPU."""

    def conf(self, feature: str | Mapping[str, Any]) -> Conf:
        """Return the conf of a feature, by name or as it is, with these options.

        Raises:
            ValueError: no such feature or option exists.
        """
        conf = resolve_conf(feature, max_keypoints=self.max_keypoints, weights=self.weights)
        return resized(with_options(features, conf, self.option, "option"), self.resize_max)
