"""Exact COLMAP models of the demo world's views."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pycolmap

from featplug.colmap.known_poses import model_from_poses
from featplug.io.images import read_image
from pipelines.demo.geometry import Camera, View
from pipelines.demo.viewpoints import Track


def true_model(
    views: Sequence[View], tracks: Sequence[Track], images: Path
) -> pycolmap.Reconstruction:
    """Return a COLMAP model; a point has its colour in the first photograph that sees it."""
    observed: list[list[np.ndarray]] = [[] for _ in views]
    elements = []
    for track in tracks:
        elements.append([(i, len(observed[i])) for i in track.views])
        for i, xy in zip(track.views, track.xy, strict=True):
            observed[i].append(xy)
    model = model_from_poses(
        {view.name: colmap_camera(view.camera) for view in views},
        {view.name: view.cam_from_world for view in views},
        {v.name: np.array(xy).reshape(-1, 2) for v, xy in zip(views, observed, strict=True)},
    )
    ids = {image.name: image_id for image_id, image in model.images.items()}
    first = np.array([track.views[0] for track in tracks])
    place = np.array([track.xy[0] for track in tracks]).astype(int)
    colours = np.zeros((len(tracks), 3), np.uint8)
    for i in np.unique(first).tolist():
        column, row = place[first == i].T
        colours[first == i] = read_image(images / views[i].name)[row, column]
    for track, seen, colour in zip(tracks, elements, colours, strict=True):
        members = [pycolmap.TrackElement(ids[views[i].name], k) for i, k in seen]
        model.add_point3D(track.point, pycolmap.Track(members), colour)
    model.update_point_3d_errors()
    return model


def colmap_camera(camera: Camera) -> pycolmap.Camera:
    """Return a camera as COLMAP has it."""
    model, params = "PINHOLE", [camera.focal, camera.focal, *camera.centre]
    if camera.distortion:
        model, params = "SIMPLE_RADIAL", [camera.focal, *camera.centre, camera.distortion]
    return pycolmap.Camera(model=model, width=camera.width, height=camera.height, params=params)
