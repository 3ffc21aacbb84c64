"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.golden import GoldenRule
from tests.parity import Parity
from tests.worlds import SyntheticScene, write_synthetic_scene

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
def golden_rule(shared: Path) -> GoldenRule:
    """The rule that makes the weights of the golden files."""
    return GoldenRule(shared / "golden")


@pytest.fixture(scope="session")
def parity(shared: Path) -> Iterator[Parity]:
    """Comparison with golden values; the report is written when all tests are done."""
    report = Parity(shared / "golden")
    yield report
    report.write()
