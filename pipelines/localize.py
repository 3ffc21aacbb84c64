"""Queries to poses, in any data set: extract, pair, match, build the reference, localize, measure.

The data sets are in :mod:`pipelines.datasets`, a command of one is :mod:`pipelines.aachen`.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from featplug.cli.command_line import Unprefixed, leave_config
from featplug.cli.config_file import CONFIG
from featplug.io.folder_lock import locked_folder
from featplug.io.images import read_image
from featplug.io.match_store import MatchReader
from featplug.io.pair_lists import Pair, read_pairs, write_pairs
from featplug.io.results import write_results
from featplug.io.run_folder import replace_results
from featplug.io.store import FeatureReader
from featplug.localization.evaluation import localization_metrics, recall_table, truth_of_queries
from featplug.localization.log import LocalizationLog, result_files
from featplug.localization.queries import Query, check_submission_names, read_poses
from featplug.plots import MatchedPair, draw_localization, shrink
from featplug.utils.errors import described
from featplug.utils.progress import progress_bar
from pipelines.datasets.protocol import (
    LocalizationDataset,
    LocalizeOptions,
    find_options,
    image_problem,
)
from pipelines.given_files import Features, pairs_of_matches
from pipelines.output_folder import SceneImages, announce_replacement, output_folder
from pipelines.references import MODEL, Reference, reference_of
from pipelines.run import Stages, plain
from pipelines.run_record import method_line, metric_lines, outcome_lines, run_record
from pipelines.run_report import PAGE, files_line, write_report

PICTURE = "localization.png"
_NUM_SHOWN = 3
"""Number of queries whose matches are drawn, at most."""


@dataclass(frozen=True)
class Task:
    """Queries to localize, and what is known of them."""

    dataset: LocalizationDataset
    conditions: dict[str, list[Query]]
    truth: dict[str, np.ndarray] | None
    given_pairs: list[Pair]
    """Pairs to use instead of retrieval, queries first; empty if none are given."""

    @property
    def queries(self) -> list[Query]:
        """Queries of all conditions."""
        return [query for queries in self.conditions.values() for query in queries]

    @property
    def names(self) -> dict[str, list[str]]:
        """Condition to the names of its queries."""
        return {c: [query.name for query in queries] for c, queries in self.conditions.items()}


def read_task(options: LocalizeOptions, dataset: LocalizationDataset) -> Task:
    """Read queries, true poses and given pairs.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file is damaged, or the files do not belong together.
    """
    conditions = dataset.queries()
    names = [query.name for queries in conditions.values() for query in queries]
    check_submission_names(
        names, dataset.submission_name
    )  # which writing the submission would find after hours of work
    given = options.ground_truth
    truth = dataset.truth() if given is None else read_poses(given)
    if truth is not None:
        truth = truth_of_queries(names, truth)
    path, known = options.pairs or dataset.pair_list, set(names)
    pairs = read_pairs(path) if path else []
    if pairs and known.isdisjoint(name for pair in pairs for name in pair):
        raise ValueError(
            f"No pair of {path} has a query, such as {names[0]!r}; its first is {pairs[0]}."
        )
    return Task(dataset, conditions, truth, _queries_first(pairs, known))


def _queries_first(pairs: Sequence[Pair], queries: set[str]) -> list[Pair]:
    return list(dict.fromkeys(pair if pair[0] in queries else pair[::-1] for pair in pairs))


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
    outputs = options.output_dir
    with locked_folder(outputs):
        stages = Stages(options, progress)
        dataset = options.open(progress)
        task, reference = read_task(options, dataset), reference_of(options, dataset)
        if options.matches is not None and options.pairs is None:
            known = {query.name for query in task.queries}
            matched = pairs_of_matches(options.matches, {*known, *reference.images([])})
            task = replace(task, given_pairs=_queries_first(matched, known))
        if not task.given_pairs:
            stages.require_retrieval()
        cameras = reference.images(task.given_pairs)
        cameras |= {query.name: query.camera for query in task.queries}
        names, skipped = _readable_images(dataset.image_dir, cameras)
        images = SceneImages(dataset.root, dataset.image_dir, names)
        with output_folder(outputs, options.pipeline, images, kept=[MODEL]) as working:
            announce_replacement(outputs, plain(asdict(options)))
            leave_config(options, working)
            results = _Run(options, stages, task, reference, working).make(names, skipped)
            replace_results(outputs, [PICTURE, PAGE, CONFIG, *result_files(task.conditions)])
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
            features = stages.extract(dataset.image_dir, names)
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
        log, shown = _localize(options, stages, task, reference, files, skipped)
        log.write(self.working, files)
        log.require_poses()
        log.write_submissions(self.working, task.names, dataset.submission_name)
        asked = {query.name for query in task.queries}
        data = {
            "dataset": str(dataset.root.resolve()),
            **({} if dataset.version is None else {"version": dataset.version}),
            "fingerprint": features.fingerprint,
            "conditions": [condition for condition in task.conditions if condition],
            "skipped": {n: why for n, why in skipped.items() if n not in asked} | reference.skipped,
            "not_localized": log.failed,
        }
        if not_drawn := _draw(self.working / PICTURE, task, reference, log, shown):
            data["not_drawn"] = not_drawn
        results = {
            **run_record(stages, options, features),
            "data": data,
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
                pairs = stages.retrieve(features, num_retrieved, queries, sorted(database))
            if not pairs:
                raise ValueError(
                    "No query is paired with a database image, both with features; ask for more "
                    "pairs by --num-loc or --pairs."
                )
            of_database = self.reference.database_pairs(set(database), task.given_pairs, pairs)
        return pairs, of_database


def _readable_images(
    image_dir: Path, cameras: Mapping[str, pycolmap.Camera | None]
) -> tuple[list[str], dict[str, str]]:
    """Split images into those that fit their cameras, and those that do not, with the reason."""
    skipped = {}
    for name, camera in cameras.items():
        if camera is not None and (reason := image_problem(image_dir / name, camera)):
            skipped[name] = reason
    return [name for name in cameras if name not in skipped], skipped


@dataclass(frozen=True)
class _Shown:
    """A localized query to draw, with its inliers in the database image that has most of them."""

    condition: str
    query: str
    database: str
    points: tuple[np.ndarray, np.ndarray]


def _localize(
    options: LocalizeOptions,
    stages: Stages,
    task: Task,
    reference: Reference,
    files: Mapping[str, Path],
    skipped: Mapping[str, str],
) -> tuple[LocalizationLog, list[_Shown]]:
    """Localize all queries, and select some of each condition to draw."""
    retrieved: dict[str, list[str]] = {}
    for query, name in read_pairs(files["retrieval"]):
        retrieved.setdefault(query, []).append(name)
    log = LocalizationLog([query.name for query in task.queries])
    condition_of = {name: c for c, names in task.names.items() for name in names}
    shown: list[_Shown] = []
    with (
        FeatureReader(files["features"]) as features,
        MatchReader(files["matches"]) as matches,
        reference.localizer(stages, features, matches, retrieved) as localizer,
        stages.recorder.stage("localize"),
    ):
        queries = _usable_queries(task, skipped, retrieved, features, log)
        localized = localizer.localize(queries, retrieved, options.num_workers)
        for found in progress_bar(localized, "localize", len(queries), "query", stages.progress):
            log.add(found)
            name = found.query.name
            if options.hloc_logs and (entry := localizer.hloc_log(found)) is not None:
                log.hloc_entries[name] = entry
            if found.is_localized and _is_shown(condition_of[name], task, shown):
                points = localizer.inliers_in_best_image(found)
                shown.append(_Shown(condition_of[name], name, found.best_image, points))
    return log, shown


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


def _is_shown(condition: str, task: Task, shown: Sequence[_Shown]) -> bool:
    num_each = max(1, _NUM_SHOWN // len(task.conditions))
    of_condition = [entry for entry in shown if entry.condition == condition]
    return len(shown) < _NUM_SHOWN and len(of_condition) < num_each


def _draw(
    path: Path, task: Task, reference: Reference, log: LocalizationLog, shown: Sequence[_Shown]
) -> dict[str, str]:
    """Draw cameras and some matches; return what could not be drawn, with the reason."""
    image_dir = task.dataset.image_dir
    pictures: list[MatchedPair] = []
    failed: dict[str, str] = {}
    for entry in shown:
        names, points = (entry.query, entry.database), entry.points
        start = f"{entry.condition}: " if entry.condition else ""
        title = f"{start}{entry.query} and {entry.database}, {len(points[0])} inliers"
        try:
            (image0, xy0), (image1, xy1) = (
                shrink(read_image(image_dir / name), xy)
                for name, xy in zip(names, points, strict=True)
            )
        except Exception as error:  # no picture is worth the poses
            failed[entry.query] = described(error)
        else:
            pictures.append(MatchedPair(title, image0, image1, xy0, xy1))
    poses = log.localized_poses
    estimated = {
        condition or "queries": {name: poses[name] for name in names if name in poses}
        for condition, names in task.names.items()
    }
    try:
        ground, places = reference.cameras(poses)
        draw_localization(path, ground, places, estimated, task.truth, pictures)
    except Exception as error:
        failed[path.name] = described(error)
        path.unlink(missing_ok=True)
    return failed


def run(options: LocalizeOptions, check: bool) -> None:
    """Localize and print the figures, or only check the files of the data set.

    Raises:
        FileNotFoundError: a given file does not exist.
        ValueError: see :func:`localize`; or ``check`` found a problem.
    """
    if not check:
        print(summary(localize(options, progress=True), options))
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
    lines += outcome_lines(results)
    pictures = [] if PICTURE in data.get("not_drawn", {}) else [PICTURE]
    files = ["submission.txt", "results.json", "logs.json", *pictures]
    return "\n".join([*lines, files_line(files, options.output_dir)])


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
