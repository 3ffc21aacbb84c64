"""COLMAP models that are damaged or crafted, binary and text, with rigs and without."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pycolmap
import pytest

from featplug.colmap.model_files import read_model
from featplug.io.text_files import check_quaternion

Edit = Callable[[bytearray], None]


def synthetic_model(cameras_per_rig: int = 1) -> pycolmap.Reconstruction:
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = (
        2,
        cameras_per_rig,
        3,
    )
    options.num_points3D = 20
    return pycolmap.synthesize_dataset(options)


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    synthetic_model(cameras_per_rig=2).write(str(tmp_path))
    return tmp_path


@pytest.fixture
def text_dir(tmp_path: Path) -> Path:
    synthetic_model().write_text(str(tmp_path))
    for name in ("rigs.txt", "frames.txt"):  # as until COLMAP 3.11
        (tmp_path / name).unlink()
    return tmp_path


def assert_same(found: pycolmap.Reconstruction, wanted: pycolmap.Reconstruction) -> None:
    assert {i.name for i in found.images.values()} == {i.name for i in wanted.images.values()}
    assert len(found.points3D) == len(wanted.points3D) == 20
    assert found.compute_num_observations() == wanted.compute_num_observations()


@pytest.mark.parametrize("cameras_per_rig", [1, 2])
@pytest.mark.parametrize("form", ["write_binary", "write_text"])
def test_what_colmap_writes_is_read(tmp_path: Path, form: str, cameras_per_rig: int) -> None:
    model = synthetic_model(cameras_per_rig)
    getattr(model, form)(str(tmp_path))
    assert_same(read_model(tmp_path), model)
    for path in [*tmp_path.glob("rigs.*"), *tmp_path.glob("frames.*")]:
        path.unlink()
    assert_same(read_model(tmp_path), model)


@pytest.mark.parametrize("name", ["cameras", "images", "points3D", "rigs", "frames"])
def test_a_file_cut_short_anywhere_is_named(model_dir: Path, name: str) -> None:
    """COLMAP itself reads on, and fills the memory, hangs or makes up points."""
    path = model_dir / f"{name}.bin"
    content = path.read_bytes()
    for size in {0, 7, 8, len(content) // 2, len(content) - 1}:
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=rf"{name}\.bin.*copy or make it again"):
            read_model(model_dir)
    path.write_bytes(content + b"\0")
    with pytest.raises(ValueError, match=rf"{name}\.bin.*copy or make it again"):
        read_model(model_dir)


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
def test_a_missing_file_is_named(model_dir: Path, name: str) -> None:
    (model_dir / f"{name}.bin").unlink()
    missing = "no COLMAP model" if name == "images" else rf"{name}\.bin"
    with pytest.raises(FileNotFoundError, match=missing):
        read_model(model_dir)


def put(form: str, offset: int, value: float) -> Edit:
    return lambda content: struct.pack_into(form, content, offset, value)


IMAGE_NAME = 8 + 4 + 56 + 4
EDITS: dict[str, tuple[str, Edit]] = {
    "huge count": ("cameras", put("<Q", 0, 2**62)),
    "unknown camera model": ("cameras", put("<i", 12, 999)),
    "negative camera model": ("cameras", put("<i", 12, -1)),
    "invalid camera id": ("cameras", put("<I", 8, 2**32 - 1)),
    "same camera id": (
        "cameras",
        lambda c: put("<I", 8, struct.unpack_from("<I", c, 8 + 56)[0])(c),
    ),
    "empty image": ("cameras", put("<Q", 16, 0)),
    "huge image": ("cameras", put("<Q", 24, 2**40)),
    "infinite focal length": ("cameras", put("<d", 32, float("inf"))),
    "negative focal length": ("cameras", put("<d", 32, -100.0)),
    "rig without its camera": ("rigs", put("<I", 20, 77)),
    "unknown sensor type": ("rigs", put("<i", 16, 9)),
    "many sensors": ("rigs", put("<I", 12, 2**32 - 1)),
    "frame of no rig": ("frames", put("<I", 12, 77)),
    "frame without a pose": ("frames", put("<d", 16, float("nan"))),
    "frame of another image": ("frames", put("<Q", 16 + 56 + 4 + 8, 77)),
    "many data": ("frames", put("<I", 16 + 56, 2**32 - 1)),
    "image of no camera": ("images", put("<I", IMAGE_NAME - 4, 77)),
    "image in no frame": ("images", put("<I", 8, 77)),
    "no rotation": ("images", lambda c: c.__setitem__(slice(12, 44), bytes(32))),
    "name that is not UTF-8": ("images", put("<B", IMAGE_NAME, 0xFF)),
    "name with a control character": ("images", put("<B", IMAGE_NAME, 7)),
    "empty name": ("images", put("<B", IMAGE_NAME, 0)),
    "invalid point id": ("points3D", put("<Q", 8, 2**64 - 1)),
    "another point id": ("points3D", put("<Q", 8, 777)),
    "point at infinity": ("points3D", put("<d", 16, 1e300)),
    "long track": ("points3D", put("<Q", 8 + 43, 2**40)),
    "track of no image": ("points3D", put("<I", 8 + 51, 777)),
    "track of no keypoint": ("points3D", put("<I", 8 + 55, 777)),
}


@pytest.mark.parametrize("what", EDITS)
def test_a_wrong_value_is_one_sentence(model_dir: Path, what: str) -> None:
    name, edit = EDITS[what]
    path = model_dir / f"{name}.bin"
    content = bytearray(path.read_bytes())
    edit(content)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"\.bin.*(again|rename|plain path)") as error:
        read_model(model_dir)
    assert "\n" not in str(error.value)
    assert str(model_dir) in str(error.value)


NAMES_OF_OTHERS = ["IMG 0001.jpg", "/data/a.jpg", "#1.jpg", "c:\\d\\b.jpg", "../e.jpg"]


def test_names_that_lists_cannot_carry_are_read(tmp_path: Path) -> None:
    """COLMAP has no rules for names, and one image must not cost the model."""
    model = synthetic_model()
    for image, name in zip(model.images.values(), NAMES_OF_OTHERS, strict=False):
        image.name = name
    model.write(str(tmp_path))
    assert_same(read_model(tmp_path), model)
    assert {image.name for image in model.images.values()} >= {*NAMES_OF_OTHERS}


def test_a_name_of_two_images_is_one_sentence(tmp_path: Path) -> None:
    model = synthetic_model()
    for image, name in zip(model.images.values(), ("a/b.jpg", "./a//b.jpg"), strict=False):
        image.name = name
    model.write(str(tmp_path))
    with pytest.raises(ValueError, match=r"images\.bin: 'a/b.jpg' names two images.*again"):
        read_model(tmp_path)


@pytest.mark.parametrize("norm", [0.95, 1.05])
def test_quaternions_of_few_digits_are_read(tmp_path: Path, norm: float) -> None:
    """Their norm may be as far from 1 as in the other text files."""
    (tmp_path / "cameras.txt").write_text("1 PINHOLE 640 480 500 500 320 240\n")
    (tmp_path / "images.txt").write_text(f"1 {norm} 0 0 0 0 0 0 1 a.jpg\n\n")
    (tmp_path / "points3D.txt").write_text("")
    check_quaternion([norm, 0, 0, 0], "poses.txt, line 1")
    assert read_model(tmp_path).num_reg_images() == 1


def test_a_camera_that_no_image_has_may_have_any_values(tmp_path: Path) -> None:
    (tmp_path / "cameras.txt").write_text(
        "1 PINHOLE 640 480 500 500 320 240\n2 PINHOLE 0 480 0 0 320 240\n"
    )
    (tmp_path / "images.txt").write_text("1 1 0 0 0 0 0 0 1 a.jpg\n\n")
    (tmp_path / "points3D.txt").write_text("")
    assert read_model(tmp_path).num_reg_images() == 1


def test_two_points_of_one_keypoint(model_dir: Path) -> None:
    model = synthetic_model()
    first, second = sorted(model.points3D)[:2]
    model.write(str(model_dir))
    content = bytearray((model_dir / "points3D.bin").read_bytes())
    size = 51 + 8 * model.points3D[first].track.length()
    content[8 + size + 51 : 8 + size + 59] = content[8 + 51 : 8 + 59]
    (model_dir / "points3D.bin").write_bytes(content)
    with pytest.raises(ValueError, match=f"points3D.bin: the point {second} .*again"):
        read_model(model_dir)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "carriage returns"])
def test_text_of_other_systems_is_read(text_dir: Path, encoding: str) -> None:
    wanted = pycolmap.Reconstruction(str(text_dir))
    for path in text_dir.iterdir():
        lines = path.read_text().replace("\n", "\r" if encoding.startswith("c") else "\r\n")
        path.write_bytes(lines.encode("utf-8" if encoding.startswith("c") else encoding))
    assert_same(read_model(text_dir), wanted)


def test_the_last_image_needs_no_line_of_keypoints(tmp_path: Path) -> None:
    """COLMAP drops it, as of a list of poses whose last, empty line an editor removed."""
    (tmp_path / "cameras.txt").write_text("1 PINHOLE 640 480 500 500 320 240\n")
    (tmp_path / "images.txt").write_text("1 1 0 0 0 0 0 0 1 a.jpg\n\n2 1 0 0 0 1 0 0 1 ./b//c.jpg")
    (tmp_path / "points3D.txt").write_text("")
    model = read_model(tmp_path)
    assert [model.images[i].name for i in (1, 2)] == ["a.jpg", "b/c.jpg"]
    assert model.num_reg_images() == 2


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("cameras", " SIMPLE_", " SAMPLE_"),
        ("cameras", "1 SIMPLE", "1.5 SIMPLE"),
        ("cameras", "1 SIMPLE", "-1 SIMPLE"),
        ("cameras", " 1024 ", " 1_024 "),
        ("cameras", " 1024 ", " 99999999999999999999 "),
        ("cameras", " 1280 ", " nan "),
        ("images", ".png", " 1.png"),
        ("images", ".png", ".png extra"),
        ("images", ".png", ".png\n0"),
        ("images", "\n1 ", "\n1 2 "),
        ("points3D", "\n1 ", "\n-1 "),
        ("points3D", "\n1 ", "\n1 1e999 "),
        ("points3D", "\n1 ", "\n\u0661 "),
        ("points3D", "\n2 ", "\n1 "),
        ("points3D", "\n", "\0\n"),
    ],
)
def test_a_wrong_line_is_one_sentence(text_dir: Path, name: str, old: str, new: str) -> None:
    path = text_dir / f"{name}.txt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{name}\.txt.*(again|rename|save)") as error:
        read_model(text_dir)
    assert "\n" not in str(error.value)


def test_a_name_with_white_space_is_the_cause(text_dir: Path) -> None:
    """COLMAP writes such names into text models, and cuts them when it reads them."""
    path = text_dir / "images.txt"
    path.write_text(path.read_text().replace(".png", " 1.png", 1))
    with pytest.raises(ValueError, match=r"images\.txt, line \d+.* 1\.png.*white space.*rename"):
        read_model(text_dir)
