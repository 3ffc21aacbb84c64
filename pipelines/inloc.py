"""Photographs to poses in scanned rooms: extract, pair, match, take points from scans, localize.

``python -m pipelines.inloc --dataset DIR --feature NAME``
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from featplug.cli.command_line import run_command
from featplug.io.pair_lists import Pair, read_pairs, write_pairs
from featplug.io.results import StageRecorder, data_fingerprint, metric, write_results
from featplug.io.store import FeatureReader, MatchReader
from featplug.localization.absolute_pose import AbsolutePoseOptions
from featplug.localization.evaluation import error_metrics
from featplug.localization.in_scans import (
    ScanLocalizationOptions,
    hloc_log,
    images_with_matches,
    inlier_matches,
    localize_queries,
)
from featplug.localization.localizer import (
    NUM_SHOWN,
    PICTURE,
    SUBMISSION,
    LocalizationLog,
    ShownMatches,
    draw_results,
    remove_old_results,
)
from featplug.localization.queries import Query, write_poses
from featplug.localization.scans import ScanPointReader, sample_scans
from featplug.metrics.poses import INLOC_THRESHOLDS, absolute_pose_errors
from featplug.plots import ground_axes
from featplug.stages.retrieve import RetrievalSummary
from featplug.utils.progress import progress_bar
from pipelines.datasets.inloc import benchmark_camera, check_dataset, read_alignments, read_scan
from pipelines.inloc_task import InLocOptions, Task, open_dataset, read_task
from pipelines.run import (
    Features,
    check_request,
    match_pairs,
    problem_lines,
    require_no_problems,
    retrieve_pairs,
    run_record,
    scene_features,
    stage_lines,
)


@dataclass(frozen=True)
class _Matches:
    """What is matched with what."""

    pairs: list[Pair]
    pairs_path: Path
    path: Path
    num_reused: int
    """Pairs matched by an earlier run."""
    retrieval: RetrievalSummary | None


@dataclass(frozen=True)
class _Outcome:
    """What became of the queries and the scans."""

    log: LocalizationLog
    shown: list[ShownMatches]
    """Of some queries, to be drawn."""
    alignments: dict[str, np.ndarray]
    """Database image to the 4×4 alignment of its scan, of those that were used."""
    skipped: dict[str, str]
    """Database images without points, and why."""
    num_scans_reused: int


def localize(options: InLocOptions, progress: bool = False) -> dict[str, Any]:
    """Localize the queries of a dataset.

    Features, matches and scan points that are in the output folder already are used again; the
    poses are estimated anew.

    Returns:
        What ``results.json`` holds.

    Raises:
        FileNotFoundError: something given is not there.
        ValueError: something given does not fit, or no query could be localized.
    """
    matcher = check_request(
        options.extraction,
        options.matcher,
        options.retrieval,
        options.pairs is not None,
        options.matches,
    )
    task, outputs = read_task(options, progress), options.output_dir

    recorder = StageRecorder()
    with recorder.stage("extract"):
        database = [name for _, name in task.given_pairs or ()] or task.dataset.database_names()
        listed = list(dict.fromkeys([*task.names, *database]))
        features = scene_features(options.extraction, task.dataset.root, listed, outputs, progress)
    remove_old_results(outputs)
    matches = _match(options, task, features, matcher, recorder, progress)
    retrieval = matches.retrieval
    skipped = features.skipped | (retrieval.skipped if retrieval else {})
    outcome = _localize(options, task, features, skipped, matches, recorder, progress)
    log = outcome.log
    write_poses(outputs / SUBMISSION, log.poses)
    metrics = {
        "queries": metric(len(task.names), "images"),
        "localized_queries": metric(len(log.poses), "images"),
        "scans_used": metric(len(outcome.alignments), "images"),
    }
    if task.truth is not None:
        metrics["queries_with_true_pose"] = metric(len(task.truth), "images")
        errors = absolute_pose_errors(log.poses, task.truth)
        metrics |= error_metrics(errors, INLOC_THRESHOLDS)
    record = run_record("inloc", asdict(options), features, matcher, options.matches, retrieval)
    results = {
        **record,
        "data": {
            "dataset": str(task.dataset.root.resolve()),
            "fingerprint": data_fingerprint(task.dataset.root, features.names),
            "skipped": skipped | outcome.skipped,
            "not_localized": log.failed,
        },
        "reused": {
            "extract": features.num_reused,
            "match": matches.num_reused,
            "scan": outcome.num_scans_reused,
        },
        "stages": recorder.stages,
        "metrics": metrics,
    }
    write_results(outputs / "results.json", results)
    # Only now, so that no picture costs the poses.
    if not_drawn := _draw(outputs / PICTURE, task, outcome):
        results["data"]["not_drawn"] = not_drawn
        write_results(outputs / "results.json", results)
    return results


def _match(
    options: InLocOptions,
    task: Task,
    features: Features,
    matcher: str,
    recorder: StageRecorder,
    progress: bool,
) -> _Matches:
    """Choose pairs and match them, or take those that were given."""
    outputs = options.output_dir
    with recorder.stage("pairs"):
        pairs_path = options.pairs or outputs / f"pairs-{options.retrieval}{options.num_loc}.txt"
        chosen, retrieval = task.given_pairs, None
        if chosen is None:
            chosen, retrieval = _retrieve(options, task, features, progress)
            write_pairs(pairs_path, chosen)
    if options.matches is not None:
        return _Matches(chosen, pairs_path, options.matches, 0, retrieval)
    with recorder.stage("match"):
        path, num_reused = match_pairs(
            matcher,
            pairs_path,
            features,
            outputs,
            options.extraction,
            options.memory_gib,
            progress,
        )
    return _Matches(chosen, pairs_path, path, num_reused, retrieval)


def _retrieve(
    options: InLocOptions, task: Task, features: Features, progress: bool
) -> tuple[list[Pair], RetrievalSummary]:
    """Pair each query with the database images that look most like it."""
    asked = set(task.names)
    queries = [name for name in features.names if name in asked]
    database = [name for name in features.names if name not in asked]
    if not queries or not database:
        missing = "query" if not queries else "database image"
        raise ValueError(f"No {missing} of {task.dataset.root} could be used.")
    return retrieve_pairs(
        options.retrieval,
        options.num_loc,
        task.dataset.root,
        options.output_dir,
        features,
        options.extraction,
        queries=queries,
        database=database,
        progress=progress,
    )


def _localize(
    options: InLocOptions,
    task: Task,
    features: Features,
    skipped: Mapping[str, str],
    matches: _Matches,
    recorder: StageRecorder,
    progress: bool,
) -> _Outcome:
    """Take points from the scans, and localize all queries with them."""
    outputs, known = options.output_dir, set(features.names)
    retrieved: dict[str, list[str]] = {name: [] for name in task.names}
    for query, name in matches.pairs:
        if query in known and name in known:
            retrieved[query].append(name)
    localization = ScanLocalizationOptions(
        options.skip_matches,
        options.max_error,
        AbsolutePoseOptions(min_num_inliers=options.min_inliers, seed=options.seed),
    )
    files = {"features": features.path, "matches": matches.path, "retrieval": matches.pairs_path}
    with FeatureReader(features.path) as feature_reader, MatchReader(matches.path) as match_reader:
        with recorder.stage("scan"):
            used = images_with_matches(retrieved, match_reader, options.skip_matches)
            alignments, unaligned = read_alignments(task.dataset, used)
            scans = sample_scans(
                {name: task.dataset.scan_path(name) for name in alignments},
                read_scan,
                features.path,
                outputs / f"scan-points-{features.path.stem}.h5",
                options.extraction.overwrite,
                memory_budget=int(options.memory_gib * 2**30),
                num_workers=options.num_workers,
                progress=progress,
            )
        with recorder.stage("localize"), ScanPointReader(scans.path) as scan_points:
            log = LocalizationLog(task.names)
            queries = _queries(task, skipped, retrieved, feature_reader, log)
            localized = localize_queries(
                queries,
                retrieved,
                feature_reader,
                match_reader,
                scan_points,
                alignments,
                localization,
                options.num_workers,
            )
            shown: list[ShownMatches] = []
            for found in progress_bar(localized, "localize", len(queries), "query", progress):
                log.add(found)
                if found.pose is None:
                    continue
                if options.hloc_logs:
                    log.hloc_entries[found.query.name] = hloc_log(found)
                if len(shown) < NUM_SHOWN:
                    inliers = inlier_matches(found)
                    shown.append(ShownMatches(found.query.name, found.best_image, *inliers))
    log.write(outputs, files)
    log.check_poses()
    used_alignments = {name: alignments[name] for name in alignments if name not in scans.skipped}
    return _Outcome(log, shown, used_alignments, unaligned | scans.skipped, scans.num_present)


def _queries(
    task: Task,
    skipped: Mapping[str, str],
    retrieved: Mapping[str, Sequence[str]],
    reader: FeatureReader,
    log: LocalizationLog,
) -> list[Query]:
    """Give the queries that can be tried; the log gets why the others cannot."""
    queries = []
    for name in task.names:
        if name in skipped:
            log.add_failure(name, skipped[name].rstrip("."))
            continue
        if not retrieved[name]:
            log.add_failure(name, "it is paired with no database image that has features")
            continue
        width, height = reader.image_size(name)
        query = task.cameras.get(name) or Query(name, benchmark_camera(width, height))
        if (query.camera.width, query.camera.height) == (width, height):
            queries.append(query)
            continue
        log.add_failure(
            name,
            f"the image has {width}×{height} pixels, its camera in the query list "
            f"{query.camera.width}×{query.camera.height}",
        )
    return queries


def _draw(path: Path, task: Task, outcome: _Outcome) -> dict[str, str]:
    """Draw queries, scans and some matches; give what is not drawn, and why.

    The ground is what the queries stand upright on.
    """
    poses = outcome.log.poses
    scans = np.unique(np.stack([a[:3, 3] for a in outcome.alignments.values()]), axis=0)
    ground = ground_axes(np.stack(list(poses.values())))
    return draw_results(
        path, ground, scans, {"queries": poses}, task.truth, outcome.shown, task.dataset.root
    )


def main(options: Annotated[InLocOptions, tyro.conf.arg(name="")], check: bool = False) -> None:
    """Localize the queries of InLoc, or of a set in its layout, with a feature of your choice.

    Features, matches and scan points that are in the output folder already are used again. The
    output folder gets submission.txt for the benchmark, results.json, logs.json and
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


