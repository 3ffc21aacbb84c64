"""Camera and image rows, against COLMAP's own import, and options that do not fit."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from featplug.colmap.camera_groups import CameraMode
from featplug.colmap.cameras import CameraOptions, check_camera
from featplug.colmap.database import create_database, image_ids
from featplug.io.exif import EXIF_IFD, FOCAL_LENGTH, MAKE, MODEL

IN_35MM, GPS_IFD = 0xA405, 0x8825
AUTO = CameraOptions()
TABLES = "cameras", "rigs", "rig_sensors", "frames", "frame_data", "images"
PHOTOGRAPHS: dict[str, tuple[tuple[int, int], str | None, float | None, int | None]] = {
    "a/1.jpg": ((80, 60), "iPhone 7", 3.99, 28),
    "a/2.jpg": ((80, 60), "iPhone 7", 3.99, None),
    "a/3.jpg": ((80, 60), None, None, None),
    "b/1.jpg": ((80, 60), "iPhone 7", 3.99, 28),
    "b/2.jpg": ((80, 60), "iPhone 7", 3.99, 28),
    "b/3.jpg": ((80, 60), None, None, 35),
    "c.jpg": ((80, 60), "iPhone 7", 3.99, 28),
    "d.jpg": ((80, 60), None, None, None),
    "e.jpg": ((80, 60), "Unknown", 5.0, None),
}
TURNED = {"f.jpg": ((60, 80), "iPhone 7", 3.99, 28)}


def save(path: Path, size: tuple[int, int], model: str | None, mm: float | None, in35: int | None):
    exif = Image.Exif()
    if model is not None:
        exif[MAKE], exif[MODEL] = "Apple", model
    if mm is not None:
        exif.get_ifd(EXIF_IFD)[FOCAL_LENGTH] = IFDRational(round(100 * mm), 100)
    if in35 is not None:
        exif.get_ifd(EXIF_IFD)[IN_35MM] = in35
    if path.stem in ("2", "d"):
        gps = exif.get_ifd(GPS_IFD)
        gps.update({1: "N", 2: (47.0, 22.0, 33.7), 3: "W", 4: (8.0, 32.0, 5.1)})
        if path.stem == "2":
            gps.update({5: b"\0", 6: 408.3})
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "tan").save(path, exif=exif.tobytes())


def rows(database: Path) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(database)) as connection:
        return {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}


def locations(database: Path) -> dict[int, np.ndarray]:
    with closing(sqlite3.connect(database)) as connection:
        columns = {row[1] for row in connection.execute("PRAGMA table_info(pose_priors)")}
        key = "image_id" if "image_id" in columns else "corr_data_id"
        found = connection.execute(f"SELECT {key}, position FROM pose_priors").fetchall()
    return {number: np.frombuffer(position) for number, position in found}


@pytest.mark.parametrize("params", [None, "70,40,30,0.01"])
@pytest.mark.parametrize("mode", ["auto", "single", "per-folder", "per-image"])
def test_rows_are_those_of_colmaps_import(tmp_path: Path, mode: str, params: str | None) -> None:
    one_size = mode in ("single", "per-folder")
    photographs = PHOTOGRAPHS if one_size else {**PHOTOGRAPHS, **TURNED}
    if mode == "auto":  # COLMAP gives each image without a body in EXIF a camera of its own
        photographs = {name: known for name, known in photographs.items() if known[1] == "iPhone 7"}
    for name, photograph in photographs.items():
        save(tmp_path / "images" / name, *photograph)
    names = list(photographs)
    options = CameraOptions(mode, params=params)  # type: ignore[arg-type]
    create_database(tmp_path / "ours.db", tmp_path / "images", names[::-1], options)

    theirs = tmp_path / "theirs.db"
    pycolmap.Database.open(str(theirs)).close()
    reader = pycolmap.ImageReaderOptions()
    reader.camera_model = "SIMPLE_RADIAL"
    if params is not None:
        reader.camera_params = params
    pycolmap.import_images(
        str(theirs),
        str(tmp_path / "images"),
        camera_mode=getattr(pycolmap.CameraMode, mode.upper().replace("-", "_")),
        image_names=names,
        options=reader,
    )
    assert rows(tmp_path / "ours.db") == rows(theirs)
    ours, expected = locations(tmp_path / "ours.db"), locations(theirs)
    with_altitude = [i for i, name in enumerate(sorted(names), start=1) if name.endswith("2.jpg")]
    assert list(ours) == list(expected) == with_altitude == [2, 4 if mode == "auto" else 5]
    for number, location in ours.items():  # pycolmap 3.13 reads them in float64, later ones not
        np.testing.assert_allclose(location, expected[number], rtol=1e-6)


def test_photographs_without_exif_share_a_camera_by_their_size(tmp_path: Path) -> None:
    for name, photograph in {**PHOTOGRAPHS, **TURNED}.items():
        save(tmp_path / name, *photograph)
    save(tmp_path / "g.jpg", (60, 80), None, None, None)
    made = create_database(tmp_path / "x.db", tmp_path, [*PHOTOGRAPHS, "f.jpg", "g.jpg"], AUTO)
    ids = made.camera_ids
    assert {name for name in ids if ids[name] == ids["d.jpg"]} == {"a/3.jpg", "d.jpg"}
    phones = {"a/1.jpg", "b/1.jpg", "b/2.jpg", "c.jpg"}  # a/2.jpg has another focal length
    assert {name for name in ids if ids[name] == ids["c.jpg"]} == phones
    assert len(made.cameras) == 7  # b/3.jpg has a focal length alone, e.jpg a body; f.jpg is turned
    assert made.lines[:2] == [
        "4 photographs share 1 camera: Apple iPhone 7; focal length 65 px from EXIF",
        "2 photographs share 1 camera: same size, no EXIF; focal length assumed 1.2 × the longer "
        "side",
    ]
    assert "5 photographs have 1 camera each" in made.lines[2]
    assert "--camera.mode per-image" in made.lines[3]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("single", [1, 1, 1, 1]),
        ("per-folder", [1, 1, 2, 2]),
        ("per-size", [1, 1, 1, 1]),
        ("per-image", [1, 2, 3, 4]),
        ("auto", [1, 2, 1, 2]),
    ],
)
def test_modes(tmp_path: Path, mode: CameraMode, expected: list[int]) -> None:
    names = ["a/1.jpg", "a/x.jpg", "b/1.jpg", "b/x.jpg"]
    for name in names:
        phone = ("iPhone 7", 3.99, 28) if "1" in name else (None, None, None)
        save(tmp_path / name, (80, 60), *phone)
    made = create_database(tmp_path / "x.db", tmp_path, names, CameraOptions(mode))
    assert list(made.camera_ids.values()) == expected
    # The focal length is that of a photograph that has one.
    assert made.cameras[made.camera_ids["b/1.jpg"] - 1].has_prior_focal_length
    assert not made.known
    assert bool(made.lines) is True


def test_sizes_have_cameras_of_their_own(tmp_path: Path) -> None:
    for name, size in {"1.jpg": (80, 60), "2.jpg": (60, 80), "3.jpg": (80, 60)}.items():
        save(tmp_path / name, size, "iPhone 7", 3.99, 28 if name == "1.jpg" else 56)
    names = ["1.jpg", "2.jpg", "3.jpg"]
    made = create_database(tmp_path / "x.db", tmp_path, names, CameraOptions("per-size"))
    assert list(made.camera_ids.values()) == [1, 2, 1]
    (line,) = [line for line in made.lines if "share" in line]
    assert "65 px" in line
    assert "zoomed" in line


def test_a_panorama_is_twice_as_wide_as_high() -> None:
    if not hasattr(pycolmap.CameraModelId, "EQUIRECTANGULAR"):
        pytest.skip("this pycolmap has no panoramas")
    options = CameraOptions(model="EQUIRECTANGULAR")
    check_camera(options, {"x.jpg": (2001, 1000)})
    with pytest.raises(ValueError, match=r"'x\.jpg' has 80×60"):
        check_camera(options, {"x.jpg": (80, 60)})


def test_intrinsics_of_another_resolution_are_asked_about(tmp_path: Path) -> None:
    save(tmp_path / "x.jpg", (80, 60), None, None, None)
    for params, is_asked in (("70,41,29,0", False), ("35,20,15,0", True), ("90,60,45,0", True)):
        options = CameraOptions(params=params)
        made = create_database(tmp_path / "x.db", tmp_path, ["x.jpg"], options)
        (line,) = made.lines
        assert ("another resolution" in line) == ("80×60" in line) == is_asked


def test_a_subfolder_does_not_take_over_the_camera_of_its_folder(tmp_path: Path) -> None:
    """In COLMAP's order the images of a folder lie around those of its subfolders."""
    for name in ("a/1.jpg", "a/b/1.jpg", "a/c.jpg"):
        save(tmp_path / name, (80, 60), None, None, None)
    names = ["a/1.jpg", "a/b/1.jpg", "a/c.jpg"]
    create_database(tmp_path / "x.db", tmp_path, names, CameraOptions("per-folder"))
    with pycolmap.Database.open(str(tmp_path / "x.db")) as database:
        found = {image.name: image.camera_id for image in database.read_all_images()}
    assert found == {"a/1.jpg": 1, "a/b/1.jpg": 2, "a/c.jpg": 1}


