"""Runs to report: features on two data sets with seeds, curves, models, pictures and oddities."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks.record import Curve, Picture, Problem, Row, Run, write_run
from tests.documented import metric
from tests.report.conftest import model as model
from tests.scenes.pictures import textured_image

EVIL = "</script><script>evil=1</script><b>\"quoted\" & 'it'</b>"
"""The name of a feature that wants to be part of the page."""


def reconstruction_row(feature: str, seed: int | None, points: float, **change: Any) -> Row:
    """A row of a scene with two metrics, one better high, one better low."""
    metrics = {
        "images": metric(6, "images"),
        "registered_images": metric(5, "images"),
        "sparse_points": metric(points, "points"),
        "mean_reprojection_error": metric(points / 1000, "px"),
    }
    fields = {"dataset": "scene", "protocol": "local-feature-evaluation", "metrics": metrics}
    return Row(feature, seed=seed, **{**fields, **change})


def matching_row(feature: str, part: str, accuracy: float, **change: Any) -> Row:
    """A row of sequences with an MMA curve."""
    x = [float(threshold) for threshold in range(1, 11)]
    y = [accuracy * threshold / 10 for threshold in x]
    metrics = {f"mma_{t:g}": metric(value, "fraction") for t, value in zip(x, y, strict=True)}
    metrics["homography_auc_3"] = metric(accuracy, "fraction")
    curves = {"MMA": Curve(x, y, "threshold (px)", "mean matching accuracy")}
    fields = {"dataset": "oxford", "protocol": "oxford-mma", "metrics": metrics, "curves": curves}
    return Row(feature, part=part, **{**fields, **change})


def make_run(benchmark: str, rows: list[Row], **change: Any) -> Run:
    """A run with a command of its own."""
    fields = {
        "options": {"dataset": "data"},
        "data": {"scene": {"path": "/data/scene", "fingerprint": "ab"}},
        "command": [f"/somewhere/benchmarks/{benchmark}/__main__.py", "--dataset", "it's here"],
    }
    return Run(benchmark, rows=rows, **{**fields, **change})


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """A folder of two runs: a reconstruction with seeds, and a matching with every oddity."""
    root = tmp_path_factory.mktemp("runs")
    stages = {
        "extract": {"seconds": 8.0, "peak_memory_mib": 900.0},
        "map": {"seconds": 2.0, "peak_memory_mib": 300.0},
    }
    rows = [
        reconstruction_row(feature, seed, points + step * seed, stages=stages, model="model")
        for feature, points, step in (("sift", 1000, 1.25), ("doap", 2000, 1), ("lisrd", 1998, 1.5))
        for seed in range(3)
    ]
    write_run(root / "reconstruction", make_run("reconstruction", rows))
    shutil.copytree(model, root / "reconstruction" / "model")
    (root / "matching").mkdir()
    Image.fromarray(textured_image(0, 1600, 400)).save(root / "matching" / "matches.png")
    pictures = [Picture("matches.png", "img1 and img2"), Picture("gone.png", "lost")]
    rows = [
        matching_row("sift", "all", 0.5, pictures=pictures),
        matching_row("mtldesc", "all", 0.7),
        matching_row("sift", "graf", 0.4),
        *[matching_row("sift", f"seq {i}", i / 10) for i in range(4)],
        matching_row(EVIL, "all", 0.9, model="no-model"),
    ]
    problems = [Problem("<i>bark</i>", "H1to2p is not 3×3")]
    write_run(root / "matching", make_run("matching", rows, problems=problems))
    return root


PIPELINE_RECORD: dict[str, Any] = {
    "pipeline": "aachen",
    "options": {
        "dataset": "demo",
        "extraction": {"feature": "sift", "max_keypoints": 500, "overwrite": False},
        "seed": 3,
        "hloc_logs": True,
        "matcher": None,
    },
    "feature": "sift",
    "matcher": "NN-ratio",
    "weights": [],
    "environment": {"featplug": "0.1.0"},
    "data": {
        "dataset": "/data/demo/aachen_v1.1",
        "fingerprint": "ab",
        "conditions": ["day", "night"],
        "skipped": {"a.jpg": "it is damaged"},
        "not_localized": {"b.jpg": "no matches", "c.jpg": "no matches"},
    },
    "stages": {"extract": {"seconds": 1.0, "peak_memory_mib": 10.0}},
    "metrics": {
        "sparse_points": metric(100, "points"),
        "day_queries": metric(4, "images"),
        "day_recall_0.25m_2deg": metric(75.0, "%"),
        "night_recall_0.25m_2deg": metric(50.0, "%"),
    },
}
"""What pipelines.aachen writes."""


@pytest.fixture
def pipeline_record() -> dict[str, Any]:
    """A copy of :data:`PIPELINE_RECORD`."""
    return copy.deepcopy(PIPELINE_RECORD)


def write_record(folder: Path, record: dict[str, Any]) -> Path:
    """Write a record as a run's."""
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(record), "utf-8")
    return folder
