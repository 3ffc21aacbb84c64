"""A small demo world that several tests read."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.datasets.demo import DemoOptions, make_demo_world

SMALL = DemoOptions(num_database=10, num_queries=3, num_scans=1, num_planes=1, image_size=320)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="session")
def town(world: Path) -> Path:
    return make_demo_world(world, SMALL)


@pytest.fixture(scope="session")
def room(world: Path) -> Path:
    return make_demo_world(world, SMALL, "inloc")


@pytest.fixture(scope="session")
def planes(world: Path) -> Path:
    return make_demo_world(world, SMALL, "hpatches")
