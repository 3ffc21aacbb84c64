"""The speed benchmark: what it reports, not how fast anything is."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from benchmarks.record import Curve, read_run
from benchmarks.speed import __main__ as speed
from benchmarks.speed import confs, localization
from benchmarks.speed.__main__ import ALL_CASES, CASES, main
from benchmarks.speed.measure import Case, Figures, Measurement, Setup, measure, measure_here
from benchmarks.speed.rows import case_rows
from tests.scenes.pictures import write_textured_images


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure in the test's own process: a new one takes seconds to import what it needs."""

    def measure_or_fail(name: str, measurement: Measurement, setup: Setup) -> Figures:
        try:
            return measure_here(measurement, setup)
        except RuntimeError as error:
            raise ValueError(f"The measurement {name} failed.") from error

    monkeypatch.setattr(speed, "measure", measure_or_fail)


def fails(setup: Setup) -> Figures:
    raise RuntimeError("on purpose")


@pytest.mark.usefixtures("in_process")
def test_the_run_has_a_row_of_each_peer(tmp_path: Path) -> None:
    write_textured_images(tmp_path / "scene" / "images", 3)
    main(tmp_path / "scene" / "images", outputs=tmp_path / "out", cases=("match",), repeats=2)
    run = read_run(tmp_path / "out")
    assert [row.feature for row in run.rows] == ["sift", "sift (products)"]  # no hloc was given
    ours, products = run.rows
    assert (ours.dataset, ours.protocol, ours.part) == ("scene", "speed", "match")
    assert run.data["scene"]["fingerprint"]
    assert ours.metrics["pairs"] == {"value": 3, "unit": ""}
    assert products.metrics["peak_memory_mib"]["unit"] == "MiB"
    seconds = [row.metrics["seconds"]["value"] for row in run.rows]
    assert products.metrics["times_our_seconds"]["value"] == pytest.approx(seconds[1] / seconds[0])


@pytest.mark.usefixtures("in_process")
def test_a_conf_has_curves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_textured_images(tmp_path / "images", 2)
    sizes = confs.image_sizes(Setup(tmp_path / "images", None, tmp_path), "sift")
    of_image = sizes["curves"]["seconds"]
    assert of_image.x_label == "longer side (px)"
    assert len(of_image.x) == len(set(of_image.x)), "no size beyond the photograph's own"
    main(
        tmp_path / "images",
        outputs=tmp_path / "out",
        cases=("keypoints",),
        feature=("sift", "no", "sift"),
    )
    run = read_run(tmp_path / "out")
    (row,) = run.rows
    assert row.curves["keypoints_per_second"].x[-1] == row.metrics["keypoints"]["value"]
    assert [problem.subject for problem in run.problems] == ["sift, named again", "no"]
    assert "There is no feature 'no'" in capsys.readouterr().out


def test_medians_are_taken_over_the_repeats() -> None:
    runs: dict[str, list[Figures]] = {
        "featplug": [
            {
                "seconds": seconds,
                "localization_memory_mib": 1.0,
                "stages": {"match": {"seconds": seconds, "peak_memory_mib": 10.0}},
                "curves": {"seconds": Curve([1.0, 2.0], [seconds, 2 * seconds], "x", "y")},
            }
            for seconds in (1.0, 2.0, 9.0)
        ],
        "hloc": [{"seconds": 5.0}],
    }
    ours, hloc = case_rows("match", Case("sift", {}), "scene", runs)
    assert ours.metrics["seconds"] == {"value": 2.0, "unit": "s"}
    assert ours.metrics["localization_memory_mib"]["unit"] == "MiB"
    assert ours.stages["match"]["seconds"] == 2.0
    assert ours.curves["seconds"].y == [2.0, 4.0]
    assert hloc.feature == "sift (hloc)"
    assert hloc.metrics["times_our_seconds"]["value"] == 2.5


def test_growth_is_measured_at_each_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        localization, "measure", lambda name, measurement, setup: fake_growth(measurement)
    )
    curves = localization.growth(Setup(None, None, tmp_path))["curves"]
    assert curves["seconds"].x == [50.0, 200.0, 800.0]
    assert curves["seconds"].y == [0.5, 2.0, 8.0]


def fake_growth(measurement: partial[Figures]) -> Figures:
    num = measurement.keywords["num"]
    memory = {"peak_memory_mib": 500.0, "localization_memory_mib": 100.0}
    return {"seconds": num / 100, "cpu_seconds": num / 50, **memory}


def test_a_measurement_that_fails_in_its_process_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="measurement of it failed"):
        measure("of it", fails, Setup(tmp_path, None, tmp_path))


@pytest.mark.usefixtures("in_process")
def test_a_failed_measurement_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = {
        name: Case("sift", {"featplug": measurement}, uses_images=False)
        for name, measurement in (("bad", fails), ("good", works))
    }
    cases["no-inputs"] = Case("sift", {"featplug": works}, make_inputs=fails, uses_images=False)
    monkeypatch.setattr(speed, "CASES", cases)
    monkeypatch.setattr(speed, "ALL_CASES", tuple(cases))
    main(outputs=tmp_path / "out", cases=("bad", "no-inputs", "good"))
    run = read_run(tmp_path / "out")
    assert [row.part for row in run.rows] == ["good"]
    bad, no_inputs = run.problems
    assert bad.subject == "sift, bad, featplug"
    assert (no_inputs.subject, no_inputs.reason) == ("sift, no-inputs", "on purpose")
    assert "not measured: sift, bad, featplug" in capsys.readouterr().out
    with pytest.raises(ValueError, match="Nothing could be measured"):
        main(outputs=tmp_path / "out", cases=("bad",))


def works(setup: Setup) -> Figures:
    return {"seconds": 1.0}


def test_every_case_has_ours() -> None:
    of_confs = [make("sift") for make in confs.CASES.values()]
    assert all("featplug" in case.measurements for case in [*CASES.values(), *of_confs])
    assert set(ALL_CASES) == set(CASES) | set(confs.CASES)


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no case 'sift'; there are stages, image-size"):
        main(tmp_path, cases=("sift",))
    with pytest.raises(ValueError, match="Give --images DIR"):
        main(cases=("localize-growth", "match"))
    with pytest.raises(ValueError, match="weights for doap, which is not among the features"):
        main(tmp_path, weights=(("doap", "official"),))
    with pytest.raises(ValueError, match="'cuda:99' cannot be used here"):
        main(tmp_path, device="cuda:99")
