"""COLMAP models of known poses: matches checked against the poses, points triangulated.

The checked matches get a ``config``, without which pycolmap 4.2 silently drops them. Works with
pycolmap 3.13 to 4.2.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pycolmap

from featplug.colmap.camera_rays import matched_rays
from featplug.colmap.cameras import camera_rig, image_frame
from featplug.colmap.database import image_ids
from featplug.colmap.database_rows import CACHED_IMAGES, check_rows, open_database, remove_database
from featplug.colmap.mapping import colmap_error
from featplug.io.pair_lists import Pair
from featplug.io.store import FeatureReader
from featplug.metrics.epipolar import line_distances
from featplug.metrics.poses import intrinsics

_CHANCE_INLIER_RATIO = 0.05
"""A wrong match lies on a band of 8 px of an image some hundred pixels high."""


@dataclass(frozen=True)
class PosedCheckSummary:
    """Numbers of pairs and matches in a check against known poses."""

    num_matched_pairs: int
    """Pairs with at least one match."""
    num_verified_pairs: int
    """Pairs with at least one match that fits the poses."""
    num_matches: int
    """Matches of all pairs."""
    num_inlier_matches: int
    """Matches that fit the poses."""

    @property
    def inlier_ratio(self) -> float:
        """Fraction of the matches that fit the poses."""
        return self.num_inlier_matches / max(1, self.num_matches)


def model_from_poses(
    cameras: Mapping[str, pycolmap.Camera],
    poses: Mapping[str, np.ndarray],
    keypoints: Mapping[str, np.ndarray] | None = None,
) -> pycolmap.Reconstruction:
    """Make a COLMAP model of images without points.

    Args:
        cameras: image name to intrinsics; images with equal ones share a camera of the model.
        poses: image name to ``cam_from_world`` 3×4, of the same images.
        keypoints: image name to N×2 in COLMAP's pixels; none if None.

    Returns:
        The model; images are numbered from 1 in the order of their names.
    """
    model = pycolmap.Reconstruction()
    camera_ids: dict[tuple[object, ...], int] = {}
    for image_id, name in enumerate(sorted(poses), start=1):
        key = intrinsics(cameras[name])
        if key not in camera_ids:
            camera_ids[key] = len(camera_ids) + 1
            given = cameras[name]
            camera = pycolmap.Camera(
                model=given.model, width=given.width, height=given.height, params=given.params
            )
            camera.camera_id = camera_ids[key]
            model.add_camera(camera)
            model.add_rig(camera_rig(camera))
        points2d = np.zeros((0, 2)) if keypoints is None else keypoints[name]
        image = pycolmap.Image(name, points2d, camera_ids[key], image_id)
        image.frame_id = image_id
        frame = image_frame(image)
        frame.rig_from_world = pycolmap.Rigid3d(np.asarray(poses[name], dtype=np.float64))
        model.add_frame(frame)
        model.add_image(image)
        model.register_frame(image_id)
    return model


def keep_images(model: pycolmap.Reconstruction, names: Collection[str]) -> None:
    """Remove all but the named images from a model, and the points that they alone observe."""
    for image in [model.images[image_id] for image_id in model.reg_image_ids()]:
        if image.name not in names and model.frames[image.frame_id].has_pose():
            model.deregister_frame(image.frame_id)


def create_database_from_model(database_path: Path, model: pycolmap.Reconstruction) -> None:
    """Make a new database of a model's cameras and images, under the same numbers."""
    remove_database(database_path)
    database_path.parent.mkdir(parents=True, exist_ok=True)
    with open_database(database_path) as database:
        for camera in model.cameras.values():
            database.write_camera(camera, use_camera_id=True)
        for rig in model.rigs.values():
            database.write_rig(rig, use_rig_id=True)
        for frame in model.frames.values():
            database.write_frame(frame, use_frame_id=True)
        for image in model.images.values():
            database.write_image(image, use_image_id=True)
    check_rows(database_path, "images", model.num_images())


