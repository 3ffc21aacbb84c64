"""Data sets as they are released, in the forms that the demo world writes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from featplug.colmap.nvm import camera_from_nvm
from featplug.localization.queries import read_poses
from featplug.metrics.poses import model_cameras, model_poses
from featplug.stages.pairs import covisible
from pipelines.datasets.cambridge import Cambridge, CambridgeOptions
from pipelines.datasets.cmu import CmuOptions
from pipelines.datasets.demo import DemoOptions, Layout, make_demo_world
from pipelines.datasets.eth3d import Eth3d, Eth3dOptions
from pipelines.datasets.lamar import LamarOptions
from pipelines.datasets.pipeline_names import find_options
from pipelines.datasets.posed_images import read_frame_pose
from pipelines.datasets.protocol import LocalizeOptions, ModelDataset
from pipelines.datasets.robotcar import RobotCarOptions
from pipelines.datasets.seven_scenes import SevenScenes, SevenScenesOptions
from pipelines.datasets.twelve_scenes import TwelveScenes, TwelveScenesOptions
from pipelines.demo.released_layouts import phone_views
from pipelines.localize import localize, run
from pipelines.run_options import FeatureOptions

PHONE = DemoOptions(num_database=20, num_queries=3, image_size=400)
OPTIONS: dict[Layout, type[LocalizeOptions]] = {
    "7scenes": SevenScenesOptions,
    "12scenes": TwelveScenesOptions,
    "cambridge": CambridgeOptions,
    "eth3d": Eth3dOptions,
    "robotcar": RobotCarOptions,
    "cmu": CmuOptions,
    "lamar": LamarOptions,
}


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a world that is photographed closely enough to localize in it."""
    return tmp_path_factory.mktemp("phone")


@pytest.fixture(scope="session", params=OPTIONS)
def options(request: pytest.FixtureRequest, world: Path) -> LocalizeOptions:
    """A demo world in the layout of each."""
    folder = make_demo_world(world, PHONE, request.param)
    if request.param == "cmu":
        folder /= "slice2"
    return OPTIONS[request.param](folder)  # type: ignore[call-arg]


def test_the_data_set_is_found_by_its_name(options: LocalizeOptions) -> None:
    assert find_options(options.pipeline) is type(options)


def test_the_poses_and_cameras_are_the_worlds(options: LocalizeOptions) -> None:
    dataset = options.open()
    assert isinstance(dataset, ModelDataset)
    _, of_map, queries = phone_views(PHONE)
    # ETH3D has one list of photographs, neighbours in it look the same way.
    if isinstance(dataset, Eth3d):
        views = [view for turn in range(4) for view in of_map[turn::4]] + queries
        of_map, queries = views[::2], views[1::2]
    if isinstance(dataset, TwelveScenes):
        of_map = of_map[:-1]  # the pose of the last frame is lost
    model = dataset.reference_model()
    poses, cameras = model_poses(model), model_cameras(model)
    (listed,) = dataset.queries().values()  # of one condition
    truth = dataset.truth()
    assert len(poses) == len(of_map)
    assert truth is not None
    assert {query.name for query in listed} == set(truth)
    for view, name in zip(of_map, sorted(poses, key=_number), strict=True):
        np.testing.assert_allclose(poses[name], view.cam_from_world, atol=1e-6)
    for view, query in zip(queries, sorted(listed, key=lambda q: _number(q.name)), strict=True):
        np.testing.assert_allclose(truth[query.name], view.cam_from_world, atol=1e-6)
        rays = view.camera.unproject(np.array([[10.0, 20.0], [300.0, 200.0]]))
        points = np.column_stack([rays, np.ones(2)])
        np.testing.assert_allclose(query.camera.img_from_cam(points), [[10, 20], [300, 200]])
    assert all(camera.width == PHONE.image_size for camera in cameras.values())


def _number(name: str) -> str:
    return name.rpartition("/")[2]


