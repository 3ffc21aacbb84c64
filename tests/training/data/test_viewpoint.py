"""Viewpoint pairs: crops that D2-Net's correspondences join, from both layouts; bad input."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from featplug.training.data.correspondences import find_correspondences
from featplug.training.data.viewpoint import (
    ViewpointOptions,
    ViewpointPairs,
    overlapping_pairs,
    posed_depth,
    read_depth,
    read_megadepth,
    read_workspace,
)
from tests.scenes.room_corner import write_depth

OPTIONS = ViewpointOptions(batch_size=2, size=160, pairs_per_scene=8)


def correlation(batch: dict[str, Tensor], shift: float = 0.0) -> tuple[float, int]:
    """Of the grey values at corresponding positions of both images."""
    size = batch["depth0"].shape[1]
    cells = (size // 8, size // 8)
    found = find_correspondences(posed_depth(batch, 0), posed_depth(batch, 1), cells, cells)
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
    with pytest.raises(FileNotFoundError, match="sparse"):
        read_workspace(tmp_path)
    shutil.copytree(workspace / "sparse", tmp_path / "sparse")
    with pytest.raises(ValueError, match=r"sparse.*make depth maps"):
        read_workspace(tmp_path)
    shutil.copytree(workspace / "stereo", tmp_path / "stereo")
    cameras = tmp_path / "sparse" / "cameras.txt"
    cameras.write_text(cameras.read_text().replace("PINHOLE", "OPENCV").replace("\n", " 0 0 0 0\n"))
    with pytest.raises(ValueError, match=r"sparse.*OPENCV.*image_undistorter"):
        read_workspace(tmp_path)
    with pytest.raises(ValueError, match="scene"):
        ViewpointPairs([])


@pytest.mark.parametrize("name", ["a.bin", "a.h5"])
def test_a_damaged_depth_map(tmp_path: Path, name: str) -> None:
    write_depth(tmp_path / name, np.ones((20, 30), np.float32))
    assert read_depth(tmp_path / name).shape == (20, 30)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:900])
    with pytest.raises(ValueError, match=rf"{name}.*make it again"):
        read_depth(tmp_path / name)
