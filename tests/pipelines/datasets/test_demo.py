"""Making the demo world: once, whole, the same again; options and the command."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest

from pipelines.datasets.demo import MARKER, DemoOptions, main, make_demo_world
from pipelines.demo import layouts
from tests.conftest import REPOSITORY
from tests.pipelines.datasets.conftest import SMALL

TINY = DemoOptions(num_planes=1, image_size=160)


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_what_is_there_is_used_again(town: Path, world: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in town.rglob("*") if path.is_file()}
    assert make_demo_world(world, SMALL) == town
    after = {path: path.stat().st_mtime_ns for path in town.rglob("*") if path.is_file()}
    assert after == before
    assert json.loads((town / MARKER).read_text())["num_database"] == 10


def test_a_seed_makes_the_same_world_and_another_one_another(tmp_path: Path) -> None:
    one = tree(make_demo_world(tmp_path / "one", TINY, "hpatches"))
    again = tree(make_demo_world(tmp_path / "two", TINY, "hpatches"))
    assert one == again
    options = DemoOptions(seed=1, num_planes=1, image_size=160)
    other = tree(make_demo_world(tmp_path / "two", options, "hpatches"))
    assert other.keys() == one.keys()
    assert all(other[name] != one[name] for name in one if name.endswith(".ppm"))


@pytest.fixture
def making(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A world whose making is under way, in a process of its own."""
    folder = tmp_path / "killed"
    arguments = ["--layout", "hpatches", "--num-planes", "1", "--image-size", "160"]
    command = [sys.executable, "-m", "pipelines.datasets.demo", str(folder), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    yield folder, process
    process.kill()
    process.wait()


@pytest.mark.slow
def test_a_killed_making_is_never_half_used(
    making: tuple[Path, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    folder, process = making
    deadline = time.monotonic() + 60
    while not list(folder.glob(".*/*/2.ppm")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "hpatches").exists()
    made = make_demo_world(folder, TINY, "hpatches")
    whole = make_demo_world(tmp_path / "whole", TINY, "hpatches")
    assert tree(made) == tree(whole)
    assert not list(folder.glob("*.part"))


@pytest.mark.parametrize("marker", [MARKER, ".demo-world.lock"])
def test_a_world_of_featplug_0_1_is_made_again(tmp_path: Path, marker: str) -> None:
    """Its marker, written last, has the options and no record; its lock is in an unfinished one."""
    old = tmp_path / "hpatches"
    (old / "i_other").mkdir(parents=True)
    (old / marker).write_text(json.dumps({"version": 2, "layout": "hpatches", **asdict(TINY)}))
    assert make_demo_world(tmp_path, TINY, "hpatches") == old
    assert not (old / "i_other").exists()
    assert (old / "i_posters00" / "1.ppm").is_file()


def test_two_that_want_it_make_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def slowly(part: Path, *_: object) -> None:
        calls.append(part)
        time.sleep(0.3)
        (part / "whole").touch()

    monkeypatch.setitem(layouts.WRITERS, "hpatches", slowly)

    def make(_: int) -> bool:
        return (make_demo_world(tmp_path, TINY, "hpatches") / "whole").exists()

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(make, range(3))) == [True] * 3
    assert len(calls) == 1


def test_someone_elses_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "hpatches").mkdir()
    (tmp_path / "hpatches" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / "hpatches"))):
        make_demo_world(tmp_path, TINY, "hpatches")
    assert (tmp_path / "hpatches" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (DemoOptions(num_database=1), "num_database.*2 or more"),
        (DemoOptions(num_queries=0), "num_queries.*1 or more"),
        (DemoOptions(image_size=10), "image_size.*160 to 4096"),
        (DemoOptions(num_scans=6), "num_scans.*1 to 5"),
        (DemoOptions(num_planes=0), "num_planes.*1 or more"),
        (DemoOptions(seed=-1), "seed.*0 or more"),
        (DemoOptions(num_moving=-1), "num_moving.*0 to 50"),
    ],
)
def test_options_out_of_range(tmp_path: Path, options: DemoOptions, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_demo_world(tmp_path / "world", options)
    assert not (tmp_path / "world").exists()


def test_the_command_prints_where_the_data_set_is(world: Path, room: Path) -> None:
    command = [sys.executable, "-m", "pipelines.datasets.demo", str(world), "--layout", "inloc"]
    sizes = ["--num-database", "10", "--num-queries", "3", "--num-scans", "1"]
    more = ["--num-planes", "1", "--image-size", "320"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    run = subprocess.run(
        [*command, *sizes, *more], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == str(room)


def test_a_bad_option_is_one_line(refusal: Callable[..., str], tmp_path: Path) -> None:
    assert "image_size" in refusal(main, "demo", tmp_path / "world", "--image-size", 10)
