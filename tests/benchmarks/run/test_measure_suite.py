"""A suite through several benchmarks, to one table and one page; failures, kills and reruns."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.record import Run, read_run
from benchmarks.run.__main__ import main
from benchmarks.run.measure_suite import BlockRun, SuiteOptions, measure_suite
from benchmarks.run.suite_data import DATA
from benchmarks.run.suite_file import read_suite
from featplug import __version__
from tests.benchmarks.methods_of_others import write_own_methods
from tests.scenes.room_corner import write_room_corner
from tests.scenes.sequences import write_oxford

SUITE = """
title = "Two of them"
methods = ["sift+NN-ratio", "sift+NN-mutual", "no-such-feature"]
max_keypoints = 300
num_seeds = 2

[matching.oxford]
dataset = "oxford"

[matching.one-way]
dataset = "oxford"
protocol = ["oxford-ap"]

[reconstruction.corner]
scenes = ["corner"]
"""
DEADLY = """
import os, signal
from featplug.extractors.sift import SIFT

class Deadly(SIFT):
    def extract(self, image):
        os.kill(os.getpid(), signal.SIGSEGV)
"""


@pytest.fixture(autouse=True)
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA, raising=False)


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    write_oxford(tmp_path / "oxford")
    write_room_corner(tmp_path / "corner", width=320)
    path = tmp_path / "own.toml"
    path.write_text(SUITE)
    return path


def cells(table: str) -> dict[str, dict[str, str]]:
    """Method to the cells of its line, by their heads."""
    heads, _, *lines = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith("|")
    )
    return {line[0].strip("`"): dict(zip(heads, line, strict=True)) for line in lines}


def figures(run: Run) -> list[tuple[Any, ...]]:
    """Return what must be the same in each run: everything but seconds and memory."""
    return [
        (row.feature, row.dataset, row.protocol, row.part, row.seed, row.metrics, row.curves)
        for row in run.rows
    ]


def results(outputs: Path) -> dict[str, list[tuple[Any, ...]]]:
    return {path.parent.name: figures(read_run(path)) for path in outputs.glob("*/results.json")}


def stamps(outputs: Path) -> Mapping[str, tuple[int, int]]:
    """Return inode and time of each file that took work: features, matches, figures, models."""
    patterns = ("features/*/*.h5", "*/measured/*.json", "*/*/*/*.h5", "*/*/*/seed-*/model/*")
    found = [path for pattern in patterns for path in outputs.glob(pattern)]
    # HDF5 files are opened to be appended to, which changes their times.
    return {
        str(path): (path.stat().st_ino, 0 if path.suffix == ".h5" else path.stat().st_mtime_ns)
        for path in found
        if path.is_file()
    }


def test_one_command_measures_pairs_and_scenes_and_nothing_twice(
    suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = tmp_path / "out"
    options = SuiteOptions(str(suite), outputs=outputs)
    main(options)
    printed = capsys.readouterr().out
    assert "not measured: no-such-feature: There is no feature" in printed
    table = (outputs / "table.md").read_text()
    lines = cells(table)
    ratio, mutual, unknown = lines
    assert lines[ratio]["matcher"].startswith("NN-ratio (ratio 0.8)")
    matching = read_run(outputs / "matching-oxford")
    row = next(row for row in matching.rows if (row.feature, row.part) == (ratio, "all"))
    assert row.metrics["mean_keypoints"]["value"] <= 300
    head = "Oxford affine, oxford-mma: MMA 3 px"
    assert lines[ratio][head] == f"{row.metrics['mma_3']['value']:.3f}"
    assert lines[mutual]["corner: registered"] == "6 of 6"
    assert lines[unknown]["corner: points"] == "not measured"
    assert "There is no feature 'no-such-feature'" in table
    assert f"featplug {__version__}, " in table
    assert "Two of them" in (outputs / "report.html").read_text()
    assert (outputs / "suite.toml").read_text() == SUITE
    assert matching.command[:3] == ["featplug", "bench", "matching"]

    # Both methods, and both blocks of the same images, have the features of one extraction.
    assert [path.name for path in outputs.glob("features/*/*.h5")] == [
        "feats-featplug-sift-n300.h5"
    ]
    models = read_run(outputs / "reconstruction-corner")
    stages = {row.feature: set(row.stages) for row in models.rows}
    assert {"extract", "match", "map"} <= stages[ratio] & stages[mutual]

    before, made = results(outputs), stamps(outputs)
    assert len(made) > 12
    main(options)
    assert stamps(outputs) == made
    assert results(outputs) == before
    models = read_run(outputs / "reconstruction-corner")
    assert all(set(row.reused) == set(row.stages) for row in models.rows)
    assert cells((outputs / "table.md").read_text()) == lines


@pytest.mark.slow
def test_killed_and_started_again_it_ends_the_same(suite: Path, tmp_path: Path) -> None:
    """The suite alone is killed; what it had started ends by itself, and leaves its folders."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    measure_suite(SuiteOptions(str(suite), outputs=whole))
    command = [sys.executable, "-m", "benchmarks.run", str(suite), "--outputs", str(killed)]
    for block in ("matching-oxford", "reconstruction-corner"):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            marker = killed / block / ".measuring"
            while process.poll() is None and not marker.exists():
                time.sleep(0.01)
            assert process.poll() is None, "it ended before it could be killed"
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    time.sleep(1)
    _, problems = measure_suite(SuiteOptions(str(suite), outputs=killed))
    assert problems == []
    assert results(killed) == results(whole)
    assert cells((killed / "table.md").read_text()) == cells((whole / "table.md").read_text())


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_method_that_ends_its_process_is_left_out(suite: Path, tmp_path: Path, jobs: int) -> None:
    (tmp_path / "deadly.py").write_text(DEADLY)
    own = write_own_methods(tmp_path)
    suite.write_text(f"""
        methods = [
            "sift+NN-ratio", {{ name = "deadly.py:Deadly", option = {{ max_keypoints = 100 }} }},
            "sift+{own}:ByPlace"
        ]
        max_keypoints = 300
        [matching.oxford]
        dataset = "oxford"
        """)
    runs, problems = measure_suite(SuiteOptions(str(suite), outputs=tmp_path / "out", jobs=jobs))
    assert problems == []
    (run,) = runs
    assert {row.feature for row in run.rows} == {"sift+NN-ratio", f"sift+{own}:ByPlace"}
    (problem,) = run.problems
    assert problem.subject == f"{tmp_path}/deadly.py:Deadly"
    assert "SIGSEGV" in problem.reason
    assert "matching-oxford.log" in problem.reason
    assert "SIGSEGV" in (tmp_path / "out" / "table.md").read_text()


