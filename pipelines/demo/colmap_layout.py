"""COLMAP models, NVM models, lists of cameras and of poses from true views and tracks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pycolmap

from featplug.colmap.known_poses import model_from_poses
from featplug.localization.queries import Query, write_poses, write_queries
from pipelines.demo.geometry import Camera, View, quaternion
from pipelines.demo.tracks import Tracks


def write_model(
    folder: Path, views: Sequence[View], tracks: Tracks, colours: np.ndarray, text: bool = False
) -> None:
    """Write a COLMAP model.

    Args:
        folder: made where it is not there.
        views: of the images.
        tracks: see there.
        colours: P×3 uint8.
        text: write text files, not binary ones.
    """
    observations: list[list[np.ndarray]] = [[] for _ in views]
    members: list[list[tuple[int, int]]] = []
    for which, xy in zip(tracks.views, tracks.xy, strict=True):
        members.append([(i, len(observations[i])) for i in which.tolist()])
        for i, point in zip(which.tolist(), xy, strict=True):
            observations[i].append(point)
    names = [view.name for view in views]
    model = model_from_poses(
        {view.name: _colmap_camera(view.camera) for view in views},
        {view.name: view.cam_from_world for view in views},
        {n: np.array(xy).reshape(-1, 2) for n, xy in zip(names, observations, strict=True)},
    )
    numbers = {image.name: image.image_id for image in model.images.values()}
    for point, elements, colour in zip(tracks.points, members, colours, strict=True):
        track = pycolmap.Track([pycolmap.TrackElement(numbers[names[i]], k) for i, k in elements])
        model.add_point3D(point, track, colour)
    model.update_point_3d_errors()
    folder.mkdir(parents=True, exist_ok=True)
    (model.write_text if text else model.write_binary)(str(folder))


def write_bare_database(path: Path, model_path: Path) -> None:
    """Write a COLMAP database with the images of a model only, under their ids.

    Each has a camera of its own there, as in Aachen's: hloc takes no other one for NVM models.
    """
    model = pycolmap.Reconstruction(str(model_path))
    with pycolmap.Database.open(str(path)) as database:
        for image in model.images.values():
            camera = model.cameras[image.camera_id]
            camera.camera_id = image.image_id
            database.write_camera(camera, True)
            number = image.image_id
            database.write_image(pycolmap.Image(image.name, np.zeros((0, 2)), number, number), True)


def write_nvm(path: Path, views: Sequence[View], tracks: Tracks, colours: np.ndarray) -> None:
    """Write a model in VisualSFM's form: camera centres, and no principal points."""
    lines = ["NVM_V3", "", str(len(views))]
    for view in views:
        pose = [*quaternion(view.cam_from_world[:, :3]), *view.centre]
        numbers = " ".join(f"{value:.12g}" for value in pose)
        focal, distortion = view.camera.focal[0], view.camera.distortion
        # To first order; readers take intrinsics from a list of their own.
        lines.append(f"{view.name} {focal:.12g} {numbers} {-distortion:.12g} 0")
    lines += ["", str(len(tracks.points))]
    counts = [0] * len(views)
    for point, colour, which, xy in zip(
        tracks.points, colours, tracks.views, tracks.xy, strict=True
    ):
        fields = [*(f"{value:.12g}" for value in point), *map(str, colour.tolist())]
        fields.append(str(len(which)))
        for i, (x, y) in zip(which.tolist(), xy.tolist(), strict=True):
            fields += [str(i), str(counts[i]), f"{x:.6f}", f"{y:.6f}"]
            counts[i] += 1
        lines.append(" ".join(fields))
    lines += ["", "0", ""]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), "utf-8")


def write_intrinsics(path: Path, views: Sequence[View]) -> None:
    """Write a list of images with their cameras, which is a query list's form."""
    write_queries(path, (Query(view.name, _colmap_camera(view.camera)) for view in views))


def write_truth(path: Path, views: Sequence[View]) -> None:
    """Write the true poses of queries under their full names."""
    write_poses(path, {view.name: view.cam_from_world for view in views}, "full")


def _colmap_camera(camera: Camera) -> pycolmap.Camera:
    return pycolmap.Camera(
        model=camera.model,
        width=camera.width,
        height=camera.height,
        params=list(camera.params),
    )
