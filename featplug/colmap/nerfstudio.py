"""The file ``transforms.json`` of nerfstudio (https://docs.nerf.studio, "Data conventions").

Poses are from camera to world, with OpenGL's axes of the camera: x to the right, y up, z backward.
The world stays that of the model, so ``applied_transform`` is the identity, and a model in metres
stays in metres. Principal points have their origin at the corner of the first pixel, as in COLMAP.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from featplug.io.files import write_whole_text

_PERSPECTIVE = {
    "SIMPLE_PINHOLE": (),
    "PINHOLE": (),
    "SIMPLE_RADIAL": ("k1",),
    "RADIAL": ("k1", "k2"),
    "OPENCV": ("k1", "k2", "p1", "p2"),
}
"""Camera model to the names of its parameters after the principal point."""
_FISHEYE = {
    "SIMPLE_FISHEYE": (),
    "FISHEYE": (),
    "SIMPLE_RADIAL_FISHEYE": ("k1",),
    "RADIAL_FISHEYE": ("k1", "k2"),
    "OPENCV_FISHEYE": ("k1", "k2", "k3", "k4"),
}
_TO_OPENGL = np.diag([1.0, -1.0, -1.0])


def nerfstudio_camera_model(cameras: Iterable[pycolmap.Camera], source: str) -> str:
    """Return the camera model of nerfstudio that describes all cameras.

    Args:
        cameras: the cameras.
        source: file or option that they come from, for the message.

    Raises:
        ValueError: there is none.
    """
    names = dict.fromkeys(camera.model.name for camera in cameras)
    if unknown := [name for name in names if name not in {**_PERSPECTIVE, **_FISHEYE}]:
        raise ValueError(
            f"{source} has cameras of the model {unknown[0]}, which nerfstudio does not have; "
            "export gsplat or undistorted instead, whose images it reads as a COLMAP data set."
        )
    if any(name in _FISHEYE for name in names) and any(name in _PERSPECTIVE for name in names):
        raise ValueError(
            f"{source} has fisheye and perspective cameras, but nerfstudio reads one kind from a "
            "transforms.json; export gsplat or undistorted instead, whose images it reads as a "
            "COLMAP data set."
        )
    return "OPENCV_FISHEYE" if any(name in _FISHEYE for name in names) else "OPENCV"


def write_transforms(model: pycolmap.Reconstruction, folder: Path) -> None:
    """Write ``transforms.json`` for images in ``images`` and points in ``sparse_pc.ply``.

    Raises:
        ValueError: nerfstudio has no model of a camera.
    """
    cameras = list(model.cameras.values())
    camera_model = nerfstudio_camera_model(cameras, str(folder))
    intrinsics = {camera.camera_id: _intrinsics(camera) for camera in cameras}
    is_shared = len(cameras) == 1
    frames = []
    for image_id in model.reg_image_ids():
        image = model.images[image_id]
        own = {} if is_shared else intrinsics[image.camera_id]
        frames.append(
            {
                "file_path": f"images/{image.name}",
                **own,
                "transform_matrix": world_from_camera(image.cam_from_world()).tolist(),
                "colmap_im_id": image_id,
            }
        )
    contents = {
        "camera_model": camera_model,
        **(intrinsics[cameras[0].camera_id] if is_shared else {}),
        "applied_transform": np.eye(4)[:3].tolist(),
        "ply_file_path": "sparse_pc.ply",
        "frames": sorted(frames, key=lambda frame: str(frame["file_path"])),
    }
    write_whole_text(folder / "transforms.json", json.dumps(contents, indent=2))


def world_from_camera(cam_from_world: pycolmap.Rigid3d) -> np.ndarray:
    """Return the pose from a camera with OpenGL's axes to the world, 4×4."""
    world_from_cam = np.eye(4)
    world_from_cam[:3] = cam_from_world.inverse().matrix()
    world_from_cam[:3, :3] = world_from_cam[:3, :3] @ _TO_OPENGL
    return world_from_cam


def _intrinsics(camera: pycolmap.Camera) -> dict[str, Any]:
    names = {**_PERSPECTIVE, **_FISHEYE}[camera.model.name]
    values = camera.params[len(camera.params) - len(names) :]
    return {
        "w": camera.width,
        "h": camera.height,
        "fl_x": camera.focal_length_x,
        "fl_y": camera.focal_length_y,
        "cx": camera.principal_point_x,
        "cy": camera.principal_point_y,
        **dict(zip(names, map(float, values), strict=True)),
    }