def test_missing_data_and_failing_benchmarks_cost_the_others_nothing(
    suite: Path, tmp_path: Path
) -> None:
    suite.write_text("""
        methods = ["sift"]
        max_keypoints = 300
        [reconstruction.fountain]
        scenes = ["strecha/fountain-P11"]
        [matching.hpatches]
        dataset = "hpatches"
        [matching.wrong]
        dataset = "corner"
        [matching.oxford]
        dataset = "oxford"
        """)
    runs, problems = measure_suite(SuiteOptions(str(suite), outputs=tmp_path / "out"))
    reasons = {problem.subject: problem.reason for problem in problems}
    assert "--data NAME=DIR" in reasons["strecha/fountain-P11, hpatches"]
    assert "hpatches-sequences-release" in reasons["matching.hpatches"]
    assert "openMVG" in reasons["reconstruction.fountain, strecha/fountain-P11"]
    assert "no protocol here" in reasons["matching.wrong"]
    assert [run.data["oxford"]["path"] for run in runs if run.rows] == [str(tmp_path / "oxford")]
    assert "hpatches-sequences-release" in (tmp_path / "out" / "table.md").read_text()


def test_a_suite_of_which_nothing_can_be_measured(suite: Path, tmp_path: Path) -> None:
    suite.write_text("methods = ['sift']\n[matching.oxford]\ndataset = 'nowhere'")
    with pytest.raises(ValueError, match=r"Nothing could be measured: .*nowhere"):
        measure_suite(SuiteOptions(str(suite), outputs=tmp_path / "out"))