def check_matches(
    database_path: Path,
    pairs: Sequence[Pair],
    model: pycolmap.Reconstruction,
    features: FeatureReader,
    max_error: float = 4.0,
) -> PosedCheckSummary:
    """Keep those of each pair's matches that fit the epipolar geometry of the known poses.

    Args:
        database_path: made by :func:`create_database_from_model`, with keypoints and matches; gets
            the two-view geometries.
        pairs: the pairs to check.
        model: the poses.
        features: feature file with the keypoints' standard deviations.
        max_error: largest error of an inlier in either image, in standard deviations of its
            keypoint.

    Raises:
        ValueError: there are no matches, or no more of them fit than would by chance.
    """
    ids = image_ids(database_path)
    num_matched = num_verified = num_matches = num_inliers = 0
    with open_database(database_path) as database:

        @lru_cache(CACHED_IMAGES)
        def image_data(image_id: int) -> tuple[np.ndarray, pycolmap.Camera, float]:
            """Keypoints in COLMAP's pixels, the camera, the largest error at unit depth."""
            image = model.images[image_id]
            camera = model.cameras[image.camera_id]
            limit = camera.cam_from_img_threshold(max_error * features.uncertainty(image.name))
            return database.read_keypoints(image_id)[:, :2].astype(np.float64), camera, limit

        for name0, name1 in pairs:
            if name0 not in ids or name1 not in ids:
                continue
            id0, id1 = sorted((ids[name0], ids[name1]))
            matches = database.read_matches(id0, id1)
            if not len(matches):
                continue
            keypoints0, camera0, limit0 = image_data(id0)
            keypoints1, camera1, limit1 = image_data(id1)
            pose0, pose1 = (model.images[i].cam_from_world() for i in (id0, id1))
            cam1_from_cam0 = pose1 * pose0.inverse()
            essential = pycolmap.essential_matrix_from_pose(cam1_from_cam0)
            places = keypoints0[matches[:, 0]], keypoints1[matches[:, 1]]
            rays0, rays1 = matched_rays((camera0, camera1), places)
            errors0, errors1 = line_distances(rays0, rays1, essential)
            inliers = matches[(errors0 <= limit0) & (errors1 <= limit1)]
            geometry = pycolmap.TwoViewGeometry()
            geometry.config = pycolmap.TwoViewGeometryConfiguration.CALIBRATED
            geometry.E = essential
            geometry.cam2_from_cam1 = cam1_from_cam0
            geometry.inlier_matches = inliers
            database.write_two_view_geometry(id0, id1, geometry)
            num_matched += 1
            num_verified += bool(len(inliers))
            num_matches += len(matches)
            num_inliers += len(inliers)
    check_rows(database_path, "two_view_geometries", num_matched, num_inliers)
    if num_matches == 0:
        raise ValueError(
            f"None of the {len(pairs)} pairs has a match; choose pairs of images that see the same "
            "things, or more distinctive features."
        )
    if num_inliers <= _CHANCE_INLIER_RATIO * num_matches:
        raise ValueError(
            f"Only {num_inliers} of {num_matches} matches of {num_matched} pairs fit the known "
            "poses, which wrong matches do by chance: the poses or cameras of the reference model "
            "are wrong or of other images, or the matches are."
        )
    return PosedCheckSummary(num_matched, num_verified, num_matches, num_inliers)


def triangulate(
    database_path: Path,
    model: pycolmap.Reconstruction,
    image_dir: Path,
    output_dir: Path,
    check: PosedCheckSummary,
    seed: int,
    two_view_tracks: bool = True,
) -> pycolmap.Reconstruction:
    """Triangulate points from checked matches; poses and intrinsics stay as they are.

    Args:
        database_path: with two-view geometries.
        model: the poses, with the database's numbers.
        image_dir: folder of the images.
        output_dir: gets COLMAP's model.
        check: result of :func:`check_matches`, for messages.
        seed: seed of RANSAC.
        two_view_tracks: also triangulate points that two images see. COLMAP and hloc leave them
            out, since only two rays support them; here the poses, too, support the match.

    Returns:
        The model, whose points have no colours yet.

    Raises:
        ValueError: no point could be triangulated, or the disk is full.
    """
    options = pycolmap.IncrementalPipelineOptions()
    options.triangulation.ignore_two_view_tracks = not two_view_tracks
    options.min_num_matches = 1  # of a pair; every match was checked
    options.extract_colors = False  # of formats that COLMAP cannot read
    options.random_seed = seed
    options.triangulation.random_seed = seed
    pycolmap.set_random_seed(seed)
    output_dir.mkdir(parents=True, exist_ok=True)
    try:
        triangulated = pycolmap.triangulate_points(
            model, str(database_path), str(image_dir), str(output_dir), options=options
        )
    except (ValueError, RuntimeError) as error:
        # pycolmap 3.13's way to say that no pair has enough matches
        if "LoadDatabase" not in str(error):
            raise colmap_error(database_path, error) from error
        triangulated = pycolmap.Reconstruction()
    if triangulated.num_points3D() == 0:
        raise ValueError(
            f"COLMAP triangulated no point from {check.num_inlier_matches} matches that fit the "
            "known poses: none is seen with enough parallax, or by enough images; match more "
            "pairs, or more keypoints."
        )
    return triangulated
