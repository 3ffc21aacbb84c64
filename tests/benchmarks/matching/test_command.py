"""The benchmark from images to rows, and that one thing that is wrong costs no more than itself."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from benchmarks.matching.__main__ import MatchingOptions, main
from benchmarks.record import Row, read_run
from featplug.networks.d2net import D2Net
from tests.documented import assert_documented
from tests.networks.test_d2net import seeded_state
from tests.scenes.sequences import write_hpatches, write_oxford, write_rdnim, write_wxbs

HPATCHES_PROTOCOLS = (
    "mma-d2net",
    "mma-116",
    "recall-contextdesc",
    "lisrd-480x640",
    "mtldesc-hpatches",
)


@pytest.fixture(scope="module")
def hpatches(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Sequences of HPatches' names, and a run of all its protocols."""
    folder = tmp_path_factory.mktemp("hpatches")
    write_hpatches(folder / "data", "i_leuven", "i_dc", "v_wall")
    run_benchmark(
        folder / "data",
        folder / "out",
        protocol=HPATCHES_PROTOCOLS,
        max_keypoints=300,
        pictures=False,
    )
    return folder / "data", folder / "out"


def run_benchmark(dataset: Path, outputs: Path, **options: Any) -> None:
    main(MatchingOptions(dataset, outputs=outputs, **options))


def table(outputs: Path) -> dict[tuple[str, str], Row]:
    return {(row.protocol, row.part): row for row in read_run(outputs).rows}


def value(row: Row, name: str) -> float:
    return row.metrics[name]["value"]


def test_a_warped_picture_is_matched_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_oxford(tmp_path / "data")
    run_benchmark(tmp_path / "data", tmp_path / "out", max_keypoints=300)
    rows = table(tmp_path / "out")
    assert set(rows) == {("oxford-mma", "all"), ("oxford-mma", "plane")}
    row = rows["oxford-mma", "all"]
    assert row.metrics == rows["oxford-mma", "plane"].metrics
    assert value(row, "mma_3") > 0.8
    assert value(row, "homography_accuracy_3") == 1
    assert value(row, "mean_keypoints") <= 300
    assert row.matcher == "NN-mutual"
    assert row.curves["mma"].y == [value(row, f"mma_{t}") for t in range(1, 11)]
    assert f"{value(row, 'mma_3'):.3f}" in capsys.readouterr().out
    (picture,) = row.pictures
    assert picture.pair == ["plane/img1.png", "plane/img2.png"]
    assert picture.counts == {name: value(row, f"{name}_matches") for name in ("right", "wrong")}
    drawn = np.asarray(Image.open(tmp_path / "out" / picture.path)).astype(int)
    assert ((drawn[..., 1] - drawn[..., 0] > 60) & (drawn[..., 1] - drawn[..., 2] > 60)).sum() > 50


def test_the_wrong_homography_gives_nothing(tmp_path: Path) -> None:
    write_oxford(tmp_path / "data")
    np.savetxt(tmp_path / "data" / "plane" / "H1to2p", [[-1, 0, 319], [0, -1, 239], [0, 0, 1]])
    run_benchmark(
        tmp_path / "data", tmp_path, protocol=("oxford-mma", "oxford-ap"), max_keypoints=300
    )
    rows = table(tmp_path)
    assert value(rows["oxford-mma", "all"], "mma_5") < 0.05
    assert value(rows["oxford-mma", "all"], "match_score") < 0.05
    assert value(rows["oxford-mma", "all"], "homography_accuracy_5") == 0
    assert value(rows["oxford-ap", "all"], "average_precision") < 0.05


