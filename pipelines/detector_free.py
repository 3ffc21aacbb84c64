"""Methods without keypoints in pipelines, in place of extraction and matching."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from featplug.base import PairMatcher
from featplug.io.images import UnreadableImage, prefetch_images
from featplug.stages.extract import extract_features, raise_if_all_skipped, weights_files
from featplug.stages.match_images import MatchImagesOptions, MatchImagesSummary, match_images
from featplug.utils.progress import progress_bar
from pipelines.given_files import Features

logger = logging.getLogger(__name__)

RETRIEVAL_FEATURE = "sift"
"""Feature that vlad sums up where the method has none."""


class DetectorFree:
    """A method without keypoints, loaded for a run.

    Args:
        name: name of the method.
        options: how it matches.
        outputs: folder of its files.
        progress: show bars.

    Raises:
        FileNotFoundError: weights are missing.
        ValueError: no such method or option exists.
    """

    def __init__(
        self, name: str, options: MatchImagesOptions, outputs: Path, progress: bool
    ) -> None:
        self.name, self._outputs, self._progress = name, outputs, progress
        self.matcher = options.load(name)
        method = self.matcher.conf["output"].removeprefix("matches-")
        self._features = outputs / f"feats-{method}.h5"
        matches = outputs / f"matches-{method}.h5"
        self._options = replace(options, features=self._features, matches=matches)
        self.match_path: Path | None = None
        """Match file of the pairs that this run matched, if it has."""

    @property
    def method(self) -> PairMatcher:
        """The method itself."""
        return self.matcher.matcher

    def use_masks(self, masks: Path | None) -> None:
        """Leave out matches in what is black in masks, of images that are matched from now on."""
        self._options = replace(self._options, masks=masks)

    def readable_images(self, image_dir: Path, names: Sequence[str]) -> Features:
        """Return the images that can be read; their feature file comes with :meth:`match`.

        Raises:
            ValueError: none can.
        """
        options, preprocessing = self._options, self.matcher.preprocessing
        images = prefetch_images(image_dir, names, preprocessing, 2, options.max_megapixels)
        bar = progress_bar(images, "read", len(names), "image", self._progress)
        skipped = {image.name: image.reason for image in bar if isinstance(image, UnreadableImage)}
        raise_if_all_skipped(names, skipped)
        usable = [name for name in names if name not in skipped]
        weights = weights_files(self.method)
        return Features(image_dir, self._features, usable, skipped, weights)

    def features_for_retrieval(self, images: Features) -> Path:
        """Return a file of local features, which vlad sums up."""
        logger.info(
            "%s has no features of single images, so vlad sums up those of %s.",
            self.name,
            RETRIEVAL_FEATURE,
        )
        return extract_features(
            RETRIEVAL_FEATURE,
            images.image_dir,
            self._outputs,
            image_list=images.names,
            progress=self._progress,
            overwrite=self._options.overwrite,
            device=self._options.device,
            orientation=self._options.orientation,
            max_megapixels=self._options.max_megapixels,
        ).feature_path

    def match(self, images: Features, pairs: Path) -> MatchImagesSummary:
        """Match the pairs of a list, and write the feature file of all images."""
        done = match_images(
            self.matcher,
            pairs,
            images.image_dir,
            self._outputs,
            image_list=images.names,
            options=self._options,
            progress=self._progress,
        )
        for reason in done.skipped.values():
            logger.warning("%s", reason)
        self.match_path = done.match_path
        return done
