"""The small golden set is what is taken from the whole one, and small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.golden.golden_set import SMALL
from tests.golden.make_small import FILES, LIMIT, take


def test_the_small_set_is_small() -> None:
    assert sum(path.stat().st_size for path in SMALL.rglob("*") if path.is_file()) <= LIMIT


def test_the_small_set_is_taken_from_the_whole_one(shared: Path) -> None:
    if (SMALL / "set.json").read_bytes() != (shared / "golden" / "set.json").read_bytes():
        pytest.skip("FEATPLUG_SHARED has another golden set than the one the small set is from")
    assert (SMALL / "rule.py").read_bytes() == (shared / "golden" / "rule.py").read_bytes()
    for name, selection in FILES.items():
        expected = take(shared / "golden" / f"{name}.npz", selection)
        with np.load(SMALL / f"{name}.npz") as file:
            assert set(file.files) == set(expected)
            for key, array in expected.items():
                np.testing.assert_array_equal(file[key], array, err_msg=f"{name}: {key}")
