"""Verification of matches, against COLMAP's own for whole databases."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from featplug.colmap.cameras import CameraOptions
from featplug.colmap.database import create_database, image_ids, import_features, import_matches
from featplug.colmap.geometric_verification import (
    VerificationSummary,
    verified_pairs,
    verify_matches,
)
from featplug.io.artifact import Provenance
from featplug.io.match_store import MatchReader, MatchWriter
from featplug.io.pair_lists import Pair, write_pairs
from featplug.io.store import FeatureReader
from featplug.stages.pairs import exhaustive
from tests.scenes.synthetic import SyntheticScene, write_synthetic_scene

NUM_KEYPOINTS = 310
"""More than an image has."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> SyntheticScene:
    return write_synthetic_scene(tmp_path_factory.mktemp("noisy") / "scene", noise=1.0)


def matched_database(scene: SyntheticScene, folder: Path, pairs: list[Pair]) -> Path:
    """A database with right and wrong matches: fewer and fewer of them, and none in the end."""
    rng = np.random.default_rng(0)
    database, matches = folder / "database.db", folder / "matches.h5"
    with (
        MatchReader(scene.matches) as right,
        MatchWriter(matches, Provenance("matches", {})) as writer,
    ):
        for i, (name0, name1) in enumerate(pairs):
            indices = right.read(name0, name1)[0][: max(0, 300 - 25 * i)]
            wrong = rng.random(len(indices)) < i / len(pairs)
            indices[wrong, 1] = rng.permutation(indices[wrong, 1])
            matches0 = np.full(NUM_KEYPOINTS, -1)
            matches0[indices[:, 0]] = indices[:, 1]
            writer.write(name0, name1, matches0, np.ones(NUM_KEYPOINTS), NUM_KEYPOINTS)
    create_database(database, scene.images, scene.names, CameraOptions("per-image"))
    with FeatureReader(scene.features) as features:
        import_features(database, features)
    with MatchReader(matches) as reader:
        import_matches(database, pairs, reader)
    return database


def test_geometries_are_those_of_colmap(scene: SyntheticScene, tmp_path: Path) -> None:
    pairs = exhaustive(scene.names)
    database = matched_database(scene, tmp_path, pairs)
    colmap = tmp_path / "colmap.db"
    shutil.copy(database, colmap)
    summary = verify_matches(database, [*pairs, pairs[0][::-1]], seed=3, max_error=2.0)

    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.max_error = 2.0
    options.ransac.max_num_trials = 20_000
    options.ransac.min_inlier_ratio = 0.1
    options.ransac.random_seed = 3
    write_pairs(tmp_path / "pairs.txt", pairs)
    pycolmap.verify_matches(str(colmap), str(tmp_path / "pairs.txt"), options=options)
    ids = image_ids(database)
    assert ids == image_ids(colmap)
    with (
        pycolmap.Database.open(str(database)) as ours,
        pycolmap.Database.open(str(colmap)) as theirs,
    ):
        explained = []  # pairs that COLMAP accepts for their 15 inliers, by chance
        for name0, name1 in pairs:
            mine = ours.read_two_view_geometry(ids[name0], ids[name1])
            other = theirs.read_two_view_geometry(ids[name0], ids[name1])
            if len(mine.inlier_matches) == 0 < len(other.inlier_matches):
                explained.append(len(other.inlier_matches))
                continue
            np.testing.assert_array_equal(mine.inlier_matches, other.inlier_matches)
            if len(mine.inlier_matches):
                assert mine.config == other.config
            for matrix in ("E", "F", "H"):
                np.testing.assert_array_equal(getattr(mine, matrix), getattr(other, matrix))
        num_matches = [len(ours.read_matches(ids[a], ids[b])) for a, b in pairs]
    verified = verified_pairs(database)
    assert len(verified_pairs(colmap)) == len(verified) + len(explained)
    assert len(explained) == summary.num_by_chance
    assert 0 < max(explained) < 30
    # A pair without a match counts as none, one with too few for a geometry as matched.
    assert summary.num_pairs == 15
    assert summary.num_matched_pairs == sum(num > 0 for num in num_matches) == 12
    assert 3 < summary.num_verified_pairs == len(verified) < 12
    assert summary.num_inlier_matches == sum(verified.values())


def test_pairs_are_counted_by_their_inliers() -> None:
    summary = VerificationSummary(9, 7, (15, 29, 30, 99, 100, 299, 300, 5000))
    assert summary.histogram == {"15-29": 2, "30-99": 2, "100-299": 2, "300 or more": 2}
    assert VerificationSummary(1, 1, ()).histogram == dict.fromkeys(summary.histogram, 0)


def test_no_pair_is_verified(scene: SyntheticScene, tmp_path: Path) -> None:
    """Chance is named as the reason only where COLMAP found a geometry."""
    pairs = exhaustive(scene.names)[-4:]
    database = matched_database(scene, tmp_path, [*exhaustive(scene.names)[:-4], *pairs])
    with pytest.raises(ValueError, match="do not overlap") as error:
        verify_matches(database, pairs[:1], seed=0)
    assert "hance" not in str(error.value)