def test_results_of_another_version_and_of_other_blocks(suite: Path, tmp_path: Path) -> None:
    """Blocks that are not measured now are on the page, unless their records cannot be read."""
    outputs = tmp_path / "out"
    options = SuiteOptions(str(suite), outputs=outputs, only=("oxford",))
    measure_suite(options)
    for name, version in (("one-way", 99), ("no-longer-in-the-suite", 2)):
        (outputs / f"matching-{name}").mkdir()
        record = f'{{"schema_version": {version}, "environment": {{"featplug": "9.9"}}}}'
        (outputs / f"matching-{name}" / "results.json").write_text(record)
    runs, problems = measure_suite(options)
    assert [run.options["protocol"] for run in runs] == [["oxford-mma"]]
    (problem,) = problems
    assert problem.subject == "matching.one-way"
    assert "schema version 99" in problem.reason
    assert "9.9" in problem.reason
    _, problems = measure_suite(SuiteOptions(str(suite), outputs=outputs, only=("one-way",)))
    assert problems == []
    assert "oxford-ap: AP" in (outputs / "table.md").read_text()


def test_figures_of_other_data_are_not_shown_as_those_of_todays(
    suite: Path, tmp_path: Path
) -> None:
    suite.write_text("methods = ['sift']\nmax_keypoints = 200\n[matching.a]\ndataset = 'oxford'")
    outputs = tmp_path / "out"
    measure_suite(SuiteOptions(str(suite), outputs=outputs))
    suite.write_text(
        """
        methods = ["sift"]
        [matching.a]
        dataset = "elsewhere"
        [matching.b]
        dataset = "oxford"
        """
    )
    with pytest.raises(ValueError, match=r"Nothing could be measured: .*elsewhere"):
        measure_suite(SuiteOptions(str(suite), outputs=outputs, only=("a",)))
    runs, problems = measure_suite(SuiteOptions(str(suite), outputs=outputs, only=("b",)))
    assert len(runs) == 1
    assert any("matching-a was measured on" in problem.reason for problem in problems)
    assert "an earlier call" not in (outputs / "table.md").read_text()


def test_another_suite_of_the_same_name_has_another_folder(suite: Path, tmp_path: Path) -> None:
    outputs, other = tmp_path / "out", tmp_path / "elsewhere" / "own.toml"
    other.parent.mkdir()
    other.write_text("methods = ['sift']\n[matching.a]\ndataset = '../oxford'")
    outputs.mkdir()
    (outputs / "config.toml").write_text(f"suite = '{other}'")
    with pytest.raises(ValueError, match=r"results of another suite.*--outputs"):
        measure_suite(SuiteOptions(str(suite), outputs=outputs))


def test_what_a_killed_suite_started_ends() -> None:
    """Benchmarks of speed start processes of their own."""
    started = (
        "import subprocess, sys\n"
        "from benchmarks.run import block_process\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\n"
        "block_process._end_with_parent()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", started],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        child = int(process.stdout.readline())
        process.stdin.close()
        process.wait(20)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and _is_running(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_running(process: int) -> bool:
    """Return whether a process runs, and is not only waiting to be reaped."""
    try:
        return " Z " not in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False


def test_a_folder_that_another_suite_uses(suite: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "out"
    outputs.mkdir()
    lock = (
        "import sys, time; from pathlib import Path; "
        "from featplug.io.folder_lock import locked_folder\n"
        "with locked_folder(Path(sys.argv[1])): print('locked', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", lock, str(outputs)], stdout=subprocess.PIPE, env=os.environ
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            with pytest.raises(ValueError, match=r"out is in use.*use another folder"):
                measure_suite(SuiteOptions(str(suite), outputs=outputs))
        finally:
            process.kill()


def test_a_method_of_files_is_left_out_too_and_nothing_is_measured_without_methods(
    suite: Path, tmp_path: Path
) -> None:
    (tmp_path / "feats.h5").write_text("")
    suite.write_text("""
        methods = [{ name = "doap", weights = "featplug", option = ["max_keypoints=5"] }]
        features = ["own+NN-mutual=feats.h5"]
        [matching.oxford]
        dataset = "oxford"
        """)
    (block,) = read_suite(str(suite)).blocks
    run = BlockRun(block, SuiteOptions(str(suite), outputs=tmp_path / "out"))
    assert run.leave_out("doap", "died")
    assert (run.options.feature, run.options.weights, run.options.option) == ((), (), ())
    assert not run.leave_out("unknown", "died")
    assert not run.leave_out("own+NN-mutual", "died")
    assert run.options.features == ()
    assert [problem.subject for problem in run.left_out] == ["doap", "unknown", "own+NN-mutual"]