def test_mma_is_that_of_an_independent_implementation(hpatches: tuple[Path, Path]) -> None:
    """Mutual neighbours and errors in a few lines of NumPy, from the same feature file."""
    data, outputs = hpatches
    (path,) = outputs.glob("features/*-n300.h5")
    parts = []
    with h5py.File(path) as file:
        for sequence in ("i_dc", "i_leuven", "v_wall"):
            for k in range(2, 7):
                first, other = file[f"{sequence}/1.ppm"], file[f"{sequence}/{k}.ppm"]
                products = np.float64(first["descriptors"]).T @ np.float64(other["descriptors"])
                there, back = products.argmax(1), products.argmax(0)
                mutual = [(i, j) for i, j in enumerate(there) if back[j] == i]
                matrix = np.loadtxt(data / sequence / f"H_1_{k}")
                right = np.zeros(10)
                for i, j in mutual:
                    mapped = matrix @ [*first["keypoints"][i], 1]
                    error = np.hypot(*(mapped[:2] / mapped[2] - other["keypoints"][j]))
                    right += error <= np.arange(1, 11)
                parts.append(right / len(mutual))
    row = table(outputs)["mma-116", "all"]
    expected = np.mean(parts, axis=0)
    assert 0.1 < expected[0] < expected[-1]
    np.testing.assert_allclose(row.curves["mma"].y, expected, atol=1e-6)


def test_each_protocol_of_hpatches(hpatches: tuple[Path, Path]) -> None:
    rows = table(hpatches[1])
    assert {part for _, part in rows} == {"all", "illumination", "viewpoint"}
    assert {protocol for protocol, _ in rows} == set(HPATCHES_PROTOCOLS)
    assert_documented(hpatches[1] / "results.json")
    # The mean over all pairs: two sequences of light and one of viewpoint, or one of each.
    for protocol, weight in (("mma-116", 2 / 3), ("mma-d2net", 1 / 2)):
        whole, light, view = (
            value(rows[protocol, part], "mma_3") for part in ("all", "illumination", "viewpoint")
        )
        assert whole == pytest.approx(weight * light + (1 - weight) * view)
    plane, mtldesc = rows["mma-d2net", "all"], rows["mtldesc-hpatches", "all"]
    assert value(plane, "mma_3") == value(mtldesc, "mma_3") > 0.8
    assert value(plane, "repeatability") == value(mtldesc, "repeatability") > 0.5
    assert value(mtldesc, "match_score") != value(plane, "match_score") > 0.4
    assert value(plane, "homography_auc_5") > value(plane, "homography_auc_1") > 0.3
    lisrd = rows["lisrd-480x640", "all"]
    assert value(lisrd, "precision") > 0.8
    assert value(lisrd, "recall") > 0.5
    assert value(lisrd, "homography_accuracy_3") > 0.8
    recall = rows["recall-contextdesc", "all"]
    assert value(recall, "recall") > 0.6
    # Every keypoint has a nearest neighbour.
    assert value(recall, "mean_matches") > value(rows["mma-116", "all"], "mean_matches")
    assert "mma_3" not in recall.metrics
    assert recall.matcher == "NN-mutual, one way"


def test_what_published_numbers_cannot_be_compared_with(hpatches: tuple[Path, Path]) -> None:
    rows = table(hpatches[1])
    reason = rows["mma-d2net", "all"].not_comparable
    assert reason is not None
    assert "106 of 108 sequences are missing (i_ajuntament, i_autannes, i_bologna, …)" in reason
    assert "max_keypoints 300 instead of all" in reason
    assert "113 of 116" in str(rows["mma-116", "viewpoint"].not_comparable)


def test_all_keypoints_are_what_a_protocol_without_a_number_has(tmp_path: Path) -> None:
    write_hpatches(tmp_path / "data", "i_leuven")
    protocols = "mma-d2net", "recall-contextdesc"
    run_benchmark(tmp_path / "data", tmp_path, protocol=protocols, max_keypoints=-1, pictures=False)
    rows = table(tmp_path)
    assert "keypoints" not in str(rows["mma-d2net", "all"].not_comparable)
    assert str(rows["recall-contextdesc", "all"].not_comparable).endswith(
        "max_keypoints all instead of 2048"
    )


