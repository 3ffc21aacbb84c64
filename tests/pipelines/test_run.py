"""What the commands have in common."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import h5py
import pytest

from featplug.colmap.cameras import CameraOptions
from featplug.io.artifact import Provenance
from featplug.io.match_store import MatchWriter
from featplug.io.store import FeatureReader, FeatureWriter
from featplug.methods import feature_conf
from featplug.methods.method_names import file_word, path_word
from pipelines.datasets.aachen import AachenOptions
from pipelines.datasets.inloc import InLocOptions
from pipelines.run import Stages
from pipelines.run_options import FeatureOptions
from pipelines.sfm import SfmOptions
from tests.scenes.synthetic import SyntheticScene


def test_no_two_requests_share_an_output_folder(tmp_path: Path) -> None:
    """A run replaces the results that it finds in its folder."""

    def aachen(**changes: Any) -> str:
        return AachenOptions(tmp_path / "town", **changes).output_dir.as_posix()

    given_path = Path("elsewhere/feats-superpoint.h5")
    given = FeatureOptions(features=given_path)
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
        f"outputs/aachen/town-{path_word(given_path)}",
        "outputs/aachen/town-sift-v1",
        "outputs/aachen/town-sift-local-features",
        "outputs/aachen/town-sift-v1-local-features",
    ]
    inloc = InLocOptions(tmp_path / "rooms", extraction=given).output_dir
    assert inloc == Path(f"outputs/inloc/rooms-{path_word(given_path)}")
    sfm = SfmOptions(tmp_path / "scene" / "images", extraction=given).output_dir
    assert sfm == Path(f"outputs/sfm/scene-{path_word(given_path)}")


def test_files_of_one_name_in_two_folders_have_a_folder_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def names(folder: str) -> list[str]:
        path = Path(folder) / "list.txt"
        options = [
            SfmOptions(tmp_path / "house", pairs=str(path)),
            SfmOptions(tmp_path / "house", matches=path),
            SfmOptions(tmp_path / "house", extraction=FeatureOptions(features=path)),
            SfmOptions(tmp_path / "house", extraction=FeatureOptions(weights=str(path))),
        ]
        return [each.output_dir.name for each in options]

    monkeypatch.chdir(tmp_path)
    first, second = names("a"), names("b")
    assert all(name.startswith("house-") and "list-" in name for name in first)
    assert not set(first) & set(second)
    assert names("b/../a") == first


def test_a_feature_of_any_name_has_a_folder(tmp_path: Path) -> None:
    def sfm(feature: str, **changes: Any) -> str:
        return SfmOptions(
            tmp_path / "house", extraction=FeatureOptions(feature), **changes
        ).output_dir.name

    (tmp_path / "mine.py").write_text(
        "from featplug.base import Extractor\n"
        "class Mine(Extractor):\n"
        "    def extract(self, image): ...\n"
    )
    own = f"{tmp_path}/mine.py:Mine"
    assert sfm(own) == f"house-{file_word(own)}"
    assert sfm("lisrd@mtldesc") == "house-lisrd@mtldesc"
    assert sfm("sift+NN-ratio") == sfm("sift") == "house-sift"  # its own matcher
    assert sfm("sift+NN-mutual") == sfm("sift", matcher="NN-mutual") == "house-sift-NN-mutual"
    assert sfm("lisrd+matcher:mtldesc") == "house-lisrd-mtldesc"


def test_options_of_methods_are_in_the_name(tmp_path: Path) -> None:
    def sfm(*option: str, **changes: Any) -> str:
        extraction = FeatureOptions(option=option)
        return SfmOptions(tmp_path / "house", extraction=extraction, **changes).output_dir.name

    assert sfm("contrast_threshold=0.01") == "house-sift-contrast_threshold=0.01"
    names = [
        sfm("score=response"),
        sfm('score="response"'),
        sfm("score='response'"),
        sfm("a=1", "b=2"),
    ]
    assert len(set(names)) == 4
    ratio = sfm(matcher_option=("ratio_threshold=0.9",))
    assert ratio == "house-sift-ratio_threshold=0.9"
    resized = FeatureOptions(resize_max=800)
    folder = SfmOptions(tmp_path / "house", extraction=resized).output_dir
    assert folder.name == "house-sift-resize-max-800"


def test_a_number_of_keypoints_has_one_name(tmp_path: Path) -> None:
    def sfm(**changes: Any) -> Path:
        return SfmOptions(tmp_path / "house", extraction=FeatureOptions(**changes)).output_dir

    assert sfm(option=("max_keypoints=500",)) == sfm(max_keypoints=500)
    assert sfm(option=("max_keypoints=500",), max_keypoints=9) == sfm(max_keypoints=500)
    assert sfm(option=("max_keypoints = 500", "a=1")) == sfm(option=("a=1",), max_keypoints=500)


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
    own_list = tmp_path / "own.txt"
    assert sfm(pairs=str(own_list)) == f"house-sift-{path_word(own_list)}"
    assert sfm(retrieval="netvlad", pairs="retrieval") == "house-sift-netvlad-retrieval"
    own = SfmOptions(tmp_path / "house", camera=camera, outputs=tmp_path / "mine").output_dir
    assert own == tmp_path / "mine"
    long = sfm(pairs="x" * 300)
    assert len(long) < 150
    assert long != sfm(pairs="x" * 301)


@pytest.mark.parametrize("own", [(), ("features",), ("features_ref",)])
def test_given_matches_are_of_the_features(
    synthetic_scene: SyntheticScene, tmp_path: Path, own: tuple[str, ...]
) -> None:
    scene, matches = synthetic_scene, tmp_path / "matches.h5"
    options = SfmOptions(
        scene.images,
        extraction=FeatureOptions(features=scene.features),
        matches=matches,
        outputs=tmp_path / "out",
    )
    with FeatureReader(scene.features) as reader:
        inputs: dict[str, str | None] = {"features": "another", "features_ref": "another"}
        inputs |= dict.fromkeys(own, reader.file_id)
    with MatchWriter(matches, Provenance("matches", {}, inputs=inputs)):
        pass
    if own:
        stages = Stages(options, progress=False)
        assert stages.extract(scene.images, scene.names).names == scene.names
    else:
        with pytest.raises(ValueError, match=r"matches.h5 has matches of other.*; give the"):
            Stages(options, progress=False)


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"max_keypoints": 100}, "--max-keypoints"),
        ({"resize_max": 800}, "--resize-max"),
        ({"option": ("contrast_threshold=0.01",)}, "--option"),
        ({"weights": "official"}, "--weights"),
        ({"precision": "fp16"}, "--precision"),
        ({"batch_size": 4}, "--batch-size"),
    ],
)
def test_options_without_effect_on_given_features_are_rejected(
    tmp_path: Path, changes: dict[str, Any], option: str
) -> None:
    given = FeatureOptions(features=Path("feats.h5"), **changes)
    with pytest.raises(ValueError, match=rf"feats.h5 .*{option};.*leave out"):
        SfmOptions(tmp_path, extraction=given, matcher="NN-ratio").check()
    SfmOptions(tmp_path, extraction=FeatureOptions(**changes)).check()


def _feature_file(path: Path, model: dict[str, Any] | None) -> Path:
    """Write a feature file without images that records a model, or nothing."""
    if model is None:
        h5py.File(path, "w").close()
        return path
    with FeatureWriter(path, Provenance("features", {"model": model})):
        pass
    return path


@pytest.mark.parametrize(
    ("feature", "recorded"),
    [
        ("disk", {"name": "sift"}),
        ("aliked-n32", {"name": "aliked", "checkpoint": "aliked-n16"}),
        ("lisrd@mtldesc", {"name": "lisrd", "detector": {"name": "sift"}}),
        ("none.py:Extractor", {"name": "mine.py:Mine"}),
    ],
)
def test_another_feature_than_that_of_a_given_file_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, feature: str, recorded: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("none.py").write_text(
        "from featplug.base import Extractor as E\n"
        "class Extractor(E):\n"
        "    def extract(self, image): ...\n"
    )
    path = _feature_file(tmp_path / "feats.h5", recorded)
    options = FeatureOptions(feature, features=path)
    with pytest.raises(ValueError, match=rf"feats.h5 .*not of {feature}; leave out --feature"):
        SfmOptions(tmp_path, extraction=options, matcher="NN-ratio").check()


@pytest.mark.parametrize(
    ("feature", "recorded", "matcher"),
    [
        ("sift", {"name": "sift", "contrast_threshold": 0.1}, "NN-ratio"),
        ("sift+NN-mutual", {"name": "sift"}, "NN-mutual"),
        ("disk", None, feature_conf("disk")["matcher"]),
        ("doap@mtldesc", {"name": "doap", "detector": {"name": "mtldesc"}}, "NN-ratio"),
    ],
)
def test_a_name_of_given_features_chooses_their_matcher(
    tmp_path: Path, feature: str, recorded: dict[str, Any] | None, matcher: str
) -> None:
    path = _feature_file(tmp_path / "feats.h5", recorded)
    named = SfmOptions(tmp_path, extraction=FeatureOptions(feature, features=path))
    assert named.check() == matcher
    assert matcher in named.output_dir.name
    given = dataclasses.replace(named, extraction=FeatureOptions(features=path))
    with pytest.raises(ValueError, match=r"--features needs .*--feature NAME"):
        given.check()
    by_matcher = dataclasses.replace(given, matcher=matcher)
    assert by_matcher.output_dir != named.output_dir  # such as LightGlue's weights for the feature
    other = dataclasses.replace(by_matcher, matcher="NN-strict")
    assert other.output_dir != by_matcher.output_dir


def test_matches_of_other_features_are_rejected_before_extraction(
    synthetic_scene: SyntheticScene, tmp_path: Path
) -> None:
    matches, images = tmp_path / "matches.h5", synthetic_scene.images
    options = SfmOptions(images, matches=matches, outputs=tmp_path / "out")
    with MatchWriter(matches, Provenance("matches", {}, inputs={"features": "another"})):
        pass
    with pytest.raises(ValueError, match=r"matches.h5 has matches of .*by --features"):
        options.check()
    options.output_dir.mkdir()
    extracted = _feature_file(options.output_dir / "feats-featplug-sift.h5", {"name": "sift"})
    with pytest.raises(ValueError, match=r"matches.h5 has matches of other features"):
        options.check()
    with FeatureReader(extracted) as reader:
        inputs: dict[str, str | None] = {"features": reader.file_id}
    with MatchWriter(matches, Provenance("matches", {}, inputs=inputs), overwrite=True):
        pass
    options.check()
    replaced = dataclasses.replace(options, extraction=FeatureOptions(overwrite=True))
    with pytest.raises(ValueError, match=r"matches.h5 has matches of .*by --features"):
        replaced.check()
    with MatchWriter(matches, Provenance("matches", {}), overwrite=True):
        pass
    replaced.check()  # made by another tool
