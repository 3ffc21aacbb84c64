"""The town as a scene of MegaDepth, undistorted as its released preprocessing leaves it."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from featplug.utils.progress import progress_bar
from pipelines.demo import colmap_layout as colmap_files
from pipelines.demo.aachen_layout import point_colours, write_jpeg
from pipelines.demo.atlas import Atlas
from pipelines.demo.geometry import Camera
from pipelines.demo.lighting import LightGrid
from pipelines.demo.looks import LOOKS, Photographer
from pipelines.demo.rendering import depth_map
from pipelines.demo.town import WALK, build_town
from pipelines.demo.tracks import true_tracks
from pipelines.demo.viewpoints import along_walk

SCENE = "0000"


def write_megadepth(
    folder: Path, seed: int, num_images: int, image_size: int, progress: bool
) -> None:
    """Write the town as MegaDepth's scene 0000: photographs, a COLMAP model and depth maps.

    Args:
        folder: empty, or not there.
        seed: of everything random.
        num_images: photographs, by noon and in the afternoon by turns.
        image_size: longer side of the photographs in pixels.
        progress: show it.
    """
    scene = build_town(seed)
    atlas, grid = Atlas(scene.textures), LightGrid(scene)
    rng = np.random.default_rng([seed, 21])
    width, height = image_size, image_size * 3 // 4
    focals = [share * image_size for share in (0.8, 0.95)]
    cameras = [Camera("PINHOLE", width, height, (f, f, width / 2, height / 2)) for f in focals]
    names = [f"{i:06}.jpg" for i in range(num_images)]
    views = along_walk(rng, scene.faces, WALK, names, cameras)
    undistorted = folder / "Undistorted_SfM" / SCENE
    depths = folder / "phoenix/S6/zl548/MegaDepth_v1" / SCENE / "dense0" / "depths"
    depths.mkdir(parents=True, exist_ok=True)
    with progress_bar(None, "photograph the town", num_images, "image", progress) as bar:
        for part, look in enumerate((LOOKS["noon"], LOOKS["day"])):
            photographer = Photographer(scene, atlas, grid, look)
            for i in range(part, num_images, 2):
                picture = photographer.take(views[i], 50_000 + i + seed * 1_000_003)
                write_jpeg(undistorted / "images" / names[i], picture, 95)
                # Not compressed: readers take files below 100 KiB for mere depth orderings.
                with h5py.File((depths / names[i]).with_suffix(".h5"), "w") as file:
                    file["depth"] = depth_map(scene.faces, views[i]).astype(np.float32)
                bar.update()
    tracks = true_tracks(rng, scene.faces, views)
    colours = point_colours(undistorted / "images", views, tracks)
    colmap_files.write_model(undistorted / "sparse-txt", views, tracks, colours, text=True)
