"""Photographs localized in a map of the user's own, by the command and by the function."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

import featplug
from featplug.cli.command_line import run_command
from featplug.cli.program import PROGRAM
from featplug.colmap.cameras import CameraOptions
from featplug.colmap.model_files import holds_model, read_model
from featplug.io.pair_lists import read_pairs, write_pairs
from featplug.localization.queries import Query, read_poses, write_queries
from featplug.metrics.poses import absolute_pose_errors, camera_centres, model_poses
from pipelines.datasets.own_map import OwnMapOptions
from pipelines.localize import localize, summary
from pipelines.run_options import FeatureOptions
from pipelines.sfm import SfmOptions, reconstruct
from tests.scenes.own_maps import (
    FOCAL_LENGTH,
    QUERIES,
    OwnMap,
    own_map_camera,
    write_fountain_map,
    write_own_map,
)
from tests.scenes.pictures import textured_image

FEW = FeatureOptions(max_keypoints=800, device="cpu")
PARAMS = CameraOptions(model="PINHOLE", params=",".join(map(str, own_map_camera().params.tolist())))


@pytest.fixture(scope="module")
def own_map(tmp_path_factory: pytest.TempPathFactory) -> OwnMap:
    return write_own_map(tmp_path_factory.mktemp("map"))


@pytest.fixture(scope="module")
def outputs(own_map: OwnMap, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with known intrinsics, which others reuse."""
    folder = tmp_path_factory.mktemp("localized")
    localize(
        OwnMapOptions(
            own_map.folder, own_map.queries, camera=PARAMS, extraction=FEW, outputs=folder
        )
    )
    return folder


def reusing(outputs: Path, own_map: OwnMap, folder: Path, **changes: Any) -> OwnMapOptions:
    """Localize again with the features and the triangulated model of a run."""
    for name in ("feats-featplug-sift.h5", "sfm"):
        source = outputs / name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, folder / name)
    options = OwnMapOptions(
        own_map.folder, own_map.queries, camera=PARAMS, extraction=FEW, outputs=folder
    )
    return dataclasses.replace(options, **changes)


@pytest.fixture
def options(outputs: Path, own_map: OwnMap, tmp_path: Path) -> OwnMapOptions:
    (tmp_path / "out").mkdir()
    return reusing(outputs, own_map, tmp_path / "out")


def largest_errors(poses: dict[str, np.ndarray], own_map: OwnMap) -> tuple[float, float]:
    """Largest errors of position, in units of a room of 2, and of rotation, in degrees."""
    assert poses.keys() == own_map.truth.keys()
    errors = absolute_pose_errors(poses, own_map.truth)
    return float(errors.position.max()), float(errors.rotation.max())


