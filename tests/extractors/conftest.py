"""The folder that the contract's drawn weights are written to."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def drawn_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of drawn weights, a file for each checkpoint."""
    return tmp_path_factory.mktemp("drawn")
