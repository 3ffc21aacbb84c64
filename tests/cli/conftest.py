"""The program ``featplug`` in the process of the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from featplug.cli.command_line import run_command
from featplug.cli.program import PROGRAM


@pytest.fixture
def featplug(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command of featplug and return what it prints."""

    def run(*arguments: object) -> str:
        run_command(PROGRAM, "featplug", list(map(str, arguments)))
        return capsys.readouterr().out

    return run


@pytest.fixture
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a folder of weights nor a cache."""
    monkeypatch.setenv("FEATPLUG_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda _: str(tmp_path / "cache"))
