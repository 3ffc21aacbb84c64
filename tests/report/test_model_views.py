"""What the viewer gets is the model: its cameras see its points where COLMAP's do."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from featplug.metrics.poses import model_poses
from featplug.report.model_views import view_model


def test_cameras_of_the_viewer_see_the_points_where_colmaps_do(model: Path) -> None:
    view = view_model(model)
    payload = view.payload()
    raw = np.frombuffer(base64.b64decode(payload["points"]), "<i2").reshape(-1, 3)
    points = raw / 32767 * payload["reach"]
    camera = np.array(payload["cameras"][2])
    centre, rotation, half = camera[:3], camera[3:12].reshape(3, 3), camera[12:]
    seen = (points - centre) @ rotation.T
    ours = seen[:, :2] / seen[:, 2:] / half  # from −1 to 1 in the picture

    truth = pycolmap.Reconstruction(str(model))
    pose = model_poses(truth)[payload["names"][2]]
    xyz = np.array([point.xyz for point in truth.points3D.values()])
    true = xyz @ pose[:, :3].T + pose[:, 3]
    projected = true[:, :2] / true[:, 2:] * 1280 / [512, 384]
    order, order_true = np.lexsort(ours.T), np.lexsort(projected.T)
    assert len(points) == len(xyz) == 300
    np.testing.assert_allclose(
        np.sort(ours[order], axis=0), np.sort(projected[order_true], axis=0), atol=2e-3
    )
    np.testing.assert_allclose(half, [512 / 1280, 384 / 1280], atol=1e-4)
    colours = np.frombuffer(base64.b64decode(payload["colours"]), np.uint8)
    assert colours.reshape(-1, 3).tolist() == [[200, 90, 40]] * 300


def test_a_view_is_upright_of_unit_size_and_small(model: Path) -> None:
    view = view_model(model, max_points=100)
    assert view.points.shape == (100, 3)
    assert (view.num_points, view.num_cameras) == (300, 6)
    # The cameras' y axes point down on average, and they look forward.
    downs, looks = view.cameras[:, 6:9].mean(0), view.cameras[:, 9:12].mean(0)
    assert downs[1] > 0
    assert abs(downs[0]) < 1e-6
    assert looks[2] >= -1e-6
    assert np.linalg.norm(view.cameras[:, :3], axis=1).max() < 1.5


def test_damaged_models_are_rejected_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=tmp_path.name):
        view_model(tmp_path)
    pycolmap.Reconstruction().write(str(tmp_path))
    with pytest.raises(ValueError, match=tmp_path.name):
        view_model(tmp_path)
