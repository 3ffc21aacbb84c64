"""Matched points of a method's pairs, which are kept in a file, so that they are matched once."""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import chain, count
from pathlib import Path

import numpy as np

from benchmarks.pairs.feature_pairs import FeaturePair, ImageFeatures, PairSource
from benchmarks.pairs.kept_rows import MEASURING
from benchmarks.pairs.pair_set import ImagePair
from featplug.api import Matches
from featplug.io.artifact import Provenance, file_fingerprint
from featplug.io.h5file import OtherContentsError
from featplug.io.match_store import pair_key
from featplug.io.pair_lists import Pair
from featplug.io.pair_points_store import PairPointsWriter, PointArrays

_ARRAYS = "keypoints0", "keypoints1", "scores"
_FACTS = "width", "height", "num_keypoints"
"""Attributes of each image of a pair; no number of keypoints where none were detected."""

logger = logging.getLogger(__name__)


class KeptMatches:
    """Pairs whose matches are read from a file, or else matched and added to it.

    A kill costs the pairs of the last two seconds.
    """

    def __init__(
        self,
        writer: PairPointsWriter,
        source: PairSource | None,
        missing: Collection[Pair],
        image_dir: Path,
    ) -> None:
        self._writer, self._source = writer, source
        self._missing, self._image_dir = missing, image_dir
        self.num_matched = 0
        """Number of pairs that were matched, and not read from the file."""

    def read_pair(self, pair: ImagePair) -> FeaturePair:
        """Return the matched keypoints of a pair, with all of their matches.

        Raises:
            ValueError: the pair cannot be matched, or the file is damaged.
        """
        names = pair.name0, pair.name1
        key = pair_key(*names)
        if self._source is None or names not in self._missing:
            arrays = self._writer.arrays(key, _ARRAYS)
            points = arrays["keypoints0"], arrays["keypoints1"], arrays["scores"]
            facts = [
                {f: self._writer.attribute(key, f"{f}{side}") for f in _FACTS} for side in (0, 1)
            ]
            return _pair(points, facts)
        features = self._source.read_pair(pair)
        matches = features.match()
        points0, points1 = (p.astype(np.float32) for p in features.points(matches))
        facts = [
            {"width": width, "height": height, "num_keypoints": number}
            for (width, height), number in zip(
                features.sizes, features.num_keypoints or (None, None), strict=True
            )
        ]
        origins = [{f: v for f, v in of_image.items() if v is not None} for of_image in facts]
        points = points0, points1, matches.scores.astype(np.float32)
        fingerprint0, fingerprint1 = (file_fingerprint(self._image_dir / name) for name in names)
        self._writer.write(names, points, (fingerprint0, fingerprint1), (origins[0], origins[1]))
        self.num_matched += 1
        return _pair(points, facts)


def _pair(points: PointArrays, facts: Sequence[dict[str, int | None]]) -> FeaturePair:
    points0, points1, scores = points
    image0, image1 = (
        ImageFeatures(p.astype(np.float64), scores, (int(f["width"] or 0), int(f["height"] or 0)))
        for p, f in zip((points0, points1), facts, strict=True)
    )
    number0, number1 = (f["num_keypoints"] for f in facts)
    return FeaturePair(
        image0,
        image1,
        Matches.of_points(image0.keypoints, image1.keypoints, scores),
        is_detected=False,  # these are the matched ones only
        num_detected=None if number0 is None or number1 is None else (number0, number1),
    )


@contextmanager
def kept_matches(
    path: Path,
    provenance: Provenance,
    pairs: Sequence[ImagePair],
    image_dir: Path,
    open_source: Callable[[Sequence[ImagePair]], PairSource],
) -> Iterator[KeptMatches]:
    """Open the file of a method's matches; a file of others is kept, and the next name used.

    Args:
        path: the file; ``NAME-2.h5`` where it has other matches, or those of other photographs.
        provenance: what the matches are made from.
        pairs: all pairs that will be read, in their order.
        image_dir: folder of the images.
        open_source: opens the pairs that the file lacks.
    """
    # Matches do not depend on what is measured of them.
    revisions = {name: r for name, r in provenance.revisions.items() if name != MEASURING}
    provenance = replace(provenance, kind="matched points", revisions=revisions)
    names = [(pair.name0, pair.name1) for pair in pairs]
    paths = chain([path], (path.with_stem(f"{path.stem}-{number}") for number in count(2)))
    while True:
        with ExitStack() as stack:
            try:
                writer = stack.enter_context(PairPointsWriter(next(paths), provenance))
            except OtherContentsError as other:
                logger.info("%s; it is kept, and not used for this run", other.difference)
                continue
            missing = set(writer.missing(names, directed=True))
            present = [pair for pair in names if pair not in missing]
            if changed := writer.changed_images(present, image_dir):
                logger.info("%s has matches of another %s", writer.path, changed[0])
                continue
            lacking = [pair for pair in pairs if (pair.name0, pair.name1) in missing]
            source: PairSource | None = None
            if lacking:
                source = open_source(lacking)
                stack.enter_context(source)
            yield KeptMatches(writer, source, missing, image_dir)
            return
