"""What the files of a COLMAP model hold, and the check that it is consistent.

pycolmap trusts a model: it reads as many records as a count announces, whatever the file's size,
and meets ids that do not exist with errors of C++. So models are read here first, binary ones by
:mod:`featplug.colmap.binary_models` and text ones by :mod:`featplug.colmap.text_models`.
The format: https://colmap.github.io/format.html.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pycolmap

from featplug.io.names import normal_name
from featplug.io.text_files import MAX_MAGNITUDE, QUATERNION_TOLERANCE

MAX_ID = 2**32 - 2
"""Largest id of a camera, rig, frame or image; COLMAP marks missing ones with the next number."""
MAX_POINT_ID = 2**63 - 1
"""Largest id of a point that COLMAP's text files can carry."""
NO_POINT = 2**64 - 1
MAX_SIDE = 100_000
"""Longest side of an image, in pixels."""
MAX_KEYPOINTS = 2**24
"""Largest number of keypoints of an image."""
OBSERVATION = np.dtype([("xy", "<f8", 2), ("point", "<u8")])
"""Keypoint of an image and the id of its point, :data:`NO_POINT` if it has none."""
DATUM = np.dtype([("sensor_type", "<i4"), ("sensor", "<u4"), ("id", "<u8")])
"""Data of a frame; the ``id`` is that of an image where the sensor is a camera."""

_CAMERA_SENSOR = 0
SENSOR_TYPES = {"INVALID": -1, "CAMERA": 0, "IMU": 1}
_DENSE = 8


class CameraRow(NamedTuple):
    """A camera of cameras.bin or cameras.txt."""

    camera_id: int
    model: int
    """Number of COLMAP's camera model."""
    size: tuple[int, int]
    params: np.ndarray


class SensorRow(NamedTuple):
    """A sensor of a rig."""

    sensor_type: int
    sensor_id: int
    pose: Sequence[float] | None
    """``sensor_from_rig`` as qw, qx, qy, qz, tx, ty, tz; None if unknown."""


class RigRow(NamedTuple):
    """A rig of rigs.bin or rigs.txt; its first sensor is the reference, which has no pose."""

    rig_id: int
    sensors: list[SensorRow]


class FrameRow(NamedTuple):
    """A frame of frames.bin or frames.txt."""

    frame_id: int
    rig_id: int
    pose: Sequence[float]
    data: np.ndarray
    """Array of :data:`DATUM`."""


class ImageRow(NamedTuple):
    """An image of images.bin or images.txt."""

    image_id: int
    pose: Sequence[float]
    camera_id: int
    name: str
    observations: np.ndarray
    """Array of :data:`OBSERVATION`."""


@dataclass(frozen=True)
class PointTable:
    """The points of points3D.bin or points3D.txt."""

    ids: np.ndarray
    """N uint64."""
    values: np.ndarray
    """N×4 float64: x, y, z, reprojection error."""
    lengths: np.ndarray
    """Number of track elements of each point, N int64."""
    elements: np.ndarray
    """Image id and keypoint index of all track elements, M×2 uint32."""


@dataclass(frozen=True)
class ModelTables:
    """All records of a model."""

    folder: Path
    suffix: str
    """``.bin`` or ``.txt``."""
    cameras: list[CameraRow]
    rigs: list[RigRow]
    frames: list[FrameRow]
    images: list[ImageRow]
    points: PointTable

    def file(self, name: str) -> Path:
        """Return the path of one of the model's files."""
        return self.folder / f"{name}{self.suffix}"

    def counts(self) -> tuple[int, ...]:
        """Return the numbers of cameras, frames, images, keypoints, points and observations."""
        return (
            len(self.cameras),
            len(self.frames),
            len(self.images),
            sum(len(image.observations) for image in self.images),
            len(self.points.ids),
            len(self.points.elements),
        )


def damaged(path: Path, what: str) -> ValueError:
    """Return the error for a damaged file of a model."""
    return ValueError(f"{path}: {what}; the model is damaged, copy or make it again.")


def create_camera(
    camera_id: int, model: pycolmap.CameraModelId, focal_length: float, size: tuple[int, int]
) -> pycolmap.Camera:
    """Make a camera with the principal point in the middle of its (width, height)."""
    # Its name until pycolmap 3.13, deprecated since.
    create = getattr(pycolmap.Camera, "create_from_model_id", None) or pycolmap.Camera.create
    return create(camera_id, model, focal_length, *size)


def sample_camera(model: pycolmap.CameraModelId) -> pycolmap.Camera:
    """Make a camera of one pixel, to look at its model's parameters."""
    return create_camera(1, model, 1.0, (1, 1))


@cache
def num_camera_params(model: int) -> int | None:
    """Return the number of parameters of a camera model of this number, None if there is none."""
    sample = _sample(model)
    return None if sample is None else len(sample.params)


