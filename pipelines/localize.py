"""Queries to poses, in any data set: extract, pair, match, build the reference, localize, measure.

The data sets are in :mod:`pipelines.datasets`, a command of one is :mod:`pipelines.aachen`.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from featplug.cli.command_line import Unprefixed, leave_config, run_command
from featplug.cli.config_file import CONFIG
from featplug.colmap.added_images import PosedImage
from featplug.colmap.database import to_colmap_points
from featplug.io.folder_lock import locked_folder
from featplug.io.match_store import MatchReader
from featplug.io.pair_lists import Pair, read_pairs, write_pairs
from featplug.io.results import write_results
from featplug.io.run_folder import replace_results
from featplug.io.store import FeatureReader
from featplug.localization.evaluation import localization_metrics, recall_table
from featplug.localization.file_localizer import FileLocalizer, LocalizedQuery
from featplug.localization.log import LocalizationLog, result_files
from featplug.localization.queries import Query
from featplug.localization.rig_pose import localize_frames
from featplug.stages.map import SPARSE
from featplug.utils.progress import progress_bar
from pipelines.datasets.own_map import OwnMapOptions
from pipelines.datasets.pipeline_names import find_options
from pipelines.datasets.protocol import (
    LocalizationDataset,
    LocalizeOptions,
    image_problem,
)
from pipelines.given_files import Features, pairs_of_matches
from pipelines.localization_picture import FAILURES, PICTURE, QueryPictures
from pipelines.localization_task import Task, queries_first, read_task
from pipelines.output_folder import SceneImages, announce_replacement, output_folder
from pipelines.references import MODEL, Reference, reference_of
from pipelines.run import Stages
from pipelines.run_options import plain
from pipelines.run_record import method_line, metric_lines, outcome_lines, run_record
from pipelines.run_report import PAGE, files_line, write_report


def localize(options: LocalizeOptions, progress: bool = False) -> dict[str, Any]:
    """Localize the queries of a data set.

    Features, matches and the reference are reused where an earlier run made them from the same
    inputs; the poses are estimated again.

    Returns:
        The contents of ``results.json``.

    Raises:
        FileNotFoundError: a given file does not exist.
        ValueError: something given does not fit, or no query could be localized.
    """
    given, options = options, options.completed()
    outputs = options.output_dir
    with locked_folder(outputs):
        stages = Stages(options, progress)
        dataset = options.open(progress)
        task, reference = read_task(options, dataset), reference_of(options, dataset)
        if options.matches is not None and options.pairs is None:
            known = {query.name for query in task.queries}
            matched = pairs_of_matches(options.matches, {*known, *reference.images([])})
            task = replace(task, given_pairs=queries_first(matched, known))
        if not task.given_pairs:
            stages.require_retrieval()
        cameras = reference.images(task.given_pairs)
        cameras |= {query.name: query.camera for query in task.queries}
        names, skipped = _readable_images(dataset, cameras)
        paths = {name: dataset.image_path(name) for name in names}
        images = SceneImages(dataset.root, dataset.image_dir, names, paths)
        with output_folder(outputs, options.pipeline, images, kept=[MODEL]) as working:
            announce_replacement(outputs, plain(asdict(options)))
            leave_config(given, working, outputs)
            dataset.prepare(outputs, names)
            results = _Run(options, stages, task, reference, working).make(names, skipped)
            replace_results(
                outputs,
                [
                    PICTURE,
                    FAILURES,
                    PAGE,
                    CONFIG,
                    *SPARSE.parts[:1],
                    *result_files(task.conditions),
                ],
            )
        write_report(outputs)
    return results


@dataclass(frozen=True)
class _Run:
    """A run that was checked, and the folder that its results are made in."""

    options: LocalizeOptions
    stages: Stages
    task: Task
    reference: Reference
    working: Path

    def make(self, names: Sequence[str], skipped: dict[str, str]) -> dict[str, Any]:
        """Make all results.

        Args:
            names: images of the data set.
            skipped: other images of it, and why they cannot be used.

        Returns:
            The contents of ``results.json``.
        """
        options, stages, task, reference = self.options, self.stages, self.task, self.reference
        dataset = task.dataset
        with stages.recorder.stage("extract"):
            features = stages.extract(dataset.image_dir, names, dataset.masks)
        reference.examine(features)
        skipped = skipped | features.skipped
        pairs, database_pairs = self._pairs(features, skipped)
        if stages.retrieval is not None:
            skipped |= stages.retrieval.skipped
        stages.match_together(features, [*database_pairs, *pairs])
        reference.build(stages, features, database_pairs, self.working)
        pairs_path = options.output_dir / "pairs-query.txt"
        write_pairs(pairs_path, pairs)
        matches = stages.match(reference.query_stage, features, pairs_path)
        files = {"features": features.path, "matches": matches, "retrieval": pairs_path}
        log, pictures, located = _localize(options, stages, task, reference, files, skipped)
        reported = log if dataset.is_benchmark else log.renamed(dataset.submission_name)
        reported.write(self.working, files)
        reported.require_poses()
        if dataset.is_benchmark:
            log.write_submissions(self.working, task.names, dataset.submission_name)
        else:
            reported.write_poses(self.working)
            reference.write_with(list(located.values()), self.working)
        asked = {query.name for query in task.queries}
        data = {
            "dataset": str(dataset.root.resolve()),
            **({} if dataset.version is None else {"version": dataset.version}),
            "fingerprint": features.fingerprint,
            "conditions": [condition for condition in task.conditions if condition],
            "skipped": {n: why for n, why in skipped.items() if n not in asked} | reference.skipped,
            "not_localized": reported.failed,
            **({"notes": reported.notes} if reported.notes else {}),
        }
        poses = log.localized_poses
        if not_drawn := pictures.draw(
            self.working,
            dataset.image_dir,
            lambda: reference.cameras(poses),
            {c: {n: poses[n] for n in names if n in poses} for c, names in task.names.items()},
        ):
            data["not_drawn"] = not_drawn
        images = list(located.values())
        if not reference.has_points:  # numbers of points of another model say nothing
            images = [PosedImage(each.name, each.cam_from_world, each.camera) for each in images]
        data |= dataset.finish(images)
        results = {
            **run_record(stages, options, features),
            "data": data,
            **({"cameras": lines} if (lines := dataset.camera_lines()) else {}),
            "reused": stages.reused,
            "stages": stages.recorder.stages,
            "metrics": reference.metrics()
            | localization_metrics(log.poses, task.names, task.truth, options.rules, log.failed),
        }
        write_results(self.working / "results.json", results)
        return results

    def _pairs(
        self, features: Features, skipped: Mapping[str, str]
    ) -> tuple[list[Pair], list[Pair]]:
        """Select the pairs of queries with database images, and those of database images."""
        stages, task = self.stages, self.task
        asked, usable = {query.name for query in task.queries}, set(features.names)
        queries = [name for name in features.names if name in asked]
        database = [name for name in features.names if name not in asked]
        if not queries:
            why = skipped[task.queries[0].name]
            raise ValueError(f"None of the queries can be used; the first: {why}")
        if not database and (unusable := [why for n, why in skipped.items() if n not in asked]):
            raise ValueError(f"None of the database images can be used; the first: {unusable[0]}")
        with stages.recorder.stage("pairs"):
            pairs = [
                (query, name)
                for query, name in task.given_pairs
                if query in asked and name not in asked and usable >= {query, name}
            ]
            if not task.given_pairs and database:
                num_retrieved = self.options.num_retrieved
                pairs = stages.retrieve(
                    features, num_retrieved, queries, sorted(database), task.dataset.near
                )
            if not pairs:
                raise ValueError(
                    "No query is paired with a database image, both with features; ask for more "
                    "pairs by --num-loc or --pairs."
                )
            of_database = self.reference.database_pairs(set(database), task.given_pairs, pairs)
        return pairs, of_database


def _readable_images(
    dataset: LocalizationDataset, cameras: Mapping[str, pycolmap.Camera | None]
) -> tuple[list[str], dict[str, str]]:
    """Split images into those that fit their cameras, and those that do not, with the reason."""
    skipped = {}
    for name, camera in cameras.items():
        if camera is None:
            continue
        if reason := image_problem(dataset.image_path(name), camera):
            skipped[name] = reason
    return [name for name in cameras if name not in skipped], skipped


def _localize(
    options: LocalizeOptions,
    stages: Stages,
    task: Task,
    reference: Reference,
    files: Mapping[str, Path],
    skipped: Mapping[str, str],
) -> tuple[LocalizationLog, QueryPictures, dict[str, PosedImage]]:
    """Localize all queries; select some of each condition to draw, and keep what models need."""
    retrieved: dict[str, list[str]] = {}
    for query, name in read_pairs(files["retrieval"]):
        retrieved.setdefault(query, []).append(name)
    log = LocalizationLog([query.name for query in task.queries])
    condition_of = {name: c for c, names in task.names.items() for name in names}
    pictures = QueryPictures(condition_of, task.truth, max(options.rules.thresholds))
    located: dict[str, PosedImage] = {}
    with (
        FeatureReader(files["features"]) as features,
        MatchReader(files["matches"]) as matches,
        reference.localizer(stages, features, matches, retrieved) as localizer,
        stages.recorder.stage("localize"),
    ):
        queries = _usable_queries(task, skipped, retrieved, features, log)
        localized = _localized(options, task, localizer, queries, retrieved)
        for found in progress_bar(localized, "localize", len(queries), "query", stages.progress):
            name = found.query.name
            if found.is_localized and found.pose is not None:
                doubt = task.dataset.doubt(name, found.pose.cam_from_world)
                found = replace(found, reason=doubt)
            log.add(found)
            if options.hloc_logs and (entry := localizer.hloc_log(found)) is not None:
                log.hloc_entries[name] = entry
            if found.is_localized and not task.dataset.is_benchmark:
                located[name] = _posed_image(found, features.keypoints(name))
            pictures.consider(found, localizer)
    return log, pictures, located


def _localized(
    options: LocalizeOptions,
    task: Task,
    localizer: FileLocalizer,
    queries: Sequence[Query],
    retrieved: Mapping[str, Sequence[str]],
) -> Iterator[LocalizedQuery]:
    """Localize queries, those of a rig together."""
    frames = [
        frame
        for frame in task.dataset.rig_frames({query.name: query for query in queries})
        if len(frame.queries) > 1
    ]
    together = {query.name for frame in frames for query in frame.queries}
    alone = [query for query in queries if query.name not in together]
    yield from localizer.localize(alone, retrieved, options.num_workers)
    yield from localize_frames(localizer, frames, retrieved)


def _posed_image(found: LocalizedQuery, keypoints: np.ndarray) -> PosedImage:
    """Return a localized query with the points of the model that it observes."""
    matches, pose = found.best_attempt
    inliers = [matches.keypoint_indices[pose.inliers], matches.point_ids[pose.inliers]]
    return PosedImage(
        found.query.name,
        pose.cam_from_world,
        pose.camera,
        to_colmap_points(keypoints.astype(np.float64)),
        np.column_stack(inliers),
    )


def _usable_queries(
    task: Task,
    skipped: Mapping[str, str],
    retrieved: Mapping[str, Sequence[str]],
    features: FeatureReader,
    log: LocalizationLog,
) -> list[Query]:
    """Return the queries that can be localized; record in the log why the others cannot."""
    usable = []
    for query in task.queries:
        name, camera = query.name, query.camera
        if name in skipped:
            log.add_failure(name, skipped[name].rstrip("."))
        elif name not in retrieved and task.dataset.near(name) is not None:
            log.add_failure(name, "it is paired with no database image near its prior position")
        elif name not in retrieved:
            log.add_failure(name, "it is paired with no database image that has features")
        elif (size := features.known_image_size(name)) not in (None, (camera.width, camera.height)):
            log.add_failure(
                name,
                f"its features are of an image of {size[0]}×{size[1]} pixels, its camera has "
                f"{camera.width}×{camera.height}",
            )
        else:
            usable.append(query)
    return usable


def run(options: LocalizeOptions, check: bool) -> None:
    """Localize and print the figures, or only check the files of the data set.

    Raises:
        FileNotFoundError: a given file does not exist.
        ValueError: see :func:`localize`; or ``check`` found a problem.
    """
    if not check:
        print(summary(localize(options, progress=True), options.completed()))
        return
    dataset = options.open(progress=True)
    pairs = [] if options.pairs is None else read_pairs(options.pairs)
    problems = dataset.check({name for pair in pairs for name in pair}, progress=True)
    for problem in problems:
        print(problem.reason)
    for remedy in dict.fromkeys(problem.remedy for problem in problems):
        print(f"Where to get {remedy}.")
    if problems:
        use = "cannot be used" if any(problem.stops for problem in problems) else "can be used"
        without = "" if use == "cannot be used" else ", but a run leaves out what is listed above"
        raise ValueError(f"{dataset.root} {use}{without}: {len(problems)} problems.")
    print(f"{dataset.root} is complete.")


def summary(results: Mapping[str, Any], options: LocalizeOptions) -> str:
    """Return the figures of a run as lines of text."""
    metrics, data = results["metrics"], results["data"]
    conditions = data["conditions"]
    version = f" ({data['version']})" if "version" in data else ""
    of_conditions = tuple(f"{condition}_" for condition in conditions)
    others = {name: m for name, m in metrics.items() if not name.startswith(of_conditions)}
    lines = [f"{method_line(results)}, {data['dataset']}{version}"]
    lines += metric_lines(others)
    lines += recall_table(metrics, conditions, options.rules) if conditions else []
    lines += [f"  {line}" for line in results.get("cameras", [])]
    lines += outcome_lines(results)
    if num_added := data.get("added"):
        place = "" if data["images_linked"] else "; its folder of images does not have them yet"
        earlier = data["earlier_model"]
        lines.append(f"  {num_added} added to the model{place}; as it was, it is {earlier}")
    outputs = options.output_dir
    pictures = [name for name in (PICTURE, FAILURES) if (outputs / name).is_file()]
    poses = data.get("files", ["submission.txt"])
    files = [*poses, "results.json", "logs.json", *pictures]
    return "\n".join([*lines, files_line(files, outputs)])


def data_set_command(pipeline: str) -> Callable[..., None]:
    """Return the command that localizes in a data set without a command file of its own."""
    options_type = find_options(pipeline)

    def main(options: Any, check: bool = False) -> None:
        run(options, check)

    main.__annotations__["options"] = Unprefixed[options_type]  # type: ignore[misc,valid-type]
    main.__doc__ = (
        f"{inspect.cleandoc(options_type.__doc__ or '').partition(chr(10))[0]}\n\n"
        "Args:\n"
        "    options: options of the data set and its localization.\n"
        "    check: only list missing and damaged files, and where to get them.\n"
    )
    return main


def main(options: Unprefixed[OwnMapOptions], check: bool = False) -> None:
    """Localize photographs in a COLMAP model, with any feature.

    The points of the model are used where they are those of the feature; points of another feature
    are triangulated at the model's poses. The output folder gets poses.txt with the accepted poses,
    poses.csv with the evidence for each, the model with the localized photographs in sparse/0 and
    images, results.json, logs.json and localization.png.

    Args:
        options: the model, the photographs, and how these are localized.
        check: only list missing and damaged files.
    """
    run(options, check)


if __name__ == "__main__":
    run_command(main, prog="python -m pipelines.localize")
