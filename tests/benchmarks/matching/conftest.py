"""The demo world's planes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.datasets.demo import DemoOptions, make_demo_world


@pytest.fixture(scope="session")
def planes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = DemoOptions(num_planes=1, image_size=160)
    return make_demo_world(tmp_path_factory.mktemp("demo"), options, "hpatches")
