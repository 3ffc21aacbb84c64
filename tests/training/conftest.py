"""Fixtures shared by the tests of training."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenes.pictures import write_photographs
from tests.scenes.room_corner import write_corner_workspace


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photographs of a corner of a room, with depth maps and poses."""
    folder = tmp_path_factory.mktemp("corner")
    write_corner_workspace(folder)
    return folder


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three photographs, one of which is held out."""
    folder = tmp_path_factory.mktemp("photographs")
    write_photographs(folder, [(260, 240)] * 3)
    return folder