@cache
def _sample(model: int) -> pycolmap.Camera | None:
    try:
        return sample_camera(pycolmap.CameraModelId(model))
    except (ValueError, RuntimeError):
        return None


def is_usable(values: np.ndarray) -> bool:
    """Return whether all numbers are finite and of a magnitude that calculations survive."""
    return bool((np.abs(values) < MAX_MAGNITUDE).all())


def check_camera_values(model: int, size: tuple[int, int], params: np.ndarray) -> str | None:
    """Return what is wrong with a camera of a model or a database, or None."""
    sample = _sample(model)
    if sample is None:
        return f"has the camera model {model}, which COLMAP does not have"
    if len(params) != len(sample.params):
        return f"has {len(params)} parameters; {sample.model.name} has {len(sample.params)}"
    if not all(0 < side <= MAX_SIDE for side in size):
        return f"has the size {size[0]}×{size[1]}, not 1 to {MAX_SIDE} pixels"
    if not is_usable(params) or (params[list(sample.focal_length_idxs())] <= 0).any():
        return f"has the parameters {params.tolist()}, which no camera has"
    return None


def check_tables(tables: ModelTables) -> None:
    """Check that pycolmap can read a model, and that nothing in it refers to something missing.

    Raises:
        ValueError: it cannot; the message names the file and the record.
    """
    cameras = _check_cameras(tables)
    rigs = _check_rigs(tables, cameras)
    image_frames = _check_frames(tables, rigs)
    _check_images(tables, cameras, image_frames)
    _check_points(tables)


def _check_id(path: Path, what: str, number: int, seen: set[int]) -> None:
    if not 0 <= number <= MAX_ID:
        raise damaged(path, f"{number} is no id of {what}")
    if number in seen:
        raise damaged(path, f"{what} {number} is listed twice")
    seen.add(number)


def _check_pose(path: Path, what: str, pose: Sequence[float]) -> None:
    values = np.asarray(pose)
    if not is_usable(values) or abs(np.linalg.norm(values[:4]) - 1) > QUATERNION_TOLERANCE:
        raise damaged(path, f"{what} has no pose, but {values.tolist()}")


def _check_cameras(tables: ModelTables) -> set[int]:
    path = tables.file("cameras")
    ids: set[int] = set()
    used = {image.camera_id for image in tables.images}
    for camera in tables.cameras:
        _check_id(path, "camera", camera.camera_id, ids)
        if camera.camera_id not in used:
            continue
        if (problem := check_camera_values(camera.model, camera.size, camera.params)) is not None:
            raise damaged(path, f"camera {camera.camera_id} {problem}")
    return ids


def _check_rigs(tables: ModelTables, cameras: set[int]) -> dict[int, dict[tuple[int, int], bool]]:
    """Return the sensors of each rig, and whether their poses are known."""
    path = tables.file("rigs")
    ids: set[int] = set()
    rigs = {}
    for rig in tables.rigs:
        what = f"rig {rig.rig_id}"
        _check_id(path, "rig", rig.rig_id, ids)
        sensors: dict[tuple[int, int], bool] = {}
        for sensor in rig.sensors:
            key = sensor.sensor_type, sensor.sensor_id
            if sensor.sensor_type not in SENSOR_TYPES.values() or key in sensors:
                raise damaged(path, f"{what} has a sensor of an unknown type, or one twice: {key}")
            if sensor.sensor_type == _CAMERA_SENSOR and sensor.sensor_id not in cameras:
                raise damaged(path, f"{what} has the camera {sensor.sensor_id}, which is missing")
            if sensor.pose is not None:
                _check_pose(path, f"the sensor {key} of {what}", sensor.pose)
            sensors[key] = sensor.pose is not None or not sensors
        rigs[rig.rig_id] = sensors
    return rigs


def _check_frames(
    tables: ModelTables, rigs: dict[int, dict[tuple[int, int], bool]]
) -> dict[int, int] | None:
    """Return the camera of each image in the frames; None where a model is older than frames."""
    path = tables.file("frames")
    if not tables.rigs and not tables.frames:
        return None
    ids: set[int] = set()
    image_cameras: dict[int, int] = {}
    for frame in tables.frames:
        what = f"frame {frame.frame_id}"
        _check_id(path, "frame", frame.frame_id, ids)
        _check_pose(path, what, frame.pose)
        if frame.rig_id not in rigs:
            raise damaged(path, f"{what} is of the rig {frame.rig_id}, which is missing")
        for datum in frame.data:
            sensor_type, sensor, data_id = datum.item()
            if not rigs[frame.rig_id].get((sensor_type, sensor), False):
                raise damaged(path, f"{what} has a sensor without a pose in its rig, {sensor}")
            if sensor_type == _CAMERA_SENSOR:
                if data_id in image_cameras:
                    raise damaged(path, f"the image {data_id} is listed twice")
                image_cameras[data_id] = sensor
    return image_cameras


