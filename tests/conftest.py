"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from featplug.cli.runner import run_command
from tests.golden.parity import Parity
from tests.golden.weights_rule import GoldenRule
from tests.scenes.aachen_sets import write_room_set
from tests.scenes.synthetic import SyntheticScene, write_synthetic_scene

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of photographs and golden files, outside the repository."""
    folder = Path(os.environ.get("FEATPLUG_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip(f"no golden files: {folder} is absent (set FEATPLUG_SHARED)")
    return folder


@pytest.fixture(scope="session")
def synthetic_scene(tmp_path_factory: pytest.TempPathFactory) -> SyntheticScene:
    """Six views of 300 points, without noise."""
    return write_synthetic_scene(tmp_path_factory.mktemp("scene") / "synthetic")


@pytest.fixture(scope="session")
def aachen_room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A room's corner in Aachen's layout: six database images, two queries by day and night."""
    return write_room_set(tmp_path_factory.mktemp("aachen"))


@pytest.fixture(scope="session")
def golden_rule(shared: Path) -> GoldenRule:
    """The rule that makes the weights of the golden files."""
    return GoldenRule(shared / "golden")


@pytest.fixture(scope="session")
def parity(shared: Path) -> Iterator[Parity]:
    """Comparison with golden values; the report is written when all tests are done."""
    report = Parity(shared / "golden")
    yield report
    report.write()


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
