"""Damaged lists and files of pairs: a bad pair is a problem of the set, and the others remain."""

from __future__ import annotations

import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.pairs.datasets import layouts, read_pairs, recognise
from benchmarks.pairs.scene_info import read_scene_info
from pipelines.datasets.demo import Pairs, PosedScenes, make_demo_world
from tests.benchmarks.pairs.conftest import PAIRS


@pytest.fixture
def copied(world: Path, tmp_path: Path) -> Callable[[Pairs], Path]:
    """Copies of the demo world's layouts, to be damaged."""

    def copy(layout: Pairs) -> Path:
        return Path(shutil.copytree(make_demo_world(world, PAIRS, layout), tmp_path / layout))

    return copy


def _changed(line: str, changes: dict[int, str]) -> str:
    words = line.split()
    for place, word in changes.items():
        words[place] = word
    return " ".join(words)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({0: "images/lost.jpg"}, "lost.jpg"),
        ({0: "../day000.jpg"}, r"'\.\.'"),
        ({1: "/etc/passwd"}, "plain path"),
        ({2: "0.5"}, "quarter turns"),
        ({2: "4"}, "quarter turns"),
        ({4: "many"}, "number"),
        ({6: "nan"}, "finite"),
        ({6: "640.5", 9: "480.5"}, "principal point"),  # K of a larger image
        ({4: "0.8"}, "focal"),
        ({22: "5"}, "rotation"),
        ({25: "0", 29: "0", 33: "0"}, "translation"),
        ({37: "2"}, "0 0 0 1"),
        ({37: ""}, "words"),
    ],
)
def test_a_bad_line_is_a_problem_with_its_number(
    copied: Callable[[Pairs], Path], changes: dict[int, str], problem: str
) -> None:
    folder = copied("pairs")
    path = folder / "viewpoint_pairs_with_gt.txt"
    lines = path.read_text().splitlines()
    lines[2] = _changed(lines[2], changes)
    path.write_text("\n".join(lines))
    before = len(lines) + len((folder / "night_pairs_with_gt.txt").read_text().splitlines())
    pair_set = read_pairs(folder, recognise(folder))
    assert len(pair_set.pairs) == before - 1
    (found,) = pair_set.problems
    assert found.subject == "viewpoint_pairs_with_gt.txt, line 3"
    assert re.search(problem, found.reason)
    assert f"{path}, line 3" in found.reason or "lost.jpg" in found.reason


def test_a_pair_that_is_listed_twice_counts_once(copied: Callable[[Pairs], Path]) -> None:
    folder = copied("pairs")
    path = folder / "night_pairs_with_gt.txt"
    lines = path.read_text().splitlines()
    name0, name1, *others = lines[0].split()
    itself = " ".join([name0, name0, *others])
    # The other order is another pair, as in the lists of MegaDepth-1500 and YFCC.
    pose = np.linalg.inv(np.array(others[18:], float).reshape(4, 4)).ravel()
    back = " ".join([name1, name0, *others[9:18], *others[:9], *map(repr, pose.tolist())])
    path.write_text("\n".join([*lines, lines[0], itself, back]))
    pair_set = read_pairs(path, recognise(path))
    assert pair_set.name == "night_pairs_with_gt"
    assert len(pair_set.pairs) == len(lines) + 1
    twice, alone = pair_set.problems
    assert twice.subject == f"{path.name}, line {len(lines) + 1}"
    assert f"in {path}, line 1" in twice.reason
    assert "itself" in alone.reason


def test_a_damaged_image_is_a_problem_of_its_pairs(copied: Callable[[Pairs], Path]) -> None:
    folder = copied("megadepth1500")
    listed = (folder / "pairs_calibrated.txt").read_text().splitlines()
    name = listed[0].split()[0]
    (folder / "images" / name).write_bytes(b"\xff\xd8 no photograph")
    pair_set = read_pairs(folder, recognise(folder))
    num_bad = sum(name in line.split()[:2] for line in listed)
    assert len(pair_set.problems) == num_bad
    assert all(name in problem.reason for problem in pair_set.problems)
    assert len(pair_set.pairs) == len(listed) - num_bad > 0


def test_images_of_another_size_are_problems_with_the_remedy(
    copied: Callable[[Pairs], Path],
) -> None:
    folder = copied("megadepth1500")
    (folder / "views.txt").unlink()  # which has the sizes
    first = sorted((folder / "images" / "0015").iterdir())[0]
    with Image.open(first) as image:
        image.resize((240, 180)).save(first)
    pair_set = read_pairs(folder, recognise(folder))
    reasons = [problem.reason for problem in pair_set.problems]
    assert reasons
    for reason in reasons:
        assert f"intrinsics of images/0015/{first.name}" in reason
        assert "240×180" in reason
        assert "another size" in reason


