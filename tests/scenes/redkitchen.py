"""A set in InLoc's layout made from depth photographs of a 7-Scenes style kitchen.

Colour and depth are not registered there: both cameras are taken to have one centre, and the depth
that belongs to a pixel of the colour image (f = 525) is looked up where its ray meets the depth
image (f = 585). Each database frame is a scan of its own, whose alignment is the frame's pose.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pycolmap
from scipy.io import savemat

from featplug.io.pair_lists import Pair, write_pairs
from featplug.localization.queries import Query, write_poses, write_queries
from tests.scenes.scanned_room import write_alignment

COLOUR_FOCAL, DEPTH_FOCAL = 525.0, 585.0
CENTRE = np.array([320.0, 240.0])
"""Principal point of both, from the corner of the first pixel."""


@dataclass(frozen=True)
class Kitchen:
    """Where the set is."""

    folder: Path
    queries: list[str]
    database: list[str]

    @property
    def pairs(self) -> Path:
        """Pair list of every query with every database image."""
        return self.folder / "pairs-all.txt"


def registered_points(depth: np.ndarray) -> np.ndarray:
    """Return the point of each pixel of the colour image in the camera's frame.

    Args:
        depth: H×W uint16 in millimetres, 0 where there is none.

    Returns:
        H×W×3 float64 in metres, NaN for none.
    """
    height, width = depth.shape
    pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1) + 0.5
    rays = (pixels - CENTRE) / COLOUR_FOCAL
    x, y = np.floor(rays * DEPTH_FOCAL + CENTRE).astype(int).transpose(2, 0, 1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    z = np.where(inside, depth[y * inside, x * inside], 0) / 1000.0
    points = np.concatenate([rays * z[..., None], z[..., None]], axis=-1)
    # The sensor writes 65535 where it saw nothing.
    points[(z == 0) | (z > 20)] = np.nan
    return points


def write_kitchen(source: Path, folder: Path, frames: Sequence[int]) -> Kitchen:
    """Write frames in InLoc's layout; every fifth is a query, the others are the database.

    Args:
        source: folder of the photographs.
        folder: gets the set.
        frames: places in the order of the frames that there are, every tenth of the sequence.
    """
    stems = sorted(path.name.removesuffix(".color.jpg") for path in source.glob("*.color.jpg"))
    kitchen = Kitchen(folder, [], [])
    cameras, truth = [], {}
    for number, frame in enumerate(frames):
        world_from_camera = np.loadtxt(source / f"{stems[frame]}.pose.txt")
        colour = source / f"{stems[frame]}.color.jpg"
        if number % 5 == 2:
            name = f"query/iphone7/{stems[frame]}.JPG"
            params = [COLOUR_FOCAL, *CENTRE]
            camera = pycolmap.Camera(model="SIMPLE_PINHOLE", width=640, height=480, params=params)
            cameras.append(Query(name, camera))
            truth[name] = np.linalg.inv(world_from_camera)[:3]
            kitchen.queries.append(name)
        else:
            scan = f"{frame:03}"
            name = f"database/cutouts/RED1/{scan}/RED_cutout_{scan}_0_0.jpg"
            kitchen.database.append(name)
            depth = cv2.imread(str(source / f"{stems[frame]}.depth.png"), cv2.IMREAD_UNCHANGED)
            points = registered_points(depth)
            write_scan(folder, name, points, world_from_camera)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(colour, folder / name)
    write_queries(folder / "queries_with_intrinsics.txt", cameras)
    write_poses(folder / "ground_truth.txt", truth, "full")
    pairs: list[Pair] = [(query, name) for query in kitchen.queries for name in kitchen.database]
    write_pairs(kitchen.pairs, pairs)
    return kitchen


def write_scan(folder: Path, name: str, points: np.ndarray, world_from_scan: np.ndarray) -> None:
    """Write a cutout's scan and alignment as they are released."""
    path = folder / f"{name}.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.zeros(points.shape, np.uint8)
    savemat(path, {"RGBcut": colours, "XYZcut": points}, do_compression=False)
    write_alignment(folder, name, world_from_scan)
