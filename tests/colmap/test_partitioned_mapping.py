"""Mapping by clusters: the model is as good as one made at once, and clusters are kept."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pycolmap
import pytest

from featplug.colmap.database import image_ids
from featplug.colmap.database_subset import subset_hash, write_subset
from featplug.colmap.mapping import MapOptions, check_clusters, reconstruct_database
from featplug.colmap.partitioned_mapping import MappedCluster
from featplug.metrics.poses import aligned_pose_errors, model_poses
from featplug.stages.verify import VerifyOptions, verify_pairs
from tests.scenes.synthetic import STREET_REACH, SurroundingScene, near_pairs, write_street_scene


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> SurroundingScene:
    return write_street_scene(tmp_path_factory.mktemp("street") / "scene", seed=1)


@pytest.fixture(scope="module")
def database(street: SurroundingScene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("database") / "x.db"
    names = sorted(street.poses)
    files = street.images, names, street.features, street.matches, near_pairs(names)
    verify_pairs(path, *files, VerifyOptions())
    return path


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> MapOptions:
    folder = tmp_path_factory.mktemp("kept") / "clusters"
    return MapOptions(
        mapper="partitioned",
        cluster_images=16,
        cluster_overlap=6,
        num_threads=1,
        clusters=folder,
    )


@pytest.fixture(scope="module")
def partitioned(
    street: SurroundingScene,
    database: Path,
    options: MapOptions,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[pycolmap.Reconstruction, list[MappedCluster]]:
    """The model of the street in clusters, and what became of these."""
    clusters: list[MappedCluster] = []
    finished: list[int] = []
    folder = tmp_path_factory.mktemp("models")
    arguments = database, street.images, folder, options
    (model,) = reconstruct_database(*arguments, finished.append, clusters.extend).values()
    assert finished == [cluster.num_images for cluster in clusters]
    return model, clusters


def _errors(model: pycolmap.Reconstruction, street: SurroundingScene) -> np.ndarray:
    return aligned_pose_errors(model_poses(model), street.poses).position


def test_a_street_in_clusters_is_as_good_as_at_once(
    street: SurroundingScene,
    database: Path,
    partitioned: tuple[pycolmap.Reconstruction, list[MappedCluster]],
    tmp_path: Path,
) -> None:
    model, clusters = partitioned
    assert 3 <= len(clusters) <= 4
    assert sum(cluster.num_images for cluster in clusters) == len(street.poses) == 40
    assert all(cluster.num_shared >= 3 and cluster.model == 0 for cluster in clusters)
    at_once = MapOptions(num_threads=1)
    (single,) = reconstruct_database(database, street.images, tmp_path, at_once).values()
    assert model.num_reg_images() >= 0.98 * single.num_reg_images()
    assert np.median(_errors(model, street)) <= 1.2 * np.median(_errors(single, street))
    assert model.num_points3D() > 0.95 * single.num_points3D()
    assert model.compute_mean_track_length() > 0.95 * single.compute_mean_track_length()
    for point in model.points3D.values():
        images = [element.image_id for element in point.track.elements]
        assert len(set(images)) == len(images), "a point is at two places of one image"


def test_kept_clusters_are_used_again(
    street: SurroundingScene,
    database: Path,
    options: MapOptions,
    partitioned: tuple[pycolmap.Reconstruction, list[MappedCluster]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after a kill: one cluster is missing, and only this one is mapped."""
    before, clusters = partitioned
    assert options.clusters is not None
    (options.clusters / "00001.made_from.json").unlink()
    (options.clusters / "00009").mkdir()  # of an earlier run of more clusters
    mapped = []
    mapping = pycolmap.incremental_mapping

    def counted(*arguments: Any, **keywords: Any) -> object:
        mapped.append(arguments)
        return mapping(*arguments, **keywords)

    monkeypatch.setattr(pycolmap, "incremental_mapping", counted)
    again: list[MappedCluster] = []
    arguments = database, street.images, tmp_path, options
    models = reconstruct_database(*arguments, on_clusters=again.extend)
    assert len(mapped) == 1
    assert [cluster.is_reused for cluster in again] == [n != 1 for n in range(len(clusters))]
    assert [replace(cluster, is_reused=False) for cluster in again] == clusters
    assert not (options.clusters / "00009").exists()
    assert not list(options.clusters.rglob("database.db"))
    np.testing.assert_allclose(
        np.median(_errors(models[0], street)), np.median(_errors(before, street)), rtol=0.05
    )