@pytest.mark.parametrize("layout", ["megadepth1500", "eth3d_pairs"])
def test_a_little_smaller_images_are_noticed_where_the_sizes_are_known(
    world: Path, tmp_path: Path, layout: PosedScenes
) -> None:
    folder = tmp_path / layout
    shutil.copytree(make_demo_world(world, PAIRS, layout), folder)
    (folder / "pairs_calibrated.txt").unlink(missing_ok=True)
    whole = read_pairs(folder, recognise(folder))
    assert whole.pairs
    assert not whole.problems
    for name in whole.names:
        with Image.open(folder / name) as image:
            width, height = image.size
            image.resize((round(0.95 * width), round(0.95 * height))).save(folder / name)
    with pytest.raises(ValueError, match=f"304×228 pixels, and {width}×{height} in the data set"):
        read_pairs(folder, recognise(folder))


def test_a_view_that_is_listed_twice_counts_once(copied: Callable[[Pairs], Path]) -> None:
    folder = copied("megadepth1500")
    (folder / "pairs_calibrated.txt").unlink()
    lines = (folder / "views.txt").read_text().splitlines()
    name = lines[0].split()[0]
    (folder / "views.txt").write_text("\n".join([*lines, f"{name} {lines[1].split(' ', 1)[1]}"]))
    pair_set = read_pairs(folder, recognise(folder))
    (problem,) = pair_set.problems
    assert problem.subject == f"views.txt, line {len(lines) + 1}"
    assert f"{name} is listed before, in line 1" in problem.reason


def test_cameras_at_one_place_have_no_direction(copied: Callable[[Pairs], Path]) -> None:
    folder = copied("megadepth1500")
    (folder / "pairs_calibrated.txt").unlink()
    lines = (folder / "views.txt").read_text().splitlines()
    name0, name1 = (folder / "pairs.txt").read_text().splitlines()[0].split()
    of = {line.split()[0]: line.split(" ", 1)[1] for line in lines}
    of[name1] = of[name0]
    (folder / "views.txt").write_text("\n".join(f"{name} {rest}" for name, rest in of.items()))
    pair_set = read_pairs(folder, recognise(folder))
    assert any("no translation" in p.reason for p in pair_set.problems)
    assert (name0, name1) not in {(p.name0, p.name1) for p in pair_set.pairs}


@pytest.mark.parametrize("layout", list(layouts()))
def test_a_layout_of_another_folder_has_one_sentence(
    copied: Callable[[Pairs], Path], layout: str
) -> None:
    folder = copied("pairs")
    if layout == "pairs_file":
        return
    with pytest.raises((FileNotFoundError, ValueError), match="pairs"):
        read_pairs(folder, layout)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("PINHOLE 320", "SIMPLE_RADIAL 320", "distortion"),
        ("PINHOLE", "PINHOLES", "views.txt, line 1"),
        (" 0.", " 5.", "rotation"),
    ],
)
def test_a_bad_view_is_a_problem_and_so_are_its_pairs(
    copied: Callable[[Pairs], Path], old: str, new: str, problem: str
) -> None:
    folder = copied("megadepth1500")
    (folder / "pairs_calibrated.txt").unlink()
    first, *others = (folder / "views.txt").read_text().splitlines()
    (folder / "views.txt").write_text("\n".join([first.replace(old, new), *others]))
    with (folder / "pairs.txt").open("a") as file:
        file.write("one\n")
    pair_set = read_pairs(folder, recognise(folder))
    of_view, *of_pairs, of_line = pair_set.problems
    assert of_view.subject == "views.txt, line 1"
    assert problem in of_view.reason
    assert of_pairs
    assert all(first.split()[0] in each.reason for each in of_pairs)
    assert "two image names" in of_line.reason
    assert len(pair_set.pairs) > 5


@pytest.mark.parametrize("text", ["", "# nothing\n\n"])
def test_an_empty_list_is_an_error_with_its_form(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pairs_with_gt.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"pairs_with_gt\.txt lists no pair.*K0 K1 pose"):
        read_pairs(tmp_path, recognise(tmp_path))


class _Attack:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch attacked",)


