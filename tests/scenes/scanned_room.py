"""A round room in InLoc's layout, with features and true matches, so that poses come out exact."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
from PIL import Image
from scipy.io import savemat
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from featplug.io.artifact import Provenance
from featplug.io.match_store import MatchWriter
from featplug.io.pair_lists import write_pairs
from featplug.io.store import FeatureWriter
from featplug.localization.queries import Query, write_poses, write_queries
from pipelines.datasets.inloc import benchmark_camera
from tests.scenes.synthetic import MatchedImages

WIDTH, HEIGHT = 160, 120
RADIUS = 4.0
FOCAL = 120.0


@dataclass(frozen=True)
class ScannedRoom(MatchedImages):
    """The set, with features and matches of all queries with all database images."""

    queries: list[str]
    database: list[str]
    poses: dict[str, np.ndarray]
    """``cam_from_world`` of all images."""

    @property
    def pairs(self) -> Path:
        """List of the matched pairs."""
        return self.folder / "pairs.txt"


def write_scanned_room(
    folder: Path, num_scans: int = 3, num_queries: int = 4, wallpaper: int | None = None
) -> ScannedRoom:
    """Write a sphere seen from inside, scanned from two views each of some places.

    Everything is exact: keypoints are where a camera sees a point, less half a pixel, since an
    integer is a pixel's centre and the camera's origin a pixel's corner. The room is grey, or has
    the wallpaper of a seed.
    """
    rng = np.random.default_rng(3)
    directions = rng.standard_normal((1500, 3)) * [0.5, 0.5, 0.2] + [1, 0, 0]
    points = RADIUS * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    database, queries, poses, seen = [], [], {}, {}
    for i in range(num_scans):
        scan = f"{i + 24:03}"
        world_from_scan = np.eye(4)
        world_from_scan[:3, :3] = Rotation.random(random_state=i).as_matrix()
        centre = rng.uniform(-0.7, 0.7, 3)
        world_from_scan[:3, 3] = centre
        for yaw in (0, 30):
            name = f"database/cutouts/DUC1/{scan}/DUC_cutout_{scan}_{yaw}_0.jpg"
            database.append(name)
            poses[name] = looking(centre, yaw - 15 + rng.uniform(-5, 5))
            write_cutout(folder, name, poses[name], world_from_scan, wallpaper)
            seen[name] = project(points, poses[name], FOCAL)
        write_alignment(folder, database[-1], world_from_scan)
    for i in range(num_queries):
        name = f"query/iphone7/IMG_{801 + i:04}.JPG"
        queries.append(name)
        poses[name] = looking(rng.uniform(-1, 1, 3), rng.uniform(-15, 15))
        focal = benchmark_camera(WIDTH, HEIGHT).params[0]
        write_image(folder / name, picture(surface(poses[name], focal), wallpaper))
        seen[name] = project(points, poses[name], focal)
    write_poses(folder / "ground_truth.txt", {name: poses[name] for name in queries}, "full")
    room = ScannedRoom(folder, queries, database, poses)
    with FeatureWriter(room.features, Provenance("features", {})) as writer:
        descriptors = np.random.default_rng(4).standard_normal((32, len(points)))
        descriptors /= np.linalg.norm(descriptors, axis=0)
        for name, (keypoints, numbers) in seen.items():
            arrays = {"keypoints": keypoints, "descriptors": descriptors[:, numbers]}
            writer.write(name, arrays, (WIDTH, HEIGHT), 1.0, "")
    with MatchWriter(room.matches, Provenance("matches", {})) as writer:
        for query in queries:
            for name in database:
                place = {point: index for index, point in enumerate(seen[name][1])}
                matches = np.array([place.get(point, -1) for point in seen[query][1]])
                writer.write(query, name, matches, np.ones(len(matches)), len(place))
    write_pairs(room.pairs, [(query, name) for query in queries for name in database])
    return room


def looking(centre: np.ndarray, yaw: float) -> np.ndarray:
    """Return ``cam_from_world`` of a level camera that looks along x, turned by some degrees."""
    forward = Rotation.from_euler("z", yaw, degrees=True).apply([1, 0, 0])
    down = np.array([0, 0, -1.0])
    rotation = np.stack([np.cross(down, forward), down, forward])
    return np.column_stack([rotation, -rotation @ centre])


def project(
    points: np.ndarray, cam_from_world: np.ndarray, focal: float
) -> tuple[np.ndarray, list[int]]:
    """Return keypoints (integer = pixel centre) and numbers of the points that are in the image."""
    in_camera = points @ cam_from_world[:, :3].T + cam_from_world[:, 3]
    xy = focal * in_camera[:, :2] / in_camera[:, 2:] + [WIDTH / 2, HEIGHT / 2] - 0.5
    inside = (in_camera[:, 2] > 0.5) & (xy >= 0).all(1) & (xy <= [WIDTH - 1, HEIGHT - 1]).all(1)
    return xy[inside].astype(np.float32), np.flatnonzero(inside).tolist()


def write_cutout(
    folder: Path,
    name: str,
    cam_from_world: np.ndarray,
    world_from_scan: np.ndarray,
    wallpaper: int | None = None,
) -> None:
    """Write a view's image and where its pixels' rays meet the sphere, in the scan's frame."""
    points = surface(cam_from_world, FOCAL)
    write_image(folder / name, picture(points, wallpaper))
    in_scan = (points - world_from_scan[:3, 3]) @ world_from_scan[:3, :3]
    in_scan[:4, :4] = np.nan
    colours = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    arrays = {"RGBcut": colours, "XYZcut": in_scan}
    savemat(folder / f"{name}.mat", arrays, do_compression=True)


