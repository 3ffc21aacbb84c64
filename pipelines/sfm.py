"""Photographs to a COLMAP model: extract, pair, match, verify, map, measure.

``python -m pipelines.sfm --images DIR --feature NAME``
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pycolmap
import tyro

from featplug.cli.command_line import leave_config, run_command
from featplug.colmap.cameras import CameraOptions, check_camera
from featplug.colmap.database import (
    VerificationSummary,
    create_database,
    image_ids,
    import_features,
    import_matches,
    verify_matches,
)
from featplug.colmap.mapping import (
    global_mapping,
    incremental_mapping,
    log_to_file,
    require_global_mapping,
)
from featplug.io.images import list_images
from featplug.io.pair_lists import Pair, read_pairs, unique_pairs, write_pairs
from featplug.io.results import (
    StageRecorder,
    data_fingerprint,
    metric,
    write_results,
)
from featplug.io.store import FeatureReader, MatchReader
from featplug.metrics.poses import aligned_pose_errors, model_poses, reconstruction_statistics
from featplug.stages import pairs
from featplug.stages.retrieve import RetrievalSummary
from featplug.utils.progress import progress_bar
from pipelines.datasets.reference import read_reference_poses, reference_unit
from pipelines.run import (
    FeatureOptions,
    Features,
    check_request,
    default_outputs,
    match_pairs,
    retrieve_pairs,
    run_record,
    scene_features,
    stage_lines,
)

_SELECTIONS = ("exhaustive", "sequential", "retrieval")


@dataclass(frozen=True)
class SfmOptions:
    """What to reconstruct, and how."""

    images: Path
    """Folder of the photographs, at any depth."""
    extraction: Annotated[FeatureOptions, tyro.conf.arg(name="")] = field(
        default_factory=FeatureOptions
    )
    """Which features, and how they are made."""
    matcher: str | None = None
    """Name of the matcher; by default the feature's own."""
    pairs: str = "exhaustive"
    """exhaustive, sequential (images in the order of their names), retrieval, or a pair list."""
    overlap: int = 10
    """Of sequential pairs, in images."""
    retrieval: str = "vlad"
    """Name of the global descriptor for --pairs retrieval: vlad or netvlad."""
    num_matched: int = 20
    """How many images each is paired with by retrieval."""
    matches: Path | None = None
    """Match file to use instead of matching; needs --pairs with its list."""
    mapper: Literal["incremental", "global"] = "incremental"
    """COLMAP's incremental mapper, or its global one (pycolmap 4.0 or newer)."""
    camera: CameraOptions = field(default_factory=CameraOptions)
    """How COLMAP cameras are made."""
    outputs: Path | None = None
    """Folder for everything; by default outputs/sfm/SCENE-FEATURE, with the name of a given feature
    file for the feature."""
    reference: Path | None = None
    """True poses: a COLMAP model, or a folder of Strecha's .camera files."""
    seed: int = 0
    """Of everything random."""
    memory_gib: float = 1.0
    """Memory for matching."""

    @property
    def output_dir(self) -> Path:
        """Folder for everything."""
        if self.outputs is not None:
            return self.outputs
        resolved = self.images.resolve()
        scene = resolved.parent.name if resolved.name == "images" else resolved.name
        return default_outputs("sfm", scene, self.extraction)


@dataclass(frozen=True)
class MatchedScene:
    """Features and matches of a folder of photographs: what models are made from, by any seed."""

    features: Features
    matcher: str
    """Its name."""
    pairs: list[Pair]
    matches: Path
    retrieval: RetrievalSummary | None
    """What it did, where it chose pairs."""
    reference: dict[str, np.ndarray]
    """Image name to the true ``cam_from_world``, 3×4; empty where none are known."""
    fingerprint: str
    """Of the photographs."""
    skipped: dict[str, str]
    """Images that could not be used, and why."""
    reused: dict[str, int]
    """Stage to what an earlier run had made: images and pairs."""
    stages: dict[str, dict[str, float]]
    """See :class:`featplug.io.results.StageRecorder`."""


def reconstruct(options: SfmOptions, progress: bool = False) -> dict[str, Any]:
    """Reconstruct a folder of photographs.

    Features and matches that are in the output folder already are used again; the model is made
    anew.

    Returns:
        What ``results.json`` holds.

    Raises:
        FileNotFoundError: something given is not there.
        ValueError: something given does not fit, or nothing could be reconstructed.
    """
    return map_scene(match_scene(options, progress), options, progress)


