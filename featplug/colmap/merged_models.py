"""Models of clusters of one scene to one model: images, cameras, and tracks joined by keypoints."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pycolmap
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from featplug.colmap.model_alignment import AlignedGroup, ModelArrays
from featplug.metrics.poses import camera_centres
from featplug.metrics.similarity import Similarity


@dataclass(frozen=True)
class Track:
    """A point and the keypoints that see it."""

    observations: np.ndarray
    """Number of the image and index of the keypoint, K×2."""
    xyz: np.ndarray
    """3."""


def merge_models(
    models: Sequence[pycolmap.Reconstruction],
    arrays: Sequence[ModelArrays],
    group: AlignedGroup,
) -> pycolmap.Reconstruction:
    """Merge models of one database that have been aligned.

    An image that several models have gets its pose from the one in which it sees most points, a
    camera its intrinsics from the one with most of its images, and a track whose keypoints others
    have, too, is joined with theirs; see :func:`join_tracks`.

    Args:
        models: all models; their images, keypoints, cameras, frames and rigs have the same numbers.
        arrays: the same models as arrays.
        group: which of them to merge, and how they lie in the frame of the first.
    """
    merged = pycolmap.Reconstruction()
    _add_cameras(merged, [models[index] for index in group.members])
    for frame_id, index in sorted(_frame_owners(models, group.members).items()):
        _add_frame(merged, models[index], frame_id, group.similarities[index])
    moved = [
        (arrays[index], group.similarities[index].apply(arrays[index].points))
        for index in group.members
    ]
    registered = set(merged.reg_image_ids())
    for track in join_tracks(moved):
        elements = [
            pycolmap.TrackElement(image_id, index)
            for image_id, index in track.observations.tolist()
            if image_id in registered
        ]
        if len(elements) >= 2:
            merged.add_point3D(track.xyz, pycolmap.Track(elements))
    return merged


def join_tracks(models: Sequence[tuple[ModelArrays, np.ndarray]]) -> list[Track]:
    """Join the tracks of models in one frame that have a keypoint in common.

    Where tracks that belong together have two keypoints of one image, they contradict each other;
    then the longest one stays as it is, and the others lose the keypoints that it has.

    Args:
        models: arrays of each model, and its points in the common frame, N×3.
    """
    firsts = np.cumsum([0, *(len(points) for _, points in models)])
    observations = np.concatenate([arrays.observations for arrays, _ in models])
    rows = np.concatenate(
        [arrays.rows + first for (arrays, _), first in zip(models, firsts, strict=False)]
    )
    points = np.concatenate([points for _, points in models])
    keypoints, number = np.unique(observations, axis=0, return_inverse=True)
    size = len(points) + len(keypoints)
    edges = coo_array((np.ones(len(rows), np.int8), (rows, number + len(points))), (size, size))
    _, label = connected_components(edges, directed=False)
    lengths = np.bincount(rows, minlength=len(points))
    order = np.lexsort((number, label[rows]))
    tracks = []
    for of_track in np.split(order, np.flatnonzero(np.diff(label[rows][order])) + 1):
        kept = np.unique(number[of_track])
        images = keypoints[kept, 0]
        members = np.unique(rows[of_track])
        if len(np.unique(images)) == len(images):
            middle = np.average(points[members], axis=0, weights=lengths[members])
            tracks.append(Track(keypoints[kept], middle))
            continue
        used: set[int] = set()
        for member in members[np.argsort(-lengths[members], kind="stable")]:
            free = sorted(set(number[of_track[rows[of_track] == member]].tolist()) - used)
            if len(free) >= 2:
                tracks.append(Track(keypoints[free], points[member]))
                used.update(free)
    return tracks


def _add_cameras(
    merged: pycolmap.Reconstruction, models: Sequence[pycolmap.Reconstruction]
) -> None:
    """Add the cameras and rigs of all models."""
    best: dict[int, tuple[int, pycolmap.Camera]] = {}
    for model in models:
        num_images: dict[int, int] = {}
        for image_id in model.reg_image_ids():
            camera_id = model.images[image_id].camera_id
            num_images[camera_id] = num_images.get(camera_id, 0) + 1
        for camera_id, camera in model.cameras.items():
            num = num_images.get(camera_id, 0)
            if camera_id not in best or num > best[camera_id][0]:
                best[camera_id] = num, camera
    for _, (_, camera) in sorted(best.items()):
        merged.add_camera(camera)
    for model in models:
        for rig_id, rig in sorted(model.rigs.items()):
            if rig_id not in merged.rigs:
                merged.add_rig(rig)


def _frame_owners(
    models: Sequence[pycolmap.Reconstruction], members: Sequence[int]
) -> dict[int, int]:
    """Return the model of each frame in which its images see most points."""
    best: dict[int, tuple[int, int]] = {}
    for index in members:
        num_points: dict[int, int] = {}
        for image_id in models[index].reg_image_ids():
            image = models[index].images[image_id]
            num_points[image.frame_id] = num_points.get(image.frame_id, 0) + image.num_points3D
        for frame_id, num in num_points.items():
            if frame_id not in best or num > best[frame_id][0]:
                best[frame_id] = num, index
    return {frame_id: index for frame_id, (_, index) in best.items()}


def _add_frame(
    merged: pycolmap.Reconstruction,
    model: pycolmap.Reconstruction,
    frame_id: int,
    similarity: Similarity,
) -> None:
    """Add a frame with its images, moved by a similarity."""
    given = model.frames[frame_id]
    pose = given.rig_from_world
    if pose is None:  # of a frame that is not registered
        return
    frame = pycolmap.Frame()
    frame.frame_id, frame.rig_id = frame_id, given.rig_id
    registered = set(model.reg_image_ids())
    images = [
        model.images[data.id]
        for data in given.data_ids
        if data.sensor_id.type == pycolmap.SensorType.CAMERA and data.id in registered
    ]
    for image in images:
        frame.add_data_id(image.data_id)
    frame.rig_from_world = pycolmap.Rigid3d(_moved(pose.matrix(), similarity))
    merged.add_frame(frame)
    for image in images:
        keypoints = np.array([point.xy for point in image.points2D]).reshape(-1, 2)
        copy = pycolmap.Image(image.name, keypoints, image.camera_id, image.image_id)
        copy.frame_id = frame_id
        merged.add_image(copy)
    merged.register_frame(frame_id)


def _moved(cam_from_world: np.ndarray, similarity: Similarity) -> np.ndarray:
    """Return a pose 3×4 in the frame that a similarity leads to."""
    rotation = cam_from_world[:, :3] @ similarity.rotation.T
    centre = similarity.apply(camera_centres(cam_from_world)[None])[0]
    return np.column_stack([rotation, -rotation @ centre])
