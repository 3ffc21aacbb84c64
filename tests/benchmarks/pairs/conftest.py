"""Pairs of the demo world with true poses, in every layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.datasets.demo import DemoOptions
from pipelines.demo.pair_layouts import TruePairs, true_pairs

PAIRS = DemoOptions(seed=1, num_database=16, num_queries=4, image_size=320)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the demo world."""
    return tmp_path_factory.mktemp("pairs")


@pytest.fixture(scope="session")
def truth() -> TruePairs:
    """The views, pairs and points of the demo world."""
    return true_pairs(PAIRS)
