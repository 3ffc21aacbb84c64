"""The folder that the contract's drawn weights are written to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from featplug.base import Extractor
from featplug.methods import build_extractor, resolve_conf


@pytest.fixture(scope="session")
def drawn_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of drawn weights, a file for each checkpoint."""
    return tmp_path_factory.mktemp("drawn")


@pytest.fixture(scope="session")
def official() -> Callable[..., Extractor]:
    """Builds a conf with its authors' weights; where they are not here, the test is skipped."""
    built: dict[str, Extractor] = {}

    def build(name: str, **options: Any) -> Extractor:
        key = f"{name} {sorted(options.items())}"
        if key not in built:
            try:
                built[key] = build_extractor(resolve_conf(name, **options)["model"])
            except FileNotFoundError as error:
                pytest.skip(f"The authors' weights are not here: {error}")
        return built[key]

    return build
