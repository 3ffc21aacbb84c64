"""Photographs to a COLMAP model: extract, pair, match, verify, map, measure.

``python -m pipelines.sfm --images DIR --feature NAME``
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pycolmap
from tqdm import tqdm

from featplug import colmap, pairs
from featplug.cli import run_command
from featplug.colmap import CameraOptions
from featplug.confs import matcher_conf
from featplug.extract import extract_features, resolve_feature_conf
from featplug.match import match_features
from featplug.metrics import aligned_pose_errors, model_poses, reconstruction_statistics
from featplug.results import (
    StageRecorder,
    data_fingerprint,
    environment,
    metric,
    write_results,
)
from featplug.store import FeatureReader, MatchReader
from pipelines.datasets.reference import read_reference_poses

logger = logging.getLogger(__name__)

_SELECTIONS: dict[str, Callable[[list[str], int], list[pairs.Pair]]] = {
    "exhaustive": lambda names, _: pairs.exhaustive(names),
    "sequential": pairs.sequential,
}


def reconstruct(
    images: Path,
    feature: str = "sift",
    matcher: str | None = None,
    pair_selection: str = "exhaustive",
    mapper: Literal["incremental", "global"] = "incremental",
    camera: CameraOptions | None = None,
    outputs: Path = Path("outputs/sfm"),
    seed: int = 0,
    reference: Path | None = None,
    overlap: int = 10,
    max_keypoints: int | None = None,
    weights: str | None = None,
    precision: str = "fp32",
    device: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Reconstruct a folder of photographs; see :func:`main` for the arguments.

    Returns:
        What ``results.json`` holds; the model is in ``outputs/model``.

    Raises:
        FileNotFoundError: something given is not there.
        ValueError: something given does not fit, or nothing could be reconstructed.
    """
    images, outputs = Path(images), Path(outputs)
    camera = camera or CameraOptions()
    feature_dict = resolve_feature_conf(feature)
    matcher_name = matcher or feature_dict["matcher"]
    matcher_dict = matcher_conf(matcher_name)
    # Whatever can be wrong with the request is looked at before the long work.
    given_pairs = None if pair_selection in _SELECTIONS else pairs.read_pairs(Path(pair_selection))
    reference_poses = None if reference is None else read_reference_poses(reference)
    if mapper == "global" and not colmap.has_global_mapping():
        raise ValueError(
            f"--mapper global needs pycolmap 4.0 or newer, this is {pycolmap.__version__}."
        )
    recorder = StageRecorder()
    with recorder.stage("extract"):
        extracted = extract_features(
            feature_dict,
            images,
            outputs,
            overwrite=overwrite,
            max_keypoints=max_keypoints,
            weights=weights,
            precision=precision,
            device=device,
            progress=progress,
        )
    with FeatureReader(extracted.feature_path) as features:
        names = features.names()
        num_keypoints = [features.shapes(name)["keypoints"][0] for name in names]
    if len(names) < 2:
        raise ValueError(f"A reconstruction needs two images or more, there is {len(names)}.")
    if given_pairs is None:
        pairs_path = outputs / f"pairs-{pair_selection}.txt"
        pair_list = _SELECTIONS[pair_selection](names, overlap)
        pairs.write_pairs(pairs_path, pair_list)
    else:
        pairs_path, pair_list = Path(pair_selection), pairs.unique_pairs(given_pairs)
    with recorder.stage("match"):
        matched = match_features(
            matcher_dict,
            pairs_path,
            extracted.feature_path,
            outputs,
            overwrite=overwrite,
            device=device,
            progress=progress,
        )
    database, log = outputs / "database.db", outputs / "colmap.log"
    log.unlink(missing_ok=True)
    with recorder.stage("verify"), colmap.log_to_file(log):
        colmap.create_database(database, images, names, camera)
        with FeatureReader(extracted.feature_path) as features:
            colmap.import_features(database, features)
        with MatchReader(matched.match_path) as matches:
            colmap.import_matches(database, pair_list, matches)
        verified = colmap.verify_matches(database, pair_list, seed)
    with recorder.stage("map"), colmap.log_to_file(log):
        model = _map(mapper, database, images, outputs, seed, camera, progress)
    model_dir = outputs / "model"
    model_dir.mkdir(exist_ok=True)
    model.write(str(model_dir))
    model.export_PLY(str(outputs / "points.ply"))

    statistics = reconstruction_statistics(model)
    metrics = {
        "images": metric(len(names) + len(extracted.skipped), "images"),
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
    if reference_poses is not None:
        metrics |= _pose_metrics(model, reference_poses)
    results = {
        "pipeline": "sfm",
        "feature": {"name": feature, **feature_dict},
        "matcher": {"name": matcher_name, **matcher_dict},
        "weights": extracted.weights,
        "options": {
            "pairs": pair_selection,
            "mapper": mapper,
            "camera": asdict(camera),
            "max_keypoints": max_keypoints,
            "precision": precision,
            "seed": seed,
        },
        "data": {
            "images": str(images.resolve()),
            "reference": None if reference is None else str(Path(reference).resolve()),
            "fingerprint": data_fingerprint(images, names),
            "skipped": extracted.skipped,
        },
        "environment": environment(),
        "stages": recorder.stages,
        "metrics": metrics,
    }
    write_results(outputs / "results.json", results)
    return results


def _map(
    mapper: str,
    database: Path,
    images: Path,
    outputs: Path,
    seed: int,
    camera: CameraOptions,
    progress: bool,
) -> pycolmap.Reconstruction:
    refine_intrinsics = camera.params is None
    models_dir = outputs / "colmap_models"
    if mapper == "global":
        return colmap.global_mapping(database, images, models_dir, seed, refine_intrinsics)
    num_images = len(colmap.image_ids(database))
    with tqdm(total=num_images, desc="map", unit="image", disable=not progress) as bar:
        return colmap.incremental_mapping(
            database, images, models_dir, seed, refine_intrinsics, on_image=lambda: _step(bar)
        )


def _step(bar: tqdm) -> None:
    bar.update()


def _pose_metrics(
    model: pycolmap.Reconstruction, reference: dict[str, np.ndarray]
) -> dict[str, Any]:
    try:
        errors = aligned_pose_errors(model_poses(model), reference)
    except ValueError as error:
        logger.warning("no pose errors: %s", error)
        return {}
    return {
        "reference_images": metric(len(errors.names), "images"),
        "median_position_error": metric(float(np.median(errors.position)), "reference units (m)"),
        "mean_position_error": metric(float(np.mean(errors.position)), "reference units (m)"),
        "max_position_error": metric(float(np.max(errors.position)), "reference units (m)"),
        "median_rotation_error": metric(float(np.median(errors.rotation)), "deg"),
        "mean_rotation_error": metric(float(np.mean(errors.rotation)), "deg"),
        "max_rotation_error": metric(float(np.max(errors.rotation)), "deg"),
    }


def main(
    images: Path,
    feature: str = "sift",
    matcher: str | None = None,
    pairs: str = "exhaustive",
    mapper: Literal["incremental", "global"] = "incremental",
    camera: CameraOptions = CameraOptions(),  # noqa: B008 (frozen; tyro shows its fields)
    outputs: Path | None = None,
    seed: int = 0,
    reference: Path | None = None,
    overlap: int = 10,
    max_keypoints: int | None = None,
    weights: str | None = None,
    precision: Literal["fp32", "fp16", "bf16"] = "fp32",
    device: str | None = None,
    overwrite: bool = False,
) -> None:
    """Reconstruct a folder of photographs with a feature of your choice.

    Features and matches that are there already are used again; the model is made anew.

    Args:
        images: folder of the photographs, at any depth.
        feature: name of the feature.
        matcher: name of the matcher; by default the feature's own.
        pairs: exhaustive, sequential (images in the order of their names), or a pair list.
        mapper: COLMAP's incremental mapper, or its global one (pycolmap 4.0 or newer).
        camera: how COLMAP cameras are made.
        outputs: folder for everything; by default outputs/sfm/SCENE-FEATURE.
        seed: of everything random.
        reference: true poses, a COLMAP model or a folder of Strecha's .camera files.
        overlap: of sequential pairs, in images.
        max_keypoints: keep that many of each image, the strongest by score.
        weights: official, featplug, or a file; by default the authors' where they are found.
        precision: of the network.
        device: such as cpu or cuda:1; the best one by default.
        overwrite: make features and matches anew.
    """
    outputs = outputs or Path("outputs") / "sfm" / f"{_scene_name(images)}-{feature}"
    results = reconstruct(
        images,
        feature,
        matcher,
        pairs,
        mapper,
        camera,
        outputs,
        seed,
        reference,
        overlap,
        max_keypoints,
        weights,
        precision,
        device,
        overwrite,
        progress=True,
    )
    print(summary(results, outputs))


def _scene_name(images: Path) -> str:
    resolved = images.resolve()
    return resolved.parent.name if resolved.name == "images" else resolved.name


def summary(results: dict[str, Any], outputs: Path) -> str:
    """Give the figures of a run as lines of text."""
    lines = [f"{results['feature']['name']} + {results['matcher']['name']}"]
    for name, entry in results["metrics"].items():
        value = entry["value"]
        shown = f"{value:,.0f}" if value == int(value) or value >= 1000 else f"{value:.4g}"
        lines.append(f"  {name.replace('_', ' '):<28}{shown:>12} {entry['unit']}")
    for name, stage in results["stages"].items():
        lines.append(
            f"  {name:<28}{stage['seconds']:>12.1f} s, peak {stage['peak_memory_mib']:.0f} MiB"
        )
    for reason in results["data"]["skipped"].values():
        lines.append(f"  skipped: {reason}")
    lines.append(f"model, points.ply, colmap.log and results.json are in {outputs}")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main, prog="python -m pipelines.sfm")
