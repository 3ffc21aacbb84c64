"""COLMAP's binary models, read record by record within the size of each file.

The format is that of ``src/colmap/scene/reconstruction_io_binary.cc``, with rigs and frames since
COLMAP 3.12.
"""

import mmap
import struct
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from featplug.colmap.model_tables import (
    DATUM,
    MAX_KEYPOINTS,
    OBSERVATION,
    CameraRow,
    FrameRow,
    ImageRow,
    ModelTables,
    PointTable,
    RigRow,
    SensorRow,
    damaged,
    num_camera_params,
)

_COUNT = struct.Struct("<Q")
_CAMERA = struct.Struct("<IiQQ")
_RIG = struct.Struct("<II")
_REFERENCE_SENSOR = struct.Struct("<iI")
_SENSOR = struct.Struct("<iIB")
_POSE = struct.Struct("<7d")
_FRAME = struct.Struct("<II7dI")
_IMAGE = struct.Struct("<I7dI")
_POINT = np.dtype([("id", "<u8"), ("xyz", "<f8", 3), ("colour", "u1", 3), ("error", "<f8")])
_POINT_HEAD = struct.Struct("<Q35xQ")
"""Id of a point, and the length of its track."""
_ELEMENT = np.dtype(("<u4", 2))
_POINTS_AT_ONCE = 2**16


def read_binary_tables(folder: Path) -> ModelTables:
    """Read the files of a binary model.

    Raises:
        ValueError: a file is shorter or longer than its contents say.
    """
    return ModelTables(
        folder,
        ".bin",
        _read_cameras(folder / "cameras.bin"),
        _read_rigs(folder / "rigs.bin"),
        _read_frames(folder / "frames.bin"),
        _read_images(folder / "images.bin"),
        _read_points(folder / "points3D.bin"),
    )


