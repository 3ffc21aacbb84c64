"""COLMAP's camera models and how cameras are made from images."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pycolmap

from featplug.colmap.exif_cameras import exif_camera_model, exif_focal_length
from featplug.colmap.model_tables import check_camera_values, create_camera, sample_camera
from featplug.io.image_files import ImageHeader, read_image_header

_DEFAULT_FOCAL_LENGTH = 1.2
"""COLMAP's focal length where none is known, in lengths of the image's longer side."""
_SHOWN_SIZES = 3


@dataclass(frozen=True)
class CameraOptions:
    """How COLMAP cameras are made from images; focal lengths start from EXIF where it exists."""

    mode: Literal["auto", "single", "per-folder", "per-image"] = "auto"
    """Which images share a camera; auto: those with the same camera and focal length in EXIF."""
    model: str = "SIMPLE_RADIAL"
    """COLMAP camera model."""
    params: str | None = None
    """Known intrinsics, comma-separated as COLMAP's model orders them; kept fixed."""


def check_camera(camera: CameraOptions, sizes: Mapping[str, tuple[int, int]] | None = None) -> None:
    """Check that COLMAP can use camera options, before any work.

    Args:
        camera: the options.
        sizes: (width, height) of each image, if known.

    Raises:
        ValueError: there is no such camera model, its parameters are not what it has, or images of
            different sizes would share a camera.
    """
    models = sorted(set(pycolmap.CameraModelId.__members__) - {"INVALID"})
    if camera.model not in models:
        raise ValueError(
            f"COLMAP has no camera model {camera.model!r}; it has {', '.join(models)}."
        )
    params = _numbers(camera)
    for name, size in (sizes or {}).items():
        _check_principal_point(camera, params, name, size)
    for group in _sharing(camera, sizes or {}):
        _check_one_size(camera, group, sizes or {})


def check_camera_of_images(camera: CameraOptions, image_dir: Path, names: Sequence[str]) -> None:
    """Check that COLMAP can use camera options for images, of which headers are read.

    Images that cannot be read are left out: they will be left out of the work, too.

    Raises:
        ValueError: see :func:`check_camera`.
    """
    sizes = {}
    if camera.params is not None or camera.mode in ("single", "per-folder"):
        for name in names:
            with suppress(OSError, ValueError):
                sizes[name] = read_image_header(image_dir / name).size
    check_camera(camera, sizes)


def make_cameras(
    camera: CameraOptions, headers: Mapping[str, ImageHeader]
) -> tuple[list[pycolmap.Camera], dict[str, int]]:
    """Make the cameras of images as COLMAP would, which need not read the images for it.

    Args:
        camera: the options.
        headers: name to header of each image.

    Returns:
        The cameras, numbered from 1 in the order of the images' names, and the number of each
        image's camera.

    Raises:
        ValueError: the options do not fit the images, see :func:`check_camera`.
    """
    check_camera(camera, {name: header.size for name, header in headers.items()})
    params = _numbers(camera)
    cameras: list[pycolmap.Camera] = []
    numbers: dict[object, int] = {}
    camera_ids = {}
    for name in sorted(headers):
        header = headers[name]
        key = _sharing_key(camera, name) or exif_camera_model(header) or (name,)
        if key not in numbers:
            numbers[key] = len(cameras) + 1
            cameras.append(_make_camera(camera, params, header, numbers[key]))
        camera_ids[name] = numbers[key]
    return cameras, camera_ids


def camera_rig(camera: pycolmap.Camera) -> pycolmap.Rig:
    """Return the rig with only this camera that COLMAP requires, of the same number."""
    rig = pycolmap.Rig()
    rig.rig_id = camera.camera_id
    rig.add_ref_sensor(camera.sensor_id)
    return rig


def image_frame(image: pycolmap.Image) -> pycolmap.Frame:
    """Return the frame with only this image that COLMAP requires, of the same number."""
    frame = pycolmap.Frame()
    frame.frame_id, frame.rig_id = image.image_id, image.camera_id
    frame.add_data_id(image.data_id)
    return frame


def _make_camera(
    camera: CameraOptions, params: list[float] | None, header: ImageHeader, camera_id: int
) -> pycolmap.Camera:
    known = exif_focal_length(header) if params is None else None
    focal_length = known or _DEFAULT_FOCAL_LENGTH * max(header.size)
    model = pycolmap.CameraModelId.__members__[camera.model]
    made = create_camera(camera_id, model, focal_length, header.size)
    made.has_prior_focal_length = params is not None or known is not None
    if params is not None:
        made.params = params
    return made


def _numbers(camera: CameraOptions) -> list[float] | None:
    """Return the given intrinsics, or None."""
    if camera.params is None:
        return None
    model = pycolmap.CameraModelId.__members__[camera.model]
    sample = sample_camera(model)
    try:
        params = [float(word) for word in camera.params.split(",")]
        wrong = check_camera_values(int(model), (1, 1), np.array(params))
    except ValueError:
        wrong = "no numbers"
    if wrong is not None:
        raise ValueError(
            f"Camera params {camera.params!r}: the camera model {camera.model} needs "
            f"{len(sample.params)} finite numbers, {sample.params_info}, with focal lengths above "
            "0."
        )
    return params


def _check_principal_point(
    camera: CameraOptions, params: list[float] | None, name: str, size: tuple[int, int]
) -> None:
    if params is None:
        return
    indices = sample_camera(pycolmap.CameraModelId.__members__[camera.model]).principal_point_idxs()
    point = [params[i] for i in indices]  # empty for a panorama
    if not all(0 <= c <= side for c, side in zip(point, size, strict=False)):
        raise ValueError(
            f"Camera params {camera.params!r}: the principal point ({point[0]:g}, {point[1]:g}) is "
            f"outside {name!r}, which has {size[0]}×{size[1]} pixels; give parameters of images of "
            "this size."
        )


def _sharing(camera: CameraOptions, names: Iterable[str]) -> list[list[str]]:
    """Return the images that share a camera by an option."""
    groups: dict[object, list[str]] = {}
    for name in sorted(names):
        key = _sharing_key(camera, name)
        if key is not None:
            groups.setdefault(key, []).append(name)
    return list(groups.values())


def _sharing_key(camera: CameraOptions, name: str) -> object | None:
    """Return what images that share a camera have in common, or None if EXIF data decides."""
    if camera.mode == "single":
        return "all"
    if camera.mode == "per-folder":
        return "folder", name.rpartition("/")[0]
    return ("image", name) if camera.mode == "per-image" else None


def _check_one_size(
    camera: CameraOptions, names: list[str], sizes: Mapping[str, tuple[int, int]]
) -> None:
    first: dict[tuple[int, int], str] = {}
    for name in names:
        first.setdefault(sizes[name], name)
    if len(first) > 1:
        shown = [f"{name!r} has {w}×{h}" for (w, h), name in list(first.items())[:_SHOWN_SIZES]]
        more = f" and {len(first) - _SHOWN_SIZES} more sizes" * (len(first) > _SHOWN_SIZES)
        raise ValueError(
            f"Camera mode {camera.mode}: images of different sizes would share a camera, "
            f"{', '.join(shown)}{more}; use the mode auto, or the images of one size alone."
        )
