"""Verification in parts: the geometries of the one database, and a model of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest

from featplug.colmap.database_rows import open_database
from featplug.io.parts.manifest import Manifest, make_manifest
from featplug.io.parts.match_parts import open_matches
from featplug.io.parts.verified_parts import read_verified_parts
from featplug.methods import matcher_conf
from featplug.shards.extract_parts import ExtractParts
from featplug.shards.match_blocks import match_blocks
from featplug.shards.run_parts import run_parts
from featplug.shards.share import Share
from featplug.shards.verify_parts import VerifyParts
from featplug.stages.extract import ExtractOptions
from featplug.stages.map import MapOptions, map_images
from featplug.stages.match import MatchOptions
from featplug.stages.verify import VerifyOptions, import_verified_pairs, verify_pairs
from tests.scenes.room_corner import write_room_corner

EXTRACTION = ExtractOptions(device="cpu", max_keypoints=400)


@pytest.fixture(scope="module")
def matched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A store of six views of a room's corner; its features and matches."""
    folder = tmp_path_factory.mktemp("verified")
    write_room_corner(folder / "room", num_images=6, width=320)
    store = folder / "store"
    make_manifest(folder / "room" / "images", store, 2)
    extracted = run_parts(ExtractParts(store, EXTRACTION.conf("sift"), EXTRACTION)).folder
    stage = match_blocks(
        store,
        extracted.name,
        Path("exhaustive"),
        matcher_conf("NN-ratio"),
        MatchOptions(device="cpu"),
    )
    return store, extracted, run_parts(stage).folder


def test_geometries_are_those_of_one_database(
    matched: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    store, features, matches = matched
    stage = VerifyParts(store, features, matches)
    for index in (1, 0):
        run_parts(stage, Share(index, 2))
    found = {pair.names: pair for pair in read_verified_parts(stage.folder)}
    manifest = Manifest(store)
    names = sorted(manifest.all_names())
    with open_matches(matches) as reader:
        pairs = reader.pairs(names)[0]
    database = tmp_path / "one.db"
    summary = verify_pairs(
        database, manifest.image_dir, names, features, matches, pairs, VerifyOptions()
    ).summary
    assert len(found) == summary.num_verified_pairs > 8
    with open_database(database) as one:
        ids = {image.name: image.image_id for image in one.read_all_images()}
        for (name0, name1), pair in found.items():
            geometry = one.read_two_view_geometry(ids[name0], ids[name1])
            np.testing.assert_array_equal(geometry.inlier_matches, pair.inliers)
            assert pycolmap.TwoViewGeometryConfiguration(geometry.config).name == pair.config
            for name, matrix in pair.matrices.items():
                np.testing.assert_array_equal(getattr(geometry, name), matrix)
    assert run_parts(stage).num_made == 0
    assert run_parts(VerifyParts(store, features, matches, seed=1), overwrite=True).num_made == 6


def test_a_model_is_made_of_verified_parts(
    matched: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    store, features, matches = matched
    stage = VerifyParts(store, features, matches)
    run_parts(stage, overwrite=True)
    manifest = Manifest(store)
    database = tmp_path / "database.db"
    imported = import_verified_pairs(
        database,
        manifest.image_dir,
        manifest.all_names(),
        features,
        stage.folder,
        VerifyOptions(),
    )
    assert imported.summary.num_verified_pairs > 8
    mapped = map_images(database, manifest.image_dir, tmp_path, MapOptions())
    assert mapped.model.num_reg_images() == 6
    assert mapped.model.num_points3D() > 100


def test_missing_matches_are_named(matched: tuple[Path, Path, Path], tmp_path: Path) -> None:
    store, features, _ = matched
    with pytest.raises(FileNotFoundError, match="match the pairs first"):
        run_parts(VerifyParts(store, features, tmp_path))
    with pytest.raises(FileNotFoundError, match="verify the matches first"):
        list(read_verified_parts(tmp_path))
