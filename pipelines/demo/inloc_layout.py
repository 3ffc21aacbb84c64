"""The room in the layout of InLoc: views of laser scans, and photographs of a phone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.io import savemat

from featplug.utils.progress import progress_bar
from pipelines.demo import colmap_layout as colmap_files
from pipelines.demo.aachen_layout import write_jpeg
from pipelines.demo.atlas import Atlas
from pipelines.demo.geometry import Camera, View, look_along
from pipelines.demo.lighting import LightGrid
from pipelines.demo.looks import LOOKS, Photographer
from pipelines.demo.rendering import visible_faces
from pipelines.demo.room import SCANS, Room, build_room
from pipelines.demo.tracks import on_faces
from pipelines.demo.viewpoints import near_others

_FLOOR, _BUILDING = "DUC1", "DUC"
_FIRST_SCAN = 24
_FIRST_QUERY = 801
_SCANNER_HEIGHT = 1.5
_LOST = 0.02
"""Part of the pixels from which the laser does not come back, beside those of glass."""


def write_inloc(
    folder: Path, seed: int, num_scans: int, num_queries: int, image_size: int, progress: bool
) -> None:
    """Write the room in the layout of InLoc.

    Args:
        folder: empty, or not there.
        seed: of everything random.
        num_scans: laser scans, each cut into twelve views; up to five.
        num_queries: a phone's photographs.
        image_size: longer side of views and photographs in pixels.
        progress: show it.
    """
    room = build_room(seed)
    scene = room.scene
    rng = np.random.default_rng([seed, 12])
    height = image_size * 3 // 4
    half = image_size / 2, height / 2
    # The views are 60° wide; the phone has the focal length that the benchmark gives it.
    cutout_camera = Camera(
        "PINHOLE", image_size, height, (half[0] * 3**0.5, half[0] * 3**0.5, *half)
    )
    focal = image_size * 28 / 36
    query_camera = Camera("PINHOLE", image_size, height, (focal, focal, *half))
    scans = {
        f"{_FIRST_SCAN + k:03}": np.array([x, y, _SCANNER_HEIGHT])
        for k, (x, y) in enumerate(SCANS[:num_scans])
    }
    frames = {scan: _scanner_frame(rng, centre) for scan, centre in scans.items()}
    cutouts = {}
    for scan, centre in scans.items():
        for yaw in range(0, 360, 30):
            name = f"database/cutouts/{_FLOOR}/{scan}/{_BUILDING}_cutout_{scan}_{yaw}_0.jpg"
            cutouts[name] = scan, View(name, cutout_camera, look_along(centre, yaw))
    names = [f"query/iphone7/IMG_{_FIRST_QUERY + i:04}.JPG" for i in range(num_queries)]
    views = [view for _, view in cutouts.values()]
    queries = near_others(
        rng, scene.faces, views, names, [query_camera] * num_queries, indoors=True
    )
    atlas, grid = Atlas(scene.textures), LightGrid(scene)
    bar = progress_bar(None, "photograph the room", len(views) + num_queries, "image", progress)
    with bar:
        photographer = Photographer(scene, atlas, grid, LOOKS["room"])
        for i, (name, (scan, view)) in enumerate(cutouts.items()):
            picture = photographer.take(view, 10_000 + i + seed * 1_000_003)
            write_jpeg(folder / name, picture, 93)
            points = _scan(rng, room, view, frames[scan])
            arrays = {"RGBcut": picture, "XYZcut": points}
            savemat(folder / f"{name}.mat", arrays, do_compression=True)
            bar.update()
        photographer = Photographer(scene, atlas, grid, LOOKS["phone"])
        for i, view in enumerate(queries):
            picture = photographer.take(view, 20_000 + i + seed * 1_000_003)
            write_jpeg(folder / view.name, picture, LOOKS["phone"].quality)
            bar.update()
    for scan, frame in frames.items():
        name = f"database/alignments/{_FLOOR}/transformations/{_BUILDING}_trans_{scan}.txt"
        _write_alignment(folder / name, frame)
    colmap_files.write_intrinsics(folder / "queries_with_intrinsics.txt", queries)
    colmap_files.write_truth(folder / "ground_truth.txt", queries)


def _scanner_frame(rng: np.random.Generator, centre: np.ndarray) -> np.ndarray:
    """Pose of a levelled scanner that was set up in any direction: 4×4, its frame to the room's."""
    angle = rng.uniform(0, 2 * np.pi)
    frame = np.eye(4)
    frame[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    frame[:3, 3] = centre
    return frame


def _scan(rng: np.random.Generator, room: Room, view: View, frame: np.ndarray) -> np.ndarray:
    """Points that a view's pixels see, in the scanner's frame: H×W×3, NaN where none came back."""
    faces = room.scene.faces
    index = visible_faces(faces, view)
    rows, columns = index.shape
    xy = np.stack(np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5), axis=-1)
    ids = index.ravel()
    points = on_faces(faces, view, ids, xy.reshape(-1, 2))
    lost = (ids < 0) | np.isin(faces.texture[ids], room.glass) | (rng.random(len(ids)) < _LOST)
    points[lost] = np.nan
    return ((points - frame[:3, 3]) @ frame[:3, :3]).reshape(rows, columns, 3)


def _write_alignment(path: Path, frame: np.ndarray) -> None:
    """Write a scan's transformation twice: as found at first, and after refinement (lines 8–11)."""
    coarse = frame.copy()
    coarse[:3, 3] += (0.03, -0.02, 0.01)
    lines = []
    for title, matrix in (("before ICP", coarse), ("after ICP", frame)):
        lines += [f"{title}:"] + [" ".join(map(repr, row)) for row in matrix.tolist()] + [""]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", "utf-8")
