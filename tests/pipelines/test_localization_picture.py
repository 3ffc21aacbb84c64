"""Pictures of a localization: successes in one, failures with their reasons in the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
from PIL import Image

from featplug.localization.absolute_pose import AbsolutePose
from featplug.localization.file_localizer import FileLocalizer, LocalizedQuery
from featplug.localization.queries import Query
from pipelines import localization_picture
from pipelines.localization_picture import FAILURES, PICTURE, QueryPictures
from tests.scenes.pictures import textured_image

CAMERA = pycolmap.Camera(model="SIMPLE_PINHOLE", width=80, height=60, params=[70, 40, 30])


class Outcome(LocalizedQuery):
    """A query with a pose, and inliers in one database image."""

    @property
    def best_image(self) -> str:
        return "db.png"


class Inliers(FileLocalizer):
    """Returns as many inliers as a pose has."""

    def __init__(self) -> None:
        pass

    def inliers_in_best_image(self, localized: LocalizedQuery) -> tuple[np.ndarray, np.ndarray]:
        assert localized.pose is not None
        points = np.random.default_rng(0).uniform(5, 50, (localized.pose.num_inliers, 2))
        return points, points

    gather = reason = hloc_log = None  # type: ignore[assignment]


Inliers.__abstractmethods__ = frozenset()


def outcome(name: str, num_inliers: int, off: float = 0.0, reason: str | None = None) -> Any:
    pose = np.eye(3, 4)
    pose[0, 3] = off
    inliers = np.ones(num_inliers, bool)
    made = AbsolutePose.__new__(AbsolutePose)
    for field, value in {"cam_from_world": pose, "inliers": inliers}.items():
        object.__setattr__(made, field, value)
    attempt: Any = (None, made)
    return Outcome(Query(name, CAMERA), [attempt], 0, reason)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Picture to the titles of its pairs, in their order."""
    titles: dict[str, list[str]] = {}
    real = localization_picture.draw_localization, localization_picture.draw_pairs

    def localization(path: Path, *arguments: Any) -> None:
        titles[path.name] = [pair.title for pair in arguments[-1]]
        real[0](path, *arguments)

    def pairs(path: Path, shown: Any) -> None:
        titles[path.name] = [pair.title for pair in shown]
        real[1](path, shown)

    monkeypatch.setattr(localization_picture, "draw_localization", localization)
    monkeypatch.setattr(localization_picture, "draw_pairs", pairs)
    return titles


def draw(
    folder: Path, outcomes: list[Any], conditions: dict[str, str], has_truth: bool = True
) -> dict[str, str]:
    for name in ("db.png", *conditions):
        Image.fromarray(textured_image(1, 80, 60)).save(folder / name)
    truth = {name: np.eye(3, 4) for name in conditions} if has_truth else None
    pictures = QueryPictures(conditions, truth, (5.0, 10.0))
    for found in outcomes:
        pictures.consider(found, Inliers())
    poses = {"": {found.query.name: found.pose.cam_from_world for found in outcomes}}
    return pictures.draw(folder, folder, lambda: (np.eye(2, 3), np.zeros((1, 3))), poses)


def test_successes_and_failures_are_apart_and_the_clearest_are_shown(
    tmp_path: Path, drawn: dict[str, list[str]]
) -> None:
    conditions = {f"{number}.png": "day" if number < 6 else "night" for number in range(10)}
    outcomes = [
        outcome("0.png", 30, 0.1),
        outcome("1.png", 300, 0.02),
        outcome("2.png", 200, 0.03),
        outcome("3.png", 11, 40.0, "chance explains the 11 inliers of 300 matches"),
        outcome("4.png", 14, 28.0),
        outcome("6.png", 20, 0.5),
        outcome("7.png", 9, 1.0, "chance explains the 9 inliers of 100 matches"),
        outcome("8.png", 8, 1.0, "chance explains the 8 inliers of 100 matches"),
    ]
    assert draw(tmp_path, outcomes, conditions) == {}
    assert [title.split()[:2] for title in drawn[PICTURE]] == [
        ["day:", "1.png"],
        ["night:", "6.png"],
    ]
    assert "0.02 m" in drawn[PICTURE][0]
    wrong, *rejected = drawn[FAILURES]
    assert "4.png" in wrong
    assert "28.00 m" in wrong
    assert "wrong" in wrong
    assert [title.split()[1] for title in rejected] == ["3.png", "7.png"]
    assert all("not localized: chance explains" in " ".join(t.split()) for t in rejected)
    for name in (PICTURE, FAILURES):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_without_failures_there_is_one_picture_and_without_truth_no_error(
    tmp_path: Path, drawn: dict[str, list[str]]
) -> None:
    assert draw(tmp_path, [outcome("0.png", 50, 99.0)], {"0.png": ""}, has_truth=False) == {}
    assert drawn == {PICTURE: ["0.png and db.png, 50 inliers"]}
    assert not (tmp_path / FAILURES).exists()


def test_a_picture_of_failures_that_cannot_be_made_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, _: object) -> None:
        path.write_bytes(b"half a picture")
        raise MemoryError("no memory")

    monkeypatch.setattr(localization_picture, "draw_pairs", fail)
    not_drawn = draw(tmp_path, [outcome("0.png", 9, reason="no inliers")], {"0.png": "day"})
    assert "no memory" in not_drawn[FAILURES]
    assert not (tmp_path / FAILURES).exists()
    assert (tmp_path / PICTURE).is_file()