@pytest.mark.parametrize("suffix", ["webp", "avif", "bmp", "tif"])
def test_colmap_need_not_be_able_to_read_the_image(tmp_path: Path, suffix: str) -> None:
    Image.new("RGB", (80, 60), "tan").save(tmp_path / f"x.{suffix}")
    (tmp_path / f"x.{suffix}").rename(tmp_path / "x.jpg")
    create_database(tmp_path / "x.db", tmp_path, ["x.jpg"], CameraOptions())
    with pycolmap.Database.open(str(tmp_path / "x.db")) as database:
        (camera,) = database.read_all_cameras()
        (image,) = database.read_all_images()
    assert (camera.width, camera.height, camera.params.tolist()) == (80, 60, [96.0, 40.0, 30.0, 0])
    assert (image.name, image.camera_id) == ("x.jpg", camera.camera_id)


@pytest.mark.parametrize(
    "params",
    ["1,2", "f,40,30,0", "nan,40,30,0", "inf,40,30,0", "0,40,30,0", "-70,40,30,0", "70,40,30,1e99"],
)
def test_parameters_that_no_camera_has_are_named(params: str) -> None:
    with pytest.raises(ValueError, match=r"Camera params .* 4 finite numbers, f, cx, cy, k"):
        check_camera(CameraOptions(params=params))


