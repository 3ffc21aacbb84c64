"""COLMAP models on disk: checked before pycolmap reads them, and read back after it writes them.

COLMAP does not look: from a file cut short it reads counts of what happens to be in memory, and may
read until memory is full; on a full disk its writing seems to succeed.
"""

import re
import tempfile
from pathlib import Path

import pycolmap

from featplug.colmap.binary_models import read_binary_tables
from featplug.colmap.model_tables import ModelTables, check_tables
from featplug.colmap.text_models import copy_as_plain_text, read_text_tables
from featplug.io.files import not_written, write_whole
from featplug.io.names import normal_name
from featplug.io.run_folder import complete
from featplug.utils.errors import first_line

_REQUIRED = ("cameras", "images", "points3D")
_PLY_HEADER_SIZE = 1024
_PLY_SIZES = {b"float": 4, b"double": 8, b"uchar": 1}


def read_model(path: Path) -> pycolmap.Reconstruction:
    """Read a COLMAP model, binary or text, whose image names get their normal form.

    Names that have none stay as they are; see :func:`featplug.io.names.normal_name`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged.
    """
    path = Path(path)
    for place in path.absolute().parents[:2]:  # that of a run has model, sfm/model and the like
        complete(place)
    tables = _read_tables(path)
    check_tables(tables)
    suffix = tables.suffix
    del tables  # as large as the model itself
    if suffix == ".bin":
        model = _open(path, path)
    else:
        with tempfile.TemporaryDirectory() as folder:
            copy_as_plain_text(path, Path(folder))
            model = _open(Path(folder), path)
    for image in model.images.values():
        if (name := normal_name(image.name)) != image.name:
            image.name = name
    return model


def _read_tables(path: Path) -> ModelTables:
    """Read the files of a model in the form that COLMAP would read."""
    if not holds_model(path):
        raise FileNotFoundError(f"There is no COLMAP model in {path} (no images.bin or .txt).")
    for suffix, read in ((".bin", read_binary_tables), (".txt", read_text_tables)):
        missing = [name for name in _REQUIRED if not (path / f"{name}{suffix}").is_file()]
        if not missing:
            return read(path)
        if (path / f"images{suffix}").is_file():
            lacks = f"{missing[0]}{suffix}"
    raise FileNotFoundError(f"The COLMAP model {path} lacks {lacks}; copy all of its files.")


def _open(folder: Path, path: Path) -> pycolmap.Reconstruction:
    try:
        return pycolmap.Reconstruction(str(folder))
    except (ValueError, RuntimeError, LookupError, TypeError, MemoryError) as error:
        raise ValueError(
            f"The COLMAP model {path} cannot be read ({first_line(error)}); copy or make it again."
        ) from error


def write_model(model: pycolmap.Reconstruction, folder: Path) -> None:
    """Write a COLMAP model in binary form; it replaces a folder only when the disk has all of it.

    Raises:
        ValueError: the disk does not.
    """

    def write(part: Path) -> None:
        part.mkdir()
        write_model_files(model, part)

    write_whole(Path(folder), write, lambda part: check_written_model(model, part))


def write_model_files(model: pycolmap.Reconstruction, folder: Path) -> None:
    """Write the files of a COLMAP model in binary form, over others and unchecked.

    Raises:
        ValueError: COLMAP cannot write.
    """
    try:
        model.write(str(folder))
    except (ValueError, RuntimeError) as error:
        raise not_written(folder, str(error)) from error


def check_written_model(model: pycolmap.Reconstruction, folder: Path) -> None:
    """Check that the disk has all of a model that COLMAP wrote, by reading it.

    COLMAP does not look whether its writing succeeds.

    Raises:
        ValueError: the disk does not.
    """
    try:
        tables = _read_tables(folder)
        check_tables(tables)
    except (FileNotFoundError, ValueError) as error:
        raise not_written(folder, "its files are incomplete") from error
    if tables.counts() != _counts(model):
        raise not_written(folder, "it has other images or points than were written")


def export_ply(model: pycolmap.Reconstruction, path: Path) -> None:
    """Write the points of a model as a PLY file, which appears only when the disk has all of it.

    Raises:
        ValueError: the disk does not.
    """

    def write(part: Path) -> None:
        try:
            model.export_PLY(str(part))
        except (ValueError, RuntimeError) as error:
            raise not_written(part, str(error)) from error

    write_whole(Path(path), write, lambda part: _check_ply(part, model.num_points3D()))


def _check_ply(path: Path, num_points: int) -> None:
    with path.open("rb") as file:
        header = file.read(_PLY_HEADER_SIZE).partition(b"end_header\n")[0]
    elements = re.search(rb"element vertex (\d+)", header)
    types = re.findall(rb"property (\w+) ", header)
    size = len(header) + len(b"end_header\n")
    size += num_points * sum(_PLY_SIZES.get(name, 0) for name in types)
    is_whole = elements is not None and int(elements[1]) == num_points
    if not is_whole or path.stat().st_size != size:
        raise not_written(path, "the file is incomplete")


def _counts(model: pycolmap.Reconstruction) -> tuple[int, ...]:
    """Return the :meth:`ModelTables.counts` of a model, whose files lack unregistered images."""
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
