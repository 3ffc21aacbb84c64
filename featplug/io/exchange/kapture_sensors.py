"""Cameras, images and poses of kapture folders: ``sensors/*.txt``.

The format: https://github.com/naver/kapture/blob/main/kapture_format.adoc. Cameras have COLMAP's
models and its origin, the corner of the first pixel. A pose is ``device_from_world``; the cameras
of a rig have the rig's pose and their place in it, ``sensor_from_rig``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
from scipy.spatial.transform import Rotation

from featplug.colmap.model_tables import MAX_SIDE, check_camera_values
from featplug.io.text_files import check_quaternion, number, numbers, read_lines

SENSORS = "sensors/sensors.txt"
RECORDS = "sensors/records_camera.txt"
IMAGES = "sensors/records_data"
"""Folder of the images."""
_TRAJECTORIES, _RIGS = "sensors/trajectories.txt", "sensors/rigs.txt"
_MAX_NESTED = 8
"""Number of rigs in each other."""


@dataclass(frozen=True)
class KaptureSensor:
    """A camera of a kapture folder."""

    where: str
    """Place of its line."""
    model: str
    size: tuple[int, int]
    """(width, height)."""
    params: list[str]

    def camera(self) -> pycolmap.Camera:
        """Return the camera as COLMAP has it.

        Raises:
            ValueError: it has no model of COLMAP's, as UNKNOWN_CAMERA, or other parameters.
        """
        if self.model not in pycolmap.CameraModelId.__members__:
            raise ValueError(
                f"{self.where}: expected a camera with a model of COLMAP's and its parameters, got "
                f"{self.model}; give the intrinsics."
            )
        params, (width, height) = numbers(self.params, self.where), self.size
        model = pycolmap.CameraModelId.__members__[self.model]
        if problem := check_camera_values(int(model), self.size, np.array(params)):
            raise ValueError(f"{self.where}: the camera {problem}; correct it.")
        return pycolmap.Camera(model=model, width=width, height=height, params=params)


@dataclass(frozen=True)
class KaptureImage:
    """An image of a kapture folder."""

    sensor: KaptureSensor
    cam_from_world: np.ndarray | None
    """3×4, or None where its pose is not known."""


def read_table(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the fields of each line, with where it is."""
    for at, line in read_lines(path, "file of kapture's"):
        yield f"{path}, line {at}", [field.strip() for field in line.split(",")]


def read_sizes(folder: Path) -> dict[str, tuple[int, int]]:
    """Read the (width, height) of each image.

    Raises:
        FileNotFoundError: a table does not exist.
        ValueError: a table is damaged, or lists no images.
    """
    sensors = _read_cameras(folder / SENSORS)
    return {name: sensors[device].size for _, device, name in _read_records(folder, sensors)}


def read_images(folder: Path) -> dict[str, KaptureImage]:
    """Read all images with their cameras, and their poses where they are known.

    Raises:
        FileNotFoundError: the table of cameras or images does not exist.
        ValueError: a table is damaged, or lists no images.
    """
    sensors = _read_cameras(folder / SENSORS)
    poses, rigs = _read_trajectories(folder / _TRAJECTORIES), _read_rigs(folder / _RIGS)

    def pose(timestamp: str, device: str) -> np.ndarray | None:
        from_device = np.eye(4)
        for _ in range(_MAX_NESTED):
            if (timestamp, device) in poses:
                return (from_device @ poses[timestamp, device])[:3]
            if device not in rigs:
                break
            device, sensor_from_rig = rigs[device]
            from_device = from_device @ sensor_from_rig
        return None

    return {
        name: KaptureImage(sensors[device], pose(timestamp, device))
        for timestamp, device, name in _read_records(folder, sensors)
    }


def _read_cameras(path: Path) -> dict[str, KaptureSensor]:
    cameras: dict[str, KaptureSensor] = {}
    for where, row in read_table(path):
        if len(row) < 3 or (row[2] == "camera" and len(row) < 6):
            raise ValueError(
                f"{where}: expected `id, name, camera, model, width, height, …`, got "
                f"{', '.join(row)[:100]!r}; correct the line."
            )
        if row[0] in cameras:
            raise ValueError(f"{where}: a second sensor {row[0]!r}; remove one of the two lines.")
        if row[2] == "camera":
            size = _camera_side(row[4], where), _camera_side(row[5], where)
            cameras[row[0]] = KaptureSensor(where, row[3], size, row[6:])
    return cameras


def _read_records(
    folder: Path, cameras: dict[str, KaptureSensor]
) -> Iterator[tuple[str, str, str]]:
    """Yield timestamp, camera and name of each image."""
    path, known = folder / RECORDS, set()
    for where, row in read_table(path):
        if len(row) != 3 or row[1] not in cameras:
            raise ValueError(
                f"{where}: expected `timestamp, device_id, image_path` with a camera of "
                f"sensors.txt, got {', '.join(row)[:100]!r}; correct the line."
            )
        if row[2] in known:
            raise ValueError(f"{where}: {row[2]!r} is listed twice; remove one of the two lines.")
        known.add(row[2])
        yield row[0], row[1], row[2]
    if not known:
        raise ValueError(f"{path} lists no images.")


def _read_trajectories(path: Path) -> dict[tuple[str, str], np.ndarray]:
    """Read (timestamp, device) to ``device_from_world`` 4×4; empty where there is no file."""
    if not path.is_file():
        return {}
    rows = ((where, (row[0], *row[1:2]), row[2:9]) for where, row in read_table(path))
    # A rotation or a translation that is not known is left blank.
    known = (row for row in rows if all(row[2]))
    return {(key[0], key[-1]): _matrix(where, words) for where, key, words in known}


def _read_rigs(path: Path) -> dict[str, tuple[str, np.ndarray]]:
    """Read sensor to its rig and ``sensor_from_rig`` 4×4; empty where there is no file."""
    if not path.is_file():
        return {}
    rows = ((where, row[0], row[1:2], row[2:9]) for where, row in read_table(path))
    return {"".join(sensor): (rig, _matrix(where, words)) for where, rig, sensor, words in rows}


def _matrix(where: str, words: list[str]) -> np.ndarray:
    values = np.array(numbers(words, where, "numbers qw, qx, qy, qz, tx, ty, tz", count=7))
    check_quaternion(values[:4].tolist(), where)
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_quat(values[[1, 2, 3, 0]]).as_matrix()
    matrix[:3, 3] = values[4:]
    return matrix


def _camera_side(word: str, where: str) -> int:
    """Return the width or height of a camera, which kapture writes as an integer or a float."""
    return int(number(word, where, "a size of an image", minimum=1, maximum=MAX_SIDE))
