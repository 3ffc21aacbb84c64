"""The check of published numbers: it finds what is missing, misspelt, impossible or twice there."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.published import Published, load_published
from benchmarks.published.__main__ import PublishedOptions, selected
from benchmarks.published.check_numbers import faults
from featplug.cli.command_line import run_command
from featplug.cli.program import PROGRAM

NAMES = {
    "units": {"median_inliers": "matches"},
    "protocols": {},
    "other_methods": {"with keypoints": [], "of two images": []},
}


def number(**changes: Any) -> Published:
    sound = Published(
        feature="d2net",
        benchmark="matching",
        protocol="mma-d2net",
        dataset="hpatches",
        part="all",
        metric="mma_3",
        value=0.43,
        unit="fraction",
        source="Dusmanu et al.",
        url="https://arxiv.org/abs/1905.03561",
        table="Figure 4",
    )
    return replace(sound, **changes)


def test_the_file_has_no_faults() -> None:
    assert faults() == []


@pytest.mark.parametrize(
    ("changes", "subject", "remedy"),
    [
        ({"source": ""}, "no source", "name the paper"),
        ({"url": ""}, "no address", "add its url"),
        ({"table": ""}, "no table", "name it"),
        ({"metric": "mma3"}, "unknown metric 'mma3'", "Did you mean 'mma_N'?"),
        ({"protocol": "mma-d2-net"}, "unknown protocol 'mma-d2-net'", "Did you mean 'mma-d2net'?"),
        ({"feature": "d2nett"}, "'d2nett' is neither", "Did you mean 'd2net'?"),
        ({"feature": "sift+NN-rato"}, "'sift+NN-rato' is neither", "other_methods"),
        ({"value": 43.0}, "mma_3 of all is 43 fraction", "correct the value or the unit"),
        ({"value": 143.0, "unit": "%"}, "143 %", "correct the value or the unit"),
        ({"value": -1.0, "unit": "px"}, "-1 px", "correct the value or the unit"),
        ({"value": float("nan"), "unit": "px"}, "nan px", "correct the value or the unit"),
        ({"protocol": "mma-d2net+poselib"}, "no threshold", "list it under unstated"),
        ({"benchmark": "relative-pose"}, "no max_keypoints", "list it under unstated"),
        ({"benchmark": "relative-pose", "feature": "loftr"}, "no resize_max", "unstated"),
    ],
)
def test_a_fault_is_named_with_what_to_do(
    changes: dict[str, Any], subject: str, remedy: str
) -> None:
    found = faults([number(**changes)], NAMES)
    (fault,) = [line for line in found if subject in line]
    assert remedy in fault
    assert faults([number()], NAMES) == []


def test_settings_are_needed_where_a_number_means_nothing_without() -> None:
    pose = number(
        benchmark="relative-pose",
        settings={"max_keypoints": 2048, "resize_max": 1600},
        protocol="mma-d2net+poselib",
        threshold=2.0,
    )
    described = {**NAMES, "protocols": {"mma-d2net+poselib": "Made up."}}
    assert faults([pose], described) == []
    unstated = replace(pose, threshold=None, settings={}, unstated=("threshold", "resize_max"))
    (fault,) = faults([unstated], described)
    assert "no max_keypoints" in fault
    assert faults([replace(unstated, feature="loftr")], described) == []


def test_a_number_that_a_table_has_twice_is_a_fault_and_more_so_if_they_disagree() -> None:
    (twice,) = faults([number(), number()], NAMES)
    assert "mma_3 is there twice; remove one" in twice
    (disagree,) = faults([number(), number(value=0.5)], NAMES)
    assert "mma_3 is 0.43 and 0.5" in disagree
    for difference in (
        {"table": "Table 5"},
        {"variant": "multi-scale"},
        {"settings": {"max_keypoints": 2048}},
        {"part": "viewpoint"},
        {"threshold": 0.5},
    ):
        assert faults([number(), number(value=0.5, **difference)], NAMES) == []


def test_names_that_are_listed_for_nothing_are_faults() -> None:
    listed = {
        "units": {},
        "protocols": {"mma-d2net": "Measured here.", "old-protocol": "Of no number."},
        "other_methods": {"with keypoints": ["d2net", "R2D2"], "of two images": []},
    }
    found = faults([number()], listed)
    assert [line.split(":")[0] for line in found] == ["other_methods"] * 2 + ["protocols"] * 2
    assert "'d2net' is a method here" in found[0]
    assert "no number is of 'R2D2'" in found[1]


def test_the_command_ends_with_1_where_there_are_faults(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as sound:
        run_command(PROGRAM, "featplug", ["bench", "published", "--check"])
    assert sound.value.code == 0
    assert "0 faults" in capsys.readouterr().out
    module = sys.modules["benchmarks.published.__main__"]
    monkeypatch.setattr(module, "faults", lambda: ["one", "two"])
    with pytest.raises(SystemExit) as faulty:
        run_command(PROGRAM, "featplug", ["bench", "published", "--check"])
    assert faulty.value.code == 1
    assert capsys.readouterr().out.splitlines()[:2] == ["one", "two"]


def test_numbers_are_listed_by_method_protocol_and_data(capsys: pytest.CaptureFixture[str]) -> None:
    options = PublishedOptions(feature=("LightGlue",), dataset=("Aachen",), protocol=("aachen",))
    chosen = selected(options)
    assert {n.feature for n in chosen} == {"SuperPoint + LightGlue"}
    assert len(chosen) == 6
    assert selected(PublishedOptions()) == list(load_published())
    run_command(PROGRAM, "featplug", ["bench", "published", "--feature", "LightGlue",
                                      "--dataset", "aachen"])  # fmt: skip
    printed = capsys.readouterr().out
    assert "95.4 %" in printed
    assert "num_loc 50" in printed
    assert "https://arxiv.org/abs/2306.13643" in printed
    with pytest.raises(SystemExit) as nothing:
        run_command(PROGRAM, "featplug", ["bench", "published", "--feature", "no-such-method"])
    assert nothing.value.code == 2
