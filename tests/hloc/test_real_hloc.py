"""The plug-in in hloc itself, and each other's files; only where hloc is, see ``conftest.py``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pycolmap
import pytest
from PIL import Image

import featplug
from featplug.io.match_store import MatchReader
from featplug.io.pair_lists import write_pairs
from featplug.io.store import FeatureReader
from featplug.localization.queries import read_poses
from featplug.methods import build_extractor, feature_conf, features
from featplug.metrics.poses import absolute_pose_errors
from featplug.stages.extract import extract_features
from featplug.stages.match import match_features
from featplug.stages.pairs import exhaustive
from featplug.stages.retrieval_pairs import pairs_from_retrieval
from featplug.stages.retrieve import global_descriptors
from featplug.weights.catalogue import list_confs
from tests.conftest import REPOSITORY
from tests.hloc.comparison import assert_same_features
from tests.scenes.pictures import textured_image
from tests.scenes.scanned_room import HEIGHT, WIDTH, ScannedRoom, write_scanned_room
from tests.scenes.synthetic import SyntheticScene

pytestmark = pytest.mark.hloc

NAMES = ["a.png", "b.png"]


@pytest.fixture(scope="module")
def images(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photographs, small."""
    folder = tmp_path_factory.mktemp("images")
    for number, name in zip(("0004", "0005"), NAMES, strict=True):
        photograph = Image.open(shared / f"golden/hloc/images/db/{number}.jpg")
        photograph.resize((300, 200)).save(folder / name)
    write_pairs(folder / "pairs.txt", [("a.png", "b.png")])
    return folder


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> ScannedRoom:
    """A scanned room whose queries have the size of InLoc's, for which hloc's focal length is."""
    room = write_scanned_room(tmp_path_factory.mktemp("room") / "inloc")
    enlargement = 4032 / WIDTH
    size = (4032, round(HEIGHT * enlargement))
    with h5py.File(room.features, "r+") as file:
        for query in room.queries:
            Image.new("L", size).save(room.folder / query, format="JPEG")
            keypoints = file[query]["keypoints"]
            keypoints[...] = (keypoints[()] + 0.5) * enlargement - 0.5
    return room


def matches_of(path: Path) -> np.ndarray:
    with MatchReader(path) as reader:
        return reader.read(*NAMES)[0]


@pytest.mark.parametrize("name", [conf.name for conf in list_confs() if conf.is_ready])
def test_every_conf_extracts_and_matches_as_by_our_own_engines(
    hloc: ModuleType, images: Path, tmp_path: Path, name: str
) -> None:
    registration = featplug.register()
    conf = hloc.extract_features.confs[registration.extractors[name]]
    path = hloc.extract_features.main(conf, images, tmp_path, image_list=NAMES)
    own = extract_features(name, images, tmp_path, image_list=NAMES).feature_path
    assert_same_features(path, own, NAMES)
    matcher = hloc.match_features.confs[conf["matcher"]]
    matches = hloc.match_features.main(matcher, images / "pairs.txt", path.stem, tmp_path)
    expected = match_features(
        features[name]["matcher"], images / "pairs.txt", path, matches=tmp_path / "own.h5"
    ).match_path
    assert len(matches_of(expected)) > 10
    np.testing.assert_array_equal(matches_of(matches), matches_of(expected))