def _check(options: InLocOptions) -> None:
    """Print what is missing or damaged.

    Raises:
        ValueError: something is.
    """
    dataset = open_dataset(options, progress=True)
    listed, _ = dataset.queries(options.queries)
    if options.pairs is not None:
        listed += [name for pair in read_pairs(options.pairs) for name in pair]
    problems = check_dataset(dataset, listed, progress=True)
    print("\n".join(problem_lines(dataset.root, problems)))
    require_no_problems(dataset.root, problems)


def summary(results: dict[str, Any], outputs: Path) -> str:
    """Give the figures of a run as lines of text."""
    data = results["data"]
    lines = [f"{results['feature']} + {results['matcher']}, {data['dataset']}"]
    for name, entry in results["metrics"].items():
        lines.append(f"  {name.replace('_', ' '):<28}{entry['value']:>12.4g} {entry['unit']}")
    lines += stage_lines(results)
    lines += [f"  skipped: {reason}" for reason in data["skipped"].values()]
    lines += [f"  not localized: {name}: {why}" for name, why in data["not_localized"].items()]
    lines += [f"  not drawn: {name}: {why}" for name, why in data.get("not_drawn", {}).items()]
    lines.append(f"submission.txt, results.json, logs.json and localization.png are in {outputs}")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main, prog="python -m pipelines.inloc")