@pytest.fixture
def torn(database: Path, tmp_path: Path) -> Path:
    """The same pairs, but none between the first 25 images and the others."""
    path = tmp_path / "torn.db"
    write_subset(database, image_ids(database).values(), path)
    with closing(sqlite3.connect(path)) as connection:
        base = 2**31 - 1
        connection.execute(
            "DELETE FROM two_view_geometries WHERE pair_id / ? <= 25 AND pair_id % ? > 25",
            (base, base),
        )
        connection.commit()
    return path


def test_clusters_that_share_nothing_are_models_of_their_own(
    street: SurroundingScene,
    torn: Path,
    options: MapOptions,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    clusters: list[MappedCluster] = []
    temporary = replace(options, clusters=None)
    arguments = torn, street.images, tmp_path / "models", temporary
    models = reconstruct_database(*arguments, on_clusters=clusters.extend)
    assert len(models) == 2
    assert models[0].num_reg_images() >= 24
    assert models[1].num_reg_images() >= 14
    assert {cluster.model for cluster in clusters} == {0, 1}
    assert "is left out of the largest model: it could not be aligned" in caplog.text


def test_a_cluster_of_which_nothing_is_made_is_reported(
    street: SurroundingScene,
    torn: Path,
    options: MapOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    mapping = pycolmap.incremental_mapping

    def fails_at_the_end(database: str, images: str, folder: str, **keywords: Any) -> object:
        names = image_ids(Path(database))
        return mapping(database, images, folder, **keywords) if "039.png" not in names else {}

    monkeypatch.setattr(pycolmap, "incremental_mapping", fails_at_the_end)
    arguments = torn, street.images, tmp_path / "models", replace(options, clusters=None)
    (model,) = reconstruct_database(*arguments).values()
    assert model.num_reg_images() >= 24
    assert "nothing of it could be reconstructed" in caplog.text


def test_other_options_or_matches_are_mapped_again(
    street: SurroundingScene,
    database: Path,
    torn: Path,
    options: MapOptions,
    partitioned: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("mapped again")

    monkeypatch.setattr(pycolmap, "incremental_mapping", stop)
    for path, changed in ((database, replace(options, seed=1)), (torn, options)):
        with pytest.raises(ValueError, match="mapped again"):
            reconstruct_database(path, street.images, tmp_path / "models", changed)


def test_a_subset_has_its_images_and_their_pairs_only(database: Path, tmp_path: Path) -> None:
    ids = set(range(3, 12))
    write_subset(database, ids, tmp_path / "subset.db")
    with (
        pycolmap.Database.open(str(database)) as whole,
        pycolmap.Database.open(str(tmp_path / "subset.db")) as subset,
    ):
        assert {image.image_id for image in subset.read_all_images()} == ids
        assert subset.num_frames() == len(ids)
        assert subset.num_cameras() == whole.num_cameras()
        pairs = [(a, b) for a in ids for b in ids if a < b <= a + STREET_REACH]
        assert 0 < subset.num_verified_image_pairs() <= len(pairs)
        for a, b in pairs:
            expected, found = (db.read_two_view_geometry(a, b) for db in (whole, subset))
            np.testing.assert_array_equal(found.inlier_matches, expected.inlier_matches)
            if len(expected.inlier_matches):
                assert found.config == expected.config
        np.testing.assert_array_equal(subset.read_keypoints(7), whole.read_keypoints(7))
    assert subset_hash(database, ids) == subset_hash(tmp_path / "subset.db", ids)
    assert subset_hash(database, ids) != subset_hash(database, ids - {11})


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("partitioned", 20, 20), "cannot share 20; set --cluster-overlap"),
        (("hierarchical", 20, 1), "cannot share 1; set --cluster-overlap"),
        (("incremental", 100, 50), "makes no clusters; leave out --cluster-images"),
    ],
)
def test_options_of_clusters_that_do_not_fit(arguments: tuple[Any, int, int], shown: str) -> None:
    with pytest.raises(ValueError, match=shown):
        check_clusters(*arguments)
    check_clusters("partitioned", 20, 10)
    check_clusters("incremental", 500, 50)