@pytest.mark.parametrize("params", ["70,-1,30,0", "70,40,61,0", "70,400,300,0"])
def test_a_principal_point_outside_the_image_is_named(params: str) -> None:
    check_camera(CameraOptions(params=params))
    with pytest.raises(ValueError, match=r"Camera params .* outside 'x\.jpg', .* 80×60 pixels"):
        check_camera(CameraOptions(params=params), {"x.jpg": (80, 60)})


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (CameraOptions("single"), "Camera mode single"),
        (CameraOptions("per-folder"), "Camera mode per-folder"),
        (CameraOptions("single", params="70,40,30,0"), "Camera mode single"),
    ],
)
def test_one_camera_for_images_of_different_sizes_is_named(
    tmp_path: Path, options: CameraOptions, named: str
) -> None:
    sizes = {"a/1.jpg": (80, 60), "a/2.jpg": (80, 60), "a/3.jpg": (60, 80), "b.jpg": (80, 60)}
    match = rf"{named}.* 'a/1\.jpg' has 80×60, 'a/3\.jpg' has 60×80; .* one size"
    with pytest.raises(ValueError, match=match):
        check_camera(options, sizes)
    for name, size in sizes.items():
        save(tmp_path / name, size, None, None, None)
    create_database(tmp_path / "x.db", tmp_path, list(sizes), CameraOptions())
    with pytest.raises(ValueError, match=match):
        create_database(tmp_path / "x.db", tmp_path, list(sizes), options)
    assert len(image_ids(tmp_path / "x.db")) == 4  # an earlier database stays


def test_folders_may_have_sizes_of_their_own() -> None:
    check_camera(CameraOptions("per-folder"), {"a/1.jpg": (80, 60), "b/1.jpg": (60, 80)})
    check_camera(CameraOptions("per-image"), {"a/1.jpg": (80, 60), "a/2.jpg": (60, 80)})
    check_camera(CameraOptions("auto"), {"a/1.jpg": (80, 60), "a/2.jpg": (60, 80)})
