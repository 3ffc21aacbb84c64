"""hloc's stand-in, and hloc itself where it is."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import featplug
from featplug.hloc.registration import import_hloc

STANDIN = Path(__file__).parent / "standin"


def forget_hloc() -> None:
    """Make the next import find another hloc, for our models, too."""
    featplug.unregister()
    for name in [name for name in sys.modules if name.partition(".")[0] == "hloc"]:
        del sys.modules[name]
    sys.modules.pop("featplug.hloc.shims", None)


@pytest.fixture
def standin(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The stand-in of hloc's public contract, freshly imported."""
    forget_hloc()
    monkeypatch.syspath_prepend(STANDIN)
    yield import_hloc()
    forget_hloc()


@pytest.fixture(scope="session")
def hloc_folder() -> Path:
    """Where hloc itself is importable from."""
    if "FEATPLUG_HLOC" in os.environ:
        folder = Path(os.environ["FEATPLUG_HLOC"])
        if not (folder / "hloc" / "extract_features.py").is_file():
            pytest.skip(f"FEATPLUG_HLOC names {folder}, which is no clone of hloc")
        return folder
    spec = importlib.util.find_spec("hloc")
    if spec is None or spec.origin is None:
        pytest.skip("hloc is not installed (set FEATPLUG_HLOC to a clone)")
    return Path(spec.origin).parents[1]


@pytest.fixture
def hloc(hloc_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """hloc itself, freshly imported."""
    forget_hloc()
    monkeypatch.syspath_prepend(hloc_folder)
    yield import_hloc()
    forget_hloc()
