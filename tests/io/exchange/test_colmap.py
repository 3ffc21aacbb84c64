"""COLMAP's database: what pycolmap finds in it, and the way back."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from featplug.cli.program import PROGRAM
from featplug.colmap.cameras import CameraOptions
from featplug.colmap.database import create_database, image_ids
from featplug.colmap.mapping import MapOptions, reconstruct_database
from featplug.io.artifact import Provenance
from featplug.io.exchange.colmap import DatabaseOptions, export_database, import_database
from featplug.io.exchange.transfer import ImportFiles, Selection
from featplug.io.match_store import MatchReader, MatchWriter
from featplug.io.store import FeatureReader, FeatureWriter
from featplug.metrics.poses import reconstruction_statistics
from tests.io.exchange.conftest import (
    NAMES,
    SIZE,
    assert_same_features,
    assert_same_matches,
    random_features,
    write_feature_file,
)
from tests.scenes.synthetic import MatchedImages, SyntheticScene

HAS_TYPES = hasattr(pycolmap, "FeatureDescriptors")
needs_types = pytest.mark.skipif(not HAS_TYPES, reason="descriptors have types since pycolmap 4.0")


def test_pycolmap_finds_keypoints_and_matches(photographs: MatchedImages, tmp_path: Path) -> None:
    database = tmp_path / "deep" / "database.db"
    transfer = export_database(
        database,
        photographs.features,
        photographs.folder / "images",
        photographs.matches,
        options=DatabaseOptions(descriptors="sift", verify=False),
    )
    assert (transfer.num_images, transfer.num_keypoints) == (3, 70)
    assert (transfer.num_pairs, transfer.num_matches) == (1, 15)
    assert [path.name for path in database.parent.iterdir()] == ["database.db"]
    ids = image_ids(database)
    assert sorted(ids) == NAMES
    with FeatureReader(photographs.features) as reader:
        wanted = reader.read("db/a.png")
    with pycolmap.Database.open(str(database)) as opened:
        frames = opened.read_keypoints(ids["db/a.png"])
        matches = opened.read_matches(ids["db/a.png"], ids["b.png"])
        stored = opened.read_descriptors(ids["db/a.png"])
    np.testing.assert_allclose(frames[:, :2], wanted["keypoints"] + 0.5)
    np.testing.assert_allclose(frames[:, 2], wanted["scales"])
    np.testing.assert_allclose(frames[:, 3], np.deg2rad(wanted["oris"]), rtol=1e-6)
    with MatchReader(photographs.matches) as match_reader:
        np.testing.assert_array_equal(matches, match_reader.read("db/a.png", "b.png")[0])
    if HAS_TYPES:
        assert stored.type == pycolmap.FeatureExtractorType.SIFT
        stored = stored.data
    assert stored.dtype == np.uint8
    np.testing.assert_allclose(stored / 512, wanted["descriptors"].T, atol=0.51 / 512)


def test_there_and_back(photographs: MatchedImages, tmp_path: Path) -> None:
    database, features, matches = (tmp_path / n for n in ("database.db", "feats.h5", "matches.h5"))
    arguments = database, photographs.features, photographs.folder / "images", photographs.matches
    export_database(*arguments, options=DatabaseOptions(descriptors="sift", verify=False))
    transfer = import_database(database, ImportFiles(features, matches))
    assert transfer.num_matches == 15
    assert not transfer.skipped
    keys = ("keypoints", "scales", "oris", "descriptors")
    assert_same_features(features, photographs.features, keys, atol=2e-3)
    assert_same_matches(matches, photographs.matches)
    with FeatureReader(features) as reader, MatchReader(matches) as match_reader:
        assert match_reader.provenance is not None
        assert match_reader.provenance.inputs["features"] == reader.file_id
        lengths = np.linalg.norm(reader.read("b.png")["descriptors"], axis=0)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)


@needs_types
@pytest.mark.parametrize("dimensions", [32, 512])
def test_descriptors_of_any_kind_come_back_exactly(
    photographs: MatchedImages, tmp_path: Path, dimensions: int
) -> None:
    source = {name: random_features(7, i, dimensions) for i, name in enumerate(NAMES)}
    path = write_feature_file(tmp_path / "feats.h5", source)
    database, features = tmp_path / "database.db", tmp_path / "back.h5"
    export_database(
        database, path, photographs.folder / "images", options=DatabaseOptions(descriptors="float")
    )
    import_database(database, ImportFiles(features))
    with FeatureReader(features) as reader:
        for name in NAMES:
            found = reader.read(name)["descriptors"]
            np.testing.assert_array_equal(found, source[name]["descriptors"])
    with pytest.raises(ValueError, match=r"descriptors of 'b.png' .* are not SIFT's"):
        export_database(
            tmp_path / "2.db",
            path,
            photographs.folder / "images",
            options=DatabaseOptions(descriptors="sift"),
        )
    assert not (tmp_path / "2.db").exists()


@pytest.mark.skipif(HAS_TYPES, reason="this pycolmap has descriptors of other kinds")
def test_an_old_pycolmap_takes_no_other_descriptors(
    photographs: MatchedImages, tmp_path: Path
) -> None:
    images = photographs.folder / "images"
    with pytest.raises(ValueError, match=r"upgrade it to 4.0 or newer"):
        export_database(
            tmp_path / "a.db",
            photographs.features,
            images,
            options=DatabaseOptions(descriptors="float"),
        )


def test_the_database_is_reconstructed_and_its_inliers_come_back(
    synthetic_scene: SyntheticScene, tmp_path: Path
) -> None:
    """An origin off by half a pixel would leave half a pixel of reprojection error."""
    camera = next(iter(synthetic_scene.truth.cameras.values()))
    options = DatabaseOptions("single", camera.model.name, ",".join(map(str, camera.params)))
    database = tmp_path / "database.db"
    scene = synthetic_scene
    transfer = export_database(
        database, scene.features, scene.images, scene.matches, options=options
    )
    (model,) = reconstruct_database(
        database, scene.images, tmp_path / "sfm", MapOptions(refine_intrinsics=False)
    ).values()
    assert reconstruction_statistics(model).mean_reprojection_error < 0.01
    features, matches = tmp_path / "feats.h5", tmp_path / "matches.h5"
    import_database(database, ImportFiles(features, matches), inliers=True)
    with pycolmap.Database.open(str(database)) as opened:
        num_inliers = sum(opened.read_two_view_geometry_num_inliers()[1])
    with MatchReader(matches) as ours, MatchReader(scene.matches) as theirs:
        found, others = ours.pairs(scene.names)
        assert len(found) == 15
        assert not others
        count = 0
        for pair in found:
            indices = {tuple(row) for row in ours.read(*pair)[0].tolist()}
            assert indices <= {tuple(row) for row in theirs.read(*pair)[0].tolist()}
            count += len(indices)
    assert transfer.verification is not None
    assert count == num_inliers == transfer.verification.num_inlier_matches > 0


def test_affine_and_absent_keypoints_are_read(photographs: MatchedImages, tmp_path: Path) -> None:
    """COLMAP's own affine SIFT has six columns; an image may have no row at all."""
    database, features = tmp_path / "database.db", tmp_path / "feats.h5"
    create_database(database, photographs.folder / "images", NAMES, CameraOptions("per-image"))
    angle, scale = np.deg2rad(30), 3.0
    shape = scale * np.array([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)])
    row = np.concatenate([[10.5, 20.5], shape]).astype(np.float32)[None]
    ids = image_ids(database)
    with pycolmap.Database.open(str(database)) as opened:
        opened.write_keypoints(ids["b.png"], row)
        opened.write_keypoints(ids["db/a.png"], np.zeros((0, 4), np.float32))
    transfer = import_database(database, ImportFiles(features))
    assert list(transfer.skipped) == ["query/night/c.png"]
    with FeatureReader(features) as reader:
        assert reader.names() == ["b.png", "db/a.png"]
        found = reader.read("b.png")
        assert len(reader.keypoints("db/a.png")) == 0
    np.testing.assert_allclose(found["keypoints"], [[10, 20]])
    np.testing.assert_allclose([found["scales"][0], found["oris"][0]], [3, 30], rtol=1e-5)


