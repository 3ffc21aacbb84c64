"""Poses of rigs from the 2D-3D matches of all their cameras, by COLMAP's generalized absolute pose.

The cameras of a frame, photographs that a rig took at one time, are localized together: few matches
of each are enough where there are many of all.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pycolmap

from featplug.colmap.database import to_colmap_points
from featplug.localization.absolute_pose import AbsolutePose, AbsolutePoseOptions
from featplug.localization.confidence import (
    UNSTEADY,
    PoseEvidence,
    count_places,
    jackknife,
)
from featplug.localization.file_localizer import FileLocalizer, LocalizedQuery, QueryMatches
from featplug.localization.pose_fits import project_points
from featplug.localization.pose_uncertainty import rig_uncertainty
from featplug.localization.queries import Query
from featplug.metrics.chance import ABSOLUTE_POSE, weigh_inliers

_LARGE = 2e4
"""Offset between the pixels of two cameras, whose places are never the same."""


@dataclass(frozen=True)
class RigFrame:
    """Queries that a rig took at one time."""

    queries: list[Query]
    cams_from_rig: list[np.ndarray]
    """Pose of each query's camera in the rig, 3×4."""


def localize_frames(
    localizer: FileLocalizer, frames: Iterable[RigFrame], retrieved: Mapping[str, Sequence[str]]
) -> Iterator[LocalizedQuery]:
    """Localize frames in the images that their queries were matched with.

    Yields:
        Each query of each frame; all of a frame are localized, or none is.

    Raises:
        ValueError: see :meth:`FileLocalizer.gather`.
    """
    for frame in frames:
        gathered = [
            max(
                localizer.gather(query, retrieved.get(query.name, ())),
                key=lambda matches: len(matches.points3d),
            )
            for query in frame.queries
        ]
        unknown = [query for query in frame.queries if query.focal_length == "unknown"]
        if unknown:
            reason = (
                f"the focal length of {unknown[0].name}, of the same rig, is not known, and those "
                "of rigs are not fitted; give its intrinsics"
            )
            for query, matches in zip(frame.queries, gathered, strict=True):
                yield LocalizedQuery(query, [(matches, None)], None, reason)
            continue
        options = localizer.pose_options(frame.queries[0])
        poses = estimate_rig_pose(gathered, frame, options)
        for index, (query, matches) in enumerate(zip(frame.queries, gathered, strict=True)):
            if poses is None:
                num = sum(len(each.points3d) for each in gathered)
                reason = (
                    f"no pose of its rig fits the {num} 2D-3D matches of the frame's "
                    f"{len(gathered)} photographs"
                )
                yield LocalizedQuery(query, [(matches, None)], None, reason)
            else:
                pose = poses[index]
                yield LocalizedQuery(query, [(matches, pose)], 0, pose.reason)


