"""Images added to a COLMAP model at known poses, with the points that they observe."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pycolmap

from featplug.colmap.cameras import camera_rig, image_frame
from featplug.colmap.model_files import check_written_model, write_model_files
from featplug.io.files import not_written, write_whole
from featplug.metrics.poses import intrinsics


@dataclass(frozen=True)
class PosedImage:
    """An image to add to a model."""

    name: str
    cam_from_world: np.ndarray
    """3×4."""
    camera: pycolmap.Camera
    """Intrinsics; the image shares the camera of the model that has the same."""
    points2d: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    """N×2, its keypoints in COLMAP's pixels."""
    observed: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    """M×2: index of a keypoint and number of the model's point that it observes."""


def with_images(
    model: pycolmap.Reconstruction, images: Sequence[PosedImage], max_error: float = 12.0
) -> pycolmap.Reconstruction:
    """Return a copy of a model with more images, in rigs and frames of their own.

    An image observes a point once, and with each of its keypoints one point: the observation with
    the smallest error counts, and none above ``max_error`` pixels. Points that the model does not
    have are left out, and so are images whose name it has already.
    """
    extended = pycolmap.Reconstruction(model)
    known = {image.name for image in extended.images.values()}
    next_camera = max([0, *extended.cameras, *extended.rigs]) + 1
    next_image = max([0, *extended.images, *extended.frames]) + 1
    camera_ids = {intrinsics(camera): id_ for id_, camera in extended.cameras.items()}
    rigs = {rig.ref_sensor_id.id: id_ for id_, rig in extended.rigs.items() if _is_single(rig)}
    for posed in images:
        if posed.name in known:
            continue
        key = intrinsics(posed.camera)
        if key not in camera_ids:
            camera_ids[key] = next_camera
            extended.add_camera(_numbered(posed.camera, next_camera))
            next_camera += 1
        camera_id = camera_ids[key]
        if camera_id not in rigs:  # only of a rig of several cameras, or new
            rig = camera_rig(extended.cameras[camera_id])
            rig.rig_id = camera_id if camera_id not in extended.rigs else next_camera
            next_camera = max(next_camera, rig.rig_id + 1)
            extended.add_rig(rig)
            rigs[camera_id] = rig.rig_id
        image = pycolmap.Image(posed.name, posed.points2d, camera_id, next_image)
        image.frame_id = next_image
        frame = image_frame(image)
        frame.rig_id = rigs[camera_id]
        frame.rig_from_world = pycolmap.Rigid3d(np.asarray(posed.cam_from_world, np.float64))
        extended.add_frame(frame)
        extended.add_image(image)
        extended.register_frame(next_image)
        for index, point_id in _distinct(extended, posed, max_error).tolist():
            element = pycolmap.TrackElement(next_image, index)
            extended.add_observation(point_id, element)
        next_image += 1
    return extended


def _is_single(rig: pycolmap.Rig) -> bool:
    return rig.num_sensors() == 1


def _numbered(camera: pycolmap.Camera, camera_id: int) -> pycolmap.Camera:
    made = pycolmap.Camera(
        model=camera.model, width=camera.width, height=camera.height, params=camera.params
    )
    made.camera_id = camera_id
    made.has_prior_focal_length = camera.has_prior_focal_length
    return made


def _distinct(model: pycolmap.Reconstruction, posed: PosedImage, max_error: float) -> np.ndarray:
    """Return the observations in which each keypoint and each point is once, the best ones."""
    observed = np.array([row for row in posed.observed.tolist() if row[1] in model.points3D])
    if not len(observed):
        return np.zeros((0, 2), np.int64)
    points = np.array([model.points3D[point_id].xyz for point_id in observed[:, 1].tolist()])
    in_camera = points @ posed.cam_from_world[:, :3].T + posed.cam_from_world[:, 3]
    projections = np.asarray(posed.camera.img_from_cam(in_camera))
    errors = np.linalg.norm(projections - posed.points2d[observed[:, 0]], axis=1)
    order = np.argsort(errors, kind="stable")
    observed = observed[order[errors[order] <= max_error]]
    for column in (0, 1):
        first = np.unique(observed[:, column], return_index=True)[1]
        observed = observed[np.sort(first)]
    return observed


def replace_model(model: pycolmap.Reconstruction, folder: Path) -> Path:
    """Replace a model on disk by one that was made from it; the earlier one is kept next to it.

    The other files of the folder stay, and so does the form, binary or text.

    Returns:
        Folder of the earlier model.

    Raises:
        ValueError: the disk does not hold both.
    """
    folder = folder.resolve()  # a link to the model stays one
    is_text = not (folder / "images.bin").is_file()
    number = 1
    while (backup := folder.with_name(f"{folder.name}-before-{number}")).exists():
        number += 1
    write_whole(backup, lambda part: shutil.copytree(folder, part))

    def write(part: Path) -> None:
        shutil.copytree(folder, part)
        if not is_text:
            write_model_files(model, part)
            return
        try:
            model.write_text(str(part))
        except (ValueError, RuntimeError) as error:
            raise not_written(part, str(error)) from error

    write_whole(folder, write, lambda part: check_written_model(model, part))
    return backup
