"""The benchmark: COLMAP models of the scenes with each method, and the rows of their figures."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

from benchmarks.choices import FAILURES, in_turn, problem_of, start_methods
from benchmarks.measured_method import MeasuredMethod, recorded_matcher
from benchmarks.reconstruction.drawn_pairs import draw_pairs
from benchmarks.reconstruction.kept_models import map_or_reuse, matching_costs, reuse_features
from benchmarks.reconstruction.multiview import mean_rows, measure_subsets
from benchmarks.reconstruction.options import ReconstructionOptions, of_seed
from benchmarks.reconstruction.scenes import Scene, find_scene
from benchmarks.record import (
    Picture,
    Problem,
    Row,
    Run,
    benchmark_folder,
    model_sizes,
    write_run,
)
from benchmarks.settings import recorded_settings
from featplug.cli.command_line import leave_config
from featplug.colmap.dense import dense_reconstruction, require_dense
from featplug.colmap.geometric_verification import verified_pairs
from featplug.colmap.model_files import export_ply
from featplug.io.image_folder import list_images
from featplug.io.metric_table import with_units
from featplug.io.pair_lists import Pair
from featplug.io.results import StageRecorder, write_results
from featplug.report.match_pictures import quartile_pairs
from pipelines.run_record import PipelineRecord
from pipelines.sfm import MatchedScene, SfmOptions, match_scene

PROTOCOL = "local-feature-evaluation"

logger = logging.getLogger(__name__)


def run_benchmark(options: ReconstructionOptions, progress: bool = False) -> Run:
    """Measure all methods on all scenes; what fails becomes a problem of the run.

    Features, matches and models that an earlier run made from the same inputs are reused.
    ``results.json`` is written after each method.

    Raises:
        ValueError: the request itself does not fit, or two scenes have the same name.
    """
    options.check()
    methods, run = start_methods(options, options.matcher)
    scenes = _find_scenes(options, run, progress)
    with benchmark_folder(options.output_dir, run) as folder:
        leave_config(options, folder)
        if options.dense:
            try:
                require_dense()
            except ValueError as error:
                run.problems.append(Problem("dense points", str(error)))
                options = replace(options, dense=False)
        for scene in scenes:
            shown: list[Pair] = []
            before: list[SfmOptions] = []
            for method in in_turn(methods, options.output_dir):
                logger.info("%s: %s", scene.name, method.name)
                rows, problems = _measure_method(scene, method, options, shown, before, progress)
                run.rows += rows
                run.problems = list(dict.fromkeys(run.problems + problems))
                write_run(folder, run)
        for name, rows in mean_rows(run.rows).items():
            run.data[name] = {"path": str(options.scenes[0].resolve().parent)}
            run.rows += rows
        write_run(folder, run)
    return run


def _find_scenes(options: ReconstructionOptions, run: Run, progress: bool) -> list[Scene]:
    scenes = []
    for folder in options.scenes:
        try:
            scene = find_scene(folder, progress)
            names = list_images(scene.images)
        except FAILURES as error:
            run.problems.append(problem_of(str(folder), error))
            continue
        scenes.append(scene)
        reference = None if scene.reference is None else str(scene.reference)
        run.add_data(scene.name, scene.images, names, images=len(names), reference=reference)
    return scenes


def _measure_method(
    scene: Scene,
    method: MeasuredMethod,
    options: ReconstructionOptions,
    shown: list[Pair],
    before: list[SfmOptions],
    progress: bool,
) -> tuple[list[Row], list[Problem]]:
    """Extract and match once, and make a model with each seed.

    ``shown`` are the pairs to draw; the first method of a scene selects them for all others.
    ``before`` are the options of the methods before, whose features can be the same.
    """
    if scene.has_subsets:
        return measure_subsets(scene, method, options, before, progress)
    subject = f"{method.name} on {scene.name}"
    try:
        method.check_number(options.max_keypoints)
        of_method = options.of_method(scene, method)
        reuse_features(of_method, before)
        before.append(of_method)
        matched = match_scene(of_method, progress)
        costs, earlier = matching_costs(of_method.output_dir, matched)
    except FAILURES as error:
        return [], [problem_of(subject, error)]
    problems = [Problem(f"{scene.name}/{name}", why) for name, why in matched.skipped.items()]
    rows: list[Row] = []
    for seed in options.chosen_seeds():
        of_model = of_seed(of_method, seed)
        try:
            results, is_reused = map_or_reuse(matched, of_model, progress)
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
        row = _row(scene, method, matched, results, costs, options)
        reused = earlier + [stage for stage in row.stages if is_reused and stage not in costs]
        row = replace(
            row,
            seed=seed,
            reused=reused,
            model=_relative(of_model.output_dir / "model", options),
        )
        if not rows:
            try:
                row = replace(row, pictures=_draw(matched, of_model, options, shown))
            except FAILURES as error:
                problems.append(problem_of(f"{subject}, pictures", error))
        rows.append(row)
    return rows, problems


def _draw(
    matched: MatchedScene, of_model: SfmOptions, options: ReconstructionOptions, shown: list[Pair]
) -> list[Picture]:
    database, folder = of_model.output_dir / "database.db", of_model.output_dir.parent
    if not shown:
        shown += quartile_pairs(verified_pairs(database))
    pictures = draw_pairs(shown, database, matched, folder)
    return [replace(each, path=_relative(Path(each.path), options)) for each in pictures]


def _relative(path: Path, options: ReconstructionOptions) -> str:
    return path.relative_to(options.output_dir).as_posix()


def _row(
    scene: Scene,
    method: MeasuredMethod,
    matched: MatchedScene,
    results: PipelineRecord,
    costs: dict[str, dict[str, float]],
    options: ReconstructionOptions,
) -> Row:
    matching = matched.stages.recorder.stages
    of_model = {k: v for k, v in results["stages"].items() if k not in matching}
    num_skipped = len(matched.features.skipped)
    skipped = f"{num_skipped} of its images could not be used" if num_skipped else None
    return Row(
        feature=method.name,
        dataset=scene.name,
        protocol=PROTOCOL,
        matcher=recorded_matcher(results),
        settings=recorded_settings(results),
        weights=results["weights"],
        methods=results.get("methods", []),
        metrics=results["metrics"],
        stages=costs | of_model,
        models=model_sizes(results),
        verified_pairs_by_inliers=results.get("verified_pairs_by_inliers", {}),
        not_comparable="; ".join(filter(None, (skipped, options.deviation(method)))) or None,
    )


def _with_dense_points(results: PipelineRecord, options: SfmOptions) -> PipelineRecord:
    """Make dense points of a model, and add their number to its record."""
    folder = options.output_dir
    recorder = StageRecorder()
    with recorder.stage("dense"):
        dense = dense_reconstruction(folder / "model", options.image_dir, folder / "dense")
        export_ply(dense, folder / "dense.ply")
    shutil.rmtree(folder / "dense")  # depth maps are larger than all else together
    metrics = results["metrics"] | with_units({"dense_points": dense.num_points3D()})
    stages = results["stages"] | recorder.stages
    with_dense: PipelineRecord = {**results, "metrics": metrics, "stages": stages}
    write_results(folder / "results.json", with_dense)
    return with_dense