def match_scene(options: SfmOptions, progress: bool = False) -> MatchedScene:
    """Extract and match, as far as that is not in the output folder already.

    Nothing of it depends on the seed.

    Raises:
        FileNotFoundError: something given is not there.
        ValueError: something given does not fit, or there are not two images with features.
    """
    outputs = options.output_dir
    # Whatever can be wrong with the request is looked at before the long work.
    matcher = check_request(
        options.extraction,
        options.matcher,
        options.retrieval,
        options.pairs not in _SELECTIONS,
        options.matches,
    )
    reference = {} if options.reference is None else read_reference_poses(options.reference)
    if options.mapper == "global":
        require_global_mapping()
    check_camera(options.camera)
    given_pairs = None
    if options.pairs not in _SELECTIONS:
        given_pairs = unique_pairs(read_pairs(Path(options.pairs)))

    recorder = StageRecorder()
    with recorder.stage("extract"):
        names = list_images(options.images)
        leave_config(options)
        inputs = scene_features(options.extraction, options.images, names, outputs, progress)
    if len(inputs.names) < 2:
        raise ValueError(
            f"A reconstruction needs two images or more, there is {len(inputs.names)}"
            + "".join(f"; {reason.rstrip('.')}" for reason in list(inputs.skipped.values())[:1])
            + "."
        )
    fingerprint = data_fingerprint(options.images, inputs.names)
    skipped = dict(inputs.skipped)
    retrieval = None
    if given_pairs is None:
        pairs_path = outputs / f"pairs-{options.pairs}.txt"
        with recorder.stage("pairs"):
            given_pairs, retrieval = _select_pairs(options, inputs, outputs, progress)
        skipped.update(retrieval.skipped if retrieval else {})
        write_pairs(pairs_path, given_pairs)
    else:
        pairs_path = Path(options.pairs)
        known = set(inputs.names)
        for name in dict.fromkeys(name for pair in given_pairs for name in pair):
            if name not in known:
                skipped.setdefault(name, f"the pair list names {name!r}, which has no features")
        given_pairs = [pair for pair in given_pairs if known.issuperset(pair)]
    with recorder.stage("match"):
        matches, num_pairs_reused = options.matches, 0
        if matches is None:
            matches, num_pairs_reused = match_pairs(
                matcher,
                pairs_path,
                inputs,
                outputs,
                options.extraction,
                options.memory_gib,
                progress,
            )
    return MatchedScene(
        inputs,
        matcher,
        given_pairs,
        matches,
        retrieval,
        reference,
        fingerprint,
        skipped,
        {"extract": inputs.num_reused, "match": num_pairs_reused},
        recorder.stages,
    )


def map_scene(scene: MatchedScene, options: SfmOptions, progress: bool = False) -> dict[str, Any]:
    """Verify the matches of a scene and make a model; an earlier one in the folder is replaced.

    Args:
        scene: what :func:`match_scene` gave.
        options: the same, but for the seed, the output folder and what else is of mapping.
        progress: show bars.

    Returns:
        What ``results.json`` holds.

    Raises:
        ValueError: nothing could be reconstructed.
    """
    outputs, inputs = options.output_dir, scene.features
    _remove_old_model(outputs)
    recorder = StageRecorder()
    log = outputs / "colmap.log"
    with recorder.stage("verify"), log_to_file(log):
        verified = _verify(options, inputs, scene.pairs, scene.matches, outputs)
    with recorder.stage("map"), log_to_file(log):
        model = _map(options, outputs, progress)
    (outputs / "model").mkdir()
    model.write(str(outputs / "model"))
    model.export_PLY(str(outputs / "points.ply"))

    metrics = _model_metrics(model, inputs, verified)
    skipped = dict(scene.skipped)
    if options.reference is not None:
        try:
            unit = reference_unit(options.reference)
            metrics |= _pose_metrics(model, scene.reference, unit)
        except ValueError as error:  # the model is good without, and the record says why
            skipped["reference"] = f"no pose errors: {error}"
    record = run_record(
        "sfm", asdict(options), inputs, scene.matcher, options.matches, scene.retrieval
    )
    results = {
        **record,
        "data": {
            "images": str(options.images.resolve()),
            "fingerprint": scene.fingerprint,
            "skipped": skipped,
            "not_registered": sorted(set(inputs.names) - set(model_poses(model))),
        },
        "reused": scene.reused,
        "stages": scene.stages | recorder.stages,
        "metrics": metrics,
    }
    write_results(outputs / "results.json", results)
    return results


def _select_pairs(
    options: SfmOptions, inputs: Features, outputs: Path, progress: bool
) -> tuple[list[Pair], RetrievalSummary | None]:
    """Choose pairs as the options say, and tell what retrieval did for it."""
    if options.pairs == "exhaustive":
        return pairs.exhaustive(inputs.names), None
    if options.pairs == "sequential":
        return pairs.sequential(inputs.names, options.overlap), None
    chosen, described = retrieve_pairs(
        options.retrieval,
        options.num_matched,
        options.images,
        outputs,
        inputs,
        options.extraction,
        queries=inputs.names,
        database=inputs.names,
        progress=progress,
    )
    return unique_pairs(chosen), described


