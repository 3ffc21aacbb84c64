"""Models in metres: frames of GPS and of files, models put into them, and files read back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from featplug.colmap.cameras import CameraOptions
from featplug.colmap.database import create_database
from featplug.colmap.database_priors import write_position_priors
from featplug.colmap.georeference import (
    FILE,
    Georeference,
    local_positions,
    place_model,
    read_georeference,
    usable_gps,
    write_georeference,
)
from featplug.io.exif import GpsPosition
from featplug.io.positions import Positions
from featplug.metrics.poses import camera_centres, model_poses
from tests.scenes.positioned import position_priors, write_gps_image

ZURICH = GpsPosition(47.37, 8.54, 408.5)


def test_metres_are_east_north_and_up_of_the_origin() -> None:
    frame = Georeference(ZURICH)
    assert frame.frame == "east-north-up"
    places = [
        GpsPosition(47.37, 8.54 + 1 / 3600, 408.5),
        GpsPosition(47.37 + 1 / 3600, 8.54, 408.5),
        GpsPosition(47.37, 8.54, 508.5),
    ]
    # A second of arc is 30.88 m of a meridian there, and 20.99 m of the parallel.
    expected = np.diag([20.98, 30.885, 100])
    np.testing.assert_allclose(frame.from_gps(places), expected, atol=0.02)
    back = frame.to_gps(frame.from_gps(places))
    np.testing.assert_allclose(back, [(p.latitude, p.longitude, p.altitude) for p in places])
    flat = Georeference(replace(ZURICH, altitude=None))
    assert np.isnan(flat.to_gps(np.zeros((1, 3)))[0, 2])
    assert flat.to_gps(np.zeros((1, 3)))[0, 0] == pytest.approx(47.37)
    with pytest.raises(ValueError, match="in metres, not of GPS"):
        Georeference().to_gps(np.zeros((1, 3)))


def test_the_frame_is_read_back(tmp_path: Path) -> None:
    assert read_georeference(tmp_path) is None
    for frame in (
        Georeference(ZURICH),
        Georeference(replace(ZURICH, altitude=None)),
        Georeference(offset=(4e5, 5e6, 400.0)),
    ):
        write_georeference(tmp_path, frame)
        assert read_georeference(tmp_path) == frame
    (tmp_path / FILE).write_text('{"origin": {"latitude": 91, "longitude": 0, "altitude": null}}')
    with pytest.raises(ValueError, match=FILE):
        read_georeference(tmp_path)


def test_positions_by_gps_get_the_median_as_origin() -> None:
    gps = {
        f"{i}.jpg": GpsPosition(10, (179.999 + i * 0.001 + 180) % 360 - 180, 5) for i in range(5)
    }
    gps["far.jpg"] = GpsPosition(10.1, 179, 5)
    frame, places = local_positions(Positions("EXIF", gps))
    assert frame.origin is not None
    assert abs(frame.origin.longitude) > 179.9
    assert np.abs(places["0.jpg"]).max() < 300
    np.testing.assert_allclose(places["4.jpg"] - places["2.jpg"], [219.3, 0, 0], atol=0.3)


def test_images_without_altitude() -> None:
    gps = {f"{i}.jpg": GpsPosition(47 + i * i * 1e-4, 8 + i * 1e-4, 400.0 + i) for i in range(5)}
    gps["4.jpg"] = replace(gps["4.jpg"], altitude=None)
    frame, places = local_positions(Positions("EXIF", gps))
    assert sorted(places) == [f"{i}.jpg" for i in range(4)]
    assert frame.origin is not None
    assert frame.origin.altitude == 401.5
    gps |= {name: replace(gps[name], altitude=None) for name in ("1.jpg", "2.jpg")}
    frame, places = local_positions(Positions("EXIF", gps))
    assert len(places) == 5
    assert frame.origin is not None
    assert frame.origin.altitude is None
    assert max(abs(place[2]) for place in places.values()) < 0.01


def test_large_coordinates_are_shifted() -> None:
    metres = {f"{i}.jpg": (465_000.0 + i * i, 5_247_000.0 + i, 400.0) for i in range(4)}
    frame, places = local_positions(Positions("utm.csv", metres=metres))
    assert frame.frame == "given"
    assert np.abs(frame.offset[:2] - np.array([465_000, 5_247_000])).max() <= 100
    np.testing.assert_allclose(places["3.jpg"] + frame.offset, metres["3.jpg"])
    small = {name: (x - 465_000, y - 5_247_000, z) for name, (x, y, z) in metres.items()}
    assert local_positions(Positions("local.csv", metres=small))[0] == Georeference()


@pytest.mark.parametrize(
    ("metres", "reason"),
    [
        ([(0, 0, 0), (1, 2, 3)], "positions of 2 photographs"),
        ([(i, 2 * i, 3) for i in range(9)], "on one line"),
        ([(1, 2, 3)] * 9, "at one place"),
    ],
)
def test_positions_that_place_nothing_are_rejected(
    metres: list[tuple[float, float, float]], reason: str
) -> None:
    positions = Positions("p.csv", metres={f"{i}.jpg": p for i, p in enumerate(metres)})
    with pytest.raises(ValueError, match=rf"p.csv has .*{reason}.*leave out --georeference"):
        local_positions(positions)


def synthetic_model(num_cameras: int = 2) -> pycolmap.Reconstruction:
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig = 1, num_cameras
    options.num_frames_per_rig, options.num_points3D = 20, 100
    pycolmap.set_random_seed(1)
    return pycolmap.synthesize_dataset(options)


def centres_of(model: pycolmap.Reconstruction) -> dict[str, np.ndarray]:
    return {name: camera_centres(pose) for name, pose in model_poses(model).items()}


def test_a_model_with_rigs_is_put_into_metres() -> None:
    model = synthetic_model()
    similarity = pycolmap.Sim3d(
        12.5, pycolmap.Rotation3d(np.array([0, 0.6, 0, 0.8])), np.array([100.0, -20, 3])
    )
    places = {name: similarity * c for name, c in centres_of(model).items()}
    wrong = sorted(places)[7]
    expected = dict(places)
    places[wrong] = places[wrong] + 300
    errors = model.compute_mean_reprojection_error()
    baseline = np.diff(list(centres_of(model).values())[:2], axis=0)
    placement = place_model(model, places)
    assert placement.wrong == [wrong]
    assert len(placement.names) == 39
    assert placement.residuals.max() < 1e-6
    for name, centre in centres_of(model).items():
        np.testing.assert_allclose(centre, expected[name], atol=1e-6)
    assert np.linalg.norm(np.diff(list(centres_of(model).values())[:2], axis=0)) == pytest.approx(
        12.5 * np.linalg.norm(baseline)
    )
    # Points and the poses in the rigs move along: all still fits.
    model.update_point_3d_errors()
    assert model.compute_mean_reprojection_error() == pytest.approx(errors, abs=1e-6)


def test_positions_too_noisy_to_place_a_model_leave_it_as_it_is() -> None:
    model, rng = synthetic_model(1), np.random.default_rng(2)
    before = centres_of(model)
    noisy = {name: c + rng.normal(0, 100, 3) for name, c in before.items()}
    for places, reason in ((noisy, "noise is .* too near|contradict"), ({}, "three")):
        with pytest.raises(ValueError, match=reason):
            place_model(model, places)
    for name, centre in centres_of(model).items():
        np.testing.assert_array_equal(centre, before[name])
    # A walk along a street: 60 m, a few centimetres to the sides, and GPS of 2 m.
    for i, frame in enumerate(model.frames.values()):
        centre = np.array([3.0 * i, *rng.normal(0, 0.05, 2)])
        frame.rig_from_world = pycolmap.Rigid3d(pycolmap.Rotation3d(), -centre)
    street = {name: c + rng.normal(0, 2, 3) for name, c in centres_of(model).items()}
    with pytest.raises(ValueError, match=r"on a line but for their noise of .* m"):
        place_model(model, street)


def test_colmap_finds_the_positions_in_the_database(tmp_path: Path) -> None:
    names = [f"{i}.jpg" for i in range(4)]
    for i, name in enumerate(names):
        write_gps_image(
            tmp_path / "images" / name, GpsPosition(47 + i * 1e-4, 8, 400) if i else None
        )
    database = tmp_path / "database.db"

    def priors() -> dict[str, tuple[str, list[float], float]]:
        return {
            name: (p.coordinate_system.name, p.position.tolist(), p.position_covariance[0, 0])
            for name, p in position_priors(database).items()
        }

    create_database(database, tmp_path / "images", names, CameraOptions())
    assert sorted(priors()) == names[1:]
    gps = {name: GpsPosition(1, 2, 3) for name in names[:3]} | {"3.jpg": GpsPosition(4, 5, None)}
    write_position_priors(database, Positions("f", gps), 2.0)
    assert priors() == dict.fromkeys(names[:3], ("WGS84", [1, 2, 3], 4.0))
    write_position_priors(database, Positions("f", {"3.jpg": gps["3.jpg"]}))
    assert priors()["3.jpg"][:2] == ("WGS84", [4, 5, 0])
    write_position_priors(database, Positions("f", metres={"2.jpg": (1, 2, 3)}), 0.5)
    assert priors() == {"2.jpg": ("CARTESIAN", [1, 2, 3], 0.25)}


def test_a_few_altitudes_do_not_leave_the_other_positions_out() -> None:
    gps = {f"{i}.jpg": GpsPosition(47 + i / 1e4, 8, 400.0 if i < 2 else None) for i in range(10)}
    assert len(usable_gps(gps)) == 10
    assert {p.altitude for p in usable_gps(gps).values()} == {None}
    most = {name: GpsPosition(p.latitude, 8, 400.0) for name, p in list(gps.items())[:8]}
    assert usable_gps({**gps, **most}).keys() == most.keys()
