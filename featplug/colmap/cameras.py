"""COLMAP's camera models and how cameras are made from images."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap

from featplug.colmap.camera_groups import (
    CameraGroup,
    CameraMode,
    describe_groups,
    describe_problems,
    folder_of,
    sharing_key,
)
from featplug.colmap.exif_cameras import exif_focal_length
from featplug.colmap.known_cameras import KnownCameras, match_known_cameras
from featplug.colmap.model_tables import check_camera_values, create_camera, sample_camera
from featplug.colmap.rigs import RigCamera
from featplug.io.image_files import ImageHeader, read_image_header
from featplug.metrics.poses import intrinsics

_DEFAULT_FOCAL_LENGTH = 1.2
"""COLMAP's focal length where none is known, in lengths of the image's longer side."""
_SHOWN_SIZES = 3
_MOST_ZOOM = 1.05
"""Largest ratio of focal lengths in EXIF that count as one."""
_MOST_OF_PANORAMA = 0.01
"""Largest deviation of a panorama's shape from 2:1, of its width."""
_MOST_OFF_CENTRE = 0.15
"""Distance of a principal point from the middle, in sides, that is worth a question."""


@dataclass(frozen=True)
class CameraOptions:
    """How COLMAP cameras are made from images; focal lengths start from EXIF where it exists."""

    mode: CameraMode = "auto"
    """Which images share a camera; auto: those of one size with the same camera and focal length in
    EXIF, or with none. per-image is for images of several cameras that have one size and no EXIF,
    such as downloaded ones."""
    model: str = "SIMPLE_RADIAL"
    """COLMAP camera model."""
    params: str | None = None
    """Known intrinsics of all images, comma-separated as COLMAP's model orders them; kept fixed."""
    file: Path | None = None
    """Known intrinsics of some images, kept fixed: a list with lines `NAME-OR-PATTERN MODEL width
    height p0 p1 …`, COLMAP's cameras.txt (one camera, or one for each size), or the folder of a
    COLMAP model, whose images have the same names."""
    scale: bool = False
    """Scale intrinsics of the file that are of another resolution than the photographs."""


def check_camera(
    camera: CameraOptions,
    sizes: Mapping[str, tuple[int, int]] | None = None,
    rig_cameras: Mapping[str, RigCamera] | None = None,
) -> None:
    """Check that COLMAP can use camera options, before any work.

    Args:
        camera: the options.
        sizes: (width, height) of each image, if known.
        rig_cameras: image name to its camera in a rig.

    Raises:
        FileNotFoundError: there is no file of known intrinsics.
        ValueError: there is no such camera model, its parameters are not what it has, or images of
            different sizes would share a camera; or known intrinsics do not fit the images, see
            :func:`~featplug.colmap.known_cameras.match_known_cameras`.
    """
    models = sorted(set(pycolmap.CameraModelId.__members__) - {"INVALID"})
    if camera.model not in models:
        raise ValueError(
            f"COLMAP has no camera model {camera.model!r}; it has {', '.join(models)}."
        )
    params = _numbers(camera)
    if camera.file is not None and params is not None:
        raise ValueError(
            f"Camera params {camera.params!r} and the file {camera.file}: use one of the two; the "
            "pattern '*' in the file is all images."
        )
    if camera.scale and camera.file is None:
        raise ValueError("Camera scale: it needs the file of intrinsics that are to be scaled.")
    if camera.file is not None and not camera.file.exists():
        raise FileNotFoundError(f"There is no file of cameras {camera.file}.")
    sizes = sizes or {}
    for name, size in sizes.items():
        _check_principal_point(camera, params, name, size)
    known, in_rigs = _known_cameras(camera, sizes).cameras, rig_cameras or {}
    for name in sizes.keys() - known.keys() - in_rigs.keys():
        _check_panorama(camera, name, sizes[name])
    for group in _sharing(camera, sizes.keys() - known.keys() - in_rigs.keys()):
        _check_one_size(
            f"Camera mode {camera.mode}", group, sizes, "use the mode per-size or auto, or "
        )
    for rig_camera in {each.image_prefix: each for each in in_rigs.values()}.values():
        prefix = rig_camera.image_prefix
        group = [name for name in sizes if name in in_rigs and name.startswith(prefix)]
        _check_one_size(f"Rig camera {prefix!r}", group, sizes, "use ")
        _known_in_rig(rig_camera, group, sizes, known)


