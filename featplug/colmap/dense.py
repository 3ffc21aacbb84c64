"""COLMAP's multi-view stereo: a sparse model to a dense point cloud (Schönberger et al. 2016)."""

import math
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pycolmap

from featplug.colmap.model_files import read_model
from featplug.io.files import not_written
from featplug.io.image_files import IMAGE_FORMATS, read_image_header
from featplug.utils.errors import first_line

_COLMAP_FORMATS = {kind.name for kind in IMAGE_FORMATS if kind.in_colmap}
_MAP_HEADER_SIZE = 64
_LITTLE_SPACE = 2**24
"""Free bytes of a disk on which a map that COLMAP could not write had no room."""


def require_dense() -> None:
    """Check that this machine can do multi-view stereo.

    Raises:
        ValueError: this pycolmap has no CUDA.
    """
    if not pycolmap.has_cuda:
        raise ValueError(
            "Multi-view stereo needs COLMAP with CUDA, which this pycolmap lacks; install "
            "pycolmap-cuda12 instead, on a machine with an NVIDIA GPU."
        )


def dense_reconstruction(
    model_dir: Path, image_dir: Path, workspace: Path, max_image_size: int = 2000
) -> pycolmap.Reconstruction:
    """Make a dense point cloud of a COLMAP model and its photographs.

    Args:
        model_dir: the model.
        image_dir: folder of the photographs.
        workspace: gets undistorted images, depth and normal maps; replaced where it exists.
        max_image_size: longer side of the undistorted images in pixels.

    Returns:
        The model with the fused points instead of the sparse ones.

    Raises:
        ValueError: this pycolmap has no CUDA, COLMAP fails, or the disk is full.
    """
    require_dense()
    _check_formats(model_dir, image_dir)
    shutil.rmtree(workspace, ignore_errors=True)
    undistort = pycolmap.UndistortCameraOptions()
    undistort.max_image_size = max_image_size
    with _explained(workspace):
        pycolmap.undistort_images(
            str(workspace), str(model_dir), str(image_dir), undistort_options=undistort
        )
        pycolmap.patch_match_stereo(str(workspace))
    return fuse_depth_maps(workspace)


@contextmanager
def _explained(workspace: Path) -> Iterator[None]:
    """Turn an error of COLMAP into one that says whether the disk is full."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if shutil.disk_usage(workspace.parent).free < _LITTLE_SPACE:
            raise not_written(workspace, first_line(error)) from error
        raise ValueError(
            f"{workspace}: COLMAP's multi-view stereo stopped with an error ({first_line(error)}); "
            "check that the GPU has memory left, or report it to COLMAP with its log."
        ) from error


def _check_formats(model_dir: Path, image_dir: Path) -> None:
    for image in read_model(model_dir).images.values():
        path = image_dir / image.name
        kind = read_image_header(path).format
        if kind not in _COLMAP_FORMATS:
            raise ValueError(
                f"{path} is {kind}, which COLMAP's multi-view stereo cannot read; convert it to "
                "JPEG or PNG, or do without dense points."
            )


def fuse_depth_maps(workspace: Path) -> pycolmap.Reconstruction:
    """Return the model of a COLMAP workspace, with points fused from its geometric depth maps.

    Raises:
        ValueError: a depth or normal map is incomplete, as on a full disk, or COLMAP fails.
    """
    for path in sorted((workspace / "stereo").glob("*_maps/**/*.bin")):
        _check_map(path)
    fused = workspace / "fused"
    fused.mkdir(exist_ok=True)  # into a missing folder COLMAP 3.13 writes PLY
    with _explained(workspace):
        return pycolmap.stereo_fusion(str(fused), str(workspace))


def _check_map(path: Path) -> None:
    """Check that the disk has all of a map: ``width&height&channels&`` and float32."""
    with path.open("rb") as file:
        header = re.match(rb"(\d+)&(\d+)&(\d+)&", file.read(_MAP_HEADER_SIZE))
    num_values = math.prod(map(int, header.groups())) if header else 0
    if header is None or path.stat().st_size != header.end() + 4 * num_values:
        raise not_written(path, "the file is incomplete")
