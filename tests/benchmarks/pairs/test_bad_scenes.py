"""Damaged scenes with poses: a bad pair is a problem with its file, and the others remain."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from benchmarks.pairs.datasets import layouts, read_pairs, recognise
from benchmarks.pairs.datasets.phototourism import LEFT_OUT, split_pair
from benchmarks.pairs.pair_set import PairSet
from pipelines.datasets.demo import Layout, make_demo_world
from tests.benchmarks.pairs.conftest import PAIRS


@pytest.fixture
def copied(world: Path, tmp_path: Path) -> Callable[[Layout], Path]:
    """Copies of the demo world's layouts, to be damaged."""

    def copy(layout: Layout) -> Path:
        return Path(shutil.copytree(make_demo_world(world, PAIRS, layout), tmp_path / layout))

    return copy


def read(folder: Path) -> PairSet:
    return read_pairs(folder, recognise(folder))


def check_only(before: PairSet, after: PairSet, image: str, subject: str, remedy: str) -> None:
    """Check that the pairs of one image are problems, and all others remain."""
    bad = [
        pair for pair in before.pairs if image in {Path(n).stem for n in (pair.name0, pair.name1)}
    ]
    assert len(after.pairs) == len(before.pairs) - len(bad) > 0
    assert len(after.problems) == len(bad) > 0
    for problem in after.problems:
        assert subject in problem.reason
        assert remedy in problem.reason


def some_image(pair_set: PairSet) -> str:
    return Path(pair_set.pairs[0].name0).stem


def test_bad_calibrations_of_phototourism(copied: Callable[[Layout], Path]) -> None:
    folder = copied("phototourism")
    whole = read(folder)
    name = some_image(whole)
    path = folder / "town" / "set_100" / "calibration" / f"calibration_{name}.h5"

    def change(key: str, value: object) -> None:
        with h5py.File(path, "a") as file:
            del file[key]
            if value is not None:
                file[key] = value

    with h5py.File(path) as file:
        values = {key: file[key][()] for key in "KRT"}
    changes: dict[str, tuple[object, str]] = {
        "R": (2 * np.eye(3), "rotation"),
        "T": (np.zeros(2), "shapes"),
        "K": (np.diag([9e9, 9e9, 1]), "focal"),
    }
    for key, (value, problem) in changes.items():
        change(key, value)
        subject = f"intrinsics of town/set_100/images/{name}" if key == "K" else path.name
        check_only(whole, read(folder), name, subject, problem)
        change(key, values[key])
    change("R", None)
    check_only(whole, read(folder), name, path.name, "copy the file again")
    path.write_bytes(path.read_bytes()[:300])
    check_only(whole, read(folder), name, path.name, "copy the file again")
    path.unlink()
    check_only(whole, read(folder), name, path.name, "no file")


def test_a_missing_photograph_of_phototourism(copied: Callable[[Layout], Path]) -> None:
    folder = copied("phototourism")
    whole = read(folder)
    name = some_image(whole)
    (folder / whole.pairs[0].name0).unlink()
    check_only(whole, read(folder), name, f"no image {name}", "download")


def _with_objects(path: Path) -> None:
    np.save(path, np.array(["a-b", None], object), allow_pickle=True)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (_with_objects, "Python objects"),
        (_cut, "bytes for an array"),
        (lambda path: np.save(path, np.arange(3)), "not text"),
        (lambda path: np.save(path, np.full(3, 2**21, "u4").view("U3")), "characters"),
        (lambda path: np.save(path, np.array([b"\xff-a"])), "ascii"),
        (lambda path: path.write_bytes(b""), "no list of pairs"),
        (lambda path: path.unlink(), "There is no list of pairs"),
    ],
)
def test_a_damaged_list_is_a_problem_of_its_scene(
    copied: Callable[[Layout], Path], damage: Callable[[Path], None], problem: str
) -> None:
    folder = copied("phototourism")
    shutil.copytree(folder / "town", folder / "village")
    path = folder / "village/set_100/new-vis-pairs/keys-th-0.1.npy"
    damage(path)
    pair_set = read(folder)
    assert {pair.sequence for pair in pair_set.pairs} == {"town"}
    (found,) = pair_set.problems
    assert found.subject == "village/set_100/new-vis-pairs/keys-th-0.1.npy"
    assert str(path) in found.reason
    assert problem in found.reason
    assert "download" in found.reason


def test_pairs_that_name_no_two_images_are_problems(copied: Callable[[Layout], Path]) -> None:
    folder = copied("phototourism")
    path = folder / "town/set_100/new-vis-pairs/keys-th-0.1.npy"
    keys = np.load(path)
    (withdrawn, *_) = LEFT_OUT
    np.save(path, np.append(keys, ["alone", f"day001-{withdrawn}", "../x-day001", keys[0]]))
    pair_set = read(folder)
    assert len(pair_set.pairs) == len(keys)
    assert len(pair_set.problems) == 3  # what the authors withdrew is none
    assert all(str(path) in p.reason or ".." in p.reason for p in pair_set.problems)


def test_lists_of_bytes_and_of_the_other_byte_order(copied: Callable[[Layout], Path]) -> None:
    folder = copied("phototourism")
    whole = read(folder)
    path = folder / "town/set_100/new-vis-pairs/keys-th-0.1.npy"
    keys = np.load(path)
    for array in (keys.astype("S"), keys.astype(keys.dtype.newbyteorder())):
        np.save(path, array)
        assert [p.name0 for p in read(folder).pairs] == [p.name0 for p in whole.pairs]


