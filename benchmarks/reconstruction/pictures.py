"""Pictures of verified matches: of each scene the same pairs for all features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.record import Picture
from featplug.colmap import inlier_matches, verified_pairs
from featplug.images import read_image
from featplug.pairs import Pair
from featplug.plots import draw_matches, shrink
from featplug.store import FeatureReader, MatchReader

_QUANTILES = (0.75, 0.25)


def telling_pairs(database: Path) -> list[Pair]:
    """Choose an easy and a hard pair: by inlier matches at the upper and the lower quartile."""
    counts = verified_pairs(database)
    ordered = sorted(counts, key=lambda pair: (counts[pair], pair))
    chosen = [ordered[round(quantile * (len(ordered) - 1))] for quantile in _QUANTILES]
    return list(dict.fromkeys(chosen))


def draw_pairs(
    pairs: Sequence[Pair],
    image_dir: Path,
    database: Path,
    features: Path,
    matches: Path,
    outputs: Path,
) -> list[Picture]:
    """Draw the verified matches of pairs.

    Args:
        pairs: of images.
        image_dir: folder of the images.
        database: COLMAP's, with two-view geometries.
        features: feature file.
        matches: match file.
        outputs: gets ``matches-K.jpg``.

    Returns:
        The pictures, their paths relative to ``outputs``.
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
            sides = []
            for name, index in zip((name0, name1), inliers.T, strict=True):
                points = feature_reader.keypoints(name)[index]
                sides.append(shrink(read_image(image_dir / name), points))
            (image0, points0), (image1, points1) = sides
            path = outputs / f"matches-{number}.jpg"
            _write(path, image0, image1, points0, points1)
            pictures.append(Picture(path.name, title))
    return pictures


def _write(
    path: Path, image0: np.ndarray, image1: np.ndarray, points0: np.ndarray, points1: np.ndarray
) -> None:
    width = image0.shape[1] + image1.shape[1]
    height = max(len(image0), len(image1))
    figure = Figure(figsize=(12, 12 * height / width), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    draw_matches(axes, image0, image1, points0, points1)
    axes.set_axis_off()
    figure.savefig(path, dpi=120, pil_kwargs={"quality": 85})