def test_nothing_in_a_scene_file_is_run(
    copied: Callable[[Pairs], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = copied("megadepth1500_loftr")
    scenes = folder / "megadepth_test_1500_scene_info"
    (scenes / "0015_0.1_0.3.npz").write_bytes(pickle.dumps({"pair_infos": _Attack()}))
    content = (scenes / "0015_0.3_0.5.npz").read_bytes()
    (scenes / "0015_0.3_0.5.npz").write_bytes(content[: len(content) // 2])
    pair_set = read_pairs(folder, recognise(folder))
    assert not Path("attacked").exists()
    assert {pair.part for pair in pair_set.pairs} >= {"0.5-0.7"}
    assert {pair.sequence for pair in pair_set.pairs} == {"0015", "0022"}
    attacked, cut = pair_set.problems
    assert attacked.subject.endswith("0015_0.1_0.3.npz")
    assert "calls posix.system" in attacked.reason
    assert cut.subject.endswith("0015_0.3_0.5.npz")
    for problem in pair_set.problems:
        assert "megadepth1500.zip" in problem.reason  # where the same pairs are text


def test_flipped_bits_of_a_scene_file_are_read_or_rejected(
    copied: Callable[[Pairs], Path], tmp_path: Path
) -> None:
    content = next(copied("megadepth1500_loftr").glob("*/0015_0.3_0.5.npz")).read_bytes()
    rng, rejected = np.random.default_rng(0), []
    for _ in range(150):
        damaged = bytearray(content)
        for place in rng.integers(len(content), size=rng.integers(1, 4)):
            damaged[place] ^= 1 << int(rng.integers(8))
        path = tmp_path / "damaged.npz"
        path.write_bytes(damaged)
        try:
            read_scene_info(path)
        except ValueError as error:
            rejected.append(str(error))
    assert len(rejected) > 20
    assert all(f"{path} is no" in text and "download it again" in text for text in rejected)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_scene_files_of_every_protocol_are_read_or_rejected(
    copied: Callable[[Pairs], Path], tmp_path: Path, protocol: int
) -> None:
    folder = copied("megadepth1500_loftr")
    path = next(folder.glob("*/0015_0.3_0.5.npz"))
    expected = read_scene_info(path)
    other = tmp_path / "other.npz"
    other.write_bytes(pickle.dumps(pickle.loads(path.read_bytes()), protocol))
    if protocol in (3, 4):
        found = read_scene_info(other)
        assert found.pairs == expected.pairs
        np.testing.assert_array_equal(found.cam_from_world, expected.cam_from_world)
    else:
        with pytest.raises(ValueError, match=r"other.npz is no scene_info file"):
            read_scene_info(other)


@pytest.mark.parametrize(
    ("name", "contents"),
    [
        ("test.npz", b"PK no archive"),
        ("test.npz", {"name": np.zeros((3, 4), np.int64)}),
        ("test.npz", {"name": np.zeros((3, 2), np.int64), "rel_pose": np.zeros((3, 12))}),
        ("test.npz", {"name": np.array([{}], object), "rel_pose": np.zeros((1, 12))}),
    ],
)
def test_a_damaged_archive_is_one_error(
    copied: Callable[[Pairs], Path], name: str, contents: bytes | dict[str, np.ndarray]
) -> None:
    folder = copied("scannet1500_loftr")
    if isinstance(contents, bytes):
        (folder / name).write_bytes(contents)
    else:
        np.savez(folder / name, allow_pickle=True, **contents)
    with pytest.raises(ValueError, match=rf"{name}.*download it again"):
        read_pairs(folder, recognise(folder))


def test_intrinsics_of_scannet_may_come_from_each_scene(
    copied: Callable[[Pairs], Path],
) -> None:
    folder = copied("scannet1500_loftr")
    expected = read_pairs(folder, "scannet1500")
    with np.load(folder / "intrinsics.npz") as arrays:
        for scene, matrix in arrays.items():
            full = np.eye(4)
            full[:3, :3] = np.diag([1296 / 640, 968 / 480, 1]) @ matrix
            (folder / scene / "intrinsic").mkdir()
            np.savetxt(folder / scene / "intrinsic" / "intrinsic_color.txt", full, "%.17g")
    (folder / "intrinsics.npz").write_bytes(b"damaged")
    found = read_pairs(folder, "scannet1500")
    assert [problem.subject for problem in found.problems] == ["intrinsics.npz"]
    for pair, other in zip(found.pairs, expected.pairs, strict=True):
        np.testing.assert_allclose(pair.intrinsics, other.intrinsics, rtol=1e-12)


def test_poses_of_five_digits_stand_in_for_lost_files(copied: Callable[[Pairs], Path]) -> None:
    folder = copied("scannet1500_loftr")
    expected = read_pairs(folder, "scannet1500")
    for path in folder.glob("scene*/pose"):
        shutil.rmtree(path)
    found = read_pairs(folder, "scannet1500")
    for pair, other in zip(found.pairs, expected.pairs, strict=True):
        np.testing.assert_allclose(pair.cam1_from_cam0, other.cam1_from_cam0, atol=1e-4)
        assert not np.array_equal(pair.cam1_from_cam0, other.cam1_from_cam0)


def test_what_the_list_says_of_turned_images_is_compared_with_exif(
    copied: Callable[[Pairs], Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = copied("pairs")
    path = folder / "viewpoint_pairs_with_gt.txt"
    line = _changed(path.read_text().splitlines()[0], {2: "3"})
    path.write_text(line)
    assert len(read_pairs(path, "pairs_file").pairs) == 1
    assert "images of 1 pairs are to be turned" in caplog.text
    caplog.clear()
    image = folder / line.split()[0]
    with Image.open(image) as photograph:
        exif = photograph.getexif()
        exif[0x0112] = 6  # shown after a quarter turn clockwise, or three anticlockwise
        photograph.save(image, exif=exif)
    assert len(read_pairs(path, "pairs_file").pairs) == 1
    assert caplog.text == ""


@pytest.mark.parametrize("name", ["MegaDepth-1500", "scannet1500", "scannet_1500"])
def test_a_missing_data_set_has_its_source(tmp_path: Path, name: str) -> None:
    key = "megadepth1500" if name.startswith("Mega") else "scannet1500"
    with pytest.raises(FileNotFoundError) as error:
        recognise(tmp_path / name)
    assert layouts()[key].SOURCE in str(error.value)
    assert "GB" in layouts()[key].SOURCE
    assert "under" in layouts()[key].SOURCE  # its licence