def test_names_with_hyphens_are_split_where_both_are_known() -> None:
    assert split_pair("a-b-c", ["a", "b-c"]) == ("a", "b-c")
    assert split_pair("a-b", []) == ("a", "b")
    assert split_pair("a-b-c", ["a"]) is None
    assert split_pair("a", ["a"]) is None
    assert split_pair("-a", ["a"]) is None


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("calibration.csv", "rotation_matrix", "rotation", "heads"),
        ("pair_covisibility.csv", "covisibility,", "", "heads"),
        ("pair_covisibility.csv", "pair,", "# nothing\npair,", ""),
    ],
)
def test_tables_of_imc2022_without_their_heads(
    copied: Callable[[Layout], Path], file: str, old: str, new: str, problem: str
) -> None:
    folder = copied("imc2022")
    shutil.copytree(folder / "town", folder / "village")
    path = folder / "village" / file
    path.write_text(path.read_text().replace(old, new, 1))
    pair_set = read(folder)
    assert {pair.sequence for pair in pair_set.pairs} == {"town"}
    (found,) = pair_set.problems
    assert str(path) in found.reason
    assert problem in found.reason


def test_a_bad_camera_of_imc2022(copied: Callable[[Layout], Path]) -> None:
    folder = copied("imc2022")
    whole = read(folder)
    name = some_image(whole)
    path = folder / "town" / "calibration.csv"
    lines = path.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(name))
    words = lines[at].split(",")
    words[2] = "1 0 0 0 1 0 0 0 7"
    lines[at] = ",".join(words)
    path.write_text("\n".join(lines))
    pair_set = read(folder)
    first, *others = pair_set.problems
    assert first.subject == f"town/calibration.csv, line {at + 1}"
    assert "rotation" in first.reason
    assert all("no camera of " + name in problem.reason for problem in others)
    assert 0 < len(pair_set.pairs) == len(whole.pairs) - len(others)


def test_scenes_without_a_scaling_factor_have_no_unit(copied: Callable[[Layout], Path]) -> None:
    folder = copied("imc2022")
    metric = read(folder).pairs[0].cam1_from_cam0
    path = folder / "scaling_factors.csv"
    for text in ("scene,scaling_factor\nelsewhere,2\n", "scene,scaling_factor\ntown,-1\n", ""):
        path.write_text(text)
        pair_set = read(folder)
        assert {pair.unit for pair in pair_set.pairs} == {None}
        assert len(pair_set.problems) == ("-1" in text)
        found = pair_set.pairs[0].cam1_from_cam0
        assert metric is not None
        assert found is not None
        np.testing.assert_allclose(found[:, 3] * 0.5, metric[:, 3])
    path.unlink()
    (problem,) = read(folder).problems
    assert "scaling_factors.csv" in problem.reason
    assert "no unit" in problem.reason


def test_many_pairs_of_imc2022_are_thinned_by_covisibility(
    copied: Callable[[Layout], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied("imc2022")
    whole = read(folder)
    monkeypatch.setattr(layouts()["imc2022"], "_MOST_PAIRS", 4)
    chosen = read(folder)
    assert len(chosen.pairs) == 4
    rows = [
        line.split(",") for line in (folder / "town/pair_covisibility.csv").read_text().splitlines()
    ][1:]
    covisibility = {key: float(text) for key, text, _ in rows if float(text) >= 0.1}
    of_chosen = [covisibility[f"{Path(p.name0).stem}-{Path(p.name1).stem}"] for p in chosen.pairs]
    assert min(of_chosen) == min(covisibility.values())
    assert max(of_chosen) == max(covisibility.values())
    names = [(pair.name0, pair.name1) for pair in chosen.pairs]
    assert names == [(p.name0, p.name1) for p in read(folder).pairs]
    assert names == sorted(names)
    assert len(whole.pairs) > 4


def test_a_model_of_eth3d_with_distortion_or_damage(copied: Callable[[Layout], Path]) -> None:
    folder = copied("eth3d_pairs")
    shutil.copytree(folder / "town", folder / "village")
    cameras = folder / "village/dslr_calibration_undistorted/cameras.txt"
    lines = [
        line if line.startswith("#") else line.replace("PINHOLE", "OPENCV") + " 0.1 0 0 0"
        for line in cameras.read_text().splitlines()
    ]
    cameras.write_text("\n".join(lines) + "\n")
    pair_set = read(folder)
    assert {pair.sequence for pair in pair_set.pairs} == {"town"}
    assert len(pair_set.problems) == len(pair_set.pairs)
    assert all("undistorted" in problem.reason for problem in pair_set.problems)
    cameras.unlink()
    (problem,) = read(folder).problems
    assert problem.subject == "village/dslr_calibration_undistorted/images.txt"
    assert "village" in problem.reason


def test_bad_pairs_of_evd(tmp_path: Path) -> None:
    for name in ("good", "no_matrix", "lost"):
        for number in ("1", "2"):
            (tmp_path / number).mkdir(exist_ok=True)
            Image.new("RGB", (40, 30)).save(tmp_path / number / f"{name}.png")
        (tmp_path / "h").mkdir(exist_ok=True)
        (tmp_path / "h" / f"{name}.txt").write_text("1 0 3\n0 1 2\n0 0 1\n")
    (tmp_path / "h" / "no_matrix.txt").write_text("1 0 3\n0 1 2\n")
    (tmp_path / "2" / "lost.png").unlink()
    pair_set = read(tmp_path)
    assert [pair.sequence for pair in pair_set.pairs] == ["good"]
    assert [problem.subject for problem in pair_set.problems] == ["h/lost.txt", "h/no_matrix.txt"]


@pytest.mark.parametrize("name", ["PhotoTourism", "imc-2022", "eth3d", "EVD"])
def test_a_missing_folder_has_its_source(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError) as error:
        recognise(tmp_path / name)
    (key,) = (k for k in layouts() if k.startswith(name.lower().replace("-", "")))
    assert layouts()[key].SOURCE in str(error.value)
