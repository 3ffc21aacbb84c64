"""What the commands have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from featplug.colmap.cameras import CameraOptions
from featplug.methods import feature_conf
from pipelines.datasets.aachen import AachenOptions
from pipelines.datasets.inloc import InLocOptions
from pipelines.run import FeatureOptions
from pipelines.sfm import SfmOptions


def test_no_two_requests_share_an_output_folder(tmp_path: Path) -> None:
    """A run replaces the results that it finds in its folder."""

    def aachen(**changes: Any) -> str:
        return AachenOptions(tmp_path / "town", **changes).output_dir.as_posix()

    given = FeatureOptions(features=Path("elsewhere/feats-superpoint.h5"))
    folders = [
        aachen(),
        aachen(extraction=FeatureOptions("d2net")),
        aachen(extraction=given),
        aachen(version="v1"),
        aachen(protocol="local-features"),
        aachen(version="v1", protocol="local-features"),
    ]
    assert folders == [
        "outputs/aachen/town-sift",
        "outputs/aachen/town-d2net",
        "outputs/aachen/town-feats-superpoint",
        "outputs/aachen/town-sift-v1",
        "outputs/aachen/town-sift-local-features",
        "outputs/aachen/town-sift-v1-local-features",
    ]
    inloc = InLocOptions(tmp_path / "rooms", extraction=given).output_dir
    assert inloc == Path("outputs/inloc/rooms-feats-superpoint")
    sfm = SfmOptions(tmp_path / "scene" / "images", extraction=given).output_dir
    assert sfm == Path("outputs/sfm/scene-feats-superpoint")


def test_a_default_run_has_the_name_of_scene_and_feature(tmp_path: Path) -> None:
    """As the documents have it, also with options that leave the results as they are."""
    options = FeatureOptions("mtldesc", device="cpu", overwrite=True)
    folder = SfmOptions(
        tmp_path / "house",
        extraction=options,
        memory_gib=2.0,
        matcher=feature_conf("mtldesc")["matcher"],
        reference=tmp_path / "poses",
    ).output_dir
    assert folder == Path("outputs/sfm/house-mtldesc")


def test_other_results_have_another_folder(tmp_path: Path) -> None:
    def sfm(**changes: Any) -> str:
        return SfmOptions(tmp_path / "house", **changes).output_dir.name

    assert sfm(matcher="NN-mutual") == "house-sift-NN-mutual"
    assert sfm(extraction=FeatureOptions(max_keypoints=500)) == "house-sift-max-keypoints-500"
    assert sfm(mapper="global", seed=3) == "house-sift-seed-3-global"
    camera = CameraOptions("single", "PINHOLE", "500,500,240,180")
    assert sfm(camera=camera) == "house-sift-single-PINHOLE-500,500,240,180"
    assert sfm(pairs="sequential", overlap=5) == "house-sift-sequential-overlap-5"
    assert sfm(pairs=str(tmp_path / "own.txt")) == "house-sift-own"
    assert sfm(retrieval="netvlad", pairs="retrieval") == "house-sift-netvlad-retrieval"
    own = SfmOptions(tmp_path / "house", camera=camera, outputs=tmp_path / "mine").output_dir
    assert own == tmp_path / "mine"
    long = sfm(pairs="x" * 300)
    assert len(long) < 150
    assert long != sfm(pairs="x" * 301)
