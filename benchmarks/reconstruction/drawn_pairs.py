"""Pictures of verified matches, of the same pairs of a scene for all features."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.record import Picture
from featplug.colmap.geometric_verification import inlier_matches, verified_pairs
from featplug.io.images import read_image
from featplug.io.pair_lists import Pair
from featplug.io.parts.feature_parts import open_features
from featplug.io.parts.match_parts import open_matches
from featplug.plots import write_match_picture
from pipelines.sfm import MatchedScene


def draw_pairs(
    pairs: Sequence[Pair], database: Path, scene: MatchedScene, outputs: Path
) -> list[Picture]:
    """Draw the verified matches of pairs as ``matches-K.jpg`` of the folder ``outputs``."""
    counts = verified_pairs(database)
    pictures = []
    with open_features(scene.features.path) as features, open_matches(scene.matches) as matches:
        for number, (name0, name1) in enumerate(pairs):
            num_matches = 0
            if (name0, name1) in matches:
                num_matches = len(matches.read(name0, name1)[0])
            inliers = np.zeros((0, 2), np.int64)
            if (name0, name1) in counts or (name1, name0) in counts:
                inliers = inlier_matches(database, name0, name1)
            images = (read_image(scene.features.image_dir / name) for name in (name0, name1))
            points = (
                features.keypoints(name)[index]
                for name, index in zip((name0, name1), inliers.T, strict=True)
            )
            path = outputs / f"matches-{number}.jpg"
            write_match_picture(path, *images, *points)
            count = f"{len(inliers):,} inliers of {num_matches:,} matches"
            title = f"{name0} and {name1}: {count}"
            drawn = {"inliers": len(inliers), "matches": num_matches}
            pictures.append(Picture(str(path), title, [name0, name1], drawn))
    return pictures
