"""Which versions are there, and what is known of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from featplug.utils.versions import installed_versions, known_problems

GOOD = {"torch": "2.13.0+cpu", "pycolmap": "4.2.1", "opencv-python-headless": "5.0.0.93"}


def test_versions_that_work_give_no_problem() -> None:
    assert known_problems(GOOD, {}) == []
    assert known_problems({}, {"HDF5_USE_FILE_LOCKING": "TRUE"}) == []


@pytest.mark.parametrize(
    ("versions", "environment", "expected"),
    [
        ({"pycolmap": "3.12.6"}, {}, r"pycolmap 3\.12\.6 is too old; install 3\.13"),
        ({"hloc": "1.5"}, {}, r"0 points on pycolmap 4\.2\.1.*featplug hloc"),
        ({"hloc": "1.5", "pycolmap": "10.0"}, {}, "0 points on pycolmap 10"),
        ({"torch": "2.9.1"}, {}, "torch 2.9.1 .*CVE-2026-24747"),
        ({"opencv-python": "4.12"}, {}, "opencv-python and opencv-python-headless overwrite"),
        ({}, {"HDF5_USE_FILE_LOCKING": "FALSE"}, "HDF5_USE_FILE_LOCKING=FALSE lets two runs"),
    ],
)
def test_known_problem_is_told_with_its_mend(
    versions: dict[str, str], environment: dict[str, str], expected: str
) -> None:
    (problem,) = known_problems({**GOOD, **versions}, environment)
    assert re.search(expected, problem)


def test_hloc_with_older_pycolmap_is_no_problem() -> None:
    assert known_problems({**GOOD, "hloc": "1.5", "pycolmap": "4.1.1"}, {}) == []


def test_hloc_is_found_on_the_path_without_being_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hloc").mkdir()
    (tmp_path / "hloc" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert installed_versions()["hloc"] == "(a folder on the path)"
