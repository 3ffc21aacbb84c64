"""COLMAP's binary models: are their files whole?

COLMAP does not look: from a file cut short it reads counts of what happens to be in memory, and may
read until memory is full. The format: https://colmap.github.io/format.html, "Binary File Format".
"""

import os
import re
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
_PLY_HEADER_SIZE = 1024
_PLY_SIZES = {b"float": 4, b"double": 8, b"uchar": 1}


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


def write_model(model: pycolmap.Reconstruction, folder: Path) -> None:
    """Write a COLMAP model in binary form, and check that the disk has all of it.

    Raises:
        ValueError: the disk does not.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        model.write(str(folder))
    except (ValueError, RuntimeError) as error:
        raise not_written(folder, str(error)) from error
    check_written_model(model, folder)


def check_written_model(model: pycolmap.Reconstruction, folder: Path) -> None:
    """Check that the disk has all of a model that COLMAP wrote, by reading it.

    COLMAP does not look whether its writing succeeds.

    Raises:
        ValueError: the disk does not.
    """
    flush_to_disk(folder)
    try:
        written = read_model(folder)
    except (FileNotFoundError, ValueError) as error:
        raise not_written(folder, "its files are incomplete") from error
    if _counts(written) != _counts(model):
        raise not_written(folder, "it has other images or points than were written")


def export_ply(model: pycolmap.Reconstruction, path: Path) -> None:
    """Write the points of a model as a PLY file, and check that the disk has all of it.

    Raises:
        ValueError: the disk does not.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        model.export_PLY(str(path))
    except (ValueError, RuntimeError) as error:
        raise not_written(path, str(error)) from error
    flush_to_disk(path)
    with path.open("rb") as file:
        header = file.read(_PLY_HEADER_SIZE).partition(b"end_header\n")[0]
    elements = re.search(rb"element vertex (\d+)", header)
    types = re.findall(rb"property (\w+) ", header)
    size = len(header) + len(b"end_header\n")
    size += model.num_points3D() * sum(_PLY_SIZES.get(name, 0) for name in types)
    is_whole = elements is not None and int(elements[1]) == model.num_points3D()
    if not is_whole or path.stat().st_size != size:
        raise not_written(path, "the file is incomplete")


def flush_to_disk(path: Path) -> None:
    """Flush a file, or the files of a folder, to the disk, which may only then find it is full.

    Raises:
        ValueError: it is.
    """
    for file in [path] if path.is_file() else sorted(path.iterdir()):
        if file.is_file():
            try:
                with file.open("r+b") as opened:
                    os.fsync(opened.fileno())
            except OSError as error:
                raise not_written(file, str(error.strerror)) from error


def not_written(path: Path, reason: str) -> ValueError:
    """Return the error that the disk does not hold what was written."""
    return ValueError(
        f"{path} could not be written whole ({reason}): its disk is full, or fails; free some "
        "space on it or choose another folder, and run the command again."
    )


def _counts(model: pycolmap.Reconstruction) -> tuple[int, ...]:
    """Return the numbers of all that files of a model have: nothing of unregistered images."""
    return (
        model.num_cameras(),
        model.num_reg_frames(),
        model.num_reg_images(),
        sum(model.images[image_id].num_points2D() for image_id in model.reg_image_ids()),
        model.num_points3D(),
        model.compute_num_observations(),
    )


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
