"""The program ``featplug`` in the process of the tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from featplug.cli.command_line import run_command
from featplug.cli.program import PROGRAM, Command, Entry


def load_commands() -> dict[str, Callable[..., Any]]:
    """Return the functions of all commands whose options featplug reads, by full name."""

    def load(entries: Mapping[str, Entry], prefix: str) -> dict[str, Callable[..., Any]]:
        functions = {}
        for name, entry in entries.items():
            loaded = entry.load() if isinstance(entry, Command) else entry
            if isinstance(loaded, Mapping):
                functions |= load(loaded, f"{prefix}{name} ")
            elif not (isinstance(entry, Command) and entry.reads_own_arguments):
                functions[prefix + name] = loaded
        return functions

    return {
        name: function
        for section in PROGRAM.sections.values()
        for name, function in load(section, "").items()
    }


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