def test_check_finds_nothing_in_a_whole_set_and_names_what_is_damaged(
    options: LocalizeOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(options, check=True)
    assert "is complete" in capsys.readouterr().out
    copied = Path(shutil.copytree(options.dataset, tmp_path / options.dataset.name))
    for beside in options.dataset.parent.glob("intrinsics.txt"):
        shutil.copy(beside, tmp_path)
    copy = type(options)(copied)  # type: ignore[call-arg]
    dataset = copy.open()
    (listed,) = dataset.queries().values()
    (dataset.image_dir / listed[0].name).write_bytes(b"no photograph")
    with pytest.raises(ValueError, match=r"can be used, but .*: 1 problem"):
        run(copy, check=True)
    shown = capsys.readouterr().out
    assert listed[0].name in shown
    assert "Where to get" in shown


def _condition(options: LocalizeOptions) -> str:
    return "dawn_" if options.pipeline == "robotcar" else ""


@pytest.mark.slow
def test_the_queries_are_localized(options: LocalizeOptions, tmp_path: Path) -> None:
    """The submission has whole names where base names repeat."""
    extraction = FeatureOptions(feature="sift")
    whole = type(options)(options.dataset, extraction=extraction, outputs=tmp_path)  # type: ignore[call-arg]
    results = localize(whole)
    localized = results["metrics"][f"{_condition(options)}localized_queries"]["value"]
    assert localized >= 2
    dataset = whole.open()
    (listed,) = dataset.queries().values()
    submitted = read_poses(tmp_path / "submission.txt")
    assert set(submitted) <= {dataset.submission_name(query.name) for query in listed}
    assert results["metrics"][f"{_condition(options)}median_position_error"]["value"] < 0.1


@pytest.mark.parametrize("layout", OPTIONS)
def test_a_folder_above_names_its_scenes(world: Path, tmp_path: Path, layout: Layout) -> None:
    options = OPTIONS[layout]
    scene = make_demo_world(world, PHONE, layout)
    if layout not in ("robotcar", "cmu"):
        shutil.copytree(scene, tmp_path / "all" / "chess")
        with pytest.raises(FileNotFoundError, match=r"name one of its .*chess"):
            options(tmp_path / "all").open()  # type: ignore[call-arg]
    if layout == "cmu":
        with pytest.raises(FileNotFoundError, match=r"name one of its slices slice2"):
            options(scene).open()  # type: ignore[call-arg]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"get .*http"):
        options(tmp_path / "empty").open()  # type: ignore[call-arg]


def test_a_single_sequence_is_split_by_turns(world: Path) -> None:
    sequence = make_demo_world(world, PHONE, "7scenes") / "seq-01"
    dataset = SevenScenes(sequence)
    assert dataset.map_names()[:2] == ["frame-000000.color.png", "frame-000002.color.png"]
    assert dataset.query_names()[:2] == ["frame-000001.color.png", "frame-000003.color.png"]
    assert len(dataset.truth() or {}) == 10


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("TrainSplit.txt", "seq-01\n", "TrainSplit.txt, line 1.*sequence1"),
        ("TestSplit.txt", "sequence7\n", "TestSplit.txt, line 1.*seq-07"),
        ("seq-01/frame-000000.pose.txt", "1 0 0 0\n", "frame-000000.pose.txt.*4×4"),
        ("seq-01/frame-000000.pose.txt", "1 0 0 0\n" * 4, "frame-000000.pose.txt"),
    ],
)
def test_a_damaged_file_of_7scenes_is_named(
    world: Path, tmp_path: Path, name: str, text: str, message: str
) -> None:
    folder = shutil.copytree(make_demo_world(world, PHONE, "7scenes"), tmp_path / "chess")
    (folder / name).write_text(text)
    dataset = SevenScenes(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        dataset.reference_model(), dataset.queries()


def test_a_kapture_pose_without_rotation_is_not_known(world: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(make_demo_world(world, PHONE, "lamar"), tmp_path / "lamar")
    table = folder / "query" / "sensors" / "trajectories.txt"
    lines = table.read_text().splitlines()
    lines[1] = "0, cam, , , , , 1.0, 2.0, 3.0"
    table.write_text("\n".join(lines) + "\n")
    assert len(LamarOptions(folder).open().truth() or {}) == PHONE.num_queries - 1


def test_a_lost_pose_is_none(tmp_path: Path) -> None:
    (tmp_path / "pose.txt").write_text("-inf -inf -inf -inf\n" * 4)
    assert read_frame_pose(tmp_path / "pose.txt") is None


def test_a_submission_has_the_benchmarks_names(options: LocalizeOptions) -> None:
    dataset = options.open()
    name = next(iter(dataset.queries().values()))[0].name
    submitted = {"robotcar": "left/1417178384.jpg", "lamar": "phone/000000.jpg", "7scenes": name}
    expected = submitted.get(options.pipeline)
    assert expected is None or dataset.submission_name(name) == expected


def test_the_cambridge_model_has_its_points_and_no_query(world: Path) -> None:
    dataset = Cambridge(make_demo_world(world, PHONE, "cambridge"))
    model = dataset.reference_model()
    assert model.num_reg_images() == PHONE.num_database
    assert all(name.startswith("seq1/") and name.endswith(".png") for name in model_poses(model))
    model.update_point_3d_errors()
    assert model.compute_mean_reprojection_error() < 0.01
    assert covisible(model, 3)


def test_visualsfms_distortion_is_inverted() -> None:
    """What COLMAP distorts, (1 + d r²) of the measured point, as VisualSFM defines it, restores."""
    camera = camera_from_nvm(1000.0, 0.05, (1920, 1080))
    points = np.array([[0.0, 0.0, 1.0], [0.3, -0.2, 1.0], [0.6, 0.3, 1.0]])
    measured = (np.asarray(camera.img_from_cam(points)) - [960, 540]) / 1000
    radius2 = (measured**2).sum(1, keepdims=True)
    np.testing.assert_allclose(measured * (1 + 0.05 * radius2), points[:, :2], atol=1e-3)
    assert camera.model == pycolmap.CameraModelId.RADIAL
