"""Verified pairs in COLMAP's database: as they were written, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from featplug.colmap.cameras import CameraOptions
from featplug.colmap.database import create_database, import_features
from featplug.colmap.geometric_verification import verified_pairs
from featplug.colmap.pair_usage import reasons_not_registered
from featplug.colmap.verified_pairs import to_geometry, to_verified_pair, write_verified_pairs
from featplug.io.parts.verified_parts import VerifiedPair
from featplug.io.store import FeatureReader
from tests.scenes.synthetic import SyntheticScene


@pytest.fixture
def database(synthetic_scene: SyntheticScene, tmp_path: Path) -> Path:
    path = tmp_path / "database.db"
    create_database(path, synthetic_scene.images, synthetic_scene.names, CameraOptions())
    with FeatureReader(synthetic_scene.features) as features:
        import_features(path, features)
    return path


def pair_of(names: tuple[str, str], num_inliers: int, num_matches: int = 40) -> VerifiedPair:
    inliers = np.stack([np.arange(num_inliers)] * 2, axis=1).astype(np.uint32)
    config = "CALIBRATED" if num_inliers else "DEGENERATE"
    matrices = {"E": np.diag([1.0, 2.0, 3.0])} if num_inliers else {}
    return VerifiedPair(names, num_matches, config, inliers, matrices, is_chance=not num_inliers)


def test_a_geometry_becomes_the_same_pair() -> None:
    for num in (0, 20):
        pair = pair_of(("a", "b"), num)
        again = to_verified_pair(pair.names, pair.num_matches, to_geometry(pair), pair.is_chance)
        assert again._replace(inliers=0, matrices=0) == pair._replace(inliers=0, matrices=0)
        np.testing.assert_array_equal(again.inliers, pair.inliers)
        assert again.matrices.keys() == pair.matrices.keys()
        for name, matrix in pair.matrices.items():
            np.testing.assert_array_equal(again.matrices[name], matrix)
    with pytest.raises(ValueError, match=r"'CURVED' .* unknown to pycolmap"):
        to_geometry(pair_of(("a", "b"), 20)._replace(config="CURVED"))


def test_pairs_are_counted_and_images_without_any_explained(
    database: Path, synthetic_scene: SyntheticScene
) -> None:
    a, b, c, d, *_ = synthetic_scene.names
    pairs = [
        pair_of((a, b), 30),
        pair_of((a, c), 0),
        pair_of((b, d), 0, num_matches=0),
        pair_of((a, "elsewhere.png"), 30),
        pair_of((b, c), 20),
    ]
    summary = write_verified_pairs(database, pairs, [(b, a), (c, a), (b, d)])
    assert (summary.num_pairs, summary.num_matched_pairs, summary.num_by_chance) == (3, 2, 1)
    assert summary.num_inliers == (30,)
    assert verified_pairs(database) == {(a, b): 30}
    reasons = reasons_not_registered(database, [a, c, d])
    assert reasons[c] == "has matches in 1 pairs, none of which is of one scene"
    assert reasons[d] == "has no matches"
    assert "1 verified pairs, with 30 inliers" in reasons[a]


def test_pairs_of_other_features_are_rejected(
    database: Path, synthetic_scene: SyntheticScene
) -> None:
    a, b, *_ = synthetic_scene.names
    with pytest.raises(ValueError, match="is of other features"):
        write_verified_pairs(database, [pair_of((a, b), 5000)])
