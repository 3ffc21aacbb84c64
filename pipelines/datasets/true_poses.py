"""Reference poses: a COLMAP model, or the ``.camera`` files of Strecha et al. (2008)."""

from pathlib import Path

import numpy as np

from featplug.colmap.georeference import read_georeference
from featplug.colmap.model_files import holds_model, read_model
from featplug.io.names import checked_name
from featplug.io.text_files import numbers, read_lines, whole_number
from featplug.io.text_tables import check_rotation
from featplug.metrics.poses import model_poses

_CAMERA_SUFFIX = ".camera"
_NUM_ROWS = 8
"""Rows of a ``.camera`` file without that of the image's size, which some lack."""


def read_reference_poses(path: Path) -> dict[str, np.ndarray]:
    """Read the true poses of a scene.

    Args:
        path: a folder with a COLMAP model (``images.bin`` or ``images.txt``, …) or with a
            ``.camera`` file for each image.

    Returns:
        Image name to ``cam_from_world``, 3×4 float64.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: it has neither, or a damaged file.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"There is no reference folder {path}.")
    if holds_model(path):
        return model_poses(read_model(path))
    cameras = _camera_files(path)
    if not cameras:
        raise ValueError(
            f"{path} holds neither a COLMAP model (images.bin or images.txt) nor "
            f"{_CAMERA_SUFFIX} files."
        )
    return {
        checked_name(c.name.removesuffix(_CAMERA_SUFFIX), str(c)): read_strecha_camera(c)
        for c in cameras
    }


def holds_reference_poses(path: Path) -> bool:
    """Return whether a folder has a COLMAP model or ``.camera`` files."""
    return holds_model(path) or bool(_camera_files(path))


def reference_unit(path: Path) -> str:
    """Return the unit of positions: metres for ``.camera`` files and georeferenced models."""
    is_metric = not holds_model(path) or read_georeference(path) is not None
    return "m" if is_metric else "reference units"


def _camera_files(path: Path) -> list[Path]:
    return sorted(path.glob(f"*{_CAMERA_SUFFIX}"))


def read_strecha_camera(path: Path) -> np.ndarray:
    """Read the pose of one ``.camera`` file.

    Its rows are K (3), distortion (1), R camera to world (3), camera centre (1), image size (1).

    Returns:
        ``cam_from_world``, 3×4 float64.

    Raises:
        ValueError: the file does not have these rows.
    """
    values = _read_rows(path)
    cam_from_world_rotation = values[4:7].T
    return np.column_stack([cam_from_world_rotation, -cam_from_world_rotation @ values[7]])


def read_strecha_intrinsics(path: Path) -> np.ndarray:
    """Read K, 3×3, of one ``.camera`` file; see :func:`read_strecha_camera`.

    Raises:
        ValueError: the file does not have these rows, or the image is distorted.
    """
    values = _read_rows(path)
    if values[3].any():
        raise ValueError(f"{path}: the camera has a distortion; undistort the image.")
    return values[:3]


def read_strecha_size(path: Path) -> tuple[int, int] | None:
    """Read (width, height) of the photograph of one ``.camera`` file; None without its last row.

    Raises:
        ValueError: they are none.
    """
    lines = read_lines(path, ".camera file")
    if len(lines) < _NUM_ROWS + 1:
        return None
    at, text = lines[_NUM_ROWS]
    words = text.split()
    if len(words) != 2:
        raise ValueError(f"{path}, line {at}: expected width and height; get the file again.")
    width, height = (whole_number(w, f"{path}, line {at}", "a size", 1, 10**6) for w in words)
    return width, height


def _read_rows(path: Path) -> np.ndarray:
    lines = [(f"{path}, line {at}", line) for at, line in read_lines(path, ".camera file")]
    if len(lines) not in (_NUM_ROWS, _NUM_ROWS + 1):
        raise ValueError(
            f"{path} is not a .camera file: it has {len(lines)} rows and not eight of three "
            "numbers; get it again."
        )
    values = np.array([numbers(line.split(), where, count=3) for where, line in lines[:_NUM_ROWS]])
    if not min(values[0, 0], values[1, 1]) > 0:
        focals = f"{values[0, 0]:g} and {values[1, 1]:g}"
        raise ValueError(f"{path}: expected focal lengths above 0, got {focals}; correct them.")
    check_rotation(values[4:7], lines[4][0])
    return values