def test_several_matches_of_a_keypoint_become_one(
    photographs: MatchedImages, tmp_path: Path
) -> None:
    database, features, matches = (tmp_path / n for n in ("database.db", "feats.h5", "matches.h5"))
    export_database(database, photographs.features, photographs.folder / "images")
    ids = image_ids(database)
    with pycolmap.Database.open(str(database)) as opened:
        rows = np.array([[3, 7], [3, 8], [4, 8]], np.uint32)
        opened.write_matches(ids["b.png"], ids["db/a.png"], rows)
    transfer = import_database(database, ImportFiles(features, matches))
    assert "1 of 3 matches of 'b.png' and 'db/a.png'" in transfer.skipped["b.png db/a.png"]
    with MatchReader(matches) as reader:
        assert reader.read("b.png", "db/a.png")[0].tolist() == [[3, 7], [4, 8]]


def test_matches_of_other_features_are_named(photographs: MatchedImages, tmp_path: Path) -> None:
    images, database = photographs.folder / "images", tmp_path / "database.db"
    export_database(database, photographs.features, images)
    ids = image_ids(database)
    with pycolmap.Database.open(str(database)) as opened:
        opened.write_matches(ids["b.png"], ids["db/a.png"], np.array([[2, 30]], np.uint32))
    features, matches = tmp_path / "feats.h5", tmp_path / "matches.h5"
    with pytest.raises(ValueError, match=r"database.db matches keypoint 2 of 'b.png' with 30 of"):
        import_database(database, ImportFiles(features, matches))
    assert not matches.exists()
    fewer = {name: random_features(3, i) for i, name in enumerate(NAMES)}
    path = write_feature_file(tmp_path / "fewer.h5", fewer)
    with pytest.raises(ValueError, match=r"matches.h5: .* are of other features.*--overwrite"):
        export_database(tmp_path / "2.db", path, images, photographs.matches)
    assert not (tmp_path / "2.db").exists()


