"""COLMAP's multi-view stereo: a sparse model to a dense point cloud (Schönberger et al. 2016)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pycolmap


def require_dense() -> None:
    """Check that this machine can do multi-view stereo.

    Raises:
        ValueError: this pycolmap has no CUDA.
    """
    if not pycolmap.has_cuda:
        raise ValueError(
            "Multi-view stereo needs COLMAP with CUDA, which this pycolmap has not; install "
            "pycolmap-cuda12 in its place on a machine with an NVIDIA GPU."
        )


def dense_reconstruction(
    model_dir: Path, image_dir: Path, workspace: Path, max_image_size: int = 2000
) -> pycolmap.Reconstruction:
    """Make a dense point cloud of a model.

    Args:
        model_dir: a COLMAP model.
        image_dir: folder of its photographs.
        workspace: gets undistorted images, depth and normal maps; replaced where it exists.
        max_image_size: longer side of the undistorted images in pixels.

    Returns:
        The model with the fused points in place of the sparse ones.

    Raises:
        ValueError: this pycolmap has no CUDA.
    """
    require_dense()
    shutil.rmtree(workspace, ignore_errors=True)
    undistort = pycolmap.UndistortCameraOptions()
    undistort.max_image_size = max_image_size
    pycolmap.undistort_images(
        str(workspace), str(model_dir), str(image_dir), undistort_options=undistort
    )
    pycolmap.patch_match_stereo(str(workspace))
    return fuse_depth_maps(workspace)


def fuse_depth_maps(workspace: Path) -> pycolmap.Reconstruction:
    """Fuse the depth and normal maps of a workspace; needs no GPU.

    Args:
        workspace: as COLMAP lays it out, with geometric maps in ``stereo``.

    Returns:
        The model with the fused points.
    """
    fused = workspace / "fused"
    fused.mkdir(exist_ok=True)  # into a missing folder COLMAP 3.13 writes PLY
    return pycolmap.stereo_fusion(str(fused), str(workspace))
