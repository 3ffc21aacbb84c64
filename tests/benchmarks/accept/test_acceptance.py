"""Acceptance of a folder: what is recognised, planned and missing, and a run on demo layouts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.accept import __main__ as accept_command
from benchmarks.accept.acceptance_plan import make_plan, suite_text
from benchmarks.accept.found_data import find
from benchmarks.run.suite_file import read_suite
from featplug.cli.command_line import run_command
from featplug.cli.program import PROGRAM
from pipelines.datasets.demo import DemoOptions, make_demo_world
from tests.scenes.patch_sets import read_sequence, write_phototour, write_romepatches
from tests.scenes.sequences import write_hpatches

TINY = DemoOptions(num_database=4, num_queries=1, num_scans=1, num_planes=1, image_size=160)


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data sets in their released layouts, in folders of other names."""
    root = tmp_path_factory.mktemp("released")
    worlds = tmp_path_factory.mktemp("worlds")
    for layout, place in (
        ("aachen", "day-night"),
        ("aachen_v1.1", "newer/day-night"),
        ("inloc", "rooms"),
        ("hpatches", "planes"),
    ):
        world = make_demo_world(worlds, TINY, layout=layout)  # type: ignore[arg-type]
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).symlink_to(world)
    write_hpatches(worlds / "more", "v_one")
    oxford = worlds / "oxford" / "plane"
    oxford.mkdir(parents=True)
    for k in range(1, 7):
        (oxford / f"img{k}.ppm").symlink_to(worlds / "more" / "v_one" / f"{k}.ppm")
        if k > 1:
            (oxford / f"H1to{k}p").symlink_to(worlds / "more" / "v_one" / f"H_1_{k}")
    patches = [read_sequence(oxford, 8)]
    random = np.random.default_rng(0)
    write_phototour(root / "brown" / "notredame", patches, 60, random)
    write_romepatches(root / "rome", patches, random)
    (root / "checkpoints").mkdir()
    (root / "checkpoints" / "d2_tf.pth").write_bytes(b"<html>quota exceeded</html>")
    return root


def test_a_folder_that_cannot_be_read_costs_the_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "d2_tf.pth").write_bytes(b"x")
    iterdir = Path.iterdir

    def refusing(self: Path) -> Iterator[Path]:
        if self == locked:
            raise PermissionError(13, "Permission denied", str(self))
        return iterdir(self)

    monkeypatch.setattr(Path, "iterdir", refusing)
    found = find(tmp_path)
    assert [path.name for path in found.checkpoints] == ["d2_tf.pth"]
    assert [problem.subject for problem in found.problems] == [str(locked)]


@pytest.mark.slow
def test_data_sets_are_recognised_by_their_layout_in_folders_of_any_name(released: Path) -> None:
    found = find(released)
    assert {(data.name, data.benchmark, data.folder.name) for data in found.data} == {
        ("aachen", "localization", "day-night"),
        ("aachen-v1.1", "localization", "day-night"),
        ("inloc", "localization", "rooms"),
        ("hpatches", "matching", "planes"),
        ("phototour-notredame", "patches", "notredame"),
        ("rome-patches", "patches", "rome"),
    }
    assert [path.name for path in found.checkpoints] == ["d2_tf.pth"]
    assert found.problems == []
    assert [data.name for data in find(released, left_out=released / "newer").data].count(
        "aachen-v1.1"
    ) == 0


