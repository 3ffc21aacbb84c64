"""What pipelines, trainers and benchmarks all measure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featplug.metrics.similarity import Similarity, fit_similarity, lie_on_a_line

if TYPE_CHECKING:
    import pycolmap


@dataclass(frozen=True)
class ReconstructionStatistics:
    """The local feature evaluation benchmark's figures of one model (Schönberger et al. 2017)."""

    num_registered: int
    """Registered images."""
    num_points: int
    """Sparse points."""
    num_observations: int
    mean_track_length: float
    """Observations per point."""
    mean_observations_per_image: float
    """Observations per registered image."""
    mean_reprojection_error: float
    """Pixels."""


def reconstruction_statistics(model: "pycolmap.Reconstruction") -> ReconstructionStatistics:
    """Measure a COLMAP model."""
    return ReconstructionStatistics(
        num_registered=model.num_reg_images(),
        num_points=model.num_points3D(),
        num_observations=model.compute_num_observations(),
        mean_track_length=model.compute_mean_track_length(),
        mean_observations_per_image=model.compute_mean_observations_per_reg_image(),
        mean_reprojection_error=model.compute_mean_reprojection_error(),
    )


def model_poses(model: "pycolmap.Reconstruction") -> dict[str, np.ndarray]:
    """Return ``cam_from_world`` (3×4) of each registered image."""
    return {
        model.images[image_id].name: model.images[image_id].cam_from_world().matrix()
        for image_id in model.reg_image_ids()
    }


def model_cameras(model: "pycolmap.Reconstruction") -> "dict[str, pycolmap.Camera]":
    """Return the intrinsics of each registered image."""
    return {
        model.images[image_id].name: model.cameras[model.images[image_id].camera_id]
        for image_id in model.reg_image_ids()
    }


def intrinsics(camera: "pycolmap.Camera") -> tuple[object, ...]:
    """Return what two equal cameras have in common, as a value that can be a key."""
    return camera.model.name, camera.width, camera.height, *camera.params.tolist()


@dataclass(frozen=True)
class PoseErrors:
    """Errors of camera poses against a reference."""

    names: list[str]
    """Images that were compared, in order."""
    position: np.ndarray
    """Distance of camera centres, in the reference's unit (metres where it is metric)."""
    rotation: np.ndarray
    """Angle between orientations, degrees."""


def camera_centres(cam_from_world: np.ndarray) -> np.ndarray:
    """Return camera centres of poses ...×3×4: -Rᵀt, ...×3."""
    rotation, translation = cam_from_world[..., :3], cam_from_world[..., 3]
    return -np.einsum("...ji,...j->...i", rotation, translation)


def rotation_angles(rotation0: np.ndarray, rotation1: np.ndarray) -> np.ndarray:
    """Return the angle between rotations ...×3×3, in degrees.

    From the chord ‖R0 - R1‖ = 2√2 sin(θ/2), which keeps its precision at small angles.
    """
    chord = np.linalg.norm(rotation0 - rotation1, axis=(-2, -1))
    return np.degrees(2 * np.arcsin(np.clip(chord / np.sqrt(8), 0, 1)))


def align_centres(
    estimated: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]
) -> tuple[list[str], Similarity]:
    """Return the common images, and the similarity that best moves their centres to the reference.

    Raises:
        ValueError: fewer than three images in common, or all their centres on a line.
    """
    names = sorted(set(estimated) & set(reference))
    if len(names) < 3:
        raise ValueError(
            f"Aligning needs three images that both models have, these have {len(names)} "
            "(are the image names the same?)."
        )
    centres, centres_ref = (
        camera_centres(np.stack([poses[name] for name in names]))
        for poses in (estimated, reference)
    )
    for where, points in (("estimated", centres), ("reference", centres_ref)):
        if lie_on_a_line(points):
            raise ValueError(
                f"The {where} camera centres lie on a line, so any turn about it fits."
            )
    return names, fit_similarity(centres, centres_ref)


def aligned_pose_errors(
    estimated: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]
) -> PoseErrors:
    """Compare poses after the similarity that best aligns the camera centres (least squares).

    The scale is that which minimises the distance to the reference.

    Args:
        estimated: image name to ``cam_from_world`` 3×4, in any similarity frame.
        reference: the true poses, in the same form.

    Raises:
        ValueError: fewer than three images in common, or all their centres on a line.
    """
    names, similarity = align_centres(estimated, reference)
    poses = np.stack([estimated[name] for name in names])
    poses_ref = np.stack([reference[name] for name in names])
    centres, centres_ref = camera_centres(poses), camera_centres(poses_ref)
    return PoseErrors(
        names,
        np.linalg.norm(similarity.apply(centres) - centres_ref, axis=1),
        rotation_angles(poses[:, :, :3] @ similarity.rotation.T, poses_ref[:, :, :3]),
    )


def absolute_pose_errors(
    estimated: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]
) -> PoseErrors:
    """Compare poses in one world, without any alignment.

    Args:
        estimated: image name to ``cam_from_world`` 3×4.
        reference: the true poses, in the same form. An image without an estimate gets the errors
            infinity and 180°, a failure; one without a reference is left out.
    """
    names = sorted(reference)
    position, rotation = np.full(len(names), np.inf), np.full(len(names), 180.0)
    has_pose = np.array([name in estimated for name in names], bool)
    if has_pose.any():
        poses = np.stack([estimated[name] for name in names if name in estimated])
        poses_ref = np.stack([reference[name] for name in names if name in estimated])
        offsets = camera_centres(poses) - camera_centres(poses_ref)
        position[has_pose] = np.linalg.norm(offsets, axis=1)
        rotation[has_pose] = rotation_angles(poses[:, :, :3], poses_ref[:, :, :3])
    return PoseErrors(names, position, rotation)


LONG_TERM_THRESHOLDS = ((0.25, 2.0), (0.5, 5.0), (5.0, 10.0))
"""Metres and degrees of the long-term localization benchmark (Sattler et al. 2018)."""
OLD_NIGHT_THRESHOLDS = ((0.5, 2.0), (1.0, 5.0), (5.0, 10.0))
"""Thresholds of Aachen's night queries in papers until 2020, before their poses were refined."""
INLOC_THRESHOLDS = ((0.25, 10.0), (0.5, 10.0), (1.0, 10.0))
"""Metres and degrees of InLoc (Taira et al. 2018)."""


def localization_recall(
    errors: PoseErrors, thresholds: Sequence[tuple[float, float]] = LONG_TERM_THRESHOLDS
) -> np.ndarray:
    """Return the fraction of images that are within each (distance, degrees), values in [0, 1].

    Raises:
        ValueError: there is no image.
    """
    if not errors.names:
        raise ValueError("There is no image with a true pose, so there is no recall.")
    return np.array(
        [
            np.mean((errors.position <= distance) & (errors.rotation <= angle))
            for distance, angle in thresholds
        ]
    )
