"""The stages of a reconstruction, by featplug, hloc and COLMAP."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pycolmap

from benchmarks.measured_method import find_method
from benchmarks.speed.measure import Sample, Setup, Step
from featplug.colmap.mapping import log_to_file
from featplug.io.image_folder import list_images
from featplug.io.metric_table import with_units
from featplug.io.pair_lists import write_pairs
from featplug.io.results import StageRecorder
from featplug.metrics.poses import reconstruction_statistics
from featplug.stages.pairs import exhaustive
from pipelines.sfm import SfmOptions, reconstruct


def stages_ours(setup: Setup) -> Sample:
    """Measure ``pipelines.sfm`` on all pairs, from photographs to model."""
    options, method = setup.options, find_method(setup.feature)
    results = reconstruct(
        SfmOptions(
            options.images,
            extraction=options.extraction(method, overwrite=True),
            matcher=method.matcher,
            outputs=setup.work / f"stages-{method.word}",
            reference=options.reference,
        )
    )
    return replace(_stages(results["stages"]), metrics=results["metrics"])


def stages_hloc(setup: Setup) -> Sample:
    """Measure hloc with its own SIFT on the same photographs."""
    sys.path.insert(0, str(setup.options.hloc))
    from hloc import extract_features as hloc_extract  # type: ignore[import-not-found]
    from hloc import match_features as hloc_match
    from hloc import reconstruction

    images, outputs = setup.options.images, Path(mkdtemp(dir=setup.work))
    pairs = outputs / "pairs.txt"
    write_pairs(pairs, exhaustive(list_images(images)))
    recorder = StageRecorder()
    with recorder.stage("extract"):
        features = hloc_extract.main(hloc_extract.confs["sift"], images, outputs)
    with recorder.stage("match"):
        conf = hloc_match.confs["NN-ratio"]
        matches = hloc_match.main(conf, pairs, features, matches=outputs / "matches.h5")
    with recorder.stage("map"):
        model = reconstruction.main(outputs / "sfm", images, pairs, features, matches)
    return replace(_stages(recorder.stages), metrics=_model_metrics(model))


def stages_colmap(setup: Setup) -> Sample:
    """Measure COLMAP alone through pycolmap: full resolution, all defaults."""
    images, outputs = str(setup.options.images), Path(mkdtemp(dir=setup.work))
    database = str(outputs / "database.db")
    recorder = StageRecorder()
    with log_to_file(outputs / "colmap.log"):
        with recorder.stage("extract"):
            pycolmap.extract_features(database, images)
        with recorder.stage("match"):
            pycolmap.match_exhaustive(database)
        with recorder.stage("map"):
            models = pycolmap.incremental_mapping(database, images, str(outputs))
    model = max(models.values(), key=lambda m: m.num_reg_images(), default=None)
    return replace(_stages(recorder.stages), metrics=_model_metrics(model))


def _stages(stages: Mapping[str, Mapping[str, float]]) -> Sample:
    return Sample([Step(name, [s["seconds"]], s["peak_memory_mib"]) for name, s in stages.items()])


def _model_metrics(model: pycolmap.Reconstruction | None) -> dict[str, dict[str, Any]]:
    statistics = reconstruction_statistics(model or pycolmap.Reconstruction())
    return with_units(
        {
            "registered_images": statistics.num_registered,
            "sparse_points": statistics.num_points,
            "observations": statistics.num_observations,
            "mean_reprojection_error": statistics.mean_reprojection_error,
        }
    )
