"""The speed benchmark: what it reports, not how fast anything is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.record import read_run
from benchmarks.speed import __main__ as speed
from benchmarks.speed.__main__ import case_rows, main, tables
from benchmarks.speed.agreement import common_fraction
from benchmarks.speed.cases import CASES, has_case, measurements
from benchmarks.speed.measure import (
    CaseName,
    Measurement,
    Sample,
    Setup,
    SpeedOptions,
    Step,
    measure,
)
from tests.documented import assert_documented
from tests.scenes.pictures import write_textured_images


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "scene" / "images"
    write_textured_images(folder, 2)
    return folder


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure in the test's own process: a new one takes seconds to import what it needs."""

    def measure_or_fail(measurement: Measurement, setup: Setup) -> Sample:
        try:
            return measurement(setup)
        except RuntimeError as error:
            raise ValueError("The measurement failed.") from error

    monkeypatch.setattr(speed, "measure", measure_or_fail)


def setup_of(feature: str, **options: Any) -> Setup:
    return Setup(SpeedOptions(Path("scene")), feature, Path("work"), **options)


def fails(setup: Setup) -> Sample:
    raise RuntimeError("on purpose")


@pytest.mark.usefixtures("in_process")
def test_a_feature_has_a_row_of_each_case(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = tmp_path / "out"
    main(
        SpeedOptions(
            images,
            cases=("image-size", "keypoints"),
            feature=("sift", "no", "sift"),
            repeats=2,
            outputs=outputs,
        )
    )
    run = read_run(outputs)
    assert_documented(outputs / "results.json")
    assert run.data["scene"]["fingerprint"]
    assert [(row.feature, row.dataset, row.part) for row in run.rows] == [
        ("sift", "scene", "image-size"),
        ("sift", "scene", "keypoints"),
    ]
    by_size, by_number = run.rows
    of_image = by_size.curves["seconds"]
    assert of_image.x_label == "longer side (px)"
    assert len(of_image.x) == len(set(of_image.x)), "no size beyond the photograph's own"
    rate, seconds = by_number.metrics["keypoints_per_second"], by_number.metrics["seconds"]
    keypoints = by_number.metrics["keypoints"]["value"]
    assert rate["value"] == pytest.approx(keypoints / seconds["value"])
    assert by_number.metrics["seconds_spread"]["value"] >= 0
    assert by_number.metrics["peak_memory_mib"]["unit"] == "MiB"
    assert [problem.subject for problem in run.problems] == ["sift, named again", "no"]
    assert "There is no feature 'no'" in capsys.readouterr().out


@pytest.mark.usefixtures("in_process")
def test_stages_are_those_of_the_pipeline(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = {
        "extract": {"seconds": 2.0, "peak_memory_mib": 10.0},
        "map": {"seconds": 1.0, "peak_memory_mib": 30.0},
    }
    metrics = {"registered_images": {"value": 2, "unit": "images"}}
    monkeypatch.setattr(
        "benchmarks.speed.pipeline_stages.reconstruct",
        lambda options: {"stages": stages, "metrics": metrics},
    )
    monkeypatch.setitem(CASES["stages"], "colmap", fails)
    main(SpeedOptions(images, cases=("stages",), repeats=1, outputs=tmp_path / "out"))
    run = read_run(tmp_path / "out")
    (row,) = run.rows
    assert row.stages == stages
    assert row.metrics["seconds"] == {"value": 3.0, "unit": "s"}
    assert row.metrics["peak_memory_mib"]["value"] == 30.0
    assert row.metrics["registered_images"] == metrics["registered_images"]
    assert [problem.subject for problem in run.problems] == ["sift, stages, colmap"]


def test_rows_have_the_median_and_spread_of_the_repeats_next_to_peers() -> None:
    ours = [
        Sample([Step("640", [s], 10.0), Step("1600", [2 * s], 20.0), Step("2048", [9 * s], 90.0)],
               "longer side (px)")
        for s in (1.0, 2.0, 9.0)
    ]  # fmt: skip
    peer = [Sample([Step("640", [3.0], 10.0), Step("1600", [10.0], 20.0)], "longer side (px)")]
    row, other = case_rows(
        "image-size", setup_of("d2net"), "scene", {"featplug": ours, "authors": peer}
    )
    assert row.metrics["seconds"] == {"value": 4.0, "unit": "s"}  # at 1600
    assert row.metrics["seconds_spread"]["value"] == 8.0  # from 3 to 11
    assert row.metrics["peak_memory_mib"]["value"] == 20.0
    assert row.curves["seconds"].x == [640, 1600, 2048]
    assert row.curves["seconds"].y == [2.0, 4.0, 18.0]
    assert other.feature == "d2net (authors)"
    assert other.metrics["times_our_seconds"] == {"value": 2.5, "unit": "x"}
    assert "seconds_spread" not in other.metrics, "of one repeat"


def test_the_table_has_a_column_of_each_size() -> None:
    sample = Sample([Step("640", [1.5], 10.0), Step("1600", [2.5], 20.0)], "longer side (px)")
    rows = case_rows("image-size", setup_of("sift"), "scene", {"featplug": [sample]})
    run = speed.Run("speed", {}, {}, rows)
    _, title, heads, line = tables(run)
    assert "longer side (px)" in title
    assert heads.split()[-2:] == ["640", "1600"]
    assert line.split() == ["sift", "2.5", "20", "1.5", "2.5"]


@pytest.mark.slow
def test_a_measurement_that_fails_in_its_process_is_a_problem(images: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="on purpose"):
        measure(fails, Setup(SpeedOptions(images), "sift", tmp_path))


@pytest.mark.usefixtures("in_process")
def test_a_failed_measurement_leaves_the_others(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., str]
) -> None:
    monkeypatch.setitem(CASES["image-size"], "featplug", fails)
    options = ("--images", images, "--outputs", tmp_path / "out", "--repeats", 1)
    monkeypatch.setattr("sys.argv", ["speed", *map(str, options), "--cases", "image-size",
                                     "keypoints"])  # fmt: skip
    speed.run_command(main, "speed")
    run = read_run(tmp_path / "out")
    assert [row.part for row in run.rows] == ["keypoints"]
    assert [problem.subject for problem in run.problems] == ["sift, image-size, featplug"]
    line = refusal(main, "speed", *options, "--cases", "image-size")
    assert "Nothing could be measured" in line


def test_peers_are_measured_where_they_do_the_same(images: Path, tmp_path: Path) -> None:
    def names(case: CaseName, feature: str, **checkouts: Path) -> list[str]:
        setup = Setup(SpeedOptions(images, **checkouts), feature, tmp_path)
        return list(measurements(case, setup))

    both = {"hloc": tmp_path, "d2net": tmp_path}
    assert names("stages", "sift", **both) == ["featplug", "hloc", "colmap"]
    assert names("stages", "sift") == ["featplug", "colmap"]
    assert names("stages", "doap", **both) == ["featplug"]
    assert names("image-size", "d2net", **both) == ["featplug", "authors"]
    assert names("image-size", "d2net") == names("image-size", "sift", **both) == ["featplug"]
    assert names("keypoints", "sift", **both) == ["featplug", "hloc"]
    assert names("keypoints", "lisrd-sift", **both) == ["featplug"]


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"weights": (("doap", "official"),)}, "doap"),
        ({"device": "cuda:99"}, "cuda:99"),
        ({"repeats": 0}, "--repeats"),
    ],
)
def test_bad_requests_are_rejected(images: Path, change: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        main(SpeedOptions(images, **change))


@pytest.mark.usefixtures("in_process")
def test_methods_and_precisions_are_measured_in_turn(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The noise of a machine changes slowly, so that each repeat has all that is compared."""
    calls: list[tuple[str, str]] = []

    def measured(setup: Setup) -> Sample:
        calls.append((setup.feature, setup.precision))
        return Sample([Step("640", [1.0], 10.0)], "longer side (px)")

    monkeypatch.setitem(CASES["image-size"], "featplug", measured)
    options = SpeedOptions(
        images, cases=("image-size",), feature=("doap", "sift"), repeats=2, device="cpu",
        outputs=tmp_path / "out",
    )  # fmt: skip
    run = speed.measure_all(options)
    once = [("doap", "fp32"), ("doap", "bf16"), ("sift", "fp32")]
    assert calls == [*once, *once]
    assert [(row.feature, row.part) for row in run.rows] == [
        ("doap", "image-size"),
        ("doap", "image-size, bf16"),
        ("sift", "image-size"),
    ]
    row = run.rows[1]
    assert row.matcher == "NN-ratio (ratio 0.8)"
    assert row.settings["resize_max"] == 1600
    assert [record["name"] for record in row.weights] == ["featplug_doap"]


@pytest.mark.usefixtures("in_process")
def test_a_method_that_cannot_be_made_leaves_the_others(images: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "from featplug.base import Extractor\n\n\nclass Raises(Extractor):\n"
        "    def __init__(self, conf):\n        raise RuntimeError('on purpose')\n\n"
        "    def extract(self, image):\n        raise NotImplementedError\n"
    )
    bad = f"{tmp_path}/bad.py:Raises"
    options = SpeedOptions(
        images, cases=("image-size",), feature=(bad, "sift"), repeats=1, outputs=tmp_path / "out"
    )
    run = speed.measure_all(options)
    assert [row.feature for row in run.rows] == ["sift"]
    (problem,) = run.problems
    assert bad in problem.subject
    assert "on purpose" in problem.reason


def test_only_networks_depend_on_the_precision(images: Path, tmp_path: Path) -> None:
    def cases(feature: str, **variant: Any) -> list[str]:
        options = SpeedOptions(images, device="cpu")
        setup = Setup(options, feature, tmp_path, **variant)
        return [case for case in CASES if has_case(case, setup)]

    everything = ["stages", "image-size", "keypoints"]
    assert cases("sift") == cases("doap") == everything
    assert cases("sift", precision="bf16") == []
    assert cases("doap", precision="bf16") == ["image-size", "agreement"]
    assert setup_of("doap", device="cuda:0", precision="bf16").part("agreement") == (
        "agreement, cuda:0, bf16"
    )


def test_no_larger_size_is_measured_after_a_slow_call(images: Path, tmp_path: Path) -> None:
    setup = Setup(SpeedOptions(images, max_seconds=1e-9), "sift", tmp_path)
    measurements("keypoints", setup)
    for case in ("image-size", "keypoints"):
        assert len(CASES[case]["featplug"](setup).steps) == 1  # type: ignore[index]


@pytest.mark.usefixtures("in_process")
def test_agreement_with_the_reference_precision(images: Path, tmp_path: Path) -> None:
    """Methods without a network agree with themselves; of networks, the rounding shows."""
    same = CASES["agreement"]["featplug"](Setup(SpeedOptions(images), "sift", tmp_path)).metrics
    assert same["same_keypoints"]["value"] == same["same_matches"]["value"] == 1
    assert same["descriptor_difference"]["value"] == 0
    main(
        SpeedOptions(
            images, cases=("agreement",), feature=("doap", "sift"), device="cpu",
            outputs=tmp_path / "out",
        )
    )  # fmt: skip
    assert_documented(tmp_path / "out" / "results.json")
    (row,) = read_run(tmp_path / "out").rows
    assert (row.feature, row.part) == ("doap", "agreement, bf16")
    assert row.metrics["same_keypoints"]["value"] == 1, "SIFT detects them"
    assert 0 < row.metrics["descriptor_difference"]["value"] < 0.2
    assert 0.5 < row.metrics["same_matches"]["value"] <= 1


def test_points_a_pixel_apart_are_not_the_same() -> None:
    points = np.array([[10.0, 10], [20, 20], [30, 30], [40, 40]])
    assert common_fraction(points, points + 0.05) == 1
    assert common_fraction(points, points + np.array([[0, 0], [0, 1], [1, 0], [0, 0]])) == 0.5
    assert common_fraction(points, points[:2]) == 0.75, "mean of 1/2 and 1"
    assert common_fraction(points[:0], points[:0]) == 1
    assert common_fraction(points[:0], points) == 0


@pytest.mark.gpu
@pytest.mark.parametrize("feature", ["contextdesc", "mtldesc", "doap", "d2net", "lisrd"])
def test_a_gpu_finds_what_the_cpu_finds(feature: str, images: Path, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    setup = Setup(SpeedOptions(images), feature, tmp_path, device="cuda")
    metrics = CASES["agreement"]["featplug"](setup).metrics
    assert metrics["same_keypoints"]["value"] > 0.98
    assert metrics["same_matches"]["value"] > 0.95
    assert metrics["descriptor_difference"]["value"] < 0.02