def test_hlocs_sift_in_our_engines_is_hlocs_but_for_half_a_pixel(
    hloc: ModuleType, images: Path, tmp_path: Path
) -> None:
    grey = tmp_path / "grey"  # the two readers round the grey of colours differently
    grey.mkdir()
    for name in NAMES:
        Image.open(images / name).convert("L").save(grey / name)
    own = extract_features("hloc/sift", grey, tmp_path).feature_path
    conf = hloc.extract_features.confs["sift"]
    theirs = hloc.extract_features.main(conf, grey, tmp_path, False, NAMES)
    assert own != theirs
    with h5py.File(own) as ours, h5py.File(theirs) as other:
        for name in NAMES:
            keypoints = other[name]["keypoints"][()]
            assert len(keypoints) > 100
            np.testing.assert_allclose(ours[name]["keypoints"], keypoints - 0.5, atol=1e-4)
            descriptors = other[name]["descriptors"][()]
            np.testing.assert_allclose(ours[name]["descriptors"], descriptors, atol=1e-3)
    pairs = images / "pairs.txt"
    matches = match_features("hloc/NN-ratio", pairs, own, matches=tmp_path / "own.h5").match_path
    expected = match_features("NN-ratio", pairs, own, matches=tmp_path / "ours.h5").match_path
    assert len(matches_of(matches)) > 10
    np.testing.assert_array_equal(matches_of(matches), matches_of(expected))


@pytest.mark.parametrize("name", ["superpoint_max", "r2d2", "d2net-ss"])
def test_a_model_of_hloc_without_its_code_says_what_to_install(hloc: ModuleType, name: str) -> None:
    try:
        build_extractor(feature_conf(f"hloc/{name}")["model"])
    except ValueError as error:
        message = str(error)
    else:
        pytest.skip(f"hloc has the code of {name}")
    assert hloc.extract_features.confs[name]["model"]["name"] in message
    assert "submodule update" in message
    assert "\n" not in message


def test_the_document_lists_the_names_that_hloc_has_as_well(hloc: ModuleType) -> None:
    registration = featplug.register()
    registered = registration.extractors | registration.matchers
    renamed = {own for own, name in registered.items() if name == f"featplug-{own}"}
    lines = (REPOSITORY / "docs" / "hloc.md").read_text().splitlines()
    rows = [line.split("|") for line in lines if line.startswith("|")]
    listed = [row[1] for row in rows if row[2].startswith(" `featplug-")]
    combined = {own for own in renamed if "+" in own}
    assert set(re.findall("`(.+?)`", " ".join(listed))) == renamed - combined
    assert all(any(f"`featplug-{own}`" in row[2] for row in rows) for own in combined)


def test_hlocs_confs_are_still_its_own(hloc: ModuleType, images: Path, tmp_path: Path) -> None:
    """Its matcher on features of ours, and its table as before."""
    featplug.register()
    path = extract_features("sift", images, tmp_path, image_list=NAMES).feature_path
    conf = hloc.match_features.confs["NN-ratio"]
    assert conf["model"]["name"] == "nearest_neighbor"
    matches = hloc.match_features.main(conf, images / "pairs.txt", path, matches=tmp_path / "m.h5")
    own = match_features("NN-ratio", images / "pairs.txt", path).match_path
    np.testing.assert_array_equal(matches_of(matches), matches_of(own))


def test_the_command_extracts(hloc_folder: Path, images: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "featplug.hloc", "extract_features", "--conf"]
    command += ["featplug-sift", "--image_dir", str(images), "--export_dir", str(tmp_path)]
    path = os.pathsep.join([str(REPOSITORY), str(hloc_folder)])
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path}, cwd=tmp_path)
    with FeatureReader(tmp_path / "feats-featplug-hloc-sift.h5") as reader:
        assert reader.names() == NAMES


def test_hloc_reconstructs_from_our_files(
    hloc: ModuleType, synthetic_scene: SyntheticScene, tmp_path: Path
) -> None:
    from hloc import reconstruction

    scene = synthetic_scene
    write_pairs(tmp_path / "pairs.txt", exhaustive(scene.names))
    model = reconstruction.main(
        tmp_path / "sfm", scene.images, tmp_path / "pairs.txt", scene.features, scene.matches
    )
    assert model.num_reg_images() == 6
    assert model.num_points3D() > 250
    assert model.compute_mean_reprojection_error() < 0.05  # half a pixel off would be more


