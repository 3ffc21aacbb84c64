"""The multiview track of PhotoTourism: COLMAP models of small subsets of a scene's images.

Jin et al., IJCV 2021, sections 3.3 and 4.1. Features are extracted and matched once; each subset is
reconstructed alone. Measured is the mean accuracy (mAA) of the relative poses of all pairs of a
subset, in its model with most images: a pair with an image that is not registered counts as a
failure, and so do all pairs of a subset without a model. Figures are means over subsets of one
number of images, and those of the part ``all`` means over these numbers; figures of the data set
``phototourism`` are means over its scenes.

The authors' absolute trajectory error is not measured: it leaves out the images that a random
alignment calls wrong, and subsets without a model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.choices import FAILURES, problem_of
from benchmarks.measured_method import MeasuredMethod, recorded_matcher
from benchmarks.pairs.datasets.phototourism import TEST, VALIDATION
from benchmarks.pairs.posed_pairs import relative_pose
from benchmarks.reconstruction.kept_models import map_or_reuse, matching_costs, reuse_features
from benchmarks.reconstruction.options import ReconstructionOptions
from benchmarks.reconstruction.scenes import Scene
from benchmarks.reconstruction.subsets import NUM_SUBSETS, Subset, SubsetScene, read_subsets
from benchmarks.record import Problem, Row, counted
from benchmarks.settings import recorded_settings
from featplug.colmap.model_files import read_model
from featplug.io.metric_table import with_units
from featplug.io.pair_lists import write_pairs
from featplug.metrics.homography import error_auc
from featplug.metrics.poses import model_poses
from featplug.metrics.relative_pose import MAA_ANGLES, mean_accuracy, relative_pose_error
from pipelines.run_record import PipelineRecord, run_record
from pipelines.sfm import MatchedScene, SfmOptions, match_scene

PROTOCOL = "phototourism-multiview"
_AUC_ANGLES = (3.0, 5.0, 10.0)

Costs = dict[str, dict[str, float]]
"""Stage to its ``seconds`` and ``peak_memory_mib``."""


def measure_subsets(
    scene: Scene,
    method: MeasuredMethod,
    options: ReconstructionOptions,
    before: list[SfmOptions],
    progress: bool = False,
) -> tuple[list[Row], list[Problem]]:
    """Extract and match once, and make a model of each subset with each seed.

    ``before`` are the options of the methods before, whose features can be the same.
    """
    subject = f"{method.name} on {scene.name}"
    try:
        truth = read_subsets(scene.images.parent.parent, options.num_subsets)
        method.check_number(options.max_keypoints)
        of_method = _of_method(scene, truth, method, options)
        reuse_features(of_method, before)
        before.append(of_method)
        matched = match_scene(of_method, progress)
        costs, earlier = matching_costs(of_method.output_dir, matched)
    except FAILURES as error:
        return [], [problem_of(subject, error)]
    problems = [Problem(f"{scene.name}/{p.subject}", p.reason) for p in truth.problems]
    problems += [Problem(f"{scene.name}/{name}", why) for name, why in matched.skipped.items()]
    rows: list[Row] = []
    for seed in options.chosen_seeds():
        of_seed = replace(of_method, seed=seed)
        records, figures, failed = _models(matched, of_seed, truth, f"{subject}, seed {seed}")
        problems += failed
        described = run_record(matched.stages, of_seed, matched.features)
        row = Row(
            method.name,
            scene.name,
            PROTOCOL,
            seed=seed,
            matcher=recorded_matcher(described),
            settings=recorded_settings(described),
            weights=described["weights"],
            methods=described["methods"],
            not_comparable=_deviation(truth, matched, method, options),
        )
        stages = _with_costs(costs, records, matched)
        for part, metrics in _by_size(truth.subsets, figures).items():
            of_part = replace(row, part=part, metrics=with_units(metrics))
            if part == "all":
                of_part = replace(of_part, stages=stages, reused=earlier)
            rows.append(of_part)
    return rows, problems


def _models(
    matched: MatchedScene, options: SfmOptions, truth: SubsetScene, subject: str
) -> tuple[list[PipelineRecord], dict[str, dict[str, float]], list[Problem]]:
    """Make the models of all subsets; return their records, figures by subset, and failures."""
    records, figures = [], {}
    failures: dict[str, Problem] = {}
    for subset in truth.subsets:
        folder = options.output_dir / f"seed-{options.seed}" / subset.name
        poses: Mapping[str, np.ndarray] = {}
        record = None
        try:
            of_subset = _of_subset(matched, subset)
            record, _ = map_or_reuse(of_subset, replace(options, outputs=folder))
            poses = model_poses(read_model(folder / "model"))
            records.append(record)
        except FAILURES as error:
            failures[subset.name] = problem_of(subject, error)
        figures[subset.name] = subset_figures(subset, poses, truth.cam_from_world, record)
    if not failures:
        return records, figures, []
    (name, first), number = next(iter(failures.items())), len(failures)
    verb = "has" if number == 1 else "have"
    reason = (
        f"{number} of {len(truth.subsets)} subsets {verb} no model, and all their pairs count as "
        f"failures; {name}: {first.reason}"
    )
    return records, figures, [Problem(subject, reason)]


def _of_method(
    scene: Scene, truth: SubsetScene, method: MeasuredMethod, options: ReconstructionOptions
) -> SfmOptions:
    """Return the pipeline's options, with the pairs of the subsets and a camera for each image."""
    of_method = options.of_method(scene, method)
    # Photographs from Flickr have no EXIF here, and no two the same camera.
    if of_method.camera.mode == "auto":
        of_method = replace(of_method, camera=replace(of_method.camera, mode="per-image"))
    if options.pairs != "exhaustive":
        return of_method
    path = options.output_dir / scene.name / "pairs-of-subsets.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_pairs(path, truth.matched)
    return replace(of_method, pairs=str(path))


