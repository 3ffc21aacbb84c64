"""Methods without keypoints in pipelines, by a matcher that knows the truth of a room's corner."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from featplug.colmap.model_files import read_model
from featplug.io.image_folder import list_images
from featplug.io.store import FeatureReader
from pipelines.datasets.aachen import AachenOptions
from pipelines.datasets.inloc import InLocOptions
from pipelines.datasets.true_poses import read_strecha_camera
from pipelines.localize import localize
from pipelines.run_options import FeatureOptions
from pipelines.sfm import SfmOptions, match_scene, reconstruct
from pipelines.sfm_summary import summary
from tests.scenes.room_corner import write_room_corner
from tests.scenes.scanned_room import ScannedRoom
from tests.scenes.wall_matcher import write_wall_matcher

WIDTH = 320


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("room")
    write_room_corner(folder, num_images=6, width=WIDTH)
    names = list_images(folder / "images")
    poses = {name: read_strecha_camera(folder / "cameras" / f"{name}.camera") for name in names}
    write_wall_matcher(folder / "matcher", folder / "images", poses, WIDTH)
    return folder


def options(room: Path, outputs: Path | None, **changes: object) -> SfmOptions:
    matcher = f"{room / 'matcher' / 'walls.py'}:Walls"
    given = {"extraction": FeatureOptions(feature=matcher), "reference": room / "cameras"}
    return SfmOptions(images=room / "images", outputs=outputs, **{**given, **changes})


def test_a_room_is_reconstructed_with_long_tracks(room: Path, tmp_path: Path) -> None:
    results = reconstruct(options(room, tmp_path))
    metrics = {name: entry["value"] for name, entry in results["metrics"].items()}
    assert metrics["registered_images"] == 6
    assert metrics["mean_track_length"] > 2.5
    assert metrics["sparse_points"] > 1000
    assert metrics["mean_reprojection_error"] < 1
    assert metrics["max_position_error"] < 0.02  # the walls are 2 m long
    assert results["feature"] == results["matcher"]
    assert results["feature_conf"] is None
    assert results["matcher_conf"]["model"]["name"].endswith("walls.py:Walls")
    assert summary(results).startswith(f"{results['matcher']}\n")
    again = match_scene(options(room, tmp_path))
    assert again.stages.reused["match"] == 15


def test_the_matcher_may_be_given_as_the_matcher(room: Path, tmp_path: Path) -> None:
    matcher = f"{room / 'matcher' / 'walls.py'}:Walls"
    given = {"extraction": FeatureOptions(), "matcher": matcher, "num_matched": 3}
    results = reconstruct(
        options(room, tmp_path, **given, pairs="retrieval", matcher_option=("noise=0.2",))
    )
    assert results["metrics"]["registered_images"]["value"] == 6
    assert results["retrieval_conf"]["model"]["name"] == "vlad"
    assert results["matcher_conf"]["model"]["noise"] == 0.2
    # vlad sums up sift's features, which is all that they are for.
    with FeatureReader(tmp_path / "feats-featplug-sift.h5") as reader:
        assert len(reader.names()) == 6
    model = read_model(tmp_path / "model")
    assert all(len(image.points2D) < 8192 for image in model.images.values())


def test_names_of_output_folders(room: Path) -> None:
    matcher = f"{room / 'matcher' / 'walls.py'}:Walls"
    as_feature = options(room, None)
    as_matcher = options(room, None, extraction=FeatureOptions(), matcher=matcher)
    assert as_feature.output_dir == as_matcher.output_dir
    assert "walls=Walls" in as_feature.output_dir.name
    other = options(room, None, cell_size=4.0)
    assert other.output_dir.name == f"{as_feature.output_dir.name}-cell-size-4.0"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"extraction": FeatureOptions(feature="disk"), "matcher": "loftr"}, "leave out disk"),
        ({"extraction": FeatureOptions(feature="disk+loftr")}, "leave out disk"),
        ({"extraction": FeatureOptions(feature="loftr"), "matcher": "NN-mutual"}, "out NN-mutual"),
        ({"cell_size": 0.0}, "cell_size"),
        ({"matcher_option": ("nose=1",)}, "nose"),
    ],
)
def test_what_does_not_go_together_is_rejected_before_the_work(
    room: Path, tmp_path: Path, given: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        reconstruct(options(room, tmp_path / "out", **given))
    assert not list(tmp_path.rglob("*.h5"))


GIVEN = """
from pathlib import Path

