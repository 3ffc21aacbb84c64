"""Advice on features: only where it helps, and by the numbers that docs/compare.md has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pipelines.advice import MEASURED, advice

_PAGE = Path(__file__).parents[2] / "docs" / "compare.md"


def record(feature: str, matcher: str, registered: int = 11, error: float = 0.6) -> dict[str, Any]:
    values = {"images": 12, "registered_images": registered, "mean_reprojection_error": error}
    metrics = {name: {"value": value, "unit": ""} for name, value in values.items()}
    data = {"skipped": {"damaged.jpg": "is damaged"}}
    return {"feature": feature, "matcher": matcher, "metrics": metrics, "data": data}


def test_the_numbers_are_those_of_the_published_table() -> None:
    table = {}
    for row in _PAGE.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in row.split("|")[1:-1]]
        if len(cells) > 3 and (pair := re.fullmatch(r"(\d+) / (\d+)", cells[3])):
            method = cells[0].strip("`").partition("+")[0]
            table[f"{method}+{cells[1].split()[0]}"] = int(pair[1]), int(pair[2])
    assert table == MEASURED


@pytest.mark.parametrize("feature", ["sift", "my_feature.py:Corners", "feats.h5"])
def test_a_model_of_few_images_gets_one_line_of_advice(feature: str) -> None:
    (line,) = advice(record(feature, "NN-ratio", registered=7))
    assert line.startswith("7 of 11 images are in the model")
    assert "--feature aliked-n16+lightglue" in line
    assert ("509 right" in line) == (feature == "sift")


def test_other_models_get_none() -> None:
    assert advice(record("sift", "NN-ratio")) == []
    assert advice(record("sift", "NN-ratio", registered=10)) == []
    assert advice(record("xfeat", "NN-mutual", error=0.9)) == []


def test_the_best_method_is_not_advised_to_itself() -> None:
    (line,) = advice(record("aliked-n16", "lightglue", registered=3))
    assert "--feature disk+lightglue" in line


def test_coarse_keypoints_are_named_by_their_error() -> None:
    (line,) = advice(record("xfeat", "lighterglue", error=1.05))
    assert "1.05 px" in line
    assert "aliked-n16+lightglue" in line
