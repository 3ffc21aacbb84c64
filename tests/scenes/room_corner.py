"""A textured corner of a room: photographs, true poses, depth, and a dense workspace."""

from __future__ import annotations

from pathlib import Path

import cv2
import h5py
import numpy as np
from PIL import Image

from tests.scenes.pictures import textured_image


def write_room_corner(folder: Path, num_images: int = 6, width: int = 480) -> None:
    """Photograph a textured corner of a room, and write the true poses as ``.camera`` files.

    Three walls meet at the origin; nothing hides anything, so each wall is one homography.
    """
    height, focal = width * 3 // 4, 1.1 * width
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    textures = [textured_image(seed, 700, 700) for seed in (11, 12, 13)]
    # Texture pixel (u, v, 1) to the wall's point: two axes of the wall, 2 units long.
    axes = [np.eye(3)[[0, 1]], np.eye(3)[[1, 2]], np.eye(3)[[2, 0]]]
    (folder / "images").mkdir(parents=True)
    (folder / "cameras").mkdir()
    for i in range(num_images):
        angle = np.radians(45 + 7 * (i - (num_images - 1) / 2))
        centre = np.array([2.6 * np.cos(angle), 2.6 * np.sin(angle), 1.7 + 0.15 * (i % 3)])
        forward = np.array([0.45, 0.45, 0.45]) - centre
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1])
        right /= np.linalg.norm(right)
        cam_from_world = np.stack([right, np.cross(forward, right), forward])
        picture = np.zeros((height, width), np.uint8)
        for texture, (axis_u, axis_v) in zip(textures, axes, strict=True):
            wall = np.stack([axis_u * 2 / 700, axis_v * 2 / 700, np.zeros(3)], axis=1)
            wall[:, 2] = -centre
            # Pixel centres are integers for OpenCV, the camera's origin is a pixel's corner.
            shift = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
            homography = shift @ intrinsics @ cam_from_world @ wall
            view = cv2.warpPerspective(texture, homography, (width, height), flags=cv2.INTER_AREA)
            inside = cv2.warpPerspective(
                np.full_like(texture, 255), homography, (width, height), flags=cv2.INTER_NEAREST
            )
            picture[inside > 0] = view[inside > 0]
        name = f"{i:02}.png"
        Image.fromarray(picture).save(folder / "images" / name)
        rows = [*intrinsics, np.zeros(3), *cam_from_world.T, centre, np.array([width, height])]
        text = "\n".join(" ".join(f"{v:.12g}" for v in row) for row in rows)
        (folder / "cameras" / f"{name}.camera").write_text(text + "\n")


def depth_of_corner(
    intrinsics: np.ndarray, rotation: np.ndarray, centre: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Depth of the nearest of the three walls, at the centres of the pixels."""
    width, height = size
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(intrinsics).T @ rotation
    depth = np.full((height, width), np.inf)
    for axis in range(3):
        distance = -centre[axis] / rays[..., axis]
        point = centre + distance[..., None] * rays
        hit = (distance > 0) & ((point > -1e-9) & (point < 2)).all(-1)
        depth[hit] = np.minimum(depth[hit], distance[hit])
    return np.where(np.isfinite(depth), depth, 0).astype(np.float32)


def write_depth(path: Path, depth: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["depth"] = depth
    else:
        height, width = depth.shape
        path.write_bytes(f"{width}&{height}&1&".encode() + depth.tobytes())


def write_corner_workspace(folder: Path) -> None:
    """Write four photographs of a corner as a dense workspace, its model in COLMAP's text form."""
    write_room_corner(folder, num_images=4, width=320)
    rng = np.random.default_rng(0)
    points = rng.uniform(0.1, 1.2, (90, 3))
    points[np.arange(90), np.arange(90) % 3] = 0
    cameras, images = [], []
    tracks: list[list[str]] = [[] for _ in points]
    for i, path in enumerate(sorted((folder / "cameras").glob("*.camera")), start=1):
        rows = [list(map(float, line.split())) for line in path.read_text().splitlines()]
        k, rotation = np.array(rows[:3]), np.array(rows[4:7]).T
        centre, (width, height) = np.array(rows[7]), map(int, rows[8])
        name = path.stem
        depth = depth_of_corner(k, rotation, centre, (width, height))
        write_depth(folder / "stereo" / "depth_maps" / f"{name}.geometric.bin", depth)
        cameras.append(f"{i} PINHOLE {width} {height} {k[0, 0]} {k[1, 1]} {k[0, 2]} {k[1, 2]}")
        projected = (points - centre) @ rotation.T @ k.T
        xy = projected[:, :2] / projected[:, 2:]
        seen = np.flatnonzero(((xy > 0) & (xy < (width, height))).all(1)).tolist()
        for row, j in enumerate(seen):
            tracks[j].append(f"{i} {row}")
        quaternion = rotation_to_quaternion(rotation)
        pose = " ".join(f"{v:.15g}" for v in (*quaternion, *(-rotation @ centre)))
        observations = " ".join(f"{xy[j, 0]:.9g} {xy[j, 1]:.9g} {j + 1}" for j in seen)
        images += [f"{i} {pose} {i} {name}", observations]
    rows3d = [
        f"{j + 1} {' '.join(map(str, point))} 0 0 0 0 {' '.join(track)}"
        for j, (point, track) in enumerate(zip(points, tracks, strict=True))
    ]
    (folder / "sparse").mkdir()
    for name, lines in (("cameras", cameras), ("images", images), ("points3D", rows3d)):
        (folder / "sparse" / f"{name}.txt").write_text("\n".join(lines) + "\n")


def rotation_to_quaternion(rotation: np.ndarray) -> np.ndarray:
    """(w, x, y, z), COLMAP's order."""
    vector = cv2.Rodrigues(rotation)[0].ravel()
    angle = np.linalg.norm(vector)
    return np.array([np.cos(angle / 2), *(np.sin(angle / 2) * vector / angle)])
