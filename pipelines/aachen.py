"""Photographs of Aachen, by day and night, to poses: extract, triangulate, retrieve, localize.

``python -m pipelines.aachen --dataset DIR --feature NAME``; ``--dataset demo`` renders a small town
in the same layout and localizes in that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pycolmap
import tyro

from featplug.cli.command_line import run_command
from featplug.colmap.model_files import read_model
from featplug.io.pair_lists import Pair, read_pairs, write_pairs
from featplug.io.results import StageRecorder, data_fingerprint, metric, write_results
from featplug.io.store import FeatureReader, MatchReader
from featplug.localization.absolute_pose import AbsolutePoseOptions
from featplug.localization.evaluation import localization_metrics, recall_table
from featplug.localization.in_model import (
    LocalizationOptions,
    ModelPoints,
    hloc_log,
    inlier_matches,
    localize_queries,
)
from featplug.localization.localizer import (
    NUM_SHOWN,
    PICTURE,
    SUBMISSION,
    LocalizationLog,
    ShownMatches,
    condition_submission,
    draw_results,
    remove_old_results,
)
from featplug.localization.queries import Query, write_poses
from featplug.metrics.poses import camera_centres, model_poses, reconstruction_statistics
from featplug.plots import ground_axes
from featplug.stages.triangulate import triangulate_known_poses
from featplug.utils.progress import progress_bar
from pipelines.aachen_task import (
    AachenOptions,
    Task,
    choose_pairs,
    open_dataset,
    read_task,
    wanted_images,
)
from pipelines.datasets.aachen import check_dataset
from pipelines.run import (
    Features,
    check_request,
    match_pairs,
    problem_lines,
    readable_images,
    require_no_problems,
    run_record,
    scene_features,
    stage_lines,
)


def localize(options: AachenOptions, progress: bool = False) -> dict[str, Any]:
    """Localize the queries of a dataset.

    Features, matches and a triangulated model that are in the output folder already are used again
    where they were made from the same; the poses are estimated anew.

    Returns:
        What ``results.json`` holds.

    Raises:
        FileNotFoundError: something given is not there.
        ValueError: something given does not fit, or no query could be localized.
    """
    matcher = check_request(
        options.extraction, options.matcher, options.retrieval, options.pairs is not None
    )
    task = read_task(options, open_dataset(options, progress))
    outputs, dataset = options.output_dir, task.dataset

    recorder = StageRecorder()
    with recorder.stage("extract"):
        wanted = wanted_images(options, task)
        names, skipped = readable_images(dataset.image_dir, wanted)
        features = scene_features(options.extraction, dataset.image_dir, names, outputs, progress)
        skipped |= features.skipped
    known = set(features.names)
    queries = [query.name for query in task.queries]
    if known.isdisjoint(queries):
        raise ValueError(f"None of the queries can be used; the first: {skipped[queries[0]]}")
    remove_old_results(outputs, dataset.query_lists)
    with recorder.stage("pairs"):
        chosen = choose_pairs(options, task, features, progress)
    if chosen.retrieval is not None:
        skipped |= chosen.retrieval.skipped
    reused = {"extract": features.num_reused}
    with recorder.stage("match"):
        database_matches, reused["match"] = _match(
            options, matcher, "db", chosen.database, features, progress
        )
    with recorder.stage("triangulate"):
        sfm = triangulate_known_poses(
            task.reference,
            dataset.image_dir,
            chosen.database,
            features.path,
            database_matches,
            outputs / "sfm",
            seed=options.seed,
        )
        model = read_model(sfm.model_dir)
        reused["triangulate"] = model.num_reg_images() if sfm.is_reused else 0
    with recorder.stage("match_queries"):
        query_matches, reused["match_queries"] = _match(
            options, matcher, "query", chosen.localization, features, progress
        )
    with recorder.stage("localize"):
        log, shown = _localize(
            options, task, features, skipped, chosen.localization, query_matches, model, progress
        )
    _write_submissions(outputs, task, log.poses)
    conditions = {c: [query.name for query in queries] for c, queries in task.conditions.items()}
    record = run_record("aachen", asdict(options), features, matcher, retrieval=chosen.retrieval)
    results = {
        **record,
        "data": {
            "dataset": str(dataset.root.resolve()),
            "version": dataset.version,
            "fingerprint": data_fingerprint(dataset.image_dir, sorted(known)),
            "conditions": list(conditions),
            "skipped": {name: why for name, why in skipped.items() if name not in queries},
            "not_localized": log.failed,
        },
        "reused": reused,
        "stages": recorder.stages,
        "metrics": _model_metrics(model, sfm.check.inlier_ratio)
        | localization_metrics(log.poses, conditions, task.truth),
    }
    write_results(outputs / "results.json", results)
    # Only now, so that no picture costs the poses.
    if not_drawn := _draw(outputs / PICTURE, task, log.poses, shown):
        results["data"]["not_drawn"] = not_drawn
        write_results(outputs / "results.json", results)
    return results


def _pairs_name(what: str) -> str:
    return f"pairs-{what}.txt"


def _match(
    options: AachenOptions,
    matcher: str,
    what: str,
    chosen: list[Pair],
    features: Features,
    progress: bool,
) -> tuple[Path, int]:
    """Match pairs into a file of their own; give it and how many were there."""
    path = options.output_dir / _pairs_name(what)
    write_pairs(path, chosen)
    return match_pairs(
        matcher,
        path,
        features,
        options.output_dir,
        options.extraction,
        options.memory_gib,
        progress,
    )


def _localize(
    options: AachenOptions,
    task: Task,
    features: Features,
    skipped: Mapping[str, str],
    retrieved_pairs: list[Pair],
    matches: Path,
    model: pycolmap.Reconstruction,
    progress: bool,
) -> tuple[LocalizationLog, list[ShownMatches]]:
    """Localize all queries, write what became of each, and choose one of each condition to draw."""
    localization = LocalizationOptions(
        AbsolutePoseOptions(
            max_error=options.max_error, min_num_inliers=options.min_inliers, seed=options.seed
        ),
        options.covisibility_clustering,
    )
    retrieved: dict[str, list[str]] = {}
    for asked, name in retrieved_pairs:
        retrieved.setdefault(asked, []).append(name)
    log = LocalizationLog([query.name for query in task.queries])
    queries: list[Query] = []
    for query in task.queries:
        if query.name in skipped:
            log.add_failure(query.name, skipped[query.name].rstrip("."))
        elif query.name not in retrieved:
            log.add_failure(query.name, "it is paired with no database image that has features")
        else:
            queries.append(query)
    condition_of = {q.name: c for c, of_condition in task.conditions.items() for q in of_condition}
    shown: dict[str, ShownMatches] = {}
    points = ModelPoints(model)
    with FeatureReader(features.path) as feature_reader, MatchReader(matches) as match_reader:
        localized = localize_queries(
            queries,
            retrieved,
            feature_reader,
            match_reader,
            points,
            localization,
            options.num_workers,
        )
        for found in progress_bar(localized, "localize", len(queries), "query", progress):
            name = found.query.name
            log.add(found)
            if options.hloc_logs:
                log.hloc_entries[name] = hloc_log(found, points, localization)
            condition = condition_of[name]
            if found.pose and condition not in shown and len(shown) < NUM_SHOWN:
                inliers = inlier_matches(found, feature_reader, match_reader, points)
                shown[condition] = ShownMatches(name, found.best_image, *inliers, condition)
    files = {"features": features.path, "matches": matches}
    log.write(options.output_dir, {**files, "retrieval": options.output_dir / _pairs_name("query")})
    log.check_poses()
    return log, list(shown.values())


def _write_submissions(outputs: Path, task: Task, poses: Mapping[str, np.ndarray]) -> None:
    """Write the benchmark's files, of all queries and of each condition."""
    write_poses(outputs / SUBMISSION, poses)
    for condition, queries in task.conditions.items():
        of_condition = {query.name: poses[query.name] for query in queries if query.name in poses}
        write_poses(outputs / condition_submission(condition), of_condition)


