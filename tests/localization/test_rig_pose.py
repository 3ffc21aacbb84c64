"""Rigs of queries: one pose for all cameras, and what is not known of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pycolmap
import pytest

from featplug.localization.absolute_pose import AbsolutePoseOptions
from featplug.localization.confidence import LEAST_CONFIDENCE
from featplug.localization.file_localizer import QueryMatches
from featplug.localization.queries import Query
from featplug.localization.rig_pose import RigFrame, localize_frames

TURN = np.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])
CAMS_FROM_RIG = [np.eye(4)[:3], np.column_stack([TURN, [0.1, 0, 0]])]


def frame(focal_lengths: list[str], error: float = 1.0) -> tuple[RigFrame, Any]:
    """Two cameras at the origin, 90° apart, whose focal length is wrong by a factor."""
    rng = np.random.default_rng(1)
    queries, matches = [], {}
    for index, (mode, pose) in enumerate(zip(focal_lengths, CAMS_FROM_RIG, strict=True)):
        params = [500.0 * error, 320.0, 240.0]
        camera = pycolmap.Camera(model="SIMPLE_PINHOLE", width=640, height=480, params=params)
        query = Query(f"{index}.jpg", camera, mode)  # type: ignore[arg-type]
        xy = rng.uniform([0, 0], [639, 479], (80, 2))
        rays = np.column_stack([(xy + 0.5 - [320, 240]) / 500.0, np.ones(80)])
        points = (rays * rng.uniform(4, 9, (80, 1)) - pose[:, 3]) @ pose[:, :3]
        supports = np.column_stack([np.arange(80), np.zeros(80, int), np.arange(80)])
        queries.append(query)
        matches[query.name] = QueryMatches(query, ["db.jpg"], [80], xy, points, supports)
    localizer = SimpleNamespace(
        gather=lambda query, _: [matches[query.name]],
        pose_options=lambda _: AbsolutePoseOptions(max_error=4.0),
    )
    return RigFrame(queries, CAMS_FROM_RIG), localizer


def test_both_cameras_have_the_pose_of_their_rig() -> None:
    rig, localizer = frame(["known", "known"])
    for localized, pose in zip(localize_frames(localizer, [rig], {}), CAMS_FROM_RIG, strict=True):
        assert localized.is_localized
        assert localized.pose is not None
        np.testing.assert_allclose(localized.pose.cam_from_world, pose, atol=1e-4)
        assert localized.pose.confidence > 0.9


def test_a_rig_with_an_unknown_focal_length_is_not_localized() -> None:
    rig, localizer = frame(["known", "unknown"], error=1.5)
    for localized in localize_frames(localizer, [rig], {}):
        assert not localized.is_localized
        assert "1.jpg" in str(localized.reason)
        assert "give its intrinsics" in str(localized.reason)


def test_a_guessed_focal_length_of_a_rig_is_a_note_and_costs_confidence() -> None:
    rig, localizer = frame(["known", "guessed"])
    for localized in localize_frames(localizer, [rig], {}):
        assert localized.pose is not None
        assert localized.pose.confidence == pytest.approx(LEAST_CONFIDENCE)
        assert "give its intrinsics" in str(localized.pose.warning)
