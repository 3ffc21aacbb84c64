"""Aachen's layouts: read as released, and what is missing is named."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from featplug.colmap.nvm import read_nvm
from featplug.localization.queries import read_queries
from featplug.metrics.poses import model_cameras, model_poses
from featplug.stages.pairs import covisible
from pipelines.datasets.aachen import Aachen
from tests.scenes.aachen_sets import convert_to_v1

MODEL = "3D-models/aachen_v_1_1"
DAY = "queries/day_time_queries_with_intrinsics.txt"


@pytest.fixture
def copy(aachen_room: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(aachen_room, tmp_path / "aachen_v1.1"))


@pytest.fixture(scope="module")
def v1(aachen_room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert_to_v1(aachen_room, tmp_path_factory.mktemp("v1") / "aachen")


def test_both_versions_and_layouts_are_recognized(aachen_room: Path, v1: Path) -> None:
    new, old = Aachen(aachen_room), Aachen(v1)
    assert (new.version, new.image_dir) == ("v1.1", aachen_room / "images_upright")
    assert (old.version, old.image_dir) == ("v1", v1 / "images" / "images_upright")
    for dataset in (new, old):
        queries = dataset.queries()
        assert {condition: len(listed) for condition, listed in queries.items()} == {
            "day": 2,
            "night": 2,
        }
    with pytest.raises(FileNotFoundError, match=r"has no reference model: .* nor aachen_cvpr2018"):
        Aachen(aachen_room, "v1")


def test_the_nvm_model_is_colmaps(aachen_room: Path, v1: Path) -> None:
    """Poses from camera centres, every track, and so the same covisible pairs."""
    model = Aachen(aachen_room).reference_model()
    nvm = Aachen(v1).reference_model()
    poses, poses_nvm = model_poses(model), model_poses(nvm)
    assert list(poses_nvm) == sorted(poses)
    for name, pose in poses.items():
        np.testing.assert_allclose(poses_nvm[name], pose, atol=1e-8)
    cameras, cameras_nvm = model_cameras(model), model_cameras(nvm)
    for name, camera in cameras.items():
        np.testing.assert_array_equal(cameras_nvm[name].params, camera.params)
        assert cameras_nvm[name].model == camera.model
    assert nvm.num_points3D() == model.num_points3D() > 100
    assert nvm.compute_num_observations() == model.compute_num_observations()
    points = [sorted(p.xyz.round(6).tolist() for p in m.points3D.values()) for m in (model, nvm)]
    np.testing.assert_allclose(*points, atol=1e-6)
    # A keypoint of a track is where the point is seen.
    assert nvm.compute_mean_reprojection_error() == pytest.approx(0)  # not stored in an NVM
    nvm.update_point_3d_errors()
    assert nvm.compute_mean_reprojection_error() < 1.0
    assert covisible(nvm, 3) == covisible(model, 3)


def test_a_complete_set_has_no_problem(aachen_room: Path, v1: Path) -> None:
    assert Aachen(aachen_room).check() == []
    assert Aachen(v1).check() == []


def delete(*names: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        for name in names:
            path = next(root.glob(name))
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def truncate(name: str, size: int) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        path = next(root.glob(name))
        path.write_bytes(path.read_bytes()[:size])

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (delete("images_upright"), "neither images_upright nor images/images_upright; unpack"),
        (delete("queries"), "has no query list queries/.*_time_queries_with_intrinsics.txt; get"),
        (delete(f"{MODEL}/images.bin"), "has no reference model: .*neither images.bin nor"),
    ],
)
def test_a_missing_part_says_where_to_get_it(
    copy: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(copy)
    with pytest.raises(FileNotFoundError, match=f"{message}.*visuallocalization.net|{message}"):
        Aachen(copy)


def test_a_missing_set_offers_the_demo(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"no dataset .*aachen. Get .*visuallocalization.net.*dataset demo"
    ):
        Aachen(tmp_path / "aachen")


@pytest.mark.parametrize(
    ("damage", "reason", "remedy"),
    [
        (delete("images_upright/db/00.png"), r"There is no image .*db/00.png", "database_and_que"),
        (delete("images_upright/query/night/phone/*"), "no image .*night/phone/night-", "images/"),
        (truncate("images_upright/db/00.png", 20_000), r"db/00.png.*truncated", "database_and_que"),
        (truncate("images_upright/db/00.png", 0), r"db/00.png", "database_and_query_images.zip"),
        (
            truncate(f"{MODEL}/points3D.bin", 0),
            r"points3D\.bin: .*ends too early",
            "v1_1",
        ),
        (delete("queries/night*"), "no query list .*night_time", "queries/ of Aachen"),
        (truncate(DAY, 30), "day_time_queries.*, line 1: ", "queries/ of Aachen"),
    ],
)
def test_every_missing_or_damaged_file_is_named(
    copy: Path, damage: Callable[[Path], None], reason: str, remedy: str
) -> None:
    damage(copy)
    problems = Aachen(copy).check()
    assert any(re.search(reason, p.reason) and remedy in p.remedy for p in problems), problems


def test_images_that_no_list_has_or_of_another_size_are_named(copy: Path) -> None:
    queries = (copy / DAY).read_text().splitlines()
    (copy / DAY).write_text(queries[0].replace(" 400 300 ", " 800 600 ") + "\n")
    reasons = [problem.reason for problem in Aachen(copy).check()]
    assert len(reasons) == 2
    assert reasons[0].endswith(f"{queries[1].split()[0]} is in no query list.")
    assert reasons[1].endswith("has 400×300 pixels, its camera in the lists 800×600.")
    (reason,) = [p.reason for p in Aachen(copy).check(["db/gone.png"]) if "gone" in p.reason]
    assert reason.endswith("db/gone.png.")


def test_a_query_of_two_conditions_is_refused(copy: Path) -> None:
    night = copy / "queries" / "night_time_queries_with_intrinsics.txt"
    night.write_text(night.read_text() + (copy / DAY).read_text())
    with pytest.raises(ValueError, match="is in the query lists of day and of night"):
        Aachen(copy).queries()


def one_point_less(text: str) -> str:
    """Announce a point less than an NVM file has."""
    return re.sub(r"\n(\d+)\n(?=[-\d])", lambda count: f"\n{int(count[1]) - 1}\n", text, count=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "NVM_V2" + text[6:], "is not an NVM file"),
        (lambda text: text[: len(text) // 2].rsplit("\n", 1)[0], "truncated; get it again"),
        (lambda text: text.replace("db/00.png", "db/xx.png", 1), "1 images .* no intrinsics"),
        (
            lambda text: text.replace("db/01.png", "db/00.png", 1),
            "line 5: 'db/00.png' is listed twice",
        ),
        (lambda text: text.replace("\n6\n", "\nsix\n", 1), "line 3: .*number of images.*six"),
        (lambda text: text.replace(" 0 0\n", " 0\n", 1), "line 4: "),
        (lambda text: text.rsplit("\n", 4)[0].rsplit(" ", 1)[0], r"`X Y Z R G B n`"),
        (one_point_less, "expected the end of the model"),
    ],
)
def test_a_damaged_nvm_file_is_named(
    v1: Path, tmp_path: Path, change: Callable[[str], str], message: str
) -> None:
    dataset = Aachen(v1)
    cameras = {query.name: query.camera for query in read_queries(dataset.intrinsics)}
    (tmp_path / "bad.nvm").write_text(change(dataset.nvm.read_text()))
    with pytest.raises(ValueError, match=message):
        read_nvm(tmp_path / "bad.nvm", cameras)


def test_the_benchmarks_pair_list_says_where_it_is_from(copy: Path, v1: Path) -> None:
    (copy / "ground_truth.txt").unlink()  # the benchmark's own set has no true poses
    for root, name in ((copy, "image_pairs_to_match_v1_1.txt"), (v1, "image_pairs_to_match.txt")):
        dataset = Aachen(root, protocol="local-features")
        with pytest.raises(FileNotFoundError, match=f"{name}.*tsattler/visuallocalizationbenchm"):
            _ = dataset.pair_list
