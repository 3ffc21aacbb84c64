"""Verification in parts: the geometries of the one database, and a model of them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image

from featplug.colmap.cameras import CameraOptions
from featplug.colmap.database_rows import open_database
from featplug.io.parts.manifest import Manifest, make_manifest
from featplug.io.parts.match_parts import open_matches
from featplug.io.parts.verified_parts import VerifiedParts
from featplug.methods import matcher_conf
from featplug.shards.extract_parts import ExtractParts
from featplug.shards.match_blocks import match_blocks
from featplug.shards.run_parts import run_parts
from featplug.shards.share import Share
from featplug.shards.stage_record import check_whole
from featplug.shards.status import store_status
from featplug.shards.verify_parts import VerifyParts
from featplug.stages.extract import ExtractOptions
from featplug.stages.map import MapOptions, map_images
from featplug.stages.match import MatchOptions
from featplug.stages.verify import VerifyOptions, import_verified_pairs, verify_pairs
from pipelines.run_options import FeatureOptions
from pipelines.sfm import SfmOptions, reconstruct
from tests.scenes.room_corner import write_room_corner

EXTRACTION = ExtractOptions(device="cpu", max_keypoints=400)


@dataclass(frozen=True)
class MatchedStore:
    """A store of six views of a room's corner and a picture of something else."""

    store: Path
    features: Path
    matches: Path

    def verify(self, share: Share | None = None, **options: object) -> VerifyParts:
        """Verify, and return the stage."""
        stage = self.stage(**options)
        run_parts(stage, share)
        return stage

    def stage(self, **options: object) -> VerifyParts:
        return VerifyParts(self.store, self.features, self.matches, **options)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MatchedStore:
    folder = tmp_path_factory.mktemp("verified")
    write_room_corner(folder / "room", num_images=6, width=320)
    images = folder / "room" / "images"
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40), np.uint8)
    Image.fromarray(np.kron(pixels, np.ones((8, 8), np.uint8))).save(images / "elsewhere.png")
    store = folder / "store"
    make_manifest(images, store, 2)
    extracted = run_parts(ExtractParts(store, EXTRACTION.conf("sift"), EXTRACTION)).folder
    stage = match_blocks(
        store,
        extracted.name,
        Path("exhaustive"),
        matcher_conf("NN-ratio"),
        MatchOptions(device="cpu"),
    )
    return MatchedStore(store, extracted, run_parts(stage).folder)


@pytest.fixture
def matched(made: MatchedStore, tmp_path: Path) -> MatchedStore:
    """A copy, to change."""
    store = tmp_path / "store"
    shutil.copytree(made.store, store)
    return MatchedStore(store, store / made.features.name, store / made.matches.name)


@pytest.mark.parametrize("camera", [CameraOptions(), CameraOptions("per-image", "PINHOLE")])
def test_geometries_are_those_of_one_database(
    matched: MatchedStore, tmp_path: Path, camera: CameraOptions
) -> None:
    for index in (2, 0, 1, 2):
        stage = matched.verify(Share(index, 3), camera=camera)
    reader = VerifiedParts(stage.folder)
    found = {pair.names: pair for pair in reader.read_all()}
    manifest = Manifest(matched.store)
    names = sorted(manifest.all_names())
    with open_matches(matched.matches) as matches:
        pairs = matches.pairs(names)[0]
    one, imported = tmp_path / "one.db", tmp_path / "imported.db"
    of_images = manifest.image_dir, names, matched.features
    options = VerifyOptions(camera=camera)
    summary = verify_pairs(one, *of_images, matched.matches, pairs, options).summary
    again = import_verified_pairs(imported, *of_images, stage.folder, options).summary
    assert again == summary
    assert len(found) == summary.num_pairs > summary.num_verified_pairs > 8
    with open_database(one) as database, open_database(imported) as database2:
        ids = {image.name: image.image_id for image in database.read_all_images()}
        for name0, name1 in found:
            numbers = ids[name0], ids[name1]
            if not database.exists_matches(*numbers):
                continue
            expected = database.read_two_view_geometry(*numbers)
            geometry = database2.read_two_view_geometry(*numbers)
            assert geometry.config == expected.config
            np.testing.assert_array_equal(geometry.inlier_matches, expected.inlier_matches)
            for matrix in ("E", "F", "H"):
                np.testing.assert_array_equal(getattr(geometry, matrix), getattr(expected, matrix))
        for camera0, camera1 in zip(
            database.read_all_cameras(), database2.read_all_cameras(), strict=True
        ):
            assert str(camera0) == str(camera1)
    assert run_parts(matched.stage(camera=camera)).num_made == 0
    other = matched.stage(camera=camera, seed=1)
    assert run_parts(other, overwrite=True).num_made == len(other.keys())


def test_no_photograph_is_read(matched: MatchedStore) -> None:
    """Machines that verify need the store only."""
    images = Manifest(matched.store).image_dir
    hidden = images.with_name("hidden")
    images.rename(hidden)
    try:
        matched.verify()
    finally:
        hidden.rename(images)


