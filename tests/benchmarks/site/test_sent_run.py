"""Files of runs: what they have, what they lack, and what comes from strangers."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.record import RECORD, write_run
from benchmarks.site import sent_run
from benchmarks.site.sent_run import read_sent_runs, run_to_send, slug, write_sent_runs
from featplug.cli.command_line import run_command
from featplug.cli.program import PROGRAM
from tests.benchmarks.report.conftest import PIPELINE_RECORD, make_run, matching_row, write_record
from tests.benchmarks.site.conftest import weights, write_sendable_run


def submit(*arguments: str | Path) -> None:
    run_command(PROGRAM, "featplug", ["bench", "submit", *map(str, arguments)])


def test_a_sent_run_has_the_figures_and_no_folder_of_its_machine(
    sendable: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submit(sendable, "-o", tmp_path / "sent.zip")
    printed = capsys.readouterr().out
    assert "my-run: 3 methods by oxford-mma on oxford" in printed
    assert "other files of oxford than those known" in printed
    with zipfile.ZipFile(tmp_path / "sent.zip") as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    assert list(contents) == [
        f"my-run/{name}"
        for name in ("config.toml", "pairs/lisrd.csv", "pairs/sift.csv", "results.json")
    ]
    for text in contents.values():
        for word in (b"anna", b"/home", str(tmp_path).encode()):
            assert word not in text
    config = tomllib.loads(contents["my-run/config.toml"].decode())
    assert config == {"command": "bench matching", "dataset": "oxford"}
    [sent] = read_sent_runs(tmp_path / "sent.zip")
    assert sent.name == "sent"
    features = [row.feature for row in sent.run.rows]
    assert features == ["sift", "lisrd", "my file.py:Mine+NN-mutual"]
    before = json.loads((sendable / RECORD).read_text("utf-8"))["rows"]
    assert [row.metrics for row in sent.run.rows] == [row["metrics"] for row in before]
    assert sent.run.command == ["python", "-m", "benchmarks.matching", "--dataset", "oxford"]
    values = sent.pair_values["pairs/lisrd.csv"].values["mma_3"]
    np.testing.assert_allclose(values, 0.18 + np.linspace(-0.1, 0.1, 10))


def test_the_same_run_makes_the_same_bytes(sendable: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(sendable, tmp_path / "elsewhere" / "my run")
    for number, folder in enumerate((sendable, copy)):
        write_sent_runs(tmp_path / f"{number}.zip", [run_to_send(folder)])
    assert (tmp_path / "0.zip").read_bytes() == (tmp_path / "1.zip").read_bytes()
    again = replace(read_sent_runs(tmp_path / "0.zip")[0], name="my-run")
    write_sent_runs(tmp_path / "2.zip", [again])
    assert (tmp_path / "2.zip").read_bytes() == (tmp_path / "0.zip").read_bytes()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"data": {"oxford": {"path": "/x", "fingerprint": None}}}, "fingerprint.*oxford.*again"),
        ({"rows": []}, "no figures.*measure"),
        (
            {"rows": [matching_row("lisrd", "all", 1, weights=[weights("w", sha256="")])]},
            "SHA-256.*w of lisrd.*again",
        ),
    ],
)
def test_a_run_that_others_cannot_check_is_not_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], what: str
) -> None:
    rows = change.pop("rows", [matching_row("sift", "all", 0.5)])
    write_run(tmp_path, make_run("matching", rows, **change))
    with pytest.raises(SystemExit) as ended:
        submit(tmp_path, "-o", tmp_path / "x.zip")
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert str(tmp_path / RECORD) in error
    assert re.search(what, error)
    assert not (tmp_path / "x.zip").exists()


def test_what_is_there_is_not_replaced_and_other_records_are_not_sent(
    sendable: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.zip").write_text("mine")
    other = write_record(tmp_path / "pipeline", PIPELINE_RECORD)
    for arguments, remedy in (
        ((sendable, "-o", tmp_path / "x.zip"), "--overwrite"),
        ((sendable, "-o", tmp_path / "x.tar"), "--output"),
        ((other, "-o", tmp_path / "y.zip"), "leave it out"),
    ):
        with pytest.raises(SystemExit) as ended:
            submit(*arguments)
        assert ended.value.code == 2
        assert remedy in capsys.readouterr().err
    assert (tmp_path / "x.zip").read_text() == "mine"


def test_values_of_pairs_that_cannot_be_read_are_a_problem_of_the_run(sendable: Path) -> None:
    (sendable / "pairs" / "lisrd.csv").write_text("a,b\n1,2\n")
    sent = run_to_send(sendable)
    assert [row.pair_values for row in sent.run.rows] == ["pairs/sift.csv", None, None]
    assert "lisrd.csv" in sent.run.problems[-1].reason
    assert str(sendable) not in sent.run.problems[-1].reason


def _add(name: str, contents: bytes = b"x") -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, contents)

    return change


def _replace(name: str, contents: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            kept = {other: archive.read(other) for other in archive.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for other, text in (kept | {name: contents}).items():
                archive.writestr(other, text)

    return change


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _flip(path: Path) -> None:
    contents = bytearray(path.read_bytes())
    contents[60] ^= 0xFF
    path.write_bytes(contents)


def _without_record(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/config.toml", "a = 1")


def _bzip2(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a/results.json", "{}")


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (_add("../results.json"), "../results.json"),
        (_add("a/../../results.json"), "results.json"),
        (_add("../evil.txt"), "evil.txt"),
        (_add("/etc/evil"), "evil"),
        (_add("my-run/pairs/../../evil.csv"), "evil.csv"),
        (_add("my-run/pairs/.csv"), "pairs/.csv"),
        (_add("other/config.toml"), "lacks other/results.json"),
        (_add("evil.py"), "evil.py"),
        pytest.param(
            _add("my-run/results.json"),
            "twice",
            marks=pytest.mark.filterwarnings("ignore:Duplicate name"),
        ),
        (_cut, "damaged"),
        (_flip, "damaged"),
        (lambda path: path.write_bytes(b"no zip"), "damaged"),
        (_without_record, "lacks a/results.json"),
        (_bzip2, "compression"),
        (_replace("my-run/results.json", b"{"), "results.json is damaged"),
        (
            _replace("my-run/results.json", b'{"schema_version": 99, "benchmark": "x"}'),
            "version 99",
        ),
        (_replace("my-run/results.json", b"0" * (33 << 20)), "larger than 32 MiB"),
        (_replace("my-run/config.toml", b"a = ["), "config.toml is not a TOML file"),
        (_replace("my-run/config.toml", b"a = " + b"[" * 10_000 + b"]" * 10_000), "config.toml"),
    ],
)
def test_a_file_of_a_stranger_is_rejected_in_one_sentence(
    sendable: Path, tmp_path: Path, damage: Callable[[Path], None], what: str
) -> None:
    path = tmp_path / "sent.zip"
    write_sent_runs(path, [run_to_send(sendable)])
    damage(path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=r"sent\.zip") as error:
        read_sent_runs(path)
    assert what in str(error.value)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_large_file_is_not_unpacked(
    sendable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sent.zip"
    write_sent_runs(path, [run_to_send(sendable)])
    for limit in ("_MAX_ZIP", "_MAX_CONTENTS"):
        with monkeypatch.context() as patch:
            patch.setattr(sent_run, limit, 100)
            with pytest.raises(ValueError, match="bench submit"):
                read_sent_runs(path)
    with monkeypatch.context() as patch:
        patch.setattr(sent_run, "_MAX_FILES", 2)
        with pytest.raises(ValueError, match="4 files"):
            read_sent_runs(path)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("My Run", "my-run"),
        ("../../etc", "etc"),
        ("…", "run"),
        ("a..b", "a.b"),
        ("x" * 200, "x" * 60),
        ("<script>", "script"),
    ],
)
def test_names_become_parts_of_addresses(name: str, word: str) -> None:
    assert slug(name) == word


def test_a_config_names_the_command_that_makes_the_run_again(sendable: Path) -> None:
    config = run_to_send(write_sendable_run(sendable.parent / "other")).config
    assert config is not None
    assert config.startswith("# featplug ")
    assert "`featplug bench matching --config config.toml`" in config


def test_the_runs_of_a_suite_are_one_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(("matching/oxford", "matching/walls", "more/oxford")):
        write_sendable_run(tmp_path / "suite" / name, 0.3 + number / 10)
    submit(tmp_path / "suite", "-o", tmp_path / "anna.zip")
    assert "3 runs" in capsys.readouterr().out
    runs = read_sent_runs(tmp_path / "anna.zip")
    assert [sent.name for sent in runs] == ["anna-oxford", "anna-oxford-2", "anna-walls"]
    accuracies = [sent.run.rows[0].metrics["mma_10"]["value"] for sent in runs]
    assert accuracies == pytest.approx([0.3, 0.5, 0.4])
