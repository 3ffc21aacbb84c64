"""COLMAP models, NVM models, lists of cameras and of poses from true views and tracks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pycolmap
from scipy.spatial.transform import Rotation

from featplug.colmap.known_poses import model_from_poses
from featplug.io.images import read_image
from featplug.localization.queries import Query, write_poses, write_queries
from pipelines.demo.geometry import Camera, View
from pipelines.demo.viewpoints import Tracks


def point_colours(images: Path, views: Sequence[View], tracks: Tracks) -> np.ndarray:
    """Return the colour of each point in the first photograph that sees it, P×3 uint8."""
    colours = np.zeros((len(tracks.points), 3), np.uint8)
    first = np.array([which[0] for which in tracks.views])
    place = np.array([xy[0] for xy in tracks.xy]).astype(int)
    for i in np.unique(first).tolist():
        column, row = place[first == i].T
        colours[first == i] = read_image(images / views[i].name)[row, column]
    return colours


def write_model(
    folder: Path, views: Sequence[View], tracks: Tracks, colours: np.ndarray, text: bool = False
) -> None:
    """Write a COLMAP model, binary or as text files."""
    observations: dict[str, list[np.ndarray]] = {view.name: [] for view in views}
    members = []
    for which, places in zip(tracks.views, tracks.xy, strict=True):
        names = [views[i].name for i in which.tolist()]
        members.append([(name, len(observations[name])) for name in names])
        for name, xy in zip(names, places, strict=True):
            observations[name].append(xy)
    model = model_from_poses(
        {view.name: colmap_camera(view.camera) for view in views},
        {view.name: view.cam_from_world for view in views},
        {name: np.array(xy).reshape(-1, 2) for name, xy in observations.items()},
    )
    ids = {image.name: image.image_id for image in model.images.values()}
    for point, elements, colour in zip(tracks.points, members, colours, strict=True):
        track = pycolmap.Track([pycolmap.TrackElement(ids[name], k) for name, k in elements])
        model.add_point3D(point, track, colour)
    model.update_point_3d_errors()
    folder.mkdir(parents=True, exist_ok=True)
    (model.write_text if text else model.write_binary)(str(folder))


def write_bare_database(path: Path, model_path: Path) -> None:
    """Write a COLMAP database with nothing but a model's images, under their ids.

    Each image has a camera of its own, as in Aachen's: hloc accepts no other for NVM models.
    """
    model = pycolmap.Reconstruction(str(model_path))
    with pycolmap.Database.open(str(path)) as database:
        for image in model.images.values():
            number, camera = image.image_id, model.cameras[image.camera_id]
            camera.camera_id = number
            database.write_camera(camera, True)
            database.write_image(pycolmap.Image(image.name, np.zeros((0, 2)), number, number), True)


def write_nvm(path: Path, views: Sequence[View], tracks: Tracks, colours: np.ndarray) -> None:
    """Write a model in VisualSFM's form: camera centres, and no principal points."""
    lines = ["NVM_V3", "", str(len(views))]
    for view in views:
        x, y, z, w = Rotation.from_matrix(view.cam_from_world[:, :3]).as_quat(canonical=True)
        # The distortion to first order; readers take intrinsics from a list of their own.
        pose, distortion = (w, x, y, z, *view.centre), -view.camera.distortion
        numbers = " ".join(f"{v:.12g}" for v in (view.camera.focal, *pose, distortion))
        lines.append(f"{view.name} {numbers} 0")
    lines += ["", str(len(tracks.points))]
    counts = [0] * len(views)
    for point, colour, which, places in zip(
        tracks.points, colours, tracks.views, tracks.xy, strict=True
    ):
        fields = [*(f"{value:.12g}" for value in point), *map(str, colour.tolist())]
        fields.append(str(len(which)))
        for i, (x, y) in zip(which.tolist(), places.tolist(), strict=True):
            fields += [str(i), str(counts[i]), f"{x:.6f}", f"{y:.6f}"]
            counts[i] += 1
        lines.append(" ".join(fields))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, "", "0", ""]), "utf-8")


def write_intrinsics(path: Path, views: Sequence[View]) -> None:
    """Write a list of images with their cameras, in the form of a query list."""
    write_queries(path, (Query(view.name, colmap_camera(view.camera)) for view in views))


def write_truth(path: Path, views: Sequence[View]) -> None:
    """Write the true poses of queries under their full names."""
    write_poses(path, {view.name: view.cam_from_world for view in views}, "full")


def colmap_camera(camera: Camera) -> pycolmap.Camera:
    """Return a camera as COLMAP has it."""
    model, params = "PINHOLE", [camera.focal, camera.focal, *camera.centre]
    if camera.distortion:
        model, params = "SIMPLE_RADIAL", [camera.focal, *camera.centre, camera.distortion]
    return pycolmap.Camera(model=model, width=camera.width, height=camera.height, params=params)
