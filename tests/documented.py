"""What docs/results.md says of records, to compare with what runs write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from featplug.io.metric_table import METRICS, Metric, generic_name

PAGE = Path(__file__).resolve().parents[1] / "docs" / "results.md"


def metric(value: float, unit: str) -> dict[str, Any]:
    """A metric as records have it."""
    return {"value": value, "unit": unit}


def metric_row(name: str, metric: Metric) -> str:
    """The line of a metric in the page's table."""
    return f"| `{name}` | {metric.unit} | {metric.better or ''} | {metric.meaning} |"


def assert_documented(record: Path) -> None:
    """Each key, stage and metric of a ``results.json`` is on the page, with the metric's unit."""
    page, results = PAGE.read_text("utf-8"), json.loads(record.read_text("utf-8"))
    for key in results:
        assert f"| `{key}` |" in page, key
    conditions = results["data"].get("conditions", []) if "pipeline" in results else []
    for part in results.get("rows", [results]):
        for key in part:
            assert f"| `{key}` |" in page, key
        for stage in part["stages"]:
            assert f"`{stage}`" in page, stage
        for name, entry in part["metrics"].items():
            check_metric(name, entry, conditions)


def check_metric(name: str, entry: dict[str, Any], conditions: list[str]) -> None:
    for condition in conditions:
        name = name.removeprefix(f"{condition}_")
    metric = METRICS.get(generic_name(name))
    assert metric is not None, f"{name} is not in featplug.io.metric_table"
    own_unit = "position_error" in name and entry["unit"] == "reference units"
    assert entry["unit"] == metric.unit or own_unit, name