import torch
from featplug.base import PairMatcher
from featplug.io.match_store import MatchReader
from featplug.io.store import FeatureReader

class Given(PairMatcher):
    preprocessing = {"grayscale": True}

    def match_images(self, image0, image1):
        folder = Path(__file__).parent
        listed = (folder / "names.txt").read_text().split()
        names = [listed[round(255 * float(image.mean())) - 50] for image in (image0, image1)]
        with FeatureReader(folder / "feats.h5") as features:
            points = [torch.from_numpy(features.keypoints(name)) for name in names]
        with MatchReader(folder / "matches.h5") as matches:
            rows, scores = matches.read(*names)
        return {
            "keypoints0": points[0][rows[:, 0].copy()],
            "keypoints1": points[1][rows[:, 1].copy()],
            "scores": torch.from_numpy(scores),
        }
"""


def test_queries_are_localized_in_scans(scanned_room: ScannedRoom, tmp_path: Path) -> None:
    shutil.copytree(scanned_room.folder, tmp_path / "inloc")
    room = replace(scanned_room, folder=tmp_path / "inloc")
    names = [*room.queries, *room.database]
    for i, name in enumerate(names):  # images that the matcher can tell apart
        size = Image.open(room.folder / name).size
        Image.new("L", size, 50 + i).save(room.folder / name, format="JPEG")
    (room.folder / "names.txt").write_text("\n".join(names))
    (room.folder / "given.py").write_text(GIVEN)
    given = FeatureOptions(feature=f"{room.folder / 'given.py'}:Given")
    outputs = tmp_path / "out"
    results = localize(
        InLocOptions(room.folder, extraction=given, pairs=room.pairs, outputs=outputs)
    )
    metrics = {name: entry["value"] for name, entry in results["metrics"].items()}
    assert metrics["recall_0.25m_10deg"] == 100
    assert metrics["median_position_error"] < 0.02
    assert set(results["stages"]) == {"extract", "pairs", "match_images", "scan", "localize"}


def test_queries_are_localized(aachen_room: Path, tmp_path: Path) -> None:
    images = aachen_room / "images_upright"
    poses = {}
    for name in list_images(images):
        path = aachen_room.parent / "room" / "cameras" / f"{Path(name).name.split('-')[-1]}.camera"
        poses[name] = read_strecha_camera(path)
    matcher = write_wall_matcher(tmp_path / "matcher", images, poses, 400)
    asked = AachenOptions(
        dataset=aachen_room,
        ground_truth=aachen_room / "ground_truth.txt",
        extraction=FeatureOptions(feature=matcher),
        outputs=tmp_path / "out",
        num_loc=4,
        num_covis=4,
    )
    results = localize(asked)
    metrics = {name: entry["value"] for name, entry in results["metrics"].items()}
    assert metrics["database_images"] == 6
    assert metrics["mean_track_length"] > 2.5
    for condition in ("day", "night"):
        assert metrics[f"{condition}_recall_0.25m_2deg"] == 100
        assert metrics[f"{condition}_median_position_error"] < 0.02
    assert (tmp_path / "out" / "submission.txt").read_text().count("\n") == 4
    again = localize(asked)
    assert again["reused"]["match_images"] > 15
    assert again["reused"]["triangulate"] == 6
    for name, entry in again["metrics"].items():
        assert entry["value"] == pytest.approx(metrics[name], rel=1e-3)
