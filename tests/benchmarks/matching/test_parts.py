"""Layouts, matchers and resized images, by themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.measured_method import find_method
from benchmarks.pairs.datasets import read_pairs, recognise
from benchmarks.pairs.datasets.hpatches import LARGE_SEQUENCES, SEQUENCES
from benchmarks.pairs.pair_set import read_homography
from benchmarks.pairs.resizing import resize_and_crop, resized_pairs
from benchmarks.pairs.sources import protocol_matcher
from featplug.methods import matchers
from tests.benchmarks.methods_of_others import write_own_methods
from tests.scenes.sequences import write_hpatches, write_oxford, write_rdnim, write_wxbs


def test_hpatches_has_116_sequences_of_which_108_are_small() -> None:
    assert [sum(name[0] == letter for name in SEQUENCES) for letter in "iv"] == [57, 59]
    small = set(SEQUENCES) - set(LARGE_SEQUENCES)
    assert [sum(name[0] == letter for name in small) for letter in "iv"] == [52, 56]


def test_layouts_are_recognised(tmp_path: Path) -> None:
    write_hpatches(tmp_path / "hpatches", "v_wall")
    write_oxford(tmp_path / "oxford")
    write_rdnim(tmp_path / "rdnim")
    write_wxbs(tmp_path / "wxbs")
    for layout in ("hpatches", "oxford", "rdnim", "wxbs"):
        assert recognise(tmp_path / layout) == layout
    write_oxford(tmp_path / "hpatches")
    with pytest.raises(ValueError, match=r"hpatches and oxford.*--layout"):
        recognise(tmp_path / "hpatches")
    with pytest.raises(FileNotFoundError, match="absent"):
        recognise(tmp_path / "absent")


def test_the_demo_world_is_read(planes: Path) -> None:
    """Its illumination sequences do not move; its viewpoint ones overlap."""
    assert recognise(planes) == "hpatches"
    pair_set = read_pairs(planes, "hpatches")
    assert not pair_set.problems
    assert [p.part for p in pair_set.pairs] == ["illumination"] * 5 + ["viewpoint"] * 5
    np.testing.assert_allclose(pair_set.pairs[0].homography, np.eye(3), atol=1e-9)


def test_homographies_of_any_spacing_and_sign(tmp_path: Path) -> None:
    (tmp_path / "H").write_text("-2  0   -3\n\n0 -2.0e0 0\n 0 0 -1\n")
    np.testing.assert_array_equal(
        read_homography(tmp_path / "H"), [[2, 0, 3], [0, 2, 0], [0, 0, 1]]
    )
    for last in ("0 0", "0 0 one", "nan 0 1", "1 0 0"):
        (tmp_path / "H").write_text(f"1 0 0\n0 1 0\n{last}")
        with pytest.raises(ValueError, match=r"/H(, line 3: expected| is not)"):
            read_homography(tmp_path / "H")


def test_an_image_that_cannot_be_read_costs_its_pair(tmp_path: Path) -> None:
    write_hpatches(tmp_path, "v_wall")
    (tmp_path / "v_wall" / "4.ppm").write_bytes(b"P6\n400 ")
    pair_set = read_pairs(tmp_path, "hpatches")
    assert len(pair_set.pairs) == 4
    (problem,) = pair_set.problems
    assert problem.subject == "v_wall/H_1_4"
    assert f"{tmp_path}/v_wall/4.ppm" in problem.reason


def test_features_are_matched_by_their_own_rule_without_a_ratio_test() -> None:
    names = "sift", "lisrd", "doap-binary"
    rules = {name: protocol_matcher(find_method(name), False)[0] for name in names}
    assert rules == {"sift": "NN-mutual", "lisrd": "lisrd", "doap-binary": "NN-hamming"}
    name, matcher, deviation = protocol_matcher(find_method("mtldesc"), one_way=True)
    assert (name, deviation) == ("mtldesc, one way", None)
    assert matcher.conf["metric"] == "l2"
    assert not matcher.conf["do_mutual_check"]


@pytest.mark.parametrize(
    ("own", "name", "kept"),
    [
        ("NN-hamming-ratio", "NN-hamming", ("metric", "hamming")),
        ("lisrd-sift-ratio", "lisrd-sift", ("distance", "l2")),
        ("strict", "strict without its ratio test", ("distance_threshold", 0.7)),
    ],
)
def test_a_matcher_loses_its_ratio_test_only(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own: str,
    name: str,
    kept: tuple[str, object],
) -> None:
    """Binary descriptors with NN-hamming-ratio were matched by their dot products."""
    model = {"name": "nearest_neighbor", "ratio_threshold": 0.8, "distance_threshold": 0.7}
    monkeypatch.setitem(matchers.added, "strict", {"output": "strict", "model": model})
    methods = write_own_methods(tmp_path)
    with methods.open("a") as file:
        file.write(f"\n\nclass Binary(Grid):\n    matcher = {own!r}\n")
    label, matcher, _ = protocol_matcher(find_method(f"{methods}:Binary"), False)
    assert label == name
    assert matcher.conf["ratio_threshold"] is None
    assert matcher.conf[kept[0]] == kept[1]


def test_a_requested_ratio_test_is_named() -> None:
    assert protocol_matcher(find_method("sift+NN-ratio"), False)[0] == "NN-ratio (ratio 0.8)"
    assert protocol_matcher(find_method("sift", "NN-ratio"), False)[0] == "NN-ratio (ratio 0.8)"


@pytest.mark.parametrize("size", [(301, 400), (1000, 333), (640, 480), (97, 200)])
def test_a_resized_image_shows_things_where_the_matrix_says(size: tuple[int, int]) -> None:
    """The centre of a bright square, which integer pixel centres put at half of its ends."""
    width, height = size
    picture = np.zeros((height, width, 3), np.uint8)
    x, y = width // 2, height // 2
    picture[y - 8 : y + 9, x - 8 : x + 9] = 255
    resized, matrix = resize_and_crop(picture, (640, 480))
    assert resized.shape == (480, 640, 3)
    rows, columns = np.mgrid[:480, :640]
    weights = resized[..., 0] / resized[..., 0].sum()
    found = (weights * columns).sum(), (weights * rows).sum()
    np.testing.assert_allclose(found, (matrix @ [x, y, 1])[:2], atol=0.02)


def test_resized_pairs_keep_their_truth(tmp_path: Path) -> None:
    write_hpatches(tmp_path / "data", "v_wall")
    original = read_pairs(tmp_path / "data", "hpatches")
    resized = resized_pairs(original, (640, 480), tmp_path / "small")
    assert [pair.name1 for pair in resized.pairs] == [f"v_wall/{k}.png" for k in range(2, 7)]
    with Image.open(resized.folder / "v_wall" / "2.png") as image:
        assert image.size == (640, 480)
    # 160×120 to 640×480: only scaled, about the corner of the first pixel.
    point = np.array([100.0, 60.0, 1.0])
    mapped = original.pairs[3].homography @ point
    there = resized.pairs[3].homography @ [100.5 * 4 - 0.5, 60.5 * 4 - 0.5, 1]
    expected = (mapped[:2] / mapped[2] + 0.5) * 4 - 0.5
    np.testing.assert_allclose(there[:2] / there[2], expected)

    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "small").rglob("*.png")}
    write_hpatches(tmp_path / "other", "i_leuven")
    (tmp_path / "other" / "i_leuven" / "3.ppm").replace(tmp_path / "data" / "v_wall" / "3.ppm")
    resized_pairs(original, (640, 480), tmp_path / "small")
    changed = [p.name for p, time in times.items() if p.stat().st_mtime_ns != time]
    assert changed == ["3.png"]


def test_an_image_that_cannot_be_resized_costs_its_pairs(tmp_path: Path) -> None:
    write_hpatches(tmp_path / "data", "v_wall")
    original = read_pairs(tmp_path / "data", "hpatches")
    damaged = tmp_path / "data" / "v_wall" / "4.ppm"
    damaged.write_bytes(damaged.read_bytes()[:-2000])
    resized = resized_pairs(original, (640, 480), tmp_path / "small")
    assert [pair.name1 for pair in resized.pairs] == [f"v_wall/{k}.png" for k in (2, 3, 5, 6)]
    (problem,) = resized.problems
    assert problem.subject == "v_wall/4.ppm"
    assert "4.ppm" in problem.reason
    assert not original.problems
