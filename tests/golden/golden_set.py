"""A golden set: outputs of the authors' code, and the rule that makes the weights behind them.

The whole set is the folder ``golden`` of ``$FEATPLUG_SHARED``. The small set, in the folder
``small`` here, is what ``python -m tests.golden.make_small`` takes from it: fewer files, and of
long arrays every k-th entry of the first axis, stored as ``name@k``.
"""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

SMALL = Path(__file__).parent / "small"


class _Arrays(dict[str, np.ndarray]):
    """Arrays of one file; a test that asks for one that the small set leaves out is skipped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with np.load(path) as file:
            for name in file.files:
                key, _, stride = name.partition("@")
                self[key] = (
                    _spread(file[name], *map(int, stride.split("of"))) if stride else file[name]
                )

    def __missing__(self, key: str) -> np.ndarray:
        if SMALL not in self.path.parents:
            raise KeyError(f"{self.path} has no array {key}.")
        return pytest.skip(f"{key} is only in the whole golden set (set FEATPLUG_SHARED)")


def _spread(kept: np.ndarray, stride: int, length: int) -> np.ndarray:
    """Return an array of the whole length, NaN where the small set has no entry."""
    whole = np.full((length, *kept.shape[1:]), np.nan, np.promote_types(kept.dtype, np.float16))
    whole[::stride] = kept
    return whole


class GoldenSet:
    """A golden set with its tag.

    Args:
        folder: Folder of the set, with ``rule.py`` and ``set.json``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        spec = importlib.util.spec_from_file_location("golden_rule", folder / "rule.py")
        self.rule = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.rule)
        self.tag = json.loads((folder / "set.json").read_text())["tag"]

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Return the arrays of a file, such as ``mtldesc/img0``; skip the test without the file."""
        path = self.folder / f"{name}.npz"
        if self.folder == SMALL and not path.is_file():
            pytest.skip(f"{name}.npz is only in the whole golden set (set FEATPLUG_SHARED)")
        return _Arrays(path)

    def shapes(self, table: str, **where: str) -> dict[str, tuple[int, ...]]:
        """Return names and shapes of the authors' tensors, in order.

        Args:
            table: File in the folder, with a column ``key`` or ``name``, and ``shape``.
            where: Values that select rows, such as ``graph="loc"``.
        """
        with (self.folder / table).open() as file:
            rows = [
                row
                for row in csv.DictReader(file)
                if all(row[key] == value for key, value in where.items())
            ]
        return {
            # A scalar's shape is the word "scalar".
            row.get("key") or row["name"]: tuple(
                int(n) for n in row["shape"].split("x") if n.isdigit()
            )
            for row in rows
        }

    def torch_state(self, system: str) -> dict[str, Tensor]:
        """Return a PyTorch system's state dict."""
        shapes = self.shapes(f"{system}/state_dict.csv")
        state = self.rule.torch_state(system, shapes, self.tag)
        return {key: torch.from_numpy(value) for key, value in state.items()}

    def matconvnet_params(self) -> dict[str, np.ndarray]:
        """Return DOAP's parameters, in MatConvNet's layout."""
        return self.rule.matconvnet_params(self.shapes("doap/params.csv"), self.tag)