def estimate_rig_pose(
    matches: Sequence[QueryMatches], frame: RigFrame, options: AbsolutePoseOptions
) -> list[AbsolutePose] | None:
    """Estimate the pose of a rig.

    Args:
        matches: 2D-3D matches of each query of the frame.
        frame: queries, with their intrinsics, and poses of their cameras in the rig.
        options: thresholds and seed; focal lengths are those of the queries.

    Returns:
        The pose of each camera, with evidence and uncertainty of the whole rig; or None.
    """
    cameras = [query.camera for query in frame.queries]
    points2d = np.concatenate([each.keypoints for each in matches]).astype(np.float64)
    points3d = np.concatenate([each.points3d for each in matches])
    camera_of = np.repeat(np.arange(len(matches)), [len(each.points3d) for each in matches])
    if len(points3d) < options.num_needed:
        return None
    ransac = pycolmap.RANSACOptions()
    for name in ("max_error", "min_inlier_ratio", "confidence", "max_num_trials"):
        setattr(ransac, name, getattr(options, name))
    ransac.min_num_trials = min(options.min_num_trials, options.max_num_trials)
    ransac.random_seed = options.seed
    found = pycolmap.estimate_and_refine_generalized_absolute_pose(
        to_colmap_points(points2d),
        points3d,
        camera_of.tolist(),
        [pycolmap.Rigid3d(pose) for pose in frame.cams_from_rig],
        cameras,
        estimation_options=ransac,
    )
    if found is None or found["num_inliers"] < options.min_num_inliers:
        return None
    inliers = np.asarray(found["inlier_mask"], dtype=bool)

    def poses(rig_from_world: np.ndarray) -> list[np.ndarray]:
        return [compose(pose, rig_from_world) for pose in frame.cams_from_rig]

    rig_from_world = found["rig_from_world"].matrix()
    cams_from_world = poses(rig_from_world)
    # The projection of every point into every camera, for points that are paired at random.
    all_projections = np.stack(
        [project_points(points3d, p, c) for p, c in zip(cams_from_world, cameras, strict=True)]
    )

    def errors(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        projections = all_projections[camera_of[first], second]
        return np.asarray(np.linalg.norm(points2d[first] - projections, axis=1))

    apart = _LARGE * camera_of[:, None]
    own = all_projections[camera_of, np.arange(len(points3d))]
    chance = weigh_inliers(
        points2d + apart, own + apart, errors, options.max_error, ABSOLUTE_POSE, inliers
    )
    sides = [max(camera.width, camera.height) for camera in cameras]
    num_places = sum(
        count_places(points2d[inliers & (camera_of == index)], side)
        for index, side in enumerate(sides)
    )
    selected = to_colmap_points(points2d[inliers]), points3d[inliers], camera_of[inliers]
    instability = _instability(*selected, frame, rig_from_world)
    evidence = PoseEvidence(**vars(chance), num_places=num_places, instability=instability)

    def project(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
        projected = [
            project_points(points, p, c) for p, c in zip(poses(pose), cameras, strict=True)
        ]
        return np.asarray(np.stack(projected)[camera_of[inliers], np.arange(len(points))])

    uncertainty = rig_uncertainty(points2d[inliers], points3d[inliers], rig_from_world, project)
    is_guess = any(query.focal_length == "guessed" for query in frame.queries)
    return [
        AbsolutePose(pose, inliers[camera_of == index], evidence, camera, uncertainty, is_guess)
        for index, (pose, camera) in enumerate(zip(cams_from_world, cameras, strict=True))
    ]


def _instability(
    points2d: np.ndarray,
    points3d: np.ndarray,
    camera_of: np.ndarray,
    frame: RigFrame,
    rig_from_world: np.ndarray,
) -> float:
    """Return how far the rig moves without the inliers of each part of its images.

    Parts are of equal size, by camera and then from left to right. See
    :class:`~featplug.localization.confidence.PoseEvidence`.
    """
    if len(points2d) < 8:
        return UNSTEADY
    part_of = np.empty(len(points2d), int)
    part_of[np.lexsort((points2d[:, 0], camera_of))] = np.arange(len(points2d)) * 4 // len(points2d)
    poses = [rig_from_world]
    for part in range(4):
        found = pycolmap.refine_generalized_absolute_pose(
            pycolmap.Rigid3d(rig_from_world),
            points2d,
            points3d,
            part_of != part,
            camera_of.tolist(),
            [pycolmap.Rigid3d(pose) for pose in frame.cams_from_rig],
            [query.camera for query in frame.queries],
        )
        if found is None:
            return UNSTEADY
        poses.append(found["rig_from_world"].matrix())
    in_rig = points3d @ rig_from_world[:, :3].T + rig_from_world[:, 3]
    return jackknife(np.stack(poses), float(np.median(np.linalg.norm(in_rig, axis=1))))


def compose(second_from_first: np.ndarray, first_from_world: np.ndarray) -> np.ndarray:
    """Return the product of two poses, 3×4 each."""
    rotation = second_from_first[:, :3] @ first_from_world[:, :3]
    translation = second_from_first[:, :3] @ first_from_world[:, 3] + second_from_first[:, 3]
    return np.column_stack([rotation, translation])
