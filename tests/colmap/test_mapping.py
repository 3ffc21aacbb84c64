"""Errors within COLMAP's mappers."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pycolmap
import pytest

from featplug.colmap.mapping import MapOptions, reconstruct_database


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[sfm.cc:7] Check failed: a < b\nstack", r"Check failed: a < b\); .*report it"),
        ("[database.cc:7] SQLite error: disk I/O error", r"disk I/O error\): .*free some space"),
    ],
)
def test_an_error_within_colmap_is_shown_with_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, shown: str
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise RuntimeError(text)

    monkeypatch.setattr(pycolmap, "incremental_mapping", fail)
    database = tmp_path / "database.db"
    with pytest.raises(ValueError, match=f"{database}.*{shown}"):
        reconstruct_database(database, tmp_path, tmp_path / "models", MapOptions())
