"""Models in metres by the positions of their photographs, and pairs of near ones."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featplug.colmap.georeference import Georeference, read_georeference
from featplug.colmap.model_files import read_model
from featplug.io.exif import GpsPosition
from featplug.io.pair_lists import read_pairs
from featplug.metrics.poses import aligned_pose_errors, camera_centres, model_poses
from pipelines.datasets.true_poses import reference_unit
from pipelines.run_options import FeatureOptions
from pipelines.sfm import SfmOptions, reconstruct
from pipelines.sfm_summary import summary
from tests.scenes.positioned import TOWN, gps_exif, position_priors, write_gps_town
from tests.scenes.synthetic import SyntheticScene, write_synthetic_scene

PLACE = GpsPosition(47.37, 8.54, 408.0)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> SyntheticScene:
    return write_synthetic_scene(tmp_path_factory.mktemp("placed") / "scene", num_images=8)


def true_places(scene: SyntheticScene) -> dict[str, np.ndarray]:
    """The true camera centres in a world of ten times the size."""
    return {name: 10 * camera_centres(pose) for name, pose in model_poses(scene.truth).items()}


def write_places(path: Path, places: dict[str, np.ndarray]) -> str:
    lines = [f"{name},{x:.4f},{y:.4f},{z:.4f}" for name, (x, y, z) in places.items()]
    path.write_text("\n".join(["name,x,y,z", *lines]) + "\n")
    return str(path)


def sfm(scene: SyntheticScene, outputs: Path, **options: Any) -> SfmOptions:
    return SfmOptions(
        scene.images,
        matches=scene.matches,
        outputs=outputs,
        extraction=FeatureOptions(features=scene.features),
        **options,
    )


def test_a_file_of_positions_puts_the_model_into_metres(
    scene: SyntheticScene, tmp_path: Path
) -> None:
    places, outputs = true_places(scene), tmp_path / "out"
    wrong = scene.names[3]
    path = write_places(tmp_path / "p.csv", {**places, wrong: places[wrong] + 500})
    results = reconstruct(sfm(scene, outputs, georeference=path))
    record = results["georeference"]
    assert record["unit"] == "m"
    assert (record["images"], record["wrong"]) == (7, [wrong])
    assert record["median_residual"] <= record["residual_90"] < 0.05
    assert record["scale_uncertainty"] < 0.01
    for folder in ("sparse/0", "model", "colmap_models/0"):
        model = read_model(outputs / folder)
        for name, pose in model_poses(model).items():
            np.testing.assert_allclose(camera_centres(pose), places[name], atol=0.1)
        assert read_georeference(outputs / folder) is not None
    assert read_georeference(outputs) == read_georeference(outputs / "sparse" / "0")
    assert reference_unit(outputs / "model") == "m"
    # The points are where the model is.
    cloud = np.array([p.xyz for p in model.points3D.values()])
    assert np.abs(np.ptp(cloud, axis=0)).max() > 10
    text = summary(results)
    assert "in metres by the positions of 7 images (p.csv)" in text
    assert wrong in text
    assert sorted(position_priors(outputs / "database.db")) == scene.names


def test_the_mapper_adjusts_to_exact_positions(scene: SyntheticScene, tmp_path: Path) -> None:
    places = true_places(scene)
    path = write_places(tmp_path / "p.csv", places)
    options = {"georeference": path, "position_noise": 0.001}
    reconstruct(sfm(scene, tmp_path / "out", **options))
    (prior, *_) = position_priors(tmp_path / "out" / "database.db").values()
    np.testing.assert_allclose(prior.position_covariance, 1e-6 * np.eye(3))
    for name, pose in model_poses(read_model(tmp_path / "out" / "model")).items():
        np.testing.assert_allclose(camera_centres(pose), places[name], atol=0.01)


def test_the_gps_of_photographs_puts_the_model_east_north_up(
    scene: SyntheticScene, tmp_path: Path
) -> None:
    frame = Georeference(PLACE)
    places = true_places(scene)
    copy = SyntheticScene(tmp_path / "scene", scene.truth, scene.names)
    copy.images.mkdir(parents=True)
    for path in (scene.features, scene.matches):
        shutil.copy(path, copy.folder)
    for name, (latitude, longitude, altitude) in zip(
        places, frame.to_gps(np.stack(list(places.values()))).tolist(), strict=True
    ):
        gps = GpsPosition(latitude, longitude, altitude) if name != scene.names[0] else None
        image = Image.open(scene.images / name)
        (copy.images / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(copy.images / name, "JPEG", exif=gps_exif(gps))
    results = reconstruct(sfm(copy, tmp_path / "out", georeference="exif"))
    record = results["georeference"]
    assert record["frame"] == "east-north-up"
    assert record["images"] == 7
    georeference = read_georeference(tmp_path / "out")
    assert georeference is not None
    assert georeference.origin == GpsPosition(**record["origin"])
    model = read_model(tmp_path / "out" / "sparse" / "0")
    for name, pose in model_poses(model).items():
        latitude, longitude, altitude = georeference.to_gps(camera_centres(pose))[0]
        here = frame.from_gps([GpsPosition(latitude, longitude, altitude)])[0]
        np.testing.assert_allclose(here, places[name], atol=0.15)
    assert "x is east, y north, z up of 47.3" in summary(results)


def test_a_model_that_the_positions_do_not_place_is_kept(
    scene: SyntheticScene, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    noisy = {name: rng.normal(0, 1, 3) for name in scene.names}
    path = write_places(tmp_path / "p.csv", noisy)
    results = reconstruct(sfm(scene, tmp_path / "out", georeference=path))
    assert results["georeference"]["problem"]
    assert "not in metres: the positions" in summary(results)
    assert read_model(tmp_path / "out" / "model").num_reg_images() == 8
    assert read_georeference(tmp_path / "out") is None


def test_what_cannot_be_met_is_rejected_before_any_work(
    scene: SyntheticScene, tmp_path: Path
) -> None:
    outputs, places = tmp_path / "out", true_places(scene)
    two = write_places(tmp_path / "two.csv", {n: places[n] for n in scene.names[:2]})
    line = write_places(
        tmp_path / "line.csv", {n: np.array([i, i, 0.0]) for i, n in enumerate(scene.names)}
    )
    others = write_places(tmp_path / "others.csv", {"x.jpg": np.zeros(3)})
    requests = [
        ({"georeference": "exif"}, "EXIF has positions of 0 photographs"),
        ({"georeference": two}, "two.csv has positions of 2 photographs"),
        ({"georeference": line}, "line.csv has all 8 photographs on one line"),
        ({"georeference": others}, "others.csv has positions .* none of the 8 photographs"),
        ({"position_form": "gps"}, "--georeference FILE"),
        ({"position_noise": 2.0}, "--georeference exif or a file"),
        ({"position_noise": 2.0, "georeference": "exif", "mapper": "global"}, "other mappers"),
        ({"position_noise": -1.0, "georeference": "exif"}, "above 0 m"),
        ({"pairs": "near"}, "EXIF has positions of 0 of 8 photographs.*--georeference FILE"),
        ({"pairs": "near", "georeference": two, "max_distance": -1}, "--max-distance"),
    ]
    for options, reason in requests:
        with pytest.raises(ValueError, match=reason):
            reconstruct(sfm(scene, outputs, **options))
    with pytest.raises(FileNotFoundError, match=r"gone\.csv"):
        reconstruct(sfm(scene, outputs, georeference=str(tmp_path / "gone.csv")))
    assert not outputs.exists()


def test_near_images_are_paired(scene: SyntheticScene, tmp_path: Path) -> None:
    places = true_places(scene)
    unknown = scene.names[5]
    path = write_places(tmp_path / "p.csv", {n: p for n, p in places.items() if n != unknown})
    options = sfm(scene, tmp_path / "out", georeference=path, pairs="near", num_matched=3)
    results = reconstruct(options)
    pairs = read_pairs(tmp_path / "out" / "pairs-near.txt")
    first = scene.names[0]
    nearest = sorted(
        (n for n in places if n not in (first, unknown)),
        key=lambda n: np.linalg.norm(places[n] - places[first]),
    )
    assert [b for a, b in pairs if a == first] == nearest[:3]
    assert not any(unknown in pair for pair in pairs)
    assert "p.csv has no position of it" in results["data"]["skipped"][unknown]


@pytest.mark.slow
def test_forty_photographs_of_two_cameras_are_metric_to_the_noise_of_gps(tmp_path: Path) -> None:
    noise = 2.0
    truth = write_gps_town(tmp_path, 5, noise)
    outputs = tmp_path / "out"
    # Facades that repeat along the street are not matched with each other.
    options = SfmOptions(
        tmp_path / "images",
        georeference="exif",
        pairs="near",
        num_matched=16,
        max_distance=15.0,
        outputs=outputs,
    )
    record = reconstruct(options)["georeference"]
    assert record["images"] >= 38
    # Three normal coordinates: the median distance is 1.54 standard deviations.
    assert record["median_residual"] == pytest.approx(1.54 * noise, rel=0.25)
    georeference = read_georeference(outputs)
    assert georeference is not None
    poses = model_poses(read_model(outputs / "sparse" / "0"))
    names = sorted(poses)
    assert len(names) == 40
    made = np.stack([camera_centres(poses[name]) for name in names])
    gps = [GpsPosition(*place) for place in georeference.to_gps(made).tolist()]
    made = Georeference(TOWN).from_gps(gps)
    true = np.stack([camera_centres(truth[name]) for name in names])
    # The model averages the noise of 40 positions, so each camera is nearer than its own GPS.
    errors = np.linalg.norm(made - true, axis=1)
    assert np.median(errors) < 0.5 * noise
    assert np.quantile(errors, 0.9) < noise
    scale = np.linalg.norm(made - made.mean(0)) / np.linalg.norm(true - true.mean(0))
    assert abs(scale - 1) < 3 * record["scale_uncertainty"] < 0.15
    # What the positions leave uncertain is the place of the whole: the model itself is better.
    assert np.median(aligned_pose_errors(poses, truth).position) < 0.25 * noise
