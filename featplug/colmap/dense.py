"""COLMAP's multi-view stereo: a sparse model to a dense point cloud (Schönberger et al. 2016)."""

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
    """Return the model of a COLMAP workspace, with points fused from its geometric depth maps."""
    fused = workspace / "fused"
    fused.mkdir(exist_ok=True)  # into a missing folder COLMAP 3.13 writes PLY
    return pycolmap.stereo_fusion(str(fused), str(workspace))