def _check_images(
    tables: ModelTables, cameras: set[int], image_cameras: dict[int, int] | None
) -> None:
    path = tables.file("images")
    ids: set[int] = set()
    names: set[str] = set()
    for image in tables.images:
        what = f"image {image.image_id}"
        _check_id(path, "image", image.image_id, ids)
        _check_pose(path, what, image.pose)
        if image.camera_id not in cameras:
            raise damaged(path, f"{what} has the camera {image.camera_id}, which is missing")
        if image_cameras is not None and image_cameras.get(image.image_id) != image.camera_id:
            raise damaged(path, f"{what} is in no frame that has its camera {image.camera_id}")
        name = normal_name(image.name, str(path))
        if name in names:
            raise damaged(path, f"{name!r} names two images")
        names.add(name)
        if not is_usable(image.observations["xy"]):
            raise damaged(path, f"{what} has a keypoint without a position")
    if image_cameras is not None and not ids.issuperset(image_cameras):
        missing = min(set(image_cameras) - ids)
        raise damaged(tables.file("frames"), f"the image {missing} is not in {path.name}")


def _check_points(tables: ModelTables) -> None:
    path, points = tables.file("points3D"), tables.points
    ids = np.sort(points.ids)
    if len(ids) and ids[-1] > MAX_POINT_ID:
        raise damaged(path, f"{ids[-1]} is no id of a point")
    if (repeated := ids[1:][ids[1:] == ids[:-1]]).size:
        raise damaged(path, f"the point {repeated[0]} is listed twice")
    if not is_usable(points.values):
        bad = points.ids[~(np.abs(points.values) < MAX_MAGNITUDE).all(axis=1)][0]
        raise damaged(path, f"the point {bad} has no position or error")
    _check_observed(tables, ids)
    _check_tracks(tables)


def _check_observed(tables: ModelTables, sorted_ids: np.ndarray) -> None:
    known = _Places(sorted_ids)
    for image in tables.images:
        observed = image.observations["point"]
        observed = observed[observed != NO_POINT]
        missing = observed[known.of(observed) < 0]
        if len(missing):
            raise damaged(
                tables.file("images"),
                f"image {image.image_id} sees the point {missing[0]}, which is missing",
            )


def _check_tracks(tables: ModelTables) -> None:
    """Check that track elements are keypoints that have their point, as COLMAP's ``IsValid``."""
    path, points = tables.file("points3D"), tables.points
    images = sorted(tables.images, key=lambda image: image.image_id)
    counts = np.array([len(image.observations) for image in images], np.int64)
    element_ids, keypoints = points.elements.T
    places = _Places(np.array([image.image_id for image in images], np.uint64)).of(element_ids)
    # The last element stands for images that do not exist, which have no keypoints.
    is_missing = keypoints >= np.append(counts, 0)[places]
    owners = np.repeat(points.ids, points.lengths)

    def wrong(where: np.ndarray, what: str) -> ValueError:
        i = int(np.flatnonzero(where)[0])
        return damaged(
            path,
            f"the point {owners[i]} is seen at keypoint {keypoints[i]} of image {element_ids[i]}, "
            f"which {what}",
        )

    if is_missing.any():
        raise wrong(is_missing, "does not exist")
    if not len(owners):
        return
    flat = (np.cumsum(counts) - counts)[places] + keypoints
    is_other = np.concatenate([image.observations["point"] for image in images])[flat] != owners
    if is_other.any():
        raise wrong(is_other, "has no point, or another one")


class _Places:
    """Where numbers are in a sorted array without repetition."""

    def __init__(self, sorted_ids: np.ndarray) -> None:
        self.ids = sorted_ids
        self._table: np.ndarray | None = None
        """Place of each number up to the largest one, which is faster than a search."""
        if len(sorted_ids) and sorted_ids[-1] < _DENSE * len(sorted_ids):
            self._table = np.full(int(sorted_ids[-1]) + 2, -1, np.int64)
            self._table[sorted_ids] = np.arange(len(sorted_ids))

    def of(self, numbers: np.ndarray) -> np.ndarray:
        """Return the place of each number, -1 if it is not in the array."""
        if self._table is not None:
            return self._table[np.minimum(numbers, self.ids.dtype.type(len(self._table) - 1))]
        if not len(self.ids):
            return np.full(len(numbers), -1)
        places = np.minimum(np.searchsorted(self.ids, numbers), len(self.ids) - 1)
        return np.where(self.ids[places] == numbers, places, -1)
