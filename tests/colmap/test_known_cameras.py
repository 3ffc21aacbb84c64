"""Intrinsics of a file: which images get them, and what does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image

from featplug.colmap.cameras import CameraOptions, check_camera, check_camera_of_images
from featplug.colmap.database import create_database
from featplug.colmap.known_cameras import match_known_cameras
from tests.scenes.synthetic import SyntheticScene

SIZES = {"left/1.jpg": (80, 60), "left/2.jpg": (80, 60), "right/1.jpg": (80, 60), "x.jpg": (60, 40)}
WIDE = "OPENCV 80 60 50 51 41 31 .1 .01 0 0"
LONG = "PINHOLE 80 60 90 91 40 30"
SMALL = "PINHOLE 60 40 70 70 30 20"


def write(folder: Path, *lines: str, name: str = "list.txt") -> Path:
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def focal_lengths(
    path: Path, sizes: dict[str, tuple[int, int]] = SIZES, scale: bool = False
) -> dict[str, float]:
    known = match_known_cameras(path, sizes, scale)
    return {name: camera.focal_length_x for name, camera in known.cameras.items()}


def test_a_name_comes_before_a_pattern(tmp_path: Path) -> None:
    path = write(tmp_path, "# ours", f"left/*.jpg  {WIDE}", "", f"./left/2.jpg {LONG}")
    assert focal_lengths(path) == {"left/1.jpg": 50, "left/2.jpg": 90}
    (line,) = match_known_cameras(path, SIZES).lines
    assert "2 images have no camera" in line
    assert "right/1.jpg, x.jpg" in line


def test_lines_without_an_image_are_listed(tmp_path: Path) -> None:
    path = write(
        tmp_path, f"gone.jpg {WIDE}", f"*/1.jpg {WIDE}", f"up/*.jpg {LONG}", f"x.jpg {SMALL}"
    )
    line, _ = match_known_cameras(path, SIZES).lines
    assert "line 1, line 3" in line
    path = write(tmp_path, f"gone.jpg {WIDE}")
    with pytest.raises(ValueError, match=r"list\.txt: none of the 1 cameras .* patterns"):
        match_known_cameras(path, SIZES)


def test_a_pattern_that_names_override_is_no_mistake(tmp_path: Path) -> None:
    path = write(tmp_path, f"left/*.jpg {WIDE}", f"left/1.jpg {LONG}", f"left/2.jpg {LONG}")
    (line,) = match_known_cameras(path, {k: v for k, v in SIZES.items() if "left" in k}).lines or [
        ""
    ]
    assert line == ""


@pytest.mark.parametrize(
    "lines",
    [(f"left/*.jpg {WIDE}", f"*/1.jpg {LONG}"), (f"left/1.jpg {WIDE}", f"left/1.jpg {LONG}")],
)
def test_two_cameras_of_an_image_are_named(tmp_path: Path, lines: tuple[str, str]) -> None:
    path = write(tmp_path, *lines)
    with pytest.raises(ValueError, match=r"line 2: 'left/1\.jpg' .* line 1; remove one"):
        match_known_cameras(path, SIZES)
    path = write(tmp_path, *(line.replace(LONG, WIDE) for line in lines))
    assert focal_lengths(path)["left/1.jpg"] == 50


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("* PINHOLE 80 60 90 91 40", r"list\.txt, line 1: the camera has 3 parameters"),
        ("* FISHEYE9 80 60 90", r"list\.txt, line 1: expected `name MODEL"),
        ("* PINHOLE 80 60 90 91 40 90", r"list\.txt, line 1: .* principal point"),
        ("../* PINHOLE 80 60 90 91 40 30", r"list\.txt, line 1: .*plain path"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        match_known_cameras(write(tmp_path, line), SIZES)


def test_a_cameras_txt_is_that_of_all_images_or_of_their_sizes(tmp_path: Path) -> None:
    path = write(tmp_path, f"1 {WIDE}", f"7 {SMALL}", name="cameras.txt")
    expected = {name: 70.0 if name == "x.jpg" else 50.0 for name in SIZES}
    assert focal_lengths(path) == focal_lengths(tmp_path) == expected
    path = write(tmp_path, f"1 {WIDE}", name="one.txt")
    with pytest.raises(ValueError, match=r"80×60 pixels, but 'x.jpg' has 60×40"):
        focal_lengths(path)
    path = write(tmp_path, f"1 {WIDE}", f"2 {LONG}", name="two.txt")
    with pytest.raises(ValueError, match=r"two\.txt, line 2: 'left/1\.jpg' has another camera"):
        focal_lengths(path)


def test_images_have_the_cameras_of_a_model_by_name(
    synthetic_scene: SyntheticScene, tmp_path: Path
) -> None:
    truth = synthetic_scene.truth
    for write_files, name in ((truth.write_binary, "binary"), (truth.write_text, "text")):
        (tmp_path / name).mkdir()
        write_files(str(tmp_path / name))
        camera = truth.cameras[1]
        sizes = dict.fromkeys([*synthetic_scene.names[1:], "y.jpg"], (camera.width, camera.height))
        known = match_known_cameras(tmp_path / name, sizes)
        assert set(known.cameras) == set(synthetic_scene.names[1:])
        unused, without = known.lines
        assert synthetic_scene.names[0] in unused
        assert "y.jpg" in without
    with pytest.raises(ValueError, match=r"cameras\.bin .* folder"):
        match_known_cameras(tmp_path / "binary" / "cameras.bin", sizes)


def test_another_resolution_is_named_and_scaled_on_request(tmp_path: Path) -> None:
    path = write(tmp_path, "* OPENCV 800 600 500 510 401 297 .1 .01 .001 0")
    sizes = {"1.jpg": (80, 60), "2.jpg": (267, 200)}  # of 266.67 × 200
    with pytest.raises(ValueError, match=r"800×600 pixels, but '1.jpg' has 80×60; .*camera.scale"):
        match_known_cameras(path, sizes)
    cameras = match_known_cameras(path, sizes, scale=True).cameras
    np.testing.assert_allclose(cameras["1.jpg"].params, [50, 51, 40.1, 29.7, 0.1, 0.01, 0.001, 0])
    assert (cameras["2.jpg"].width, cameras["2.jpg"].height) == (267, 200)
    np.testing.assert_allclose(cameras["2.jpg"].params[:2], [500 / 3, 170], rtol=2e-3)


@pytest.mark.parametrize("scale", [False, True])
def test_other_shapes_are_never_scaled(tmp_path: Path, scale: bool) -> None:
    path = write(tmp_path, f"* {WIDE}")
    with pytest.raises(ValueError, match=r"'1.jpg' has 600×800; .*swapped.* as it is stored"):
        match_known_cameras(path, {"1.jpg": (600, 800)}, scale)
    with pytest.raises(ValueError, match=r"'1.jpg' has 80×50; .*cannot be scaled"):
        match_known_cameras(path, {"1.jpg": (80, 50)}, scale)


def test_cameras_of_a_database_are_known_or_made(tmp_path: Path) -> None:
    for name, size in SIZES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", size, 128).save(tmp_path / name)
    path = write(tmp_path, f"left/*.jpg {WIDE}")
    options = CameraOptions("per-folder", file=path)
    check_camera_of_images(options, tmp_path, list(SIZES))
    made = create_database(tmp_path / "x.db", tmp_path, list(SIZES), options)
    assert made.camera_ids == {"left/1.jpg": 1, "left/2.jpg": 1, "right/1.jpg": 2, "x.jpg": 3}
    assert made.known == {1}
    with pycolmap.Database.open(str(tmp_path / "x.db")) as database:
        known, guessed, _ = database.read_all_cameras()
    assert known.model.name == "OPENCV"
    assert known.has_prior_focal_length
    assert known.params.tolist() == [50, 51, 41, 31, 0.1, 0.01, 0, 0]
    assert (guessed.model.name, guessed.focal_length) == ("SIMPLE_RADIAL", 96)
    assert made.lines[0] == f"2 photographs share 1 camera: intrinsics of {path}"
    Image.new("L", (30, 20), 128).save(tmp_path / "left/1.jpg")
    with pytest.raises(ValueError, match=r"80×60 pixels, but 'left/1.jpg' has 30×20"):
        check_camera_of_images(options, tmp_path, list(SIZES))


def test_options_that_exclude_each_other(tmp_path: Path) -> None:
    path = write(tmp_path, f"* {WIDE}")
    with pytest.raises(ValueError, match=r"params .* the file .* one of the two"):
        check_camera(CameraOptions(params="70,40,30,0", file=path))
    with pytest.raises(ValueError, match=r"scale.* needs the file"):
        check_camera(CameraOptions(scale=True))
    with pytest.raises(FileNotFoundError, match=r"gone.txt"):
        check_camera(CameraOptions(file=tmp_path / "gone.txt"))
