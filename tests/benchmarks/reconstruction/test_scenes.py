"""Where scenes of other people have their photographs and true poses."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.reconstruction import scenes
from benchmarks.reconstruction.scenes import Scene, find_scene
from tests.scenes.synthetic import SyntheticScene


def test_strechas_scenes(shared: Path) -> None:
    root = shared.resolve() / "data" / "strecha" / "fountain-P11"
    expected = Scene("fountain-P11", root / "images", root / "gt_dense_cameras")
    assert find_scene(root) == find_scene(root / "images") == expected


@pytest.mark.parametrize("place", [".", "sparse", "sparse/0", "dslr_calibration_undistorted"])
def test_colmap_models(synthetic_scene: SyntheticScene, tmp_path: Path, place: str) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    synthetic_scene.truth.write(str(tmp_path / place))
    assert find_scene(tmp_path).reference == (tmp_path / place).resolve()


def test_a_folder_of_photographs_alone(tmp_path: Path) -> None:
    scene = tmp_path / "street"
    scene.mkdir()
    assert find_scene(scene) == Scene("street", scene.resolve(), None)


def test_two_sets_of_true_poses_are_rejected(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.jpg.camera").touch()
    with pytest.raises(ValueError, match="a and in b"):
        find_scene(tmp_path)
    with pytest.raises(FileNotFoundError, match="/c "):
        find_scene(tmp_path / "c")


def test_demo_and_a_seed_name_a_town_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seeds: list[int] = []

    def make(seed: int, progress: bool) -> Path:
        seeds.append(seed)
        return tmp_path / str(seed)

    monkeypatch.setattr(scenes, "make_demo_scene", make)
    names = [find_scene(Path(name)).name for name in ("demo", "demo-0", "demo-7")]
    assert seeds == [0, 0, 7]
    assert names == ["demo-town-0", "demo-town-0", "demo-town-7"]