def _known_in_rig(
    rig_camera: RigCamera,
    names: Sequence[str],
    sizes: Mapping[str, tuple[int, int]],
    known: Mapping[str, pycolmap.Camera],
) -> pycolmap.Camera | None:
    """Return the known intrinsics of a camera of a rig: those of any of its images, or its own.

    Raises:
        ValueError: two of its images have different ones, or its own are not of the images' size.
    """
    given = {name: known[name] for name in names if name in known}
    different = {intrinsics(each): name for name, each in given.items()}
    if len(different) > 1:
        first, second, *_ = different.values()
        raise ValueError(
            f"Rig camera {rig_camera.image_prefix!r}: {first!r} and {second!r} have different "
            "intrinsics in the file of cameras; give its images the same."
        )
    if given:
        return next(iter(given.values()))
    found = rig_camera.intrinsics(sizes[names[0]]) if names else None
    if found is not None:
        point, size = found.params[found.principal_point_idxs()], (found.width, found.height)
        if not all(0 <= c <= side for c, side in zip(point, size, strict=False)):
            raise ValueError(
                f"Rig camera {rig_camera.image_prefix!r}: the principal point ({point[0]:g}, "
                f"{point[1]:g}) of its camera_params is outside its images of {size[0]}×{size[1]} "
                "pixels; give parameters of images of this size."
            )
    return found


def check_camera_of_images(
    camera: CameraOptions,
    image_dir: Path,
    names: Sequence[str],
    rig_cameras: Mapping[str, RigCamera] | None = None,
) -> None:
    """Check that COLMAP can use camera options for images, of which headers are read.

    Images that cannot be read are left out: they will be left out of the work, too.

    Raises:
        ValueError: see :func:`check_camera`.
    """
    sizes = {}
    is_shared = camera.mode in ("single", "per-folder") or bool(rig_cameras)
    if is_shared or camera != CameraOptions(camera.mode):
        for name in names:
            with suppress(OSError, ValueError):
                sizes[name] = read_image_header(image_dir / name).size
    check_camera(camera, sizes, rig_cameras)


@dataclass(frozen=True)
class ImageCameras:
    """The cameras of images."""

    cameras: list[pycolmap.Camera]
    """Cameras, numbered from 1 in the order of the images' names."""
    camera_ids: dict[str, int]
    """Image name, in order, to the number of its camera."""
    known: frozenset[int]
    """Numbers of the cameras whose intrinsics were given."""
    lines: list[str]
    """Description of which images share a camera, and where its focal length comes from."""


def make_cameras(
    camera: CameraOptions,
    headers: Mapping[str, ImageHeader],
    rig_cameras: Mapping[str, RigCamera] | None = None,
) -> ImageCameras:
    """Make the cameras of images; none of them is decoded.

    Args:
        camera: the options.
        headers: name to header of each image.
        rig_cameras: image name to its camera in a rig, whose images share a camera.

    Raises:
        ValueError: the options do not fit the images, see :func:`check_camera`.
    """
    sizes = {name: header.size for name, header in headers.items()}
    check_camera(camera, sizes, rig_cameras)
    known = _known_cameras(camera, sizes)
    in_rigs: dict[str, list[str]] = {}
    for name, rig_camera in (rig_cameras or {}).items():
        if name in headers:
            in_rigs.setdefault(rig_camera.image_prefix, []).append(name)
    groups: dict[object, CameraGroup] = {}
    for name in sorted(headers):
        key, reason = sharing_key(camera.mode, name, headers[name])
        of_image = known.cameras.get(name)
        if of_image is not None:
            key, reason = intrinsics(of_image), f"intrinsics of {camera.file}"
        if rig_cameras is not None and name in rig_cameras:
            in_rig = rig_cameras[name]
            key, reason = ("rig", in_rig.image_prefix), f"rig camera {in_rig.image_prefix}"
            of_rig = in_rigs[in_rig.image_prefix]
            of_image = _known_in_rig(in_rig, of_rig, sizes, known.cameras)
        groups.setdefault(key, CameraGroup(reason, of_image, [])).names.append(name)
    made, camera_ids = [], {}
    for number, group in enumerate(groups.values(), start=1):
        of_group = [headers[name] for name in group.names]
        is_one_size = len({header.size for header in of_group}) == 1
        group.size = of_group[0].size if is_one_size else None
        made.append(_make_camera(camera, group, of_group, number))
        camera_ids.update(dict.fromkeys(group.names, number))
    fixed = {n for n, group in enumerate(groups.values(), start=1) if group.is_known}
    estimated = {name: header for name, header in headers.items() if camera_ids[name] not in fixed}
    lines = describe_groups(camera.mode, list(groups.values())) + known.lines
    lines += describe_problems(estimated)
    camera_ids = {name: camera_ids[name] for name in sorted(headers)}
    return ImageCameras(made, camera_ids, frozenset(fixed), lines)


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