def _model_metrics(model: pycolmap.Reconstruction, inlier_ratio: float) -> dict[str, Any]:
    statistics = reconstruction_statistics(model)
    return {
        "database_images": metric(statistics.num_registered, "images"),
        "sparse_points": metric(statistics.num_points, "points"),
        "mean_track_length": metric(statistics.mean_track_length, "observations per point"),
        "mean_reprojection_error": metric(statistics.mean_reprojection_error, "px"),
        "matches_that_fit_the_poses": metric(100 * inlier_ratio, "%"),
    }


def _draw(
    path: Path, task: Task, poses: Mapping[str, np.ndarray], shown: list[ShownMatches]
) -> dict[str, str]:
    """Draw cameras and some matches; give what is not drawn, and why."""
    database = np.stack(list(model_poses(task.reference).values()))
    estimated = {
        condition: {q.name: poses[q.name] for q in queries if q.name in poses}
        for condition, queries in task.conditions.items()
    }
    return draw_results(
        path,
        ground_axes(database),
        camera_centres(database),
        estimated,
        task.truth,
        shown,
        task.dataset.image_dir,
    )


def main(options: Annotated[AachenOptions, tyro.conf.arg(name="")], check: bool = False) -> None:
    """Localize the queries of Aachen Day-Night, or of a set in its layout, with any feature.

    Features, matches and the model that are in the output folder already are used again. The output
    folder gets submission.txt for the benchmark, one of each condition, results.json, logs.json and
    localization.png.

    Args:
        options: what to localize, and how.
        check: only look for missing and damaged files, and say where to get them.
    """
    if check:
        _check(options)
        return
    results = localize(options, progress=True)
    print(summary(results, options.output_dir))


def _check(options: AachenOptions) -> None:
    """Print what is missing or damaged.

    Raises:
        ValueError: something is.
    """
    dataset = open_dataset(options, progress=True)
    given = [] if options.pairs is None else read_pairs(options.pairs)
    named = {name for pair in given for name in pair}
    problems = check_dataset(dataset, named, progress=True)
    print("\n".join(problem_lines(dataset.root, problems)))
    require_no_problems(dataset.root, problems)


def summary(results: dict[str, Any], outputs: Path) -> str:
    """Give the figures of a run as lines of text."""
    metrics, data = results["metrics"], results["data"]
    lines = [f"{results['feature']} + {results['matcher']}, {data['dataset']} ({data['version']})"]
    lines.append(
        f"  {metrics['sparse_points']['value']:,} points of {metrics['database_images']['value']} "
        f"images, {metrics['mean_reprojection_error']['value']:.3f} px; "
        f"{metrics['matches_that_fit_the_poses']['value']:.1f} % of their matches fit the poses"
    )
    lines += recall_table(metrics, data["conditions"])
    lines += stage_lines(results)
    lines += [f"  skipped: {reason}" for reason in data["skipped"].values()]
    lines += [f"  not localized: {name}: {why}" for name, why in data["not_localized"].items()]
    lines += [f"  not drawn: {name}: {why}" for name, why in data.get("not_drawn", {}).items()]
    lines.append(
        f"submission.txt, one of each condition, results.json, logs.json and localization.png are "
        f"in {outputs}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main, prog="python -m pipelines.aachen")