def test_features_are_used_again_where_nothing_has_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    caplog.set_level(logging.INFO, "benchmarks")
    write_oxford(data)
    run_benchmark(data, out, max_keypoints=100, pictures=False)
    (file,) = (out / "features").iterdir()
    before, first = file.read_bytes(), table(out)
    run_benchmark(data, out, max_keypoints=100, pictures=False)
    assert file.read_bytes() == before
    assert table(out)["oxford-mma", "all"].metrics == first["oxford-mma", "all"].metrics
    assert not caplog.messages

    picture = Image.open(data / "plane" / "img2.png")
    picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(data / "plane" / "img2.png")
    run_benchmark(data, out, max_keypoints=100, pictures=False)
    assert value(table(out)["oxford-mma", "all"], "mma_3") < 0.1
    assert file.read_bytes() == before
    names = {path.name for path in (out / "features").iterdir()}
    assert names == {file.name, f"{file.stem}-2.h5"}
    (message,) = caplog.messages
    assert "img2.png is another photograph than the one" in message
    assert message.endswith("it is kept, and not used for this run")


def test_weights_of_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_oxford(tmp_path / "data", size=(120, 96))
    caplog.set_level(logging.INFO, "benchmarks")
    for seed in (0, 1):
        file = tmp_path / f"own{seed}.safetensors"
        state = seeded_state(D2Net())
        save_file({key: tensor + 1e-4 * seed for key, tensor in state.items()}, file)
        run_benchmark(
            tmp_path / "data",
            tmp_path / "out",
            feature=("d2net",),
            max_keypoints=100,
            weights=(("d2net", str(file)),),
            pictures=False,
        )
        row = table(tmp_path / "out")["oxford-mma", "all"]
        assert [record["name"] for record in row.weights] == [file.name]
    assert "made with the weights " in caplog.text
    assert len(list((tmp_path / "out" / "features").iterdir())) == 2
    with pytest.raises(ValueError, match="doap"):
        run_benchmark(tmp_path / "data", tmp_path / "out", weights=(("doap", str(file)),))


def test_bad_input_is_named_and_the_rest_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    write_hpatches(data, "i_leuven", "v_wall")
    (data / "v_wall" / "H_1_2").write_text("1 0 0 0 1")
    np.savetxt(data / "v_wall" / "H_1_3", [[1, 0, 5000], [0, 1, 0], [0, 0, 1]])
    np.savetxt(data / "v_wall" / "H_1_4", np.ones((3, 3)))
    (data / "v_wall" / "5.ppm").unlink()
    image = Image.open(data / "i_leuven" / "2.ppm")
    image.resize((80, 60)).save(data / "i_leuven" / "2.ppm")
    (data / "i_leuven" / "H_1_3").unlink()
    truncated = (data / "i_leuven" / "4.ppm").read_bytes()[:-2000]
    (data / "i_leuven" / "4.ppm").write_bytes(truncated)
    run_benchmark(
        data,
        tmp_path,
        feature=("sift", "sifd", "sift"),
        protocol=("mma-d2net", "mma-116"),
        max_keypoints=200,
        pictures=False,
    )
    run = read_run(tmp_path)
    problems = {problem.subject: problem.reason for problem in run.problems}
    expected = {
        "v_wall/H_1_2": "H_1_2: expected a homography of 3×3 numbers",
        "v_wall/H_1_3": "sends all of it out of the image: the images of 160×120 and 160×120",
        "v_wall/H_1_4": "it cannot be inverted",
        "v_wall/H_1_5": "There is no image",
        "i_leuven/H_1_2": "160×120 and 80×60 pixels, but their homography moves nothing",
        "i_leuven/H_1_3": "There is no homography",
        "sift, i_leuven/4.ppm": "4.ppm",
        "sift, named again": "each method is measured once",
        "sifd": "There is no feature 'sifd'",
    }
    assert set(problems) == set(expected)
    assert len(run.problems) == len(expected)  # once, not for each protocol
    for subject, reason in expected.items():
        assert reason in problems[subject]
    printed = capsys.readouterr().out
    assert all(f"not measured: {subject}: " in printed for subject in expected)
    rows = table(tmp_path)
    assert len(rows) == len(run.rows) == 6
    assert value(rows["mma-d2net", "all"], "mma_3") > 0.5  # i_leuven 1→5, 1→6 and v_wall 1→6
    reason = str(rows["mma-d2net", "all"].not_comparable)
    assert (
        "6 pairs or images cannot be used (i_leuven/H_1_2, i_leuven/H_1_3, v_wall/H_1_2, …)"
        in reason
    )
    assert "1 pair lacks features" in reason


