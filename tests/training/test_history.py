"""The history of a training run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from featplug.training.history import append_history, drop_later, read_history


def test_a_row_that_a_kill_cut_off_is_dropped_and_a_damaged_one_named(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    for step in (1, 2, 3):
        append_history(path, step, {"loss": 1 / step, "rate": float("nan")})
    with path.open("a") as file:
        file.write("4,lo")
    drop_later(path, 2)
    append_history(path, 3, {"loss": 0.25})
    np.testing.assert_allclose(read_history(path)["loss"], [[1, 1], [2, 0.5], [3, 0.25]])
    for line, message in [
        ("2,loss\n", "line 1: expected `step"),
        ("2,loss,x\n", "got 'x'"),
    ]:
        path.write_text(f"{line}3,loss,1\n")
        with pytest.raises(ValueError, match=f"^{path}, line 1: .*"):
            read_history(path)
        with pytest.raises(ValueError, match=message):
            drop_later(path, 9)
