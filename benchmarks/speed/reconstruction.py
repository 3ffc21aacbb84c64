"""Photographs to model, beside COLMAP alone."""

from __future__ import annotations

import shutil
import time

import numpy as np
import pycolmap

from benchmarks.speed.measure import Case, Figures, Setup
from featplug.colmap.mapping import log_to_file
from featplug.metrics.poses import reconstruction_statistics
from pipelines.sfm import SfmOptions, reconstruct


def sfm_ours(setup: Setup) -> Figures:
    """``pipelines.sfm`` with ``sift``, from photographs to model."""
    outputs = setup.work / "sfm"
    shutil.rmtree(outputs, ignore_errors=True)
    start = time.perf_counter()
    results = reconstruct(SfmOptions(setup.images, outputs=outputs, reference=setup.reference))
    seconds = time.perf_counter() - start
    peak = max(stage["peak_memory_mib"] for stage in results["stages"].values())
    figures = {"seconds": seconds, "peak_memory_mib": peak, **results["metrics"]}
    return {**figures, "stages": results["stages"]}


def sfm_pycolmap(setup: Setup) -> Figures:
    """COLMAP alone through pycolmap: full resolution, all defaults."""
    outputs = setup.work / "pycolmap"
    shutil.rmtree(outputs, ignore_errors=True)
    outputs.mkdir(parents=True)
    database = outputs / "database.db"
    marks = [time.perf_counter()]
    with log_to_file(outputs / "colmap.log"):
        pycolmap.extract_features(str(database), str(setup.images))
        marks.append(time.perf_counter())
        pycolmap.match_exhaustive(str(database))
        marks.append(time.perf_counter())
        models = pycolmap.incremental_mapping(str(database), str(setup.images), str(outputs))
        marks.append(time.perf_counter())
    model = max(models.values(), key=lambda m: m.num_reg_images())
    figures = reconstruction_statistics(model)
    extract, match, mapping = np.diff(marks).tolist()
    return {
        "seconds": marks[-1] - marks[0],
        "extract_seconds": extract,
        "match_seconds": match,
        "map_seconds": mapping,
        "registered_images": figures.num_registered,
        "sparse_points": figures.num_points,
        "observations": figures.num_observations,
        "mean_reprojection_error": figures.mean_reprojection_error,
    }


CASES: dict[str, Case] = {
    "sfm": Case("sift", {"featplug": sfm_ours, "pycolmap": sfm_pycolmap}),
}
