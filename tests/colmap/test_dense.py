"""Dense points from depth maps, and who can make depth maps."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import numpy as np
import pycolmap
import pytest
from PIL import Image

from featplug.colmap.dense import dense_reconstruction, fuse_depth_maps, require_dense

WIDTH, HEIGHT, FOCAL, DISTANCE = 80, 60, 70.0, 2.0


def write_model(folder: Path, images: Path, num: int = 6) -> None:
    """Cameras side by side that look at right angles at a wall, in COLMAP's text form."""
    folder.mkdir(parents=True)
    images.mkdir()
    names = [f"{i}.png" for i in range(num)]
    wall = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH + 8 * num, 3), dtype=np.uint8)
    lines = []
    for i, name in enumerate(names):
        # 0.2 to the side move the wall by 0.2 · 70 / 2 = 7 pixels.
        Image.fromarray(wall[:, 7 * i : 7 * i + WIDTH]).save(images / name)
        lines.append(f"{i + 1} 1 0 0 0 {-0.2 * i} 0 0 1 {name}\n40 30 1\n")
    (folder / "cameras.txt").write_text(f"1 PINHOLE {WIDTH} {HEIGHT} {FOCAL} {FOCAL} 40 30\n")
    (folder / "images.txt").write_text("".join(lines))
    track = " ".join(f"{i + 1} 0" for i in range(num))
    (folder / "points3D.txt").write_text(f"1 0.5 0 {DISTANCE} 9 9 9 0.1 {track}\n")


def write_map(path: Path, values: np.ndarray) -> None:
    """COLMAP's depth and normal maps: ``width&height&channels&``, then float32, x fastest."""
    channels = values[..., None] if values.ndim == 2 else values
    header = f"{channels.shape[1]}&{channels.shape[0]}&{channels.shape[2]}&".encode()
    path.write_bytes(header + channels.transpose(2, 0, 1).astype("<f4").tobytes())


def test_depth_maps_of_a_wall_are_fused_to_a_wall(tmp_path: Path) -> None:
    write_model(tmp_path / "model", tmp_path / "images")
    workspace = tmp_path / "dense"
    pycolmap.undistort_images(str(workspace), str(tmp_path / "model"), str(tmp_path / "images"))
    towards_cameras = np.zeros((HEIGHT, WIDTH, 3))
    towards_cameras[..., 2] = -1
    for image in (tmp_path / "images").iterdir():
        depths = workspace / "stereo" / "depth_maps" / f"{image.name}.geometric.bin"
        write_map(depths, np.full((HEIGHT, WIDTH), DISTANCE))
        normals = workspace / "stereo" / "normal_maps" / f"{image.name}.geometric.bin"
        write_map(normals, towards_cameras)
    points = np.array([point.xyz for point in fuse_depth_maps(workspace).points3D.values()])
    assert len(points) > 1000
    np.testing.assert_allclose(points[:, 2], DISTANCE, atol=1e-4)
    maps = sorted((workspace / "stereo").glob("*_maps/*.bin"))
    os.truncate(maps[0], maps[0].stat().st_size - 1)
    with pytest.raises(ValueError, match=f"{maps[0]} could not be written .*free some space"):
        fuse_depth_maps(workspace)


def test_images_that_stereo_cannot_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pycolmap, "has_cuda", True)
    write_model(tmp_path / "model", tmp_path / "images")
    path = tmp_path / "images" / "3.png"
    Image.open(path).save(path, "WEBP")
    with pytest.raises(ValueError, match=f"{path} is WEBP, .*convert it to JPEG or PNG"):
        dense_reconstruction(tmp_path / "model", tmp_path / "images", tmp_path / "dense")


def test_without_cuda_it_is_said_what_to_install(tmp_path: Path) -> None:
    if pycolmap.has_cuda:
        pytest.skip("this pycolmap has CUDA")
    with pytest.raises(ValueError, match="pycolmap-cuda12"):
        require_dense()


@pytest.mark.parametrize(("free", "remedy"), [(0, "free some space"), (2**40, "with its log")])
def test_an_error_of_colmap_is_one_of_the_disk_only_where_that_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, remedy: str
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("[mvs.cc:1] out of memory")

    monkeypatch.setattr(pycolmap, "has_cuda", True)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    monkeypatch.setattr(pycolmap, "stereo_fusion", fail)
    write_model(tmp_path / "model", tmp_path / "images")
    workspace = tmp_path / "dense"
    workspace.mkdir()
    with pytest.raises(ValueError, match=f"{workspace}.*out of memory.*{remedy}"):
        fuse_depth_maps(workspace)
    monkeypatch.setattr(pycolmap, "undistort_images", fail)
    with pytest.raises(ValueError, match=f"{workspace}.*out of memory.*{remedy}"):
        dense_reconstruction(tmp_path / "model", tmp_path / "images", workspace)


@pytest.mark.gpu
def test_a_wall_is_found_by_stereo(tmp_path: Path) -> None:
    if not pycolmap.has_cuda:
        pytest.skip("this pycolmap has no CUDA")
    write_model(tmp_path / "model", tmp_path / "images")
    dense = dense_reconstruction(tmp_path / "model", tmp_path / "images", tmp_path / "dense")
    points = np.array([point.xyz for point in dense.points3D.values()])
    assert len(points) > 500
    assert np.median(np.abs(points[:, 2] - DISTANCE)) < 0.02