def surface(cam_from_world: np.ndarray, focal: float) -> np.ndarray:
    """Return where the rays of a camera's pixels meet the sphere: H×W×3 in the world."""
    pixels = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), axis=-1) + 0.5
    xy = (pixels - [WIDTH / 2, HEIGHT / 2]) / focal
    rays = np.concatenate([xy, np.ones_like(xy[..., :1])], axis=-1) @ cam_from_world[:, :3]
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    centre = -cam_from_world[:, :3].T @ cam_from_world[:, 3]
    along = rays @ centre
    length = np.sqrt(along**2 - centre @ centre + RADIUS**2) - along
    return centre + rays * length[..., None]


def picture(points: np.ndarray, wallpaper: int | None) -> np.ndarray:
    """Return the grey values of points of the sphere: H×W uint8."""
    if wallpaper is None:
        return np.full(points.shape[:2], 128, np.uint8)
    noise = np.random.default_rng(wallpaper).uniform(0, 255, (40, 40, 40))
    at = np.moveaxis((points / RADIUS + 1) / 2 * 39, -1, 0)
    return np.rint(map_coordinates(noise, at, order=1)).astype(np.uint8)


def write_image(path: Path, grey: np.ndarray) -> None:
    """Write a grey image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey).convert("RGB").save(path, format="JPEG", quality=95)


def write_alignment(folder: Path, cutout: str, world_from_scan: np.ndarray) -> None:
    """Write the alignment file of a cutout's scan as WUSTL released them."""
    floor, scan, file = cutout.split("/")[-3:]
    building = file.split("_cutout_")[0]
    path = folder / f"database/alignments/{floor}/transformations/{building}_trans_{scan}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(alignment_text(np.eye(4), world_from_scan))


def alignment_text(before: np.ndarray, after: np.ndarray) -> str:
    """Return an alignment file's text."""

    def rows(matrix: np.ndarray) -> str:
        return "\n".join(" ".join(f"{value: .9g}" for value in row) for row in matrix)

    return f"Before general icp:\n{rows(before)}\n\nAfter general icp:\n{rows(after)}\n\n"


def write_query_list(room: ScannedRoom, path: Path, width: int = WIDTH) -> None:
    """Write a query list with the benchmark's camera, for photographs of some width."""
    camera = benchmark_camera(width, HEIGHT)
    params = list(camera.params)
    queries = [
        Query(
            name,
            pycolmap.Camera(model="SIMPLE_PINHOLE", width=width, height=HEIGHT, params=params),
        )
        for name in room.queries
    ]
    write_queries(path, queries)