def test_oxford_images_of_another_size_are_rejected(tmp_path: Path) -> None:
    write_oxford(tmp_path / "data", "graf")
    write_oxford(tmp_path / "data", "own")
    run_benchmark(tmp_path / "data", tmp_path, max_keypoints=100, pictures=False)
    run = read_run(tmp_path)
    assert {row.part for row in run.rows} == {"all", "own"}
    reasons = [problem.reason for problem in run.problems]
    assert any(
        "img1.png has 320×240 pixels, but its homographies are for 800×640" in r for r in reasons
    )


@pytest.mark.parametrize(
    ("feature", "protocols"),
    [("sift", HPATCHES_PROTOCOLS), ("lisrd-sift", ("recall-contextdesc",))],
)
def test_images_without_keypoints_count_nothing(
    tmp_path: Path, feature: str, protocols: tuple[str, ...]
) -> None:
    write_hpatches(tmp_path / "data", "i_leuven")
    for k in range(1, 7):
        Image.new("RGB", (160, 120), (90, 90, 90)).save(tmp_path / "data" / "i_leuven" / f"{k}.ppm")
    run_benchmark(
        tmp_path / "data", tmp_path, feature=(feature,), protocol=protocols, pictures=False
    )
    rows = table(tmp_path)
    assert len(rows) == 2 * len(protocols)
    for row in rows.values():
        assert all(entry["value"] == 0 for entry in row.metrics.values())


def test_both_references_of_rdnim(tmp_path: Path) -> None:
    write_rdnim(tmp_path / "data")
    run_benchmark(tmp_path / "data", tmp_path)
    rows = table(tmp_path)
    assert set(rows) == {("rdnim", part) for part in ("all", "day", "night")}
    assert value(rows["rdnim", "day"], "precision") > 0.8
    assert value(rows["rdnim", "day"], "homography_accuracy_3") == 1
    assert value(rows["rdnim", "night"], "precision") < 0.1
    assert "pairs of day: 1, not 1722" in str(rows["rdnim", "all"].not_comparable)


def test_pairs_with_an_epipolar_geometry(tmp_path: Path) -> None:
    write_wxbs(tmp_path / "data")
    write_wxbs(tmp_path / "data", "WGABS/petrzin")  # for validation
    run_benchmark(tmp_path / "data", tmp_path)
    rows = table(tmp_path)
    assert set(rows) == {("wxbs", "all"), ("wxbs", "WGBS")}
    row = rows["wxbs", "all"]
    assert value(row, "mma_3") > 0.9
    assert value(row, "recall") > 0.9
    curve = row.curves["recall"]
    assert curve.x == list(range(20))
    assert curve.y[3] == value(row, "recall")
    assert np.mean(curve.y[:11]) == pytest.approx(value(row, "correspondence_maa_10"), abs=1e-12)
    assert "pairs: 1, not 32" in str(row.not_comparable)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), r"no pairs in a known layout .*\*/H_1_\*"),
        (("--layout", "wxbs"), r"has no pair in the layout of wxbs that can be used\."),
        (("--layout", "oxford", "--protocol", "mma-116"), "use one of oxford-mma, oxford-ap"),
        (("--max-keypoints", "0"), "--max-keypoints"),
        (("--device", "cuda:99"), "The device 'cuda:99' cannot be used here"),
    ],
)
def test_what_cannot_be_begun(
    tmp_path: Path, refusal: Callable[..., str], arguments: tuple[str, ...], reason: str
) -> None:
    options = ("--dataset", tmp_path, "--outputs", tmp_path / "out", *arguments)
    line = refusal(main, "matching", *options)
    assert re.search(reason, line)


def test_a_run_without_any_row_fails(tmp_path: Path, refusal: Callable[..., str]) -> None:
    write_oxford(tmp_path / "data")
    options = ("--dataset", tmp_path / "data", "--outputs", tmp_path, "--feature", "sifd")
    assert "Nothing could be measured" in refusal(main, "matching", *options)
    assert [p.subject for p in read_run(tmp_path).problems] == ["sifd"]
