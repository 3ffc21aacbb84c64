"""COLMAP models that a full disk cuts short when they are written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import pycolmap
import pytest

from featplug.colmap.model_files import (
    check_written_model,
    export_ply,
    read_model,
    write_model,
)


@pytest.fixture
def model() -> pycolmap.Reconstruction:
    options = pycolmap.SyntheticDatasetOptions()
    options.num_points3D = 50
    return pycolmap.synthesize_dataset(options)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Truncated:
    """A model whose files end where the disk was full: COLMAP's writers raise nothing."""

    def __init__(self, model: pycolmap.Reconstruction, cut: str, size: int) -> None:
        self.model, self.cut, self.size = model, cut, size

    def __getattr__(self, name: str) -> object:
        return self._export if name == "export_PLY" else getattr(self.model, name)

    def write(self, folder: str) -> None:
        self.model.write(folder)
        os.truncate(Path(folder) / self.cut, self.size)

    def _export(self, path: str) -> None:
        self.model.export_PLY(path)
        os.truncate(path, self.size)


def test_a_written_model_is_read_back(model: pycolmap.Reconstruction, tmp_path: Path) -> None:
    for frame_id in list(model.frames)[:2]:
        model.deregister_frame(frame_id)  # which leaves images in memory that files do not have
    write_model(model, tmp_path / "new" / "model")
    written = pycolmap.Reconstruction(str(tmp_path / "new" / "model"))
    assert written.num_reg_images() == model.num_reg_images() < model.num_images()
    assert written.num_points3D() == model.num_points3D() > 0
    export_ply(model, tmp_path / "other" / "points.ply")
    assert b"element vertex 50\n" in (tmp_path / "other" / "points.ply").read_bytes()


@pytest.mark.parametrize("name", ["model", "sfm/model", "colmap_models/0"])
def test_a_model_of_a_run_killed_at_its_end_is_found(
    model: pycolmap.Reconstruction, tmp_path: Path, name: str
) -> None:
    write_model(model, tmp_path / "made" / name)
    (tmp_path / "made").rename(tmp_path / ".finished")
    assert read_model(tmp_path / name).num_points3D() == 50
    assert not (tmp_path / ".finished").exists()


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin", "points3D.bin"])
@pytest.mark.parametrize("fraction", [0, 0.5, 0.99])
def test_a_model_that_the_disk_does_not_hold_is_an_error(
    model: pycolmap.Reconstruction, tmp_path: Path, name: str, fraction: float
) -> None:
    write_model(model, tmp_path / "first")
    size = int(fraction * (tmp_path / "first" / name).stat().st_size)
    truncated = cast(pycolmap.Reconstruction, Truncated(model, name, size))
    folder, path = tmp_path / "model", tmp_path / "points.ply"
    write_model(model, folder)
    export_ply(model, path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=f"{folder} could not be written .* free some space"):
        write_model(truncated, folder)
    truncated = cast(
        pycolmap.Reconstruction, Truncated(model, "", int(fraction * path.stat().st_size))
    )
    with pytest.raises(ValueError, match=f"{path} could not be written .* free some space"):
        export_ply(truncated, path)
    assert contents(tmp_path) == before, "an earlier model is not what it was"


def test_a_model_with_fewer_points_than_were_written_is_an_error(
    model: pycolmap.Reconstruction, tmp_path: Path
) -> None:
    write_model(model, tmp_path)
    model.delete_point3D(next(iter(model.points3D)))
    with pytest.raises(ValueError, match="has other images or points"):
        check_written_model(model, tmp_path)
