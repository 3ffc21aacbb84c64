"""A database with verified pairs to a model, by COLMAP's mappers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pycolmap

from featplug.colmap.database import image_ids
from featplug.colmap.mapping import global_mapping, incremental_mapping, log_to_file
from featplug.colmap.model_files import export_ply, write_model
from featplug.utils.progress import progress_bar


@dataclass(frozen=True, kw_only=True)
class MapOptions:
    """How a model is made."""

    mapper: Literal["incremental", "global"] = "incremental"
    """COLMAP's incremental mapper, or its global one (pycolmap 4.0 or newer)."""
    refine_intrinsics: bool = True
    """Let bundle adjustment change focal length and distortion."""
    seed: int = 0
    """Seed of RANSAC."""


def map_images(
    database: Path, image_dir: Path, output_dir: Path, options: MapOptions, progress: bool = False
) -> pycolmap.Reconstruction:
    """Reconstruct the images of a database.

    Args:
        database: a database with two-view geometries.
        image_dir: folder of the images, for the points' colours.
        output_dir: gets ``model``, ``points.ply``, ``colmap.log`` and, in ``colmap_models``, all
            models that COLMAP made.
        options: how.
        progress: show a bar.

    Returns:
        The largest model, which was written.

    Raises:
        ValueError: nothing could be reconstructed.
    """
    work = database, image_dir, output_dir / "colmap_models", options.seed
    with log_to_file(output_dir / "colmap.log"):
        if options.mapper == "global":
            model = global_mapping(*work, options.refine_intrinsics)
        else:
            num_images = len(image_ids(database))
            with progress_bar(None, "map", num_images, "image", progress) as bar:
                model = incremental_mapping(*work, options.refine_intrinsics, bar.update)
    write_model(model, output_dir / "model")
    export_ply(model, output_dir / "points.ply")
    return model
