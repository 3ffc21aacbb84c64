"""What became of the pairs of a database: which ones a model uses, why images are in no model."""

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pycolmap

from featplug.colmap.database_rows import CACHED_IMAGES, open_database
from featplug.colmap.geometric_verification import nonzero_pairs


def count_used_pairs(database_path: Path, model: pycolmap.Reconstruction) -> int:
    """Return the number of verified pairs of which a match is of two views of one 3D point.

    Args:
        database_path: the database that the model was made from.
        model: the model.
    """

    @lru_cache(CACHED_IMAGES)
    def points(image_id: int) -> np.ndarray:
        """Number of the 3D point of each keypoint, 0 if there is none."""
        image = model.images[image_id]
        point_ids = np.zeros(image.num_points2D(), np.uint64)
        seen = image.get_observation_points2D()
        point_ids[image.get_observation_point2D_idxs()] = [point.point3D_id + 1 for point in seen]
        return point_ids

    registered = set(model.reg_image_ids())
    num_used = 0
    with open_database(database_path) as database:
        for id0, id1 in nonzero_pairs(*database.read_two_view_geometry_num_inliers()):
            if id0 in registered and id1 in registered:
                matches = database.read_two_view_geometry(id0, id1).inlier_matches
                seen0, seen1 = points(id0)[matches[:, 0]], points(id1)[matches[:, 1]]
                num_used += bool(((seen0 == seen1) & (seen0 > 0)).any())
    return num_used


def reasons_not_registered(database_path: Path, names: Iterable[str]) -> dict[str, str]:
    """Return why images of a database are in no model, as far as its pairs show.

    Returns:
        Name to the rest of a sentence that begins with it.
    """
    with open_database(database_path) as database:
        ids = {image.name: image.image_id for image in database.read_all_images()}
        matched_pairs = nonzero_pairs(*database.read_num_matches())
        num_matched = Counter(image_id for pair in matched_pairs for image_id in pair)
        verified: dict[int, list[int]] = {}
        inliers_by_pair = nonzero_pairs(*database.read_two_view_geometry_num_inliers())
        for pair, num in inliers_by_pair.items():
            for image_id in pair:
                verified.setdefault(image_id, []).append(num)
        reasons = {}
        for name in names:
            image_id = ids[name]
            if database.num_keypoints_for_image(image_id) == 0:
                reasons[name] = "has no keypoints"
            elif not num_matched[image_id]:
                reasons[name] = "has no matches"
            elif image_id not in verified:
                num = num_matched[image_id]
                reasons[name] = f"has matches in {num} pairs, none of which is of one scene"
            else:
                inliers = verified[image_id]
                reasons[name] = (
                    f"has {len(inliers)} verified pairs, with {max(inliers)} inliers or fewer, of "
                    "which COLMAP could not use enough"
                )
    return reasons
