"""The stages verify and map, each run alone, from files to files."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest

from featplug.colmap.mapping import MapOptions
from featplug.colmap.model_files import read_model
from featplug.stages.map import map_images
from featplug.stages.pairs import exhaustive
from featplug.stages.verify import VerifyOptions, verify_pairs
from tests.scenes.synthetic import SyntheticScene


def test_a_database_is_verified_and_mapped(
    synthetic_scene: SyntheticScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, database = synthetic_scene, tmp_path / "database.db"
    pairs = exhaustive(scene.names)
    verified = verify_pairs(
        database, scene.images, scene.names, scene.features, scene.matches, pairs, VerifyOptions()
    )
    summary = verified.summary
    assert summary.num_verified_pairs == summary.num_matched_pairs == len(pairs)
    mapped = map_images(database, scene.images, tmp_path, MapOptions())
    model = mapped.model
    assert model.num_reg_images() == len(scene.names)
    assert read_model(tmp_path / "model").num_points3D() == model.num_points3D() > 0
    (listed,) = mapped.models
    assert (listed.path, listed.images) == ("colmap_models/0", scene.names)
    assert listed.num_points == read_model(tmp_path / listed.path).num_points3D()
    assert mapped.not_registered([*scene.names, "x.jpg"]) == ["x.jpg"]
    assert (tmp_path / "points.ply").is_file()
    assert (tmp_path / "colmap.log").stat().st_size > 0

    def contents() -> dict[Path, bytes]:
        files = [path for path in tmp_path.rglob("*") if path.suffix in (".bin", ".ply")]
        return {path: path.read_bytes() for path in files}

    def fail(_: object, __: object, folder: Path, *___: object) -> NoReturn:
        (folder / "0").mkdir(parents=True)
        (folder / "0" / "images.bin").write_bytes(b"half of")
        raise ValueError("the disk is full")

    before = contents()
    monkeypatch.setattr("featplug.stages.map.reconstruct_database", fail)
    with pytest.raises(ValueError, match="the disk is full"):
        map_images(database, scene.images, tmp_path, MapOptions(seed=1))
    assert contents() == before, "an earlier model is not what it was"