def _of_subset(matched: MatchedScene, subset: Subset) -> MatchedScene:
    """Return the features and matches of a subset.

    Raises:
        ValueError: fewer than two of its images have features.
    """
    names = [name for name in matched.features.names if name in subset.images]
    if len(names) < 2:
        raise ValueError(f"{len(names)} of the {len(subset.images)} images have features.")
    return replace(
        matched,
        features=replace(matched.features, names=names),
        pairs=[pair for pair in matched.pairs if set(pair) <= set(names)],
        skipped={n: why for n, why in matched.skipped.items() if n in subset.images},
    )


def subset_figures(
    subset: Subset,
    estimated: Mapping[str, np.ndarray],
    true: Mapping[str, np.ndarray],
    record: PipelineRecord | None,
) -> dict[str, float]:
    """Return the figures of one subset.

    Args:
        subset: its images.
        estimated: registered image to ``cam_from_world`` 3×4, in any similarity frame.
        true: image to its true ``cam_from_world``.
        record: record of its model; None where there is none.
    """
    angles = []
    for name0, name1 in subset.pairs:
        expected = relative_pose(true[name0], true[name1])
        found = None
        if name0 in estimated and name1 in estimated:
            found = relative_pose(estimated[name0], estimated[name1])
        angles.append(relative_pose_error(found, expected).angle)
    areas = error_auc(angles, _AUC_ANGLES)
    figures = {
        f"pose_maa_{MAA_ANGLES[-1]:g}": mean_accuracy(angles),
        "pose_maa_5": mean_accuracy(angles, MAA_ANGLES[:5]),
        **{f"pose_auc_{angle:g}": area for angle, area in zip(_AUC_ANGLES, areas, strict=True)},
        "registered_fraction": len(set(subset.images) & set(estimated)) / len(subset.images),
        "sets_without_model": float(record is None),
    }
    if record is not None:
        of_model = ("sparse_points", "mean_track_length", "mean_reprojection_error")
        figures |= {name: record["metrics"][name]["value"] for name in of_model}
    return figures


def _by_size(
    subsets: Sequence[Subset], figures: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """Return means over the subsets of each number of images, after the means over these."""
    parts: dict[str, dict[str, float]] = {}
    for size in sorted({len(subset.images) for subset in subsets}):
        of_size = [figures[s.name] for s in subsets if len(s.images) == size]
        parts[f"{size} images"] = _means(of_size)
    return {"all": _means(list(parts.values())), **parts}


def _means(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each figure over those that have it."""
    names = dict.fromkeys(name for each in figures for name in each)
    return {name: float(np.mean([e[name] for e in figures if name in e])) for name in names}


def _with_costs(costs: Costs, records: Sequence[PipelineRecord], matched: MatchedScene) -> Costs:
    """Add the seconds of the stages of all models."""
    added = dict(costs)
    for record in records:
        for stage, cost in record["stages"].items():
            if stage not in matched.stages.recorder.stages:
                before = added.get(stage, {"seconds": 0.0, "peak_memory_mib": 0.0})
                added[stage] = {
                    "seconds": before["seconds"] + cost["seconds"],
                    "peak_memory_mib": max(before["peak_memory_mib"], cost["peak_memory_mib"]),
                }
    return added


def _deviation(
    truth: SubsetScene,
    matched: MatchedScene,
    method: MeasuredMethod,
    options: ReconstructionOptions,
) -> str | None:
    """Return how a run differs from the authors'; None where it does not."""
    reasons = []
    for size, expected in NUM_SUBSETS.items():
        number = sum(len(subset.images) == size for subset in truth.subsets)
        if number != expected:
            reasons.append(f"{number} of {expected} subsets of {size} images")
    if matched.features.skipped:
        num = counted(len(matched.features.skipped), "image")
        reasons.append(f"{num} could not be used")
    reasons.append(options.deviation(method) or "")
    return "; ".join(filter(None, reasons)) or None


def mean_rows(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the means over the test scenes, which papers report, and over those for validation.

    Args:
        rows: rows of a run, of any scenes.

    Returns:
        Name of the data set to its rows, where two or more of its scenes were measured.
    """
    found = {}
    for dataset, scenes in (("phototourism", TEST), ("phototourism-val", VALIDATION)):
        of_set = [row for row in rows if row.protocol == PROTOCOL and row.dataset in scenes]
        if len({row.dataset for row in of_set}) > 1:
            found[dataset] = _mean_rows(dataset, scenes, of_set)
    return found


def _mean_rows(dataset: str, scenes: Sequence[str], rows: Sequence[Row]) -> list[Row]:
    means = []
    for key in dict.fromkeys((row.feature, row.seed, row.part) for row in rows):
        same = [row for row in rows if (row.feature, row.seed, row.part) == key]
        missing = len(scenes) - len({row.dataset for row in same})
        lacking = f"{missing} of {len(scenes)} scenes" if missing else None
        reasons = dict.fromkeys(
            [lacking and f"without {lacking}", *(r.not_comparable for r in same)]
        )
        figures = [{name: m["value"] for name, m in row.metrics.items()} for row in same]
        means.append(
            replace(
                same[0],
                dataset=dataset,
                metrics=with_units(_means(figures)),
                stages={},
                reused=[],
                not_comparable="; ".join(filter(None, reasons)) or None,
            )
        )
    return means
