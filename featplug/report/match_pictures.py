"""Pictures of the verified matches of a COLMAP database, for the page of a run."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from featplug.colmap.database import from_colmap_keypoints, image_ids
from featplug.colmap.database_rows import open_database
from featplug.colmap.geometric_verification import inlier_matches
from featplug.io.image_files import read_image_header
from featplug.io.images import read_image
from featplug.io.orientation import Turn
from featplug.io.pair_lists import Pair
from featplug.plots import shrink, write_match_picture
from featplug.report.inline_images import InlinePicture, inline_picture


def quartile_pairs(inliers: Mapping[Pair, int]) -> list[Pair]:
    """Select an easy and a hard pair, at the upper and lower quartile of inlier matches."""
    ordered = sorted(inliers, key=lambda pair: (inliers[pair], pair))
    places = [round(quantile * (len(ordered) - 1)) for quantile in (0.75, 0.25)] if ordered else []
    return list(dict.fromkeys(ordered[place] for place in places))


def match_picture(
    database: Path, image_dir: Path, pair: Pair, is_upright: bool = True
) -> InlinePicture:
    """Draw the verified matches of two images.

    Args:
        database: the database, whose keypoints are of the images as stored.
        image_dir: folder of the images.
        pair: names of the images.
        is_upright: whether to turn the images upright by their EXIF data.

    Raises:
        FileNotFoundError: an image does not exist.
        ValueError: an image cannot be read, or the database has no matches of the pair.
    """
    matches = inlier_matches(database, *pair)
    ids = image_ids(database)
    images, points = [], []
    with open_database(database) as opened:
        for name, indices in zip(pair, matches.T, strict=True):
            keypoints = from_colmap_keypoints(opened.read_keypoints(ids[name]))["keypoints"]
            pixels = read_image(image_dir / name)
            header = read_image_header(image_dir / name)
            turn = Turn((pixels.shape[1], pixels.shape[0]), header.orientation if is_upright else 1)
            upright = turn.upright_arrays({"keypoints": keypoints[indices]})["keypoints"]
            small, xy = shrink(turn.upright_pixels(pixels), upright)
            images.append(small)
            points.append(xy)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "matches.jpg"
        write_match_picture(path, *images, *points)
        name0, name1 = pair
        title = f"{name0} and {name1}: {len(matches):,} verified matches"
        return inline_picture(path, title)
