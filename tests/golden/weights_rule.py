"""Weights of the golden files: made by a rule from the names of the authors' tensors."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path

import torch
from torch import Tensor


class GoldenRule:
    """The rule, with the tag of the golden set at hand.

    Args:
        folder: the golden files, with ``rule.py`` and ``set.json``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        spec = importlib.util.spec_from_file_location("golden_rule", folder / "rule.py")
        self.module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)
        self.tag = json.loads((folder / "set.json").read_text())["tag"]

    def shapes(self, table: str, **where: str) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the authors' tensors, in order.

        Args:
            table: file in the folder, with a column ``key`` or ``name``, and ``shape``.
            where: the rows wanted, such as ``graph="loc"``.
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
        """A PyTorch system's state dict."""
        shapes = self.shapes(f"{system}/state_dict.csv")
        state = self.module.torch_state(system, shapes, self.tag)
        return {key: torch.from_numpy(value) for key, value in state.items()}
