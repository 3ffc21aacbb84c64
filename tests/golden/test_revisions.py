"""The guard against a forgotten revision itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.golden.revisions import Revisions


def _outputs(**changes: float) -> dict[str, np.ndarray]:
    keypoints = np.random.default_rng(0).uniform(0, 96, (50, 2)).astype(np.float32)
    return {"keypoints": keypoints + np.float32(changes.get("shift", 0)), "scores": np.ones(50)}


@pytest.fixture
def recorded(tmp_path: Path) -> Revisions:
    Revisions(tmp_path / "revisions.json", is_recording=True).check("sift", 1, _outputs())
    return Revisions(tmp_path / "revisions.json", is_recording=False)


def test_the_same_output_passes_with_what_processors_differ_by(recorded: Revisions) -> None:
    recorded.check("sift", 1, _outputs())
    recorded.check("sift", 1, _outputs(shift=1e-4))


@pytest.mark.parametrize(
    ("name", "revision", "outputs", "remedy"),
    [
        ("sift", 1, _outputs(shift=0.5), "raise the revision"),
        ("sift", 1, {"keypoints": _outputs()["keypoints"]}, "raise the revision"),
        ("sift", 1, {k: v[:49] for k, v in _outputs().items()}, "raise the revision"),
        ("sift", 2, _outputs(), "--record-revisions"),
    ],
)
def test_anything_else_fails_with_the_remedy(
    recorded: Revisions, name: str, revision: int, outputs: dict[str, np.ndarray], remedy: str
) -> None:
    with pytest.raises(pytest.fail.Exception, match=rf"{name} .*{remedy}"):
        recorded.check(name, revision, outputs)


def test_a_new_method_is_skipped_with_the_way_to_record_it(recorded: Revisions) -> None:
    with pytest.raises(pytest.skip.Exception, match=r"surf .*--record-revisions"):
        recorded.check("surf", 1, _outputs())