def test_the_poses_are_true_and_have_full_names(outputs: Path, own_map: OwnMap) -> None:
    position, rotation = largest_errors(read_poses(outputs / "poses.txt"), own_map)
    assert position < 0.01
    assert rotation < 0.2
    with (outputs / "poses.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert list(rows) == list(QUERIES)
    for row in rows.values():
        assert row["localized"] == "yes"
        assert float(row["confidence"]) > 0.99
        assert int(row["num_inliers"]) > 50
        assert 0 < float(row["position_deviation"]) < 0.01
        assert row["camera_model"] == "PINHOLE"
    logs = json.loads((outputs / "logs.json").read_text())["loc"]
    assert list(logs) == list(QUERIES)
    assert "report.html" in [path.name for path in outputs.iterdir()]
    assert not (outputs / "submission.txt").exists()


def test_the_output_is_a_workspace_with_the_queries(outputs: Path, own_map: OwnMap) -> None:
    model = read_model(outputs / "sparse" / "0")
    names = {image.name: image for image in model.images.values()}
    assert names.keys() == {f"queries/{n}" for n in QUERIES} | {
        path.name for path in own_map.images.iterdir()
    }
    assert model.num_reg_images() == 8
    assert all((outputs / "images" / name).is_file() for name in names)
    poses = read_poses(outputs / "poses.txt")
    for query in QUERIES:
        image = names[f"queries/{query}"]
        np.testing.assert_allclose(image.cam_from_world().matrix(), poses[query], atol=1e-9)
        assert image.num_points3D > 50
        camera = model.cameras[image.camera_id]
        for point in image.get_observation_points2D():
            seen = camera.img_from_cam(
                image.cam_from_world() * model.points3D[point.point3D_id].xyz
            )
            assert np.linalg.norm(seen - point.xy) < 12
    assert model.num_cameras() == 1  # all have the same


def test_a_focal_length_is_estimated(options: OwnMapOptions, own_map: OwnMap) -> None:
    unknown = dataclasses.replace(options, camera=CameraOptions(), focal_length="unknown")
    results = localize(unknown)
    position, _ = largest_errors(read_poses(options.output_dir / "poses.txt"), own_map)
    assert position < 0.05
    logs = json.loads((options.output_dir / "logs.json").read_text())["loc"]
    for entry in logs.values():
        assert entry["camera"]["params"][0] == pytest.approx(FOCAL_LENGTH, rel=0.02)
        assert 0 < entry["uncertainty"]["focal_length"] < 0.02
    assert results["cameras"]


def test_a_models_own_points_serve_where_they_are_those_of_the_features(
    outputs: Path, own_map: OwnMap, tmp_path: Path
) -> None:
    features = FeatureOptions(features=outputs / "feats-featplug-sift.h5", device="cpu")
    results = localize(
        OwnMapOptions(
            outputs / "sfm" / "model", own_map.queries, own_map.images,
            camera=PARAMS, extraction=features, matcher="NN-ratio", outputs=tmp_path / "out",
        )
    )  # fmt: skip
    assert set(results["stages"]) == {"extract", "pairs", "match_queries", "localize"}
    position, _ = largest_errors(read_poses(tmp_path / "out" / "poses.txt"), own_map)
    assert position < 0.01


@pytest.fixture(scope="module")
def reconstruction(own_map: OwnMap, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sfm")
    reconstruct(SfmOptions(own_map.images, camera=PARAMS, extraction=FEW, outputs=folder))
    return folder


def test_the_run_that_made_the_map_gives_feature_points_and_images(
    reconstruction: Path, own_map: OwnMap, tmp_path: Path
) -> None:
    """The feature's options, 800 keypoints, are taken from there, too."""
    features = (reconstruction / "feats-featplug-sift.h5").read_bytes()
    options = OwnMapOptions(
        reconstruction,
        own_map.queries,
        extraction=FeatureOptions(device="cpu"),
        outputs=tmp_path / "out",
    )
    results = localize(options)
    assert results["reused"]["extract"] == 6
    assert "triangulate" not in results["stages"]
    assert results["options"]["extraction"]["max_keypoints"] == 800
    assert results["metrics"]["localized_queries"]["value"] == 2
    assert (reconstruction / "feats-featplug-sift.h5").read_bytes() == features
    assert len(read_model(tmp_path / "out" / "sparse" / "0").images) == 8


def test_localized_queries_are_added_to_the_model(
    options: OwnMapOptions, own_map: OwnMap, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(own_map.model, tmp_path / "model"))
    (model / "notes.txt").write_text("mine")
    before = (model / "images.txt").read_bytes()
    whole = dataclasses.replace(options, model=model, images=own_map.images, add=True)
    results = localize(whole)
    assert results["data"]["added"] == 2
    added = read_model(model)
    assert added.num_reg_images() == 8
    assert {f"queries/{name}" for name in QUERIES} < {i.name for i in added.images.values()}
    assert (model / "notes.txt").read_text() == "mine"
    earlier = Path(results["data"]["earlier_model"])
    assert (earlier / "images.txt").read_bytes() == before
    assert holds_model(earlier)
    assert not results["data"]["images_linked"]  # the folder of images has photographs, not links
    assert "2 added to the model" in summary(results, whole)


@pytest.fixture
def run_map(own_map: OwnMap, tmp_path: Path) -> Path:
    """The output folder of a reconstruction of the map's photographs."""
    outputs = tmp_path / "map"
    reconstruct(SfmOptions(own_map.images, outputs=outputs))
    return outputs


def test_queries_are_added_to_a_run_one_after_the_other(
    options: OwnMapOptions, own_map: OwnMap, run_map: Path, tmp_path: Path
) -> None:
    """Each is added once, and serves the next as the other photographs do."""
    first, second = sorted(own_map.queries.iterdir())[:2]
    model, images = run_map / "sparse" / "0", run_map / "images"
    before = read_model(model)
    for query, num in ((first, 1), (second, 1), (first, 0)):
        whole = OwnMapOptions(
            model=run_map, queries=query, add=True, outputs=tmp_path / f"{query.stem}-{num}"
        )
        results = localize(whole)
        assert results["data"]["added"] == num
        assert not results["data"]["skipped"]
    extended = read_model(model)
    assert extended.num_reg_images() == before.num_reg_images() + 2
    extended.update_point_3d_errors()
    assert extended.compute_mean_reprojection_error() < 1.5
    names = [image.name for image in extended.images.values()]
    assert all((images / name).is_file() for name in names)
    with pytest.raises(ValueError, match=r"--add` added.*--outputs"):
        reconstruct(SfmOptions(own_map.images, outputs=run_map))
    assert read_model(model).num_reg_images() == extended.num_reg_images()


def test_a_photograph_alone_has_the_pose_and_camera_of_the_command(
    run_map: Path, own_map: OwnMap, tmp_path: Path
) -> None:
    """Without a given camera, both take the map's."""
    query = min(path for path in own_map.queries.rglob("*") if path.is_file())
    localize(OwnMapOptions(model=run_map, queries=query, outputs=tmp_path / "one"))
    (entry,) = json.loads((tmp_path / "one" / "logs.json").read_text())["loc"].values()
    found = featplug.Localizer(run_map, device="cpu").localize(query)
    assert found.camera.params.tolist() == pytest.approx(entry["camera"]["params"], rel=1e-6)
    np.testing.assert_allclose(found.cam_from_world, entry["cam_from_world"], atol=1e-6)


def test_points_of_another_feature_are_not_observed_in_the_model(
    run_map: Path, own_map: OwnMap, tmp_path: Path
) -> None:
    extraction = FeatureOptions(feature="orb")
    query = min(own_map.queries.iterdir())
    results = localize(
        OwnMapOptions(
            model=run_map, queries=query, add=True, extraction=extraction, outputs=tmp_path / "orb"
        )
    )
    assert results["data"]["added"] == 1
    (added,) = [
        image
        for image in read_model(run_map / "sparse" / "0").images.values()
        if image.name.startswith("queries")
    ]
    assert added.num_points3D == 0


def test_a_users_own_folder_of_images_is_left_alone(
    options: OwnMapOptions, own_map: OwnMap, tmp_path: Path
) -> None:
    workspace = tmp_path / "map"
    shutil.copytree(own_map.model, workspace / "sparse" / "0")
    (workspace / "images").symlink_to(own_map.images)
    whole = dataclasses.replace(options, model=workspace, images=None, add=True)
    assert not localize(whole)["data"]["images_linked"]
    assert (workspace / "images").resolve() == own_map.images.resolve()


def test_bad_queries_are_listed_and_the_others_localized(
    options: OwnMapOptions, own_map: OwnMap, tmp_path: Path
) -> None:
    queries = Path(shutil.copytree(own_map.queries, tmp_path / "queries"))
    Image.new("L", (1, 1)).save(queries / "dot.png")
    Image.new("L", (400, 300)).save(queries / "black.png")
    Image.fromarray(textured_image(99, 400, 300)).save(queries / "elsewhere.png")
    (queries / "text.jpg").write_text("not a photograph")
    results = localize(dataclasses.replace(options, queries=queries, camera=CameraOptions()))
    assert read_poses(options.output_dir / "poses.txt").keys() == own_map.truth.keys()
    failed = results["data"]["not_localized"]
    assert failed.keys() == {"dot.png", "black.png", "elsewhere.png", "text.jpg"}
    assert str(queries / "text.jpg") in failed["text.jpg"]
    with (options.output_dir / "poses.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert {name: row["note"] for name, row in rows.items() if row["localized"] == "no"} == failed
    assert rows["black.png"]["qw"] == ""


def test_a_prior_position_narrows_retrieval_and_judges_the_pose(
    options: OwnMapOptions, own_map: OwnMap, tmp_path: Path
) -> None:
    centres = {n: camera_centres(pose[None])[0] for n, pose in own_map.truth.items()}
    near, far = centres
    text = "\n".join(
        f"{name} {x} {y} {z}"
        for name, (x, y, z) in ((near, centres[near]), (far, centres[far] + [9, 0, 0]))
    )
    (tmp_path / "priors.txt").write_text(text)
    prior = dataclasses.replace(
        options, prior=str(tmp_path / "priors.txt"), prior_form="metres", prior_radius=0.7
    )
    results = localize(prior)
    pairs = read_pairs(options.output_dir / "pairs-query.txt")
    poses = model_poses(read_model(own_map.model))
    expected = {
        name
        for name, pose in poses.items()
        if np.linalg.norm(camera_centres(pose[None])[0] - centres[near]) <= 0.7
    }
    assert 0 < len(expected) < 6
    assert {name for _, name in pairs} == expected
    assert results["data"]["not_localized"].keys() == {far}
    assert "near its prior position" in results["data"]["not_localized"][far]
    # The same far prior, with a radius that holds photographs and yet not the pose.
    pairs_path = tmp_path / "pairs.txt"
    write_pairs(pairs_path, [(name, image) for name in centres for image in poses])
    results = localize(dataclasses.replace(prior, pairs=pairs_path, prior_radius=1.0))
    assert results["data"]["not_localized"].keys() == {far}
    assert "from its prior position" in results["data"]["not_localized"][far]
    with pytest.raises(ValueError, match=r"--prior exif.*none of the 2 queries"):
        localize(dataclasses.replace(options, prior="exif"))
    (tmp_path / "gps.txt").write_text(f"{near} 48.1 11.5\n")
    with pytest.raises(ValueError, match=r"georeference\.json.*featplug sfm --georeference"):
        localize(dataclasses.replace(options, prior=str(tmp_path / "gps.txt")))


def rig_config(own_map: OwnMap) -> list[dict[str, Any]]:
    """The two queries' cameras as a rig."""
    (first, second), (left, right) = own_map.truth.values(), ("left/", "right/")
    rotation = second[:, :3] @ first[:, :3].T
    translation = second[:, 3] - rotation @ first[:, 3]
    x, y, z, w = Rotation.from_matrix(rotation).as_quat().tolist()
    pose = {
        "cam_from_rig_rotation": [w, x, y, z],
        "cam_from_rig_translation": translation.tolist(),
    }
    cameras = [{"image_prefix": left, "ref_sensor": True}, {"image_prefix": right, **pose}]
    return [{"cameras": cameras}]


def test_the_cameras_of_a_rig_are_localized_together(
    options: OwnMapOptions, own_map: OwnMap, tmp_path: Path
) -> None:
    """One has three matches only, of which no pose would come."""
    path = tmp_path / "rig_config.json"
    path.write_text(json.dumps(rig_config(own_map)))
    queries = Path(shutil.copytree(own_map.queries, tmp_path / "queries"))
    masks = tmp_path / "masks"
    left = np.zeros((300, 400), np.uint8)
    left[140:165, 190:215] = 255
    (masks / "left").mkdir(parents=True)
    Image.fromarray(left).save(masks / "left" / "1.png.png")
    masked = dataclasses.replace(options, queries=queries, query_masks=masks)
    (options.output_dir / "feats-featplug-sift.h5").unlink()
    results = localize(masked)
    assert results["data"]["not_localized"].keys() == {"left/1.png"}
    localize(dataclasses.replace(masked, query_rig=path))
    position, rotation = largest_errors(read_poses(options.output_dir / "poses.txt"), own_map)
    assert position < 0.02
    assert rotation < 0.4
    broken = rig_config(own_map)
    del broken[0]["cameras"][1]["cam_from_rig_rotation"]
    del broken[0]["cameras"][1]["cam_from_rig_translation"]
    path.write_text(json.dumps(broken))
    with pytest.raises(ValueError, match=r"rig_config\.json lacks cam_from_rig"):
        localize(dataclasses.replace(options, query_rig=path))


def test_without_any_pose_every_reason_is_named(options: OwnMapOptions, tmp_path: Path) -> None:
    queries = tmp_path / "queries"
    queries.mkdir()
    for name, picture in (("b.png", np.zeros((300, 400), np.uint8)), ("e.png", textured_image(9))):
        Image.fromarray(picture).save(queries / name)
    with pytest.raises(ValueError, match=r"None of the 2 queries.*'b\.png'.*'e\.png'"):
        localize(dataclasses.replace(options, queries=queries, camera=CameraOptions()))


def test_lists_have_names_alone_or_intrinsics(
    options: OwnMapOptions, own_map: OwnMap, tmp_path: Path
) -> None:
    """The list names its photographs relative to the folder of the list."""
    queries = Path(shutil.copytree(own_map.queries, tmp_path / "queries"))
    (queries / "names.txt").write_text("right/1.png\n")
    one = dataclasses.replace(options, queries=queries / "names.txt")
    localize(one)
    assert read_poses(options.output_dir / "poses.txt").keys() == {"right/1.png"}
    listed = queries / "queries_with_intrinsics.txt"
    write_queries(listed, [Query(name, own_map_camera()) for name in QUERIES])
    results = localize(dataclasses.replace(one, queries=listed, camera=CameraOptions()))
    assert results["cameras"] == ["2 queries: intrinsics of the list"]
    position, _ = largest_errors(read_poses(options.output_dir / "poses.txt"), own_map)
    assert position < 0.01
    lines = listed.read_text()
    listed.write_text(lines + lines.replace("440", "880"))
    with pytest.raises(ValueError, match=r"queries_with_intrinsics.txt, line 3: .*remove one"):
        localize(dataclasses.replace(one, queries=listed, camera=CameraOptions()))


Change = Callable[[OwnMap, Path], dict[str, Any]]


def _images_above(own_map: OwnMap, folder: Path) -> dict[str, Any]:
    return {"images": own_map.folder}


def _images_in_other_folders(own_map: OwnMap, folder: Path) -> dict[str, Any]:
    shutil.copytree(own_map.images, folder / "other" / "a")
    for number, path in enumerate(sorted((folder / "other" / "a").iterdir())):
        (folder / "other" / f"{number}").mkdir()
        path.rename(folder / "other" / f"{number}" / path.name)
    model = read_model(own_map.model)
    for image in model.images.values():
        image.name = f"deep/{image.name}"
    (folder / "model").mkdir()
    model.write(str(folder / "model"))
    return {"model": folder / "model", "images": folder / "other"}


def _no_images(own_map: OwnMap, folder: Path) -> dict[str, Any]:
    return {"model": Path(shutil.copytree(own_map.model, folder / "alone")), "images": None}


def _queries_as_images(own_map: OwnMap, folder: Path) -> dict[str, Any]:
    return {"images": own_map.queries}


def _no_model(own_map: OwnMap, folder: Path) -> dict[str, Any]:
    return {"model": own_map.images}


def _list_of_others(own_map: OwnMap, folder: Path) -> dict[str, Any]:
    (folder / "list.txt").write_text("a.jpg\nb.jpg\n")
    return {"queries": folder / "list.txt"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_images_above, r"None of the 6 photographs .*6 of them are in .*give --images .*images\."),
        (_images_in_other_folders, r"'deep/00\.png'.*6 photographs have the same base names"),
        (_no_images, r"alone are not in a folder images.*--images"),
        (_queries_as_images, r"None of the 6 photographs of the model is in .*queries.*--images"),
        (_no_model, r"images has no COLMAP model.*--model"),
        (lambda *_: {"model": Path("nowhere")}, r"no folder nowhere.*--model"),
        (lambda *_: {"queries": Path("nowhere")}, r"nowhere.*--queries"),
        (_list_of_others, r"list\.txt: none of its 2 photographs, such as 'a\.jpg'.*move the list"),
    ],
)  # fmt: skip
def test_the_cause_is_named_before_any_work(
    options: OwnMapOptions, own_map: OwnMap, tmp_path: Path, change: Change, message: str
) -> None:
    fresh = dataclasses.replace(options, outputs=tmp_path / "fresh", **change(own_map, tmp_path))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        localize(fresh)
    assert not (tmp_path / "fresh").exists()


def test_the_command_leaves_its_config(
    options: OwnMapOptions, own_map: OwnMap, capsys: pytest.CaptureFixture[str]
) -> None:
    def featplug(*arguments: object) -> str:
        run_command(PROGRAM, "featplug", list(map(str, arguments)))
        return capsys.readouterr().out

    text = featplug(
        "localize", "--quiet", "--model", own_map.model, "--images", own_map.images,
        "--queries", own_map.queries, "--max-keypoints", 800, "--device", "cpu",
        "--outputs", options.output_dir,
    )  # fmt: skip
    assert "localized queries" in text
    assert "report.html" in text.splitlines()[-1]
    poses = (options.output_dir / "poses.txt").read_bytes()
    featplug("localize", "--quiet", "--config", options.output_dir / "config.toml")
    assert (options.output_dir / "poses.txt").read_bytes() == poses
    featplug(
        "localize", "--check", "--model", own_map.model, "--images", own_map.images,
        "--queries", own_map.queries,
    )  # fmt: skip
    assert list(PROGRAM.sections["Photographs to a model or to poses, in one command"])[:2] == [
        "sfm",
        "localize",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("has_exif", [False, True])
def test_three_photographs_of_the_fountain_in_a_map_of_the_other_eight(
    shared: Path, tmp_path: Path, has_exif: bool
) -> None:
    """By intrinsics, and by EXIF data alone; without either, focal lengths are within 2 %."""
    scene = shared / "data" / "strecha" / "fountain-P11"
    made = write_fountain_map(tmp_path / "map", scene, 1536, has_exif)
    (camera,) = read_model(made.model).cameras.values()
    params = ",".join(map(str, camera.params.tolist()))
    known = CameraOptions() if has_exif else CameraOptions(model="PINHOLE", params=params)
    options = OwnMapOptions(
        made.folder, made.queries, camera=known, outputs=tmp_path / "out",
        extraction=FeatureOptions(device="cpu"),
    )  # fmt: skip
    localize(options)
    position, _ = largest_errors(read_poses(tmp_path / "out" / "poses.txt"), made)
    assert position < (0.02 if has_exif else 0.005)
    localize(dataclasses.replace(options, camera=CameraOptions(), focal_length="unknown"))
    logs = json.loads((tmp_path / "out" / "logs.json").read_text())["loc"]
    focal_lengths = [entry["camera"]["params"][0] for entry in logs.values()]
    assert focal_lengths == pytest.approx([camera.mean_focal_length()] * 3, rel=0.02)


def test_a_photograph_stored_turned_has_the_pose_of_its_stored_pixels(
    options: OwnMapOptions, own_map: OwnMap, tmp_path: Path
) -> None:
    """Its EXIF data say to turn it by 90° clockwise; its camera is not that of the map."""
    name, truth = next(iter(own_map.truth.items()))
    stored = np.rot90(np.array(Image.open(own_map.queries / name)))
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "turned").mkdir()
    Image.fromarray(stored).save(tmp_path / "turned" / "q.jpg", quality=97, exif=exif)
    localize(dataclasses.replace(options, queries=tmp_path / "turned", camera=CameraOptions()))
    pose = read_poses(options.output_dir / "poses.txt")["q.jpg"]
    stored_from_upright = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    errors = absolute_pose_errors({"q": pose}, {"q": stored_from_upright @ truth})
    assert errors.position.max() < 0.05
    assert errors.rotation.max() < 0.5


def test_a_run_is_a_map_for_python(outputs: Path, own_map: OwnMap) -> None:
    """The features of the run, its triangulated model and its images are found."""
    localizer = featplug.Localizer(outputs)
    name, truth = next(iter(own_map.truth.items()))
    found = localizer.localize(own_map.queries / name)
    assert found.is_localized
    assert found.cam_from_world is not None
    errors = absolute_pose_errors({"q": found.cam_from_world}, {"q": truth})
    assert errors.position.max() < 0.05