def _known_cameras(camera: CameraOptions, sizes: Mapping[str, tuple[int, int]]) -> KnownCameras:
    if camera.file is None or not sizes:
        return KnownCameras({}, [])
    return match_known_cameras(camera.file, sizes, camera.scale)


def _make_camera(
    camera: CameraOptions, group: CameraGroup, headers: Sequence[ImageHeader], camera_id: int
) -> pycolmap.Camera:
    """Make the camera of images of one size, and describe its focal length in the group."""
    size, params = headers[0].size, _numbers(camera)
    if group.known is not None:
        made = copy.copy(group.known)
        made.camera_id = camera_id
        made.has_prior_focal_length = group.is_known = True
        return made
    model = pycolmap.CameraModelId.__members__[camera.model]
    in_exif = [] if params else [f for f in map(exif_focal_length, headers) if f is not None]
    focal_length = in_exif[0] if in_exif else _DEFAULT_FOCAL_LENGTH * max(size)
    made = create_camera(camera_id, model, focal_length, size)
    made.has_prior_focal_length = params is not None or bool(in_exif)
    if params is not None:
        made.params, group.is_known = params, True
        group.focal_length = "intrinsics given" + _off_centre(made)
    elif not made.focal_length_idxs():
        group.focal_length = f"{camera.model} has no focal length"
    elif not in_exif:
        group.focal_length = f"focal length assumed {_DEFAULT_FOCAL_LENGTH} × the longer side"
    else:
        group.focal_length = f"focal length {in_exif[0]:.0f} px from EXIF"
        if max(in_exif) > _MOST_ZOOM * min(in_exif):
            group.focal_length += (
                f", where others have {min(in_exif):.0f} to {max(in_exif):.0f} px; if the lens was "
                "zoomed, use --camera.mode auto"
            )
    return made


def _off_centre(camera: pycolmap.Camera) -> str:
    """Return words for a principal point that is far from the middle, as of another resolution."""
    point, size = camera.params[camera.principal_point_idxs()], (camera.width, camera.height)
    if not any(abs(c / s - 0.5) > _MOST_OFF_CENTRE for c, s in zip(point, size, strict=False)):
        return ""
    return (
        f", whose principal point ({point[0]:g}, {point[1]:g}) is far from the middle of "
        f"{size[0]}×{size[1]} pixels; are they of another resolution?"
    )


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


def _check_panorama(camera: CameraOptions, name: str, size: tuple[int, int]) -> None:
    width, height = size
    if camera.model == "EQUIRECTANGULAR" and abs(width - 2 * height) > _MOST_OF_PANORAMA * width:
        raise ValueError(
            f"Camera model {camera.model}: {name!r} has {width}×{height} pixels, and a panorama of "
            "the whole sphere is twice as wide as high; complete it, or use another model."
        )


def _sharing(camera: CameraOptions, names: Iterable[str]) -> list[list[str]]:
    """Return the images that share a camera whatever their size."""
    if camera.mode == "single":
        return [sorted(names)]
    if camera.mode != "per-folder":
        return []
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(folder_of(name), []).append(name)
    return list(groups.values())


def _check_one_size(
    what: str, names: list[str], sizes: Mapping[str, tuple[int, int]], remedy: str
) -> None:
    first: dict[tuple[int, int], str] = {}
    for name in names:
        first.setdefault(sizes[name], name)
    if len(first) > 1:
        shown = [f"{name!r} has {w}×{h}" for (w, h), name in list(first.items())[:_SHOWN_SIZES]]
        more = f" and {len(first) - _SHOWN_SIZES} more sizes" * (len(first) > _SHOWN_SIZES)
        raise ValueError(
            f"{what}: images of different sizes would share a camera, "
            f"{', '.join(shown)}{more}; {remedy}the images of one size alone."
        )
