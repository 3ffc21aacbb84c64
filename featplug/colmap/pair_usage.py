"""What became of the pairs of a database: used, contradicted, or of images that are in no model."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pycolmap

from featplug.colmap.camera_rays import matched_rays
from featplug.colmap.database_rows import (
    CACHED_IMAGES,
    open_database,
    pairs_with_geometry,
)
from featplug.colmap.geometric_verification import nonzero_pairs
from featplug.io.pair_lists import Pair
from featplug.metrics.epipolar import sampson_errors

MOST_CONTRADICTED = 0.02
"""Fraction of matches that a model contradicts above which it is not to be trusted. Models of
fountain-P11 with right poses, by 36 combinations of feature and matcher, reach 0.009; wrong models
of the demo town, whose trees are identical, begin at 0.042."""
_MAX_ERROR = 8.0
"""Largest error in pixels of a match that fits the model: twice that of verification, because poses
of a model are compromises between all pairs."""


@dataclass(frozen=True)
class PairUsage:
    """What a model makes of the verified pairs of its database."""

    num_used: int
    """Pairs of which a match is of two views of one 3D point."""
    num_within: int
    """Pairs of two registered images."""
    num_leaving: int
    """Pairs of a registered image with one that is not."""
    contradicted: dict[Pair, int]
    """Pairs of two registered images that the poses contradict, which most of their inliers do not
    fit, with their numbers of inliers, the largest first. Either these pairs are wrong, such as
    those of repeated structures, or the model is."""
    contradicted_matches: float
    """Fraction of the inliers of pairs of two registered images that are of contradicted pairs."""


def pair_usage(database_path: Path, model: pycolmap.Reconstruction) -> PairUsage:
    """Examine the verified pairs of a database.

    Args:
        database_path: the database that the model was made from.
        model: the model.
    """

    @lru_cache(CACHED_IMAGES)
    def keypoints(image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints in COLMAP's pixels, N×2, and the numbers of their 3D points or 0."""
        image = model.images[image_id]
        point_ids = np.zeros(image.num_points2D(), np.uint64)
        seen = image.get_observation_points2D()
        point_ids[image.get_observation_point2D_idxs()] = [point.point3D_id + 1 for point in seen]
        return database.read_keypoints(image_id)[:, :2].astype(np.float64), point_ids

    registered = set(model.reg_image_ids())
    num_used, num_leaving, within, contradicted = 0, 0, [], {}
    with open_database(database_path) as database:
        for id0, id1 in nonzero_pairs(*database.read_two_view_geometry_num_inliers()):
            num_leaving += (id0 in registered) != (id1 in registered)
            if id0 not in registered or id1 not in registered:
                continue
            matches = database.read_two_view_geometry(id0, id1).inlier_matches
            (places0, points0), (places1, points1) = keypoints(id0), keypoints(id1)
            seen0, seen1 = points0[matches[:, 0]], points1[matches[:, 1]]
            num_used += bool(((seen0 == seen1) & (seen0 > 0)).any())
            within.append(len(matches))
            matched = places0[matches[:, 0]], places1[matches[:, 1]]
            errors = _errors(model, (id0, id1), matched)
            if np.count_nonzero(errors > _MAX_ERROR) > len(matches) / 2:
                names = model.images[id0].name, model.images[id1].name
                contradicted[names] = len(matches)
    return PairUsage(
        num_used,
        len(within),
        num_leaving,
        dict(sorted(contradicted.items(), key=lambda item: -item[1])),
        sum(contradicted.values()) / max(1, sum(within)),
    )


def _errors(
    model: pycolmap.Reconstruction,
    ids: tuple[int, int],
    places: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Return the Sampson errors of matches in pixels; not finite where a model has none."""
    image0, image1 = (model.images[image_id] for image_id in ids)
    essential = pycolmap.essential_matrix_from_pose(
        image1.cam_from_world() * image0.cam_from_world().inverse()
    )
    cameras = model.cameras[image0.camera_id], model.cameras[image1.camera_id]
    pixel = np.mean([camera.cam_from_img_threshold(1.0) for camera in cameras])
    return sampson_errors(*matched_rays(cameras, places), essential) / pixel


def reasons_not_registered(database_path: Path, names: Iterable[str]) -> dict[str, str]:
    """Return why images of a database are in no model, as far as its pairs show.

    Returns:
        Name to the rest of a sentence that begins with it.
    """
    # A pair that was verified elsewhere has a geometry, which may be without inliers, alone.
    pair_ids = pairs_with_geometry(database_path)
    with open_database(database_path) as database:
        ids = {image.name: image.image_id for image in database.read_all_images()}
        matched_pairs = {*nonzero_pairs(*database.read_num_matches())}
        matched_pairs.update(map(pycolmap.pair_id_to_image_pair, pair_ids))
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