class _Bytes:
    """The bytes of one file, taken one after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content: mmap.mmap | bytes = b""
        if path.stat().st_size:
            with path.open("rb") as file:
                self.content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.position = 0
        self._ids: set[int] = set()

    def new_id(self, what: str, number: int) -> None:
        """Check an id at once: a file with a hole has thousands of millions of the same."""
        if number in self._ids:
            raise damaged(self.path, f"{what} {number} is listed twice")
        self._ids.add(number)

    def take(self, form: struct.Struct) -> tuple[Any, ...]:
        """Return the next values."""
        start = self.skip(form.size)
        return form.unpack_from(self.content, start)

    def skip(self, num_bytes: int) -> int:
        """Pass over bytes, and return where they start."""
        start = self.position
        if num_bytes > len(self.content) - start:
            raise damaged(self.path, "it ends too early")
        self.position += num_bytes
        return start

    def count(self, record_size: int, form: struct.Struct = _COUNT) -> int:
        """Return a number of records, each of at least ``record_size`` bytes, that can follow."""
        (number,) = self.take(form)
        if number * record_size > len(self.content) - self.position:
            raise damaged(self.path, f"it announces {number} records and ends too early for them")
        return number

    def array(self, dtype: np.dtype, num: int) -> np.ndarray:
        """Return the next array, a view of the file."""
        start = self.skip(num * dtype.itemsize)
        return np.frombuffer(self.content, dtype, num, start) if num else np.empty(0, dtype)

    def name(self) -> str:
        """Return the next string, which ends with NUL."""
        end = self.content.find(b"\0", self.position)
        if end < 0:
            raise damaged(self.path, "it ends too early, within an image name")
        start = self.skip(end + 1 - self.position)
        try:
            return self.content[start:end].decode("utf-8")
        except UnicodeDecodeError as error:
            raise damaged(self.path, f"the image name at byte {start} is not UTF-8") from error

    def finish(self) -> None:
        """Check that nothing follows."""
        if (rest := len(self.content) - self.position) > 0:
            raise damaged(self.path, f"{rest} bytes follow its last record")


def _read_cameras(path: Path) -> list[CameraRow]:
    file, cameras = _Bytes(path), []
    for _ in range(file.count(_CAMERA.size)):
        camera_id, model, width, height = file.take(_CAMERA)
        file.new_id("camera", camera_id)
        num_params = num_camera_params(model)
        if num_params is None:
            raise damaged(
                path, f"camera {camera_id} has the model {model}, which COLMAP does not have"
            )
        params = file.array(np.dtype("<f8"), num_params)
        cameras.append(CameraRow(camera_id, model, (width, height), params))
    file.finish()
    return cameras


def _read_rigs(path: Path) -> list[RigRow]:
    if not path.is_file():
        return []
    file, rigs = _Bytes(path), []
    for _ in range(file.count(_RIG.size)):
        rig_id, num_sensors = file.take(_RIG)
        file.new_id("rig", rig_id)
        sensors: list[SensorRow] = []
        for i in range(num_sensors):
            if i == 0:
                sensor_type, sensor_id = file.take(_REFERENCE_SENSOR)
                sensors.append(SensorRow(sensor_type, sensor_id, None))
                continue
            sensor_type, sensor_id, has_pose = file.take(_SENSOR)
            pose = file.take(_POSE) if has_pose else None
            if sensors[-1][:2] == (sensor_type, sensor_id):
                raise damaged(path, f"rig {rig_id} has the sensor {sensor_id} twice")
            sensors.append(SensorRow(sensor_type, sensor_id, pose))
        rigs.append(RigRow(rig_id, sensors))
    file.finish()
    return rigs


def _read_frames(path: Path) -> list[FrameRow]:
    if not path.is_file():
        return []
    file, frames = _Bytes(path), []
    for _ in range(file.count(_FRAME.size)):
        frame_id, rig_id, *pose, num_data = file.take(_FRAME)
        file.new_id("frame", frame_id)
        frames.append(FrameRow(frame_id, rig_id, pose, file.array(DATUM, num_data)))
    file.finish()
    return frames


def _read_images(path: Path) -> list[ImageRow]:
    file, images = _Bytes(path), []
    for _ in range(file.count(_IMAGE.size)):
        image_id, *pose, camera_id = file.take(_IMAGE)
        file.new_id("image", image_id)
        name = file.name()
        num_keypoints = file.count(OBSERVATION.itemsize)
        if num_keypoints > MAX_KEYPOINTS:
            raise damaged(path, f"image {image_id} has {num_keypoints} keypoints")
        observations = file.array(OBSERVATION, num_keypoints)
        images.append(ImageRow(image_id, pose, camera_id, name, observations))
    file.finish()
    return images


def _read_points(path: Path) -> PointTable:
    file = _Bytes(path)
    num = file.count(_POINT.itemsize + _COUNT.size)
    starts, lengths = _walk_points(file, num)
    file.finish()
    content = np.frombuffer(file.content, np.uint8)
    points, elements = np.empty(num, _POINT), np.empty((int(lengths.sum()), 2), np.uint32)
    head = np.arange(_POINT.itemsize + _COUNT.size)
    end = 0
    for first in range(0, num, _POINTS_AT_ONCE):
        last = min(first + _POINTS_AT_ONCE, num)
        block = content[starts[first] : starts[last]]
        heads = (starts[first:last] - starts[first])[:, None] + head
        points[first:last] = block[heads[:, : _POINT.itemsize]].reshape(-1).view(_POINT)
        is_element = np.ones(len(block), bool)
        is_element[heads] = False
        found = block[is_element].view("<u4").reshape(-1, 2)
        elements[end : end + len(found)] = found
        end += len(found)
    values = np.column_stack([points["xyz"], points["error"]])
    return PointTable(points["id"], values, lengths, elements)


def _walk_points(file: _Bytes, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where the points start and the last one ends, and the lengths of their tracks."""
    starts, lengths = array("q", [file.position]), array("q")
    content, size, last_id = file.content, len(file.content), -1
    start, unpack = file.position, _POINT_HEAD.unpack_from
    for _ in range(num):  # nothing else in the loop: large models have millions of points
        if start + _POINT_HEAD.size > size:
            raise damaged(file.path, "it ends too early")
        point_id, length = unpack(content, start)
        start += _POINT_HEAD.size + length * _ELEMENT.itemsize
        if start > size:
            raise damaged(file.path, "it ends too early")
        if length > MAX_KEYPOINTS:
            raise damaged(file.path, f"the point {point_id} is seen {length} times")
        if point_id == last_id:
            raise damaged(file.path, f"the point {point_id} is listed twice")
        last_id = point_id
        starts.append(start)
        lengths.append(length)
    file.position = start
    return np.array(starts), np.array(lengths, np.int64)