def _remove_old_model(outputs: Path) -> None:
    """So that a run that fails does not leave an earlier run's results as its own."""
    for name in ("results.json", "points.ply", "colmap.log"):
        (outputs / name).unlink(missing_ok=True)
    for name in ("model", "colmap_models"):
        shutil.rmtree(outputs / name, ignore_errors=True)


def _verify(
    options: SfmOptions, inputs: Features, pair_list: list[Pair], matches: Path, outputs: Path
) -> VerificationSummary:
    """Bring features and matches into COLMAP's database, and verify them."""
    database = outputs / "database.db"
    create_database(database, options.images, inputs.names, options.camera)
    with FeatureReader(inputs.path) as feature_reader:
        import_features(database, feature_reader)
    with MatchReader(matches) as match_reader:
        import_matches(database, pair_list, match_reader)
    return verify_matches(database, pair_list, options.seed)


def _map(options: SfmOptions, outputs: Path, progress: bool) -> pycolmap.Reconstruction:
    database, models = outputs / "database.db", outputs / "colmap_models"
    refine = options.camera.params is None
    if options.mapper == "global":
        return global_mapping(database, options.images, models, options.seed, refine)
    num_images = len(image_ids(database))
    with progress_bar(None, "map", num_images, "image", progress) as bar:
        return incremental_mapping(
            database, options.images, models, options.seed, refine, on_images=bar.update
        )


def _model_metrics(
    model: pycolmap.Reconstruction, inputs: Features, verified: VerificationSummary
) -> dict[str, Any]:
    with FeatureReader(inputs.path) as features:
        num_keypoints = [features.shapes(name)["keypoints"][0] for name in inputs.names]
    statistics = reconstruction_statistics(model)
    return {
        "images": metric(len(inputs.names) + len(inputs.skipped), "images"),
        "registered_images": metric(statistics.num_registered, "images"),
        "sparse_points": metric(statistics.num_points, "points"),
        "observations": metric(statistics.num_observations, "observations"),
        "mean_track_length": metric(statistics.mean_track_length, "observations per point"),
        "mean_observations_per_image": metric(
            statistics.mean_observations_per_image, "observations per image"
        ),
        "mean_reprojection_error": metric(statistics.mean_reprojection_error, "px"),
        "mean_keypoints": metric(float(np.mean(num_keypoints)), "keypoints per image"),
        "matched_pairs": metric(verified.num_matched_pairs, "pairs"),
        "verified_pairs": metric(verified.num_verified_pairs, "pairs"),
        "inlier_matches": metric(verified.num_inlier_matches, "matches"),
    }


def _pose_metrics(
    model: pycolmap.Reconstruction, reference: dict[str, np.ndarray], unit_of_length: str
) -> dict[str, Any]:
    errors = aligned_pose_errors(model_poses(model), reference)
    metrics = {"reference_images": metric(len(errors.names), "images")}
    for name, values, unit in (
        ("position", errors.position, unit_of_length),
        ("rotation", errors.rotation, "deg"),
    ):
        metrics[f"median_{name}_error"] = metric(float(np.median(values)), unit)
        metrics[f"mean_{name}_error"] = metric(float(np.mean(values)), unit)
        metrics[f"max_{name}_error"] = metric(float(np.max(values)), unit)
    return metrics


def main(options: Annotated[SfmOptions, tyro.conf.arg(name="")]) -> None:
    """Reconstruct a folder of photographs with a feature of your choice.

    Features and matches that are in the output folder already are used again; the model is made
    anew. The output folder gets the COLMAP model, points.ply, results.json and colmap.log.
    """
    results = reconstruct(options, progress=True)
    print(summary(results, options.output_dir))


def summary(results: dict[str, Any], outputs: Path) -> str:
    """Give the figures of a run as lines of text."""
    lines = [f"{results['feature']} + {results['matcher']}"]
    for name, entry in results["metrics"].items():
        value = entry["value"]
        shown = f"{value:,.0f}" if value == int(value) or value >= 1000 else f"{value:.4g}"
        lines.append(f"  {name.replace('_', ' '):<28}{shown:>12} {entry['unit']}")
    lines += stage_lines(results)
    for reason in results["data"]["skipped"].values():
        lines.append(f"  skipped: {reason}")
    if missing := results["data"]["not_registered"]:
        lines.append(f"  not registered: {', '.join(missing[:10])}{' …' * (len(missing) > 10)}")
    lines.append(f"model, points.ply, colmap.log and results.json are in {outputs}")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main, prog="python -m pipelines.sfm")
