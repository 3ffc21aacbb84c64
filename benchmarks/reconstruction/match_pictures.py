"""Pictures of verified matches, of the same pairs of a scene for all features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.record import Picture
from featplug.colmap.database import inlier_matches, verified_pairs
from featplug.io.images import read_image
from featplug.io.pair_lists import Pair
from featplug.io.store import FeatureReader, MatchReader
from featplug.plots import write_match_picture

_QUANTILES = (0.75, 0.25)


def telling_pairs(database: Path) -> list[Pair]:
    """Select an easy and a hard pair, at the upper and lower quartile of inlier matches."""
    counts = verified_pairs(database)
    ordered = sorted(counts, key=lambda pair: (counts[pair], pair))
    selected = [ordered[round(quantile * (len(ordered) - 1))] for quantile in _QUANTILES]
    return list(dict.fromkeys(selected))


def draw_pairs(
    pairs: Sequence[Pair],
    image_dir: Path,
    database: Path,
    features: Path,
    matches: Path,
    outputs: Path,
) -> list[Picture]:
    """Draw the verified matches of pairs as ``matches-K.jpg`` in ``outputs``.

    Returns:
        The pictures, with paths relative to ``outputs``.
    """
    counts = verified_pairs(database)
    pictures = []
    with FeatureReader(features) as feature_reader, MatchReader(matches) as match_reader:
        for number, (name0, name1) in enumerate(pairs):
            num_matches = 0
            if (name0, name1) in match_reader:
                num_matches = len(match_reader.read(name0, name1)[0])
            inliers = np.zeros((0, 2), np.int64)
            if (name0, name1) in counts or (name1, name0) in counts:
                inliers = inlier_matches(database, name0, name1)
            title = f"{name0} and {name1}: {len(inliers):,} inliers of {num_matches:,} matches"
            images = (read_image(image_dir / name) for name in (name0, name1))
            points = (
                feature_reader.keypoints(name)[index]
                for name, index in zip((name0, name1), inliers.T, strict=True)
            )
            path = outputs / f"matches-{number}.jpg"
            write_match_picture(path, *images, *points)
            pictures.append(Picture(path.name, title))
    return pictures
