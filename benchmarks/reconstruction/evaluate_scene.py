"""The benchmark: features from photographs to models, and the rows of their figures."""

from __future__ import annotations

import logging
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.choices import FAILURES, choose_features, problem_of
from benchmarks.reconstruction.match_pictures import draw_pairs, telling_pairs
from benchmarks.reconstruction.options import (
    ReconstructionOptions,
    of_seed,
    require_different_names,
)
from benchmarks.reconstruction.reuse import map_or_reuse, matching_costs
from benchmarks.reconstruction.scenes import Scene, find_scene
from benchmarks.record import Picture, Problem, Row, Run, write_run
from featplug.cli.command_line import leave_config
from featplug.colmap.dense import dense_reconstruction, require_dense
from featplug.io.images import list_images
from featplug.io.metric_names import with_units
from featplug.io.pair_lists import Pair
from featplug.io.results import StageRecorder, data_fingerprint, write_results
from pipelines.run import plain
from pipelines.sfm import MatchedScene, SfmOptions, match_scene

PROTOCOL = "local-feature-evaluation"

logger = logging.getLogger(__name__)


def run_benchmark(options: ReconstructionOptions, progress: bool = False) -> Run:
    """Measure all features on all scenes; what fails becomes a problem of the run.

    Features, matches and models of the output folder that were made from the same inputs are used
    again. ``results.json`` is written after each feature.

    Raises:
        ValueError: the request itself does not fit.
    """
    options.check()
    features, problems = choose_features(options.feature, dict(options.weights))
    run = Run("reconstruction", plain(asdict(options)), {}, problems=problems)
    scenes = _find_scenes(options, run)
    require_different_names(scenes)
    leave_config(options)
    if options.dense:
        try:
            require_dense()
        except ValueError as error:
            run.problems.append(Problem("dense points", str(error)))
            options = replace(options, dense=False)
    for scene in scenes:
        shown: list[Pair] = []
        for feature in features:
            logger.info("%s: %s", scene.name, feature)
            rows, problems = _measure_feature(scene, feature, options, shown, progress)
            run.rows += rows
            run.problems = list(dict.fromkeys(run.problems + problems))
            write_run(options.output_dir, run)
    write_run(options.output_dir, run)
    return run


def _find_scenes(options: ReconstructionOptions, run: Run) -> list[Scene]:
    scenes = []
    for folder in options.scenes:
        try:
            scene = find_scene(folder)
            names = list_images(scene.images)
        except FAILURES as error:
            run.problems.append(problem_of(str(folder), error))
            continue
        scenes.append(scene)
        run.data[scene.name] = {
            "path": str(scene.images),
            "fingerprint": data_fingerprint(scene.images, names),
            "images": len(names),
            "reference": None if scene.reference is None else str(scene.reference),
        }
    return scenes


def _measure_feature(
    scene: Scene, feature: str, options: ReconstructionOptions, shown: list[Pair], progress: bool
) -> tuple[list[Row], list[Problem]]:
    """Extract and match once, and make a model with each seed.

    Args:
        scene: the scene.
        feature: name of the feature.
        options: options of the benchmark.
        shown: pairs to draw; the first feature selects them for all.
        progress: show bars.
    """
    of_feature = options.of_feature(scene, feature)
    subject = f"{feature} on {scene.name}"
    try:
        matched = match_scene(of_feature, progress)
        costs = matching_costs(of_feature.output_dir, matched)
    except FAILURES as error:
        return [], [problem_of(subject, error)]
    problems = [Problem(f"{scene.name}/{name}", why) for name, why in matched.skipped.items()]
    rows: list[Row] = []
    for seed in options.chosen_seeds():
        of_model = of_seed(of_feature, seed)
        try:
            results = map_or_reuse(matched, of_model, progress)
        except FAILURES as error:
            problems.append(problem_of(f"{subject}, seed {seed}", error))
            continue
        if options.dense and "dense_points" not in results["metrics"]:
            try:
                results = _with_dense_points(results, of_model)
            except FAILURES as error:
                problems.append(problem_of(f"{subject}, seed {seed}, dense points", error))
        if reason := results["data"]["skipped"].get("reference"):
            problems.append(Problem(f"{subject}, seed {seed}", reason))
        model = _relative(of_model.output_dir / "model", options.output_dir)
        row = _row(scene, matched, seed, results, costs, model, options.deviation())
        if not rows:
            try:
                row = replace(row, pictures=_draw(matched, of_model, options.output_dir, shown))
            except FAILURES as error:
                problems.append(problem_of(f"{subject}, pictures", error))
        rows.append(row)
    return rows, problems


def _draw(
    matched: MatchedScene, options: SfmOptions, outputs: Path, shown: list[Pair]
) -> list[Picture]:
    database = options.output_dir / "database.db"
    if not shown:
        shown += telling_pairs(database)
    folder = options.output_dir.parent
    pictures = draw_pairs(
        shown, options.images, database, matched.features.path, matched.matches, folder
    )
    return [replace(p, path=_relative(folder / p.path, outputs)) for p in pictures]


def _relative(path: Path, outputs: Path) -> str:
    return path.relative_to(outputs).as_posix()


def _row(
    scene: Scene,
    matched: MatchedScene,
    seed: int,
    results: dict[str, Any],
    costs: dict[str, dict[str, float]],
    model: str,
    deviation: str | None,
) -> Row:
    of_model = {k: v for k, v in results["stages"].items() if k not in matched.stages}
    num_skipped = len(matched.features.skipped)
    skipped = f"{num_skipped} of its images could not be used" if num_skipped else None
    return Row(
        feature=results["feature"],
        dataset=scene.name,
        protocol=PROTOCOL,
        seed=seed,
        matcher=results["matcher"],
        weights=results["weights"],
        metrics=results["metrics"],
        stages=costs | of_model,
        model=model,
        not_comparable="; ".join(filter(None, (skipped, deviation))) or None,
    )


def _with_dense_points(results: dict[str, Any], options: SfmOptions) -> dict[str, Any]:
    """Make dense points of a model, and add their number to its record."""
    folder = options.output_dir
    recorder = StageRecorder()
    with recorder.stage("dense"):
        dense = dense_reconstruction(folder / "model", options.images, folder / "dense")
        dense.export_PLY(str(folder / "dense.ply"))
    shutil.rmtree(folder / "dense")  # depth maps are larger than all else together
    metrics = results["metrics"] | with_units({"dense_points": dense.num_points3D()})
    results = results | {"metrics": metrics, "stages": results["stages"] | recorder.stages}
    write_results(folder / "results.json", results)
    return results
