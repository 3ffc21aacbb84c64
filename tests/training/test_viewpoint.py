"""Viewpoint pairs: crops that D2-Net's correspondences join, from both layouts; bad input."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from featplug.training.losses.d2net import find_correspondences
from featplug.training.viewpoint import (
    ViewpointOptions,
    ViewpointPairs,
    overlapping_pairs,
    read_depth,
    read_megadepth,
    read_workspace,
    view_of,
)
from tests.worlds import write_room_corner

OPTIONS = ViewpointOptions(batch_size=2, size=160, pairs_per_scene=8)


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


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photographs of a corner as a dense workspace, its model in COLMAP's text form."""
    folder = tmp_path_factory.mktemp("corner")
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
    return folder


def rotation_to_quaternion(rotation: np.ndarray) -> np.ndarray:
    """(w, x, y, z), COLMAP's order."""
    vector = cv2.Rodrigues(rotation)[0].ravel()
    angle = np.linalg.norm(vector)
    return np.array([np.cos(angle / 2), *(np.sin(angle / 2) * vector / angle)])


def correlation(batch: dict[str, Tensor], shift: float = 0.0) -> tuple[float, int]:
    """Of the grey values at corresponding positions of both images."""
    size = batch["depth0"].shape[1]
    cells = (size // 8, size // 8)
    found = find_correspondences(view_of(batch, 0), view_of(batch, 1), cells, cells)
    kept = found.cells1 >= 0
    values = []
    for k, positions in enumerate((found.positions0, found.positions1 + shift)):
        grid = (2 * positions[:, None] + 1) / size - 1
        sampled = F.grid_sample(batch[f"image{k}"], grid, align_corners=False)
        values.append(sampled[:, 0, 0][kept])
    return float(torch.corrcoef(torch.stack(values))[0, 1]), int(kept.sum())


def test_correspondences_look_alike(workspace: Path) -> None:
    data = ViewpointPairs([read_workspace(workspace)], OPTIONS)
    for step in range(3):
        batch = data[step]
        exact, count = correlation(batch)
        assert count > 200
        assert exact > 0.99
        # The cells are where the textures are, to less than the pixel that a wrong convention
        # for pixel centres or crops would cost.
        assert exact > correlation(batch, 1.0)[0] + 0.005
        assert exact > correlation(batch, -1.0)[0] + 0.005


def test_a_step_is_a_step(workspace: Path) -> None:
    scene = read_workspace(workspace)
    first, again = (ViewpointPairs([scene], OPTIONS, seed=3)[5] for _ in range(2))
    other = ViewpointPairs([scene], OPTIONS, seed=4)[5]
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["image0"], other["image0"])


def test_megadepth_is_the_same_scene(workspace: Path, tmp_path: Path) -> None:
    undistorted = tmp_path / "Undistorted_SfM" / "0012"
    shutil.copytree(workspace / "images", undistorted / "images")
    shutil.copytree(workspace / "sparse", undistorted / "sparse-txt")
    depths = tmp_path / "phoenix/S6/zl548/MegaDepth_v1/0012/dense0/depths"
    for path in (workspace / "stereo" / "depth_maps").iterdir():
        depth = read_depth(path)
        write_depth(depths / f"{path.name.partition('.')[0]}.h5", depth)
    # An ordinal map is smaller than a depth map, and none.
    write_depth(depths / "03.h5", np.full((8, 8), -1, np.float32))
    scene = read_megadepth(tmp_path, "0012")
    assert [photograph.image.name for photograph in scene.photographs] == [
        "00.png",
        "01.png",
        "02.png",
    ]
    assert correlation(ViewpointPairs([scene], OPTIONS)[0])[0] > 0.99


def test_depth_maps_of_another_size(workspace: Path, tmp_path: Path) -> None:
    smaller = tmp_path / "smaller"
    shutil.copytree(workspace, smaller)
    for path in (smaller / "stereo" / "depth_maps").iterdir():
        depth = cv2.resize(read_depth(path), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        write_depth(path, depth)
    batch = ViewpointPairs([read_workspace(smaller)], OPTIONS)[0]
    assert correlation(batch)[0] > 0.97
    # 160×120 pixels are left, fewer than the crop: what is missing has no depth.
    assert (batch["depth0"][:, 120:] == 0).all()
    assert (batch["depth0"][:, :120] > 0).any()


def test_overlap_is_a_part_of_the_first_ones_points() -> None:
    ids = [np.arange(10), np.arange(5, 8), np.array([100]), np.zeros(0, int)]
    assert overlapping_pairs(ids, 0.5).tolist() == [[1, 0]]
    assert overlapping_pairs(ids, 0.3).tolist() == [[0, 1], [1, 0]]
    assert overlapping_pairs([], 0.5).shape == (0, 2)


def test_bad_scenes(workspace: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no COLMAP model"):
        read_workspace(tmp_path)
    shutil.copytree(workspace / "sparse", tmp_path / "sparse")
    with pytest.raises(ValueError, match=r"None of the 0 photographs .* make depth maps"):
        read_workspace(tmp_path)
    shutil.copytree(workspace / "stereo", tmp_path / "stereo")
    cameras = tmp_path / "sparse" / "cameras.txt"
    cameras.write_text(cameras.read_text().replace("PINHOLE", "OPENCV").replace("\n", " 0 0 0 0\n"))
    with pytest.raises(ValueError, match=r"distortion \(OPENCV\); undistort it"):
        read_workspace(tmp_path)
    with pytest.raises(ValueError, match="no scenes"):
        ViewpointPairs([])


@pytest.mark.parametrize("name", ["a.bin", "a.h5"])
def test_a_damaged_depth_map(tmp_path: Path, name: str) -> None:
    write_depth(tmp_path / name, np.ones((20, 30), np.float32))
    assert read_depth(tmp_path / name).shape == (20, 30)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:900])
    with pytest.raises(ValueError, match=rf"{name} is no depth map, or damaged"):
        read_depth(tmp_path / name)
