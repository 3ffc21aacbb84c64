"""``python -m benchmarks.patches``."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.patches import __main__ as patches_command
from benchmarks.patches import phototour
from benchmarks.patches.__main__ import PatchOptions, main
from benchmarks.patches.descriptors import PatchDescriptor
from benchmarks.record import Row, read_run
from tests.documented import assert_documented


def means(patches: np.ndarray) -> np.ndarray:
    """A descriptor that these tests name."""
    return patches.reshape(len(patches), 1, -1).mean(2)


def test_all_sets_are_measured_and_recorded(
    sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = tuple(sets / name for name in ("hpatches", "phototour", "romepatches"))
    own = f"{__name__}:means"
    main(PatchOptions(folders, feature=("sift", own, "d2net"), outputs=tmp_path / "out"))
    run = read_run(tmp_path / "out")
    assert_documented(tmp_path / "out" / "results.json")
    assert run.benchmark == "patches"
    assert set(run.data) == {"hpatches-patches", "phototour-synthetic", "rome-patches"}
    assert len({entry["fingerprint"] for entry in run.data.values()}) == 3
    values = {
        (row.feature, row.protocol, row.part, name): entry["value"]
        for row in run.rows
        for name, entry in row.metrics.items()
    }
    for protocol, part, name in (
        ("hpatches-patches-a", "all", "verification_map"),
        ("hpatches-patches-a", "all", "matching_map"),
        ("hpatches-patches-a", "all", "retrieval_map"),
        ("rome-patches", "test", "retrieval_map"),
    ):
        assert values["sift", protocol, part, name] > values[own, protocol, part, name]
    assert values["sift", "phototour-fpr95", "all", "fpr95"] < 0.2
    assert all(row.not_comparable for row in run.rows)
    assert set(run.rows[0].stages) == {"describe", "measure"}
    assert [problem.subject for problem in run.problems] == ["d2net"]
    printed = capsys.readouterr().out
    assert "not measured: d2net: d2net does not describe single patches" in printed
    assert f"{values['sift', 'rome-patches', 'test', 'retrieval_map']:.4f}" in printed
    assert "not compared with published numbers: verif_pos_split-a.csv" in printed
    assert "87.9" not in printed


def test_published_numbers_are_printed_next_to_those_of_the_same_data(
    sets: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = Path(shutil.copytree(sets / "phototour" / "synthetic", tmp_path / "liberty"))
    shutil.copy(folder / "m50_120_120_0.txt", folder / phototour.PAIRS)
    num = len((folder / "info.txt").read_text().splitlines())
    monkeypatch.setattr(phototour, "NUM_PATCHES", {"liberty": num})
    main(PatchOptions((folder,), outputs=tmp_path / "out"))
    (row,) = read_run(tmp_path / "out").rows
    ours = 100 * row.metrics["fpr95"]["value"]
    printed = " ".join(capsys.readouterr().out.split())
    assert f"fpr95 {ours:.4g} % 29.84 % {ours - 29.84:+.4g} He et al." in printed


def test_bad_input_is_named_in_one_line(
    sets: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    def rejected(*arguments: object) -> str:
        outputs = ("--outputs", tmp_path / "out")
        return refusal(main, "python -m benchmarks.patches", *arguments, *outputs)

    rome = sets / "romepatches"
    assert "weights for doap, which is not among the methods" in rejected(
        "--dataset", rome, "--weights", "doap", "official"
    )
    assert "--num-distractors must be above 0" in rejected(
        "--dataset", rome, "--num-distractors", 0
    )
    assert not (tmp_path / "out").exists()
    assert "Nothing could be measured" in rejected("--dataset", tmp_path, tmp_path / "absent")
    empty, absent = read_run(tmp_path / "out").problems
    assert "has no set of patches" in empty.reason
    assert "absent does not exist" in absent.reason


def test_what_fails_leaves_the_other_features(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was measured is recorded before the next feature is, which may be the end."""
    recorded = []
    actual = patches_command.measure

    def measure_or_fail(descriptor: PatchDescriptor, *others: Any) -> list[Row]:
        if descriptor.name == "sift":
            return actual(descriptor, *others)
        recorded.extend(read_run(tmp_path).rows)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(patches_command, "measure", measure_or_fail)
    features = ("sift", "rootsift", "sift")
    main(PatchOptions((sets / "romepatches",), feature=features, outputs=tmp_path))
    run = read_run(tmp_path)
    assert recorded == run.rows != []
    assert {problem.subject: problem.reason for problem in run.problems} == {
        "sift, named again": "each method is measured once",
        "rootsift on rome-patches": "out of memory",
    }


def test_a_set_that_cannot_be_read_does_not_stop_the_others(
    sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "phototour"
    for name in ("liberty", "notredame", "yosemite"):
        shutil.copytree(sets / "phototour" / "synthetic", root / name)
    (root / "liberty" / "patches0000.bmp").write_bytes(b"BM")
    (root / "notredame" / "patches0000.bmp").unlink()
    folders = (root, tmp_path / "absent", sets / "romepatches")
    main(PatchOptions(folders, outputs=tmp_path / "out"))
    run = read_run(tmp_path / "out")
    assert {row.dataset for row in run.rows} == {"phototour-yosemite", "rome-patches"}
    assert [problem.subject for problem in run.problems] == [
        str(root / "notredame"),
        str(tmp_path / "absent"),
        "sift on phototour-liberty",
    ]
    for problem in (run.problems[0], run.problems[2]):
        assert "patches0000.bmp" in problem.reason
    assert "not measured: sift on phototour-liberty" in capsys.readouterr().out