def test_lost_damaged_and_outdated_parts_are_made_again(matched: MatchedStore) -> None:
    stage = matched.verify()
    names = [path.name for path in sorted(stage.folder.glob("part-*"))]
    contents = {name: (stage.folder / name).read_bytes() for name in names}
    (stage.folder / names[0]).unlink()
    (stage.folder / names[1]).write_bytes(contents[names[1]][:-100])
    (stage.folder / names[2]).write_bytes(contents[names[3]])
    with pytest.raises(ValueError, match=rf"lacks 1 of its \d+ parts, such as {names[0]}"):
        check_whole(stage.folder)
    assert run_parts(matched.stage()).num_made == 3
    check_whole(stage.folder)

    content = bytearray(contents[names[0]])
    content[len(content) // 3] ^= 0xFF
    (stage.folder / names[0]).write_bytes(content)
    damaged = [path for each in store_status(matched.store, check=True) for path in each.damaged]
    assert damaged == [stage.folder / names[0]]
    (stage.folder / names[0]).write_bytes(contents[names[0]])

    # A lost part of the matches stops those that need it, and no others.
    part = matched.matches / "part-00000-00001.h5"
    content = part.read_bytes()
    part.unlink()
    (stage.folder / names[-1]).unlink()
    with pytest.raises(ValueError, match=r"1 of \d+ parts .*part-00000-00001\.h5; match its pairs"):
        run_parts(matched.stage())
    assert (stage.folder / names[-1]).exists()
    part.write_bytes(content)

    # So do features that were extracted with other options after they were matched.
    fewer = ExtractOptions(device="cpu", max_keypoints=300)
    run_parts(ExtractParts(matched.store, fewer.conf("sift"), fewer), overwrite=True)
    with pytest.raises(ValueError, match=r"is of other features than those in .*feats.*match"):
        run_parts(matched.stage())


def test_images_that_the_manifest_lacks_are_reported(matched: MatchedStore) -> None:
    manifest = Manifest(matched.store)
    gone = manifest.names(0)[0]
    images = matched.store.with_name("images")
    shutil.copytree(manifest.image_dir, images)
    (images / gone).unlink()
    make_manifest(images, matched.store, 2)
    done = run_parts(matched.stage())
    assert "no such image" in done.skipped[gone]
    assert all(gone not in pair.names for pair in VerifiedParts(done.folder).read_all())


def test_a_model_is_made_of_verified_parts(matched: MatchedStore, tmp_path: Path) -> None:
    stage = matched.verify()
    manifest = Manifest(matched.store)
    of_images = manifest.image_dir, manifest.all_names(), matched.features
    database = tmp_path / "database.db"
    imported = import_verified_pairs(database, *of_images, stage.folder, VerifyOptions())
    assert imported.summary.num_verified_pairs > 8
    mapped = map_images(database, manifest.image_dir, tmp_path, MapOptions())
    assert mapped.model.num_reg_images() == 6
    assert mapped.model.num_points3D() > 100
    listed = [("elsewhere.png", manifest.names(0)[0])]
    with pytest.raises(ValueError, match="None of the"):
        import_verified_pairs(database, *of_images, stage.folder, VerifyOptions(), listed)
    other = VerifyOptions(camera=CameraOptions(model="PINHOLE"))
    with pytest.raises(ValueError, match="camera model = SIMPLE_RADIAL, this run has PINHOLE"):
        import_verified_pairs(database, *of_images, stage.folder, other)


@pytest.mark.slow
def test_the_pipeline_makes_the_model_of_its_own_verification(
    matched: MatchedStore, tmp_path: Path
) -> None:
    images = Manifest(matched.store).image_dir
    extraction = FeatureOptions(features=matched.features)
    given = {
        "matches": {"matches": matched.matches},
        "verified": {"verified": matched.verify().folder},
    }
    models = {}
    for name, files in given.items():
        outputs = tmp_path / name
        options = SfmOptions(
            images=images, extraction=extraction, outputs=outputs, num_threads=1, **files
        )
        results = reconstruct(options)
        assert results["metrics"]["registered_images"]["value"] == 6
        models[name] = pycolmap.Reconstruction(outputs / "sparse" / "0")
    first, second = models.values()
    assert first.num_points3D() == second.num_points3D()
    for number, image in first.images.items():
        np.testing.assert_array_equal(
            image.cam_from_world().matrix(), second.images[number].cam_from_world().matrix()
        )
    (given["verified"]["verified"] / "part-00000-00001.parquet").unlink()
    with pytest.raises(ValueError, match=r"lacks 1 of its .*`featplug verify`"):
        reconstruct(options)


def test_missing_matches_are_named(matched: MatchedStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder of match parts.*featplug match"):
        run_parts(VerifyParts(matched.store, matched.features, tmp_path))
