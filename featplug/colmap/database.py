"""COLMAP's database: cameras, keypoints, matches and geometric verification.

COLMAP puts the origin at the corner of the top-left pixel, so all points pass through
:func:`to_colmap_points` on their way to it. Works with pycolmap 3.13 to 4.2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap

from featplug.colmap.cameras import CameraOptions, check_camera
from featplug.io.pair_lists import Pair, write_pairs
from featplug.io.store import FeatureReader, MatchReader
from featplug.keypoints.detection import from_sift_frames, sift_frames


@dataclass(frozen=True)
class VerificationSummary:
    """Numbers of pairs and matches in geometric verification."""

    num_matched_pairs: int
    """Pairs with at least one match."""
    num_verified_pairs: int
    num_inlier_matches: int


def create_database(
    database_path: Path, image_dir: Path, names: Sequence[str], camera: CameraOptions
) -> None:
    """Make a database, or replace it, with images, whose sizes and EXIF data are read, and cameras.

    Raises:
        ValueError: the camera options do not fit COLMAP, or an image could not be imported.
    """
    check_camera(camera)
    database_path.unlink(missing_ok=True)
    database_path.parent.mkdir(parents=True, exist_ok=True)
    options = pycolmap.ImageReaderOptions()
    options.camera_model = camera.model
    if camera.params is not None:
        options.camera_params = camera.params
    pycolmap.Database.open(str(database_path)).close()
    pycolmap.import_images(
        str(database_path),
        str(image_dir),
        camera_mode=getattr(pycolmap.CameraMode, camera.mode.upper().replace("-", "_")),
        image_names=list(names),
        options=options,
    )
    missing = sorted(set(names) - set(image_ids(database_path)))
    if missing:
        raise ValueError(
            f"COLMAP could not import {len(missing)} of {len(names)} images, the first is "
            f"{image_dir / missing[0]}; convert it to JPEG or PNG."
        )


def image_ids(database_path: Path) -> dict[str, int]:
    """Return COLMAP's number of each image in the database."""
    with pycolmap.Database.open(str(database_path)) as database:
        return {image.name: image.image_id for image in database.read_all_images()}


def to_colmap_points(points: np.ndarray) -> np.ndarray:
    """Return points N×2, integer = pixel centre, with COLMAP's origin at the corner of a pixel."""
    return points + 0.5


def to_colmap_keypoints(features: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return :func:`~featplug.keypoints.detection.sift_frames` with COLMAP's origin."""
    frames = sift_frames(features)
    frames[:, :2] = to_colmap_points(frames[:, :2])
    return frames


def from_colmap_keypoints(keypoints: np.ndarray) -> dict[str, np.ndarray]:
    """Return COLMAP's keypoints, N×2 to N×6, as ours: undo :func:`to_colmap_keypoints`."""
    features = from_sift_frames(keypoints)
    return {**features, "keypoints": features["keypoints"] - 0.5}


def import_features(database_path: Path, features: FeatureReader) -> None:
    """Write the keypoints of all images of the database, with scale and orientation if known.

    Raises:
        ValueError: an image has no features, or ones of an image of another size.
    """
    with pycolmap.Database.open(str(database_path)) as database:
        for image in database.read_all_images():
            size = features.image_size(image.name)
            camera = database.read_camera(image.camera_id)
            if (camera.width, camera.height) != size:
                raise ValueError(
                    f"The features of {image.name!r} in {features.path} are of an image of "
                    f"{size[0]}×{size[1]} pixels, the image has {camera.width}×{camera.height}; "
                    "extract it again."
                )
            datasets = features.read(image.name, ("keypoints", "scales", "oris"))
            frames = to_colmap_keypoints(datasets)
            if frames.shape[1] == 3:  # COLMAP knows no keypoints with a scale alone
                frames = np.ascontiguousarray(frames[:, :2])
            database.write_keypoints(image.image_id, frames)


def import_matches(database_path: Path, pairs: Sequence[Pair], matches: MatchReader) -> int:
    """Write the matches of the pairs whose images are in the database.

    Returns:
        The number of pairs with at least one match.

    Raises:
        ValueError: a pair has not been matched, or matches keypoints that do not exist.
    """
    ids = image_ids(database_path)
    num_matched = 0
    with pycolmap.Database.open(str(database_path)) as database:
        num_keypoints = {
            name: database.num_keypoints_for_image(image_id) for name, image_id in ids.items()
        }
        for name0, name1 in pairs:
            if name0 not in ids or name1 not in ids:
                continue
            indices, _ = matches.read(name0, name1)
            if not len(indices):
                continue
            if (indices.max(0) >= [num_keypoints[name0], num_keypoints[name1]]).any():
                raise ValueError(
                    f"The matches of {name0!r} and {name1!r} in {matches.path} are of other "
                    "features; match again with --overwrite."
                )
            database.write_matches(ids[name0], ids[name1], indices.astype(np.uint32))
            num_matched += 1
    return num_matched


def verify_matches(
    database_path: Path, pairs: Sequence[Pair], seed: int, max_error: float = 4.0
) -> VerificationSummary:
    """Verify matches by epipolar geometry or a homography, with errors of up to some pixels.

    COLMAP sets each two-view geometry's ``config``, without which pycolmap 4.2 silently drops it.

    Raises:
        ValueError: no pair was verified.
    """
    ids = image_ids(database_path)
    known = [pair for pair in pairs if pair[0] in ids and pair[1] in ids]
    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.max_error = max_error
    options.ransac.max_num_trials = 20_000
    options.ransac.min_inlier_ratio = 0.1
    options.ransac.random_seed = seed
    pairs_path = database_path.with_suffix(".pairs.txt")
    write_pairs(pairs_path, known)
    try:
        pycolmap.verify_matches(str(database_path), str(pairs_path), options=options)
    finally:
        pairs_path.unlink()
    with pycolmap.Database.open(str(database_path)) as database:
        # A pair that failed has a two-view geometry as well, without inliers.
        _, num_inliers = database.read_two_view_geometry_num_inliers()
        summary = VerificationSummary(
            database.num_matched_image_pairs(),
            int(np.count_nonzero(num_inliers)),
            int(np.sum(num_inliers)),
        )
    if summary.num_verified_pairs == 0:
        raise ValueError(
            f"None of the {summary.num_matched_pairs} matched pairs shows two views of one scene: "
            "too few keypoints or matches, or photographs that do not overlap."
        )
    return summary


def verified_pairs(database_path: Path) -> dict[Pair, int]:
    """Return the verified pairs of a database and their numbers of inlier matches."""
    with pycolmap.Database.open(str(database_path)) as database:
        names = {image.image_id: image.name for image in database.read_all_images()}
        pair_ids, num_inliers = database.read_two_view_geometry_num_inliers()
    verified = {}
    for pair_id, num in zip(pair_ids, num_inliers, strict=True):
        if num:
            id0, id1 = pycolmap.pair_id_to_image_pair(pair_id)
            verified[names[id0], names[id1]] = int(num)
    return verified


def inlier_matches(database_path: Path, name0: str, name1: str) -> np.ndarray:
    """Read the inlier matches of a verified pair, K×2 (index in image 0, index in image 1)."""
    ids = image_ids(database_path)
    with pycolmap.Database.open(str(database_path)) as database:
        geometry = database.read_two_view_geometry(ids[name0], ids[name1])
    return np.asarray(geometry.inlier_matches, np.int64).reshape(-1, 2)