@pytest.mark.parametrize("is_skipped", [False, True])
def test_hloc_triangulates_known_poses_on_every_pycolmap(
    hloc: ModuleType,
    hloc_folder: Path,
    synthetic_scene: SyntheticScene,
    tmp_path: Path,
    is_skipped: bool,
) -> None:
    """In a script with ``register()``, and by ``featplug hloc triangulation``."""
    from hloc import triangulation

    scene = synthetic_scene
    write_pairs(tmp_path / "pairs.txt", exhaustive(scene.names))
    (tmp_path / "reference").mkdir()
    scene.truth.write(str(tmp_path / "reference"))
    inputs = [tmp_path / "reference", scene.images, tmp_path / "pairs.txt"]
    inputs += [scene.features, scene.matches]
    featplug.register()
    script = triangulation.main(tmp_path / "script", *inputs, is_skipped)
    options = ["sfm_dir", "reference_sfm_model", "image_dir", "pairs", "features", "matches"]
    command = [sys.executable, "-m", "featplug.hloc", "triangulation"]
    command += ["--skip_geometric_verification"] * is_skipped
    for option, value in zip(options, (tmp_path / "command", *inputs), strict=True):
        command += [f"--{option}", str(value)]
    path = os.pathsep.join([str(REPOSITORY), str(hloc_folder)])
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path}, cwd=tmp_path)
    for model in (script, pycolmap.Reconstruction(str(tmp_path / "command"))):
        assert model.num_points3D() > 250
        assert model.compute_mean_reprojection_error() < 0.05


def test_hloc_triangulates_and_localizes_with_our_files(
    hloc: ModuleType, shared: Path, tmp_path: Path
) -> None:
    from hloc import localize_sfm, triangulation

    featplug.register()
    folder = shared / "golden" / "hloc"
    feats = extract_features("sift", folder / "images", tmp_path).feature_path
    db_pairs, query_pairs = folder / "pairs-db.txt", folder / "pairs-query.txt"
    db_matches = match_features("NN-ratio", db_pairs, feats).match_path
    model = triangulation.main(
        tmp_path / "sfm",
        folder / "reference",
        folder / "images",
        db_pairs,
        feats,
        db_matches,
    )
    assert model.num_points3D() > 500
    localize_sfm.main(
        model,
        folder / "queries_with_intrinsics.txt",
        query_pairs,
        feats,
        match_features("NN-ratio", query_pairs, feats).match_path,
        tmp_path / "results.txt",
    )
    assert_near(tmp_path / "results.txt", folder / "ground_truth.txt", metres=0.1, degrees=0.5)


def assert_near(results: Path, truth: Path, metres: float, degrees: float) -> None:
    expected = {Path(name).name: pose for name, pose in read_poses(truth).items()}
    errors: Any = absolute_pose_errors(read_poses(results), expected)
    assert np.max(errors.position) < metres
    assert np.max(errors.rotation) < degrees


def test_hloc_localizes_in_scans_with_our_files(
    hloc: ModuleType, scans: ScannedRoom, tmp_path: Path
) -> None:
    from hloc import localize_inloc

    results = tmp_path / "results.txt"
    localize_inloc.main(scans.folder, scans.pairs, scans.features, scans.matches, results)
    # It does not move keypoints to COLMAP's origin: half a pixel, of small scans.
    assert_near(results, scans.folder / "ground_truth.txt", metres=0.1, degrees=0.5)


def test_global_descriptors_give_the_same_pairs_either_way(
    hloc: ModuleType, tmp_path: Path
) -> None:
    from hloc import pairs_from_retrieval as hloc_pairs

    for seed in range(6):
        Image.fromarray(textured_image(seed)).save(tmp_path / f"{seed}.png")
    feats = extract_features("sift", tmp_path, tmp_path).feature_path
    descriptors = global_descriptors("vlad", features=feats, export_dir=tmp_path).descriptor_path
    hloc_pairs.main(descriptors, tmp_path / "pairs.txt", num_matched=2)
    theirs = {tuple(line.split()) for line in (tmp_path / "pairs.txt").read_text().splitlines()}
    assert theirs == set(pairs_from_retrieval(descriptors, 2, min_score=0))