@pytest.mark.slow
def test_the_plan_has_the_papers_settings_and_says_what_is_missing(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.accept.acceptance_plan._lacks", lambda *_: None)
    monkeypatch.setattr("benchmarks.accept.acceptance_plan._lacks_retrieval", lambda _: None)
    plan = make_plan(find(released))
    tasks = {(task.data.name, task.protocol): task for task in plan.tasks}
    hloc = tasks["aachen", "aachen"]
    assert hloc.methods == ("d2net",)
    assert hloc.options["num_loc"] == 30
    assert hloc.options["retrieval"] == "netvlad"
    assert "mtldesc" in tasks["aachen-v1.1", "aachen-local-features"].methods
    assert {"d2net", "mtldesc"} <= set(tasks["hpatches", "mma-d2net"].methods)
    assert "lisrd" in tasks["hpatches", "lisrd-480x640"].methods
    patches = tasks["phototour-notredame", "phototour-fpr95"]
    assert {"doap", "doap-binary", "sift"} <= set(patches.methods)
    assert {number.feature for task in plan.tasks for number in task.numbers} >= {
        "contextdesc", "mtldesc", "doap", "d2net", "lisrd",
    }  # fmt: skip
    missing = " ".join(plan.missing.values())
    assert "MegaDepth-1500" in missing
    assert "ScanNet" in missing
    assert "InLoc" not in missing
    file = tmp_path / "suite.toml"
    file.write_text(suite_text(plan.tasks, "Acceptance"), "utf-8")
    suite = read_suite(str(file))
    assert {(block.benchmark, block.own_name) for block in suite.blocks} == {
        task.block for task in plan.tasks
    }
    assert suite.missing == []


@pytest.mark.slow
def test_methods_without_the_authors_weights_are_named_and_left_out(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("FEATPLUG_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda _: str(tmp_path / "cache"))
    arguments = ["bench", "accept", str(released), "--plan", "--outputs", str(tmp_path / "out")]
    run_command(PROGRAM, "featplug", arguments)
    printed = capsys.readouterr().out
    assert "no weights: doap: " in printed
    assert "featplug weights fetch" in printed
    assert "rome-patches" in printed
    assert "sift" in printed
    assert "d2_tf.pth" in printed  # which is a web page
    assert not (tmp_path / "out").exists()
    assert os.environ["FEATPLUG_WEIGHTS"] == str(tmp_path / "none")


@pytest.mark.slow
def test_what_does_not_exist_is_named(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, message in (
        ([str(released), "--data", "hpatch"], "Did you mean 'hpatches'"),
        ([str(released), "--feature", "siftt"], "siftt"),
        ([str(tmp_path / "nowhere")], "There is no folder"),
        ([str(tmp_path)], "has no data set and weights that can be measured"),
    ):
        with pytest.raises(SystemExit) as stop:
            run_command(PROGRAM, "featplug", ["bench", "accept", *words,
                                              "--outputs", str(tmp_path / "out")])  # fmt: skip
        assert stop.value.code == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_folder_is_measured_compared_and_resumed(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = tmp_path / "out"
    arguments = ["bench", "accept", str(released), "--feature", "sift", "--outputs", str(outputs),
                 "--data", "hpatches", "rome-patches", "phototour-notredame"]  # fmt: skip
    run_command(PROGRAM, "featplug", arguments)
    printed = capsys.readouterr().out
    assert "patches, not 10,000" in printed
    record = json.loads((outputs / "accept.json").read_text("utf-8"))
    verdicts = {(v["dataset"], v["part"]): v for v in record["verdicts"]}
    assert set(verdicts) == {
        ("rome-patches", "train"), ("rome-patches", "test"), ("phototour-notredame", "all"),
    }  # fmt: skip
    assert {v["verdict"] for v in verdicts.values()} == {"not comparable"}
    assert verdicts["rome-patches", "test"]["published"] == 87.9
    assert 0 < verdicts["rome-patches", "test"]["ours"] <= 100
    text = (outputs / "accept.md").read_text("utf-8")
    assert "| sift | hpatches | 0 | no number is published" in text
    assert "<table" in (outputs / "accept.html").read_text("utf-8")
    before = (outputs / "accept.md").read_text("utf-8")
    run_command(PROGRAM, "featplug", arguments)
    assert (outputs / "accept.md").read_text("utf-8") == before


def test_a_figure_below_the_published_one_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.benchmarks.accept.test_verdicts import verdict

    for word, code in (("within", None), ("above", None), ("below", 1)):
        monkeypatch.setattr(accept_command, "accept", lambda _, w=word: [verdict(w)])
        arguments = ["bench", "accept", str(tmp_path)]
        if code is None:
            run_command(PROGRAM, "featplug", arguments)
        else:
            with pytest.raises(SystemExit) as stop:
                run_command(PROGRAM, "featplug", arguments)
            assert stop.value.code == code
        assert word in capsys.readouterr().out


def test_checkpoints_are_imported_beside_the_results_and_found_by_the_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = []

    def take(file: Path, destination: Path) -> None:
        imported.append((file.name, destination))
        if file.name == "bad.safetensors":
            raise ValueError("bad.safetensors is damaged; download it again.")

    monkeypatch.setattr("benchmarks.accept.found_data.import_weights", take)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "own.safetensors").touch()
    monkeypatch.setenv("FEATPLUG_WEIGHTS", str(tmp_path / "mine"))
    files = [tmp_path / "d2_tf.pth", tmp_path / "bad.safetensors"]
    with accept_command._weights(files, tmp_path / "weights") as problems:
        assert os.environ["FEATPLUG_WEIGHTS"] == str(tmp_path / "weights")
    assert os.environ["FEATPLUG_WEIGHTS"] == str(tmp_path / "mine")
    assert {name for name, _ in imported} == {"d2_tf.pth", "bad.safetensors", "own.safetensors"}
    assert {folder for _, folder in imported} == {tmp_path / "weights"}
    assert [problem.reason for problem in problems] == [
        "bad.safetensors is damaged; download it again."
    ]
