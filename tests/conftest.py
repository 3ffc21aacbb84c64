"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import pytest
from hypothesis import settings

from featplug import methods
from featplug.cli.command_line import run_command
from featplug.methods.packages import Packages, log_once
from tests.golden.golden_set import SMALL, GoldenSet
from tests.golden.parity import Parity
from tests.golden.revisions import RECORD, Revisions
from tests.scenes.aachen_sets import write_room_set
from tests.scenes.own_methods import CORNERS, MATCHER
from tests.scenes.room_corner import write_room_corner
from tests.scenes.scanned_room import ScannedRoom, write_scanned_room
from tests.scenes.synthetic import SyntheticScene, write_synthetic_scene

# Random examples are the same in every run, and nothing is written next to the tests.
settings.register_profile("featplug", derandomize=True, database=None, deadline=None)
settings.load_profile("featplug")

# A shell lets its background jobs ignore Ctrl-C, which tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parents[1]


SHARED = Path(os.environ.get("FEATPLUG_SHARED", REPOSITORY.parent / "shared"))
"""Folder of photographs and of the whole golden set, outside the repository."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--parity-report", type=Path, help="file for the differences to golden values")
    parser.addoption(
        "--record-revisions", action="store_true", help="record outputs with their revisions"
    )


interpolates_exactly = pytest.mark.skipif(
    cv2.__version__.startswith("4."), reason="OpenCV 4 interpolates on a grid of 1/32 px"
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep `make check` telling: of the whole suite at most one test in twenty may be slow."""
    num_slow = sum(item.get_closest_marker("slow") is not None for item in items)
    if len(items) > 1000 and 20 * num_slow > len(items):
        raise pytest.UsageError(
            f"{num_slow} of {len(items)} tests are marked slow, which is more than 5 %; make some "
            f"of them faster, by smaller inputs or shared fixtures."
        )


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of photographs and of the whole golden set; tests that need it skip without it."""
    if not (SHARED / "golden").is_dir():
        pytest.skip(f"{SHARED} has no folder golden (set FEATPLUG_SHARED)")
    return SHARED


@pytest.fixture(scope="session")
def synthetic_scene(tmp_path_factory: pytest.TempPathFactory) -> SyntheticScene:
    """Six views of 300 points, without noise."""
    return write_synthetic_scene(tmp_path_factory.mktemp("scene") / "synthetic")


@pytest.fixture(scope="session")
def aachen_room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A room's corner in Aachen's layout: six database images, two queries by day and night."""
    return write_room_set(tmp_path_factory.mktemp("aachen"))


@pytest.fixture(scope="session")
def localized_room(aachen_room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of the localization in the room, with four database images for each query."""
    from pipelines.datasets.aachen import AachenOptions
    from pipelines.localize import localize
    from pipelines.run_options import FeatureOptions

    folder = tmp_path_factory.mktemp("localized") / "room"
    extraction = FeatureOptions(max_keypoints=800, device="cpu")
    localize(AachenOptions(aachen_room, extraction=extraction, outputs=folder, num_loc=4))
    return folder


@pytest.fixture(scope="session")
def scanned_room(tmp_path_factory: pytest.TempPathFactory) -> ScannedRoom:
    """A round room in InLoc's layout, with true matches; tests copy what they change."""
    return write_scanned_room(tmp_path_factory.mktemp("room") / "inloc")


@pytest.fixture(scope="session")
def room_corner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six photographs of a room's corner with their true poses; tests copy what they change."""
    folder = tmp_path_factory.mktemp("room") / "corner"
    write_room_corner(folder)
    return folder


@pytest.fixture(scope="session")
def golden_set() -> GoldenSet:
    """The whole golden set where it is present, else the small one of the repository."""
    whole = SHARED / "golden"
    return GoldenSet(whole if whole.is_dir() else SMALL)


@pytest.fixture(scope="session")
def parity(golden_set: GoldenSet, request: pytest.FixtureRequest) -> Iterator[Parity]:
    """Comparison with golden values; ``--parity-report FILE`` writes them at the end."""
    comparison = Parity(golden_set.folder)
    yield comparison
    report = request.config.getoption("--parity-report")
    if report is not None:
        comparison.write(report)


@pytest.fixture(scope="session")
def revisions(request: pytest.FixtureRequest) -> Revisions:
    """The guard that an output changes with its revision only, and not with other libraries."""
    lines = (REPOSITORY / "constraints.txt").read_text("utf-8").splitlines()
    recorded = dict(line.split("==") for line in lines if "==" in line)
    for name in ("opencv-python-headless", "pycolmap", "scikit-learn"):
        if metadata.version(name) != recorded[name]:
            pytest.skip(f"outputs are recorded with {name} {recorded[name]}")
    return Revisions(RECORD, request.config.getoption("--record-revisions"))


@pytest.fixture
def refusal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run a command that must refuse its input: exit code 2, no traceback, one line."""

    def run(command: Any, prog: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [prog, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run_command(command, prog)
        assert ended.value.code == 2
        errors = capsys.readouterr().err
        assert "Traceback" not in errors
        line = errors.replace("\r", "\n").strip().splitlines()[-1]
        assert line.startswith(f"{prog}: ")
        return line

    return run


@pytest.fixture
def own_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a file of an extractor and one of a matcher."""
    (tmp_path / "corners.py").write_text(CORNERS)
    (tmp_path / "none.py").write_text(MATCHER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for table in (methods.features, methods.matchers, methods.pair_matchers, methods.retrieval):
        monkeypatch.setattr(table, "_outside", {})  # what is registered is forgotten after the test
        monkeypatch.setattr(table, "added", {})
        monkeypatch.setattr(table, "_packages", Packages(table._packages.group))
    return tmp_path


@pytest.fixture
def packages(own_methods: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder where packages are installed."""
    place = own_methods / "installed"
    place.mkdir()
    monkeypatch.syspath_prepend(place)
    known = set(sys.modules)
    log_once.cache_clear()
    yield place
    for name in set(sys.modules) - known:
        if name.startswith("plug_"):
            del sys.modules[name]