def test_pairs_of_unknown_images_are_left_out_and_told(
    photographs: MatchedImages, tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_text("b.png\ndb/a.png")
    transfer = export_database(
        tmp_path / "database.db",
        photographs.features,
        photographs.folder / "images",
        photographs.matches,
        selection=Selection(tmp_path / "list.txt"),
        options=DatabaseOptions(verify=False),
    )
    assert (transfer.num_images, transfer.num_pairs) == (2, 1)
    assert list(transfer.skipped) == ["b.png/query-night-c.png"]


@pytest.mark.parametrize("in_name", [True, False])
def test_pairs_of_hlocs_old_style_are_found(tmp_path: Path, in_name: bool) -> None:
    """``a_b.png_c.png``: the underscore between the names is not the only one."""
    names = ["a_b.png", "c.png"] if in_name else ["a.png", "c_d/b.png"]
    path = tmp_path / "matches.h5"
    with MatchWriter(path, Provenance("matches", {})) as writer:
        datasets = {"matches0": np.array([0]), "matching_scores0": np.ones(1)}
        writer.link("_".join(name.replace("/", "-") for name in names), datasets, {})
        writer.link("x.png_y.png", datasets, {})
    with MatchReader(path) as reader:
        assert reader.pairs(names) == ([tuple(names)], ["x.png_y.png"])


def test_files_of_others_are_not_replaced(
    photographs: MatchedImages, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    images = photographs.folder / "images"
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    export = "export", "colmap", "--features", photographs.features, "--image_dir", images
    line = refusal(PROGRAM, "featplug", *export, "--database", notes)
    assert "notes.txt exists" in line
    line = refusal(PROGRAM, "featplug", *export, "--database", notes, "--overwrite")
    assert "notes.txt is no COLMAP database" in line
    line = refusal(
        PROGRAM, "featplug", "import", "colmap", "--database", notes, "--features", "x.h5"
    )
    assert "notes.txt is no COLMAP database" in line
    assert notes.read_text() == "mine"
    missing = tmp_path / "absent.db"
    line = refusal(
        PROGRAM, "featplug", "import", "colmap", "--database", missing, "--features", "x.h5"
    )
    assert "There is no COLMAP database" in line
    assert not missing.exists()
    database = tmp_path / "database.db"
    export_database(database, photographs.features, images)
    export_database(database, photographs.features, images, overwrite=True)
    arguments = "import", "colmap", "--database", database, "--features"
    line = refusal(PROGRAM, "featplug", *arguments, photographs.features)
    assert "feats.h5 exists already" in line
    line = refusal(PROGRAM, "featplug", *arguments, photographs.matches, "--overwrite")
    assert "holds matches, so it is not overwritten with features" in line
    with FeatureReader(photographs.features) as reader:
        assert reader.names() == NAMES


def test_an_image_that_is_not_there_is_named(photographs: MatchedImages, tmp_path: Path) -> None:
    features = tmp_path / "feats.h5"
    with FeatureWriter(features, Provenance("features", {})) as writer:
        writer.write("lost.png", random_features(3, 0), SIZE, 1.0, "")
    with pytest.raises(FileNotFoundError, match=r"1 of 1 images .* the first is 'lost.png'"):
        export_database(tmp_path / "a.db", features, photographs.folder / "images")
    (tmp_path / "list.txt").write_text("b.png")
    listed = Selection(tmp_path / "list.txt")
    with pytest.raises(ValueError, match=r"no features of 1 of 1 images, the first is 'b.png'"):
        export_database(
            tmp_path / "a.db", features, photographs.folder / "images", selection=listed
        )


def test_descriptors_of_unknown_meaning_are_refused(
    photographs: MatchedImages, tmp_path: Path
) -> None:
    database, features = tmp_path / "database.db", tmp_path / "feats.h5"
    export_database(database, photographs.features, photographs.folder / "images")
    data = np.zeros((40, 61), np.uint8)
    with pycolmap.Database.open(str(database)) as opened:
        image_id = image_ids(database)["b.png"]
        if HAS_TYPES:
            kind = pycolmap.FeatureExtractorType.UNDEFINED
            opened.write_descriptors(image_id, pycolmap.FeatureDescriptors(type=kind, data=data))
        else:
            opened.write_descriptors(image_id, data)
    with pytest.raises(ValueError, match=r"'b.png' .* have 61 bytes each"):
        import_database(database, ImportFiles(features))
    assert not features.exists()
    assert import_database(database, ImportFiles(features), descriptors=False).num_images == 3


def test_an_empty_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "database.db"
    pycolmap.Database.open(str(path)).close()
    with pytest.raises(ValueError, match=r"database.db has no keypoints"):
        import_database(path, ImportFiles(tmp_path / "feats.h5"))
    other = tmp_path / "other.db"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE songs (title TEXT)")
    connection.commit()
    connection.close()
    with pytest.raises(ValueError, match=r"other.db is no COLMAP database"):
        import_database(other, ImportFiles(tmp_path / "feats.h5"))
