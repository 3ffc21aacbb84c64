"""Reference poses from COLMAP models and Strecha's files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from featplug.metrics.poses import camera_centres, model_poses
from pipelines.datasets.true_poses import (
    holds_reference_poses,
    read_reference_poses,
    reference_unit,
)
from tests.scenes.synthetic import SyntheticScene


def test_strecha_cameras(shared: Path) -> None:
    poses = read_reference_poses(shared / "data/strecha/fountain-P11/gt_dense_cameras")
    assert sorted(poses) == [f"{i:04}.jpg" for i in range(11)]
    pose = poses["0000.jpg"]
    np.testing.assert_allclose(camera_centres(pose), [-7.28137, -7.57667, 0.204446], atol=1e-4)
    np.testing.assert_allclose(pose[:, :3] @ pose[:, :3].T, np.eye(3), atol=1e-5)
    assert np.linalg.det(pose[:, :3]) == pytest.approx(1, abs=1e-5)
    # Rows 5 to 7 of the file turn the camera's axes into the world's.
    np.testing.assert_allclose(pose[2, :3], [-0.887537, -0.449183, -0.102528])
    assert reference_unit(shared / "data/strecha/fountain-P11/gt_dense_cameras") == "m"


def test_colmap_models(synthetic_scene: SyntheticScene, tmp_path: Path) -> None:
    synthetic_scene.truth.write(str(tmp_path))
    poses, expected = read_reference_poses(tmp_path), model_poses(synthetic_scene.truth)
    assert poses.keys() == expected.keys()
    for name, pose in poses.items():
        np.testing.assert_allclose(pose, expected[name])
    assert reference_unit(tmp_path) == "reference units"


def test_what_is_no_reference_is_named(tmp_path: Path) -> None:
    assert not holds_reference_poses(tmp_path)
    with pytest.raises(FileNotFoundError, match="no reference folder"):
        read_reference_poses(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="neither a COLMAP model"):
        read_reference_poses(tmp_path)
    (tmp_path / "0.jpg.camera").write_text("1 0 0\n0 1 0\n")
    with pytest.raises(ValueError, match=r"0.jpg.camera is not a .camera file"):
        read_reference_poses(tmp_path)
    (tmp_path / "images.bin").write_bytes(b"\1\2")
    with pytest.raises(FileNotFoundError, match=r"COLMAP model .* lacks cameras.bin"):
        read_reference_poses(tmp_path)


@pytest.mark.parametrize(
    ("row", "text", "message"),
    [
        (4, "0 0 0", "line 5: expected a rotation"),
        (5, "0 -1 0", "line 5: expected a rotation"),
        (7, "1 2 inf", "line 8: .*finite .* got inf"),
        (7, "1 2", "line 8: expected 3 numbers, got 2"),
        (0, "-900 0 1", "focal lengths above 0, got -900"),
    ],
)
def test_a_damaged_camera_file_is_named_with_its_line(
    tmp_path: Path, row: int, text: str, message: str
) -> None:
    path = tmp_path / "0.jpg.camera"
    rows = ["900 0 1", "0 900 1", "0 0 1", "0 0 0", "1 0 0", "0 1 0", "0 0 1", "1 2 3", "4 3"]
    path.write_bytes("\r\n".join(rows).encode("utf-16"))
    np.testing.assert_array_equal(read_reference_poses(tmp_path)["0.jpg"][:, 3], [-1, -2, -3])
    path.write_text("\n".join([*rows[:row], text, *rows[row + 1 :]]))
    with pytest.raises(ValueError, match=f"^{path}.*{message}"):
        read_reference_poses(tmp_path)
