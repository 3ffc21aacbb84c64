"""COLMAP's binary models: are their files whole?

COLMAP does not look: from a file cut short it reads counts of what happens to be in memory, and may
read until memory is full. The format: https://colmap.github.io/format.html, "Binary File Format".
"""

import struct
from collections.abc import Callable
from pathlib import Path

import pycolmap

_CAMERA_BEFORE_PARAMS = 2 * 4 + 2 * 8
_IMAGE_BEFORE_NAME = 4 + 7 * 8 + 4
_IMAGE_POINT = 3 * 8
_POINT_BEFORE_TRACK = 8 + 3 * 8 + 3 + 8
_TRACK_ELEMENT = 8
_COUNT = struct.Struct("<Q")


def read_model(path: Path) -> pycolmap.Reconstruction:
    """Read a COLMAP model, binary or text.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged.
    """
    path = Path(path)
    if not holds_model(path):
        raise FileNotFoundError(f"There is no COLMAP model in {path} (no images.bin or .txt).")
    if (incomplete := incomplete_file(path)) is not None:
        raise ValueError(
            f"The COLMAP model {path} cannot be read: {incomplete.name} ends too early; copy or "
            "download it again."
        )
    try:
        return pycolmap.Reconstruction(str(path))
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"The COLMAP model {path} cannot be read: {reason}") from error


def holds_model(path: Path) -> bool:
    """Return whether a folder has a COLMAP model, binary or text."""
    return any((Path(path) / f"images.{suffix}").is_file() for suffix in ("bin", "txt"))


def incomplete_file(model_dir: Path) -> Path | None:
    """Find a file of a binary model that ends too early; there is none in a text model."""
    files = {
        "cameras.bin": _end_of_camera,
        "images.bin": _end_of_image,
        "points3D.bin": _end_of_point,
    }
    for name, end_of_record in files.items():
        path = model_dir / name
        if path.is_file() and not _is_whole(path.read_bytes(), end_of_record):
            return path
    return None


def sample_camera(model: pycolmap.CameraModelId) -> pycolmap.Camera:
    """Make a camera of one pixel, to look at its model's parameters."""
    # Its name until pycolmap 3.13, deprecated since.
    create = getattr(pycolmap.Camera, "create_from_model_id", None) or pycolmap.Camera.create
    return create(1, model, 1.0, 1, 1)


def _is_whole(content: bytes, end_of_record: Callable[[bytes, int], int]) -> bool:
    try:
        (num_records,) = _COUNT.unpack_from(content)
        end = _COUNT.size
        for _ in range(num_records):
            end = end_of_record(content, end)
    except (struct.error, ValueError, RuntimeError):
        return False
    return end <= len(content)


def _end_of_camera(content: bytes, start: int) -> int:
    (model,) = struct.unpack_from("<i", content, start + 4)
    num_params = len(sample_camera(pycolmap.CameraModelId(model)).params)
    return start + _CAMERA_BEFORE_PARAMS + 8 * num_params


def _end_of_image(content: bytes, start: int) -> int:
    name_end = content.index(b"\0", start + _IMAGE_BEFORE_NAME) + 1
    (num_points,) = _COUNT.unpack_from(content, name_end)
    return name_end + _COUNT.size + num_points * _IMAGE_POINT


def _end_of_point(content: bytes, start: int) -> int:
    (length,) = _COUNT.unpack_from(content, start + _POINT_BEFORE_TRACK)
    return start + _POINT_BEFORE_TRACK + _COUNT.size + length * _TRACK_ELEMENT
