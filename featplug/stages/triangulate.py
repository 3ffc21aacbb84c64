"""Known poses, features and matches to a model with points: what queries are localized in."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pycolmap

from featplug.colmap import known_poses
from featplug.colmap.database import import_features, import_matches
from featplug.colmap.known_poses import PosedCheckSummary
from featplug.colmap.mapping import log_to_file
from featplug.io.pair_lists import Pair, unique_pairs
from featplug.io.store import FeatureReader, MatchReader
from featplug.metrics.poses import intrinsics, model_cameras, model_poses


@dataclass(frozen=True)
class Triangulation:
    """A model that was triangulated."""

    model_dir: Path
    """COLMAP model, with the keypoints of the feature file in their order."""
    check: PosedCheckSummary
    skipped: dict[str, str] = field(default_factory=dict)
    """Images of the reference model that could not be used, and why."""
    is_reused: bool = False
    """An earlier run had made it from the same inputs."""


def triangulate_known_poses(
    reference: pycolmap.Reconstruction,
    image_dir: Path,
    pairs: Sequence[Pair],
    features: Path,
    matches: Path,
    output_dir: Path,
    *,
    max_error: float = 4.0,
    two_view_tracks: bool = True,
    seed: int = 0,
) -> Triangulation:
    """Triangulate the keypoints of images whose poses are known.

    A model that is in the folder is used again where it was made from the same inputs.

    Args:
        reference: a COLMAP model; its registered images and cameras are used, not its points.
        image_dir: folder of the images, for the points' colours.
        pairs: which images were matched; pairs with other images are left out.
        features: feature file.
        matches: match file of the pairs.
        output_dir: gets ``model``, ``database.db``, ``colmap.log`` and ``triangulation.json``.
        max_error: of a match from the known epipolar geometry, in standard deviations of its
            keypoint.
        two_view_tracks: also triangulate points that two images see; hloc does not.
        seed: of RANSAC.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a file does not fit, or there is no point in the end.
    """
    model_dir, record = output_dir / "model", output_dir / "triangulation.json"
    cameras, poses = model_cameras(reference), model_poses(reference)
    with FeatureReader(features) as feature_reader, MatchReader(matches) as match_reader:
        usable = sorted(name for name in poses if name in feature_reader)
        skipped = {
            name: f"{features} has no features of the reference image {name!r}"
            for name in sorted(set(poses) - set(usable))
        }
        if len(usable) < 2:
            raise ValueError(
                f"Of the {len(poses)} images of the reference model, {len(usable)} have features "
                f"in {features}, which has for example {next(iter(feature_reader.names()), None)!r}"
                "; give the images that the model is of."
            )
        known = set(usable)
        wanted = unique_pairs(pair for pair in pairs if known.issuperset(pair))
        if not wanted:
            raise ValueError("No pair of the list is of two images of the reference model.")
        inputs = {
            "reference": _digest([(n, intrinsics(cameras[n]), poses[n].tolist()) for n in usable]),
            "pairs": _digest(wanted),
            "features": feature_reader.file_id,
            "matches": _match_file_id(match_reader),
            "max_error": max_error,
            "two_view_tracks": two_view_tracks,
            "seed": seed,
            "pycolmap": pycolmap.__version__,
        }
        if (check := _earlier_run(record, model_dir, inputs)) is not None:
            return Triangulation(model_dir, check, skipped, is_reused=True)
        record.unlink(missing_ok=True)
        shutil.rmtree(model_dir, ignore_errors=True)
        database = output_dir / "database.db"
        model = known_poses.model_from_poses(cameras, {name: poses[name] for name in usable})
        known_poses.create_database_from_model(database, model)
        import_features(database, feature_reader)
        import_matches(database, wanted, match_reader)
        check = known_poses.check_matches(database, wanted, model, feature_reader, max_error)
    with log_to_file(output_dir / "colmap.log"):
        known_poses.triangulate(database, model, image_dir, model_dir, check, seed, two_view_tracks)
    record.write_text(json.dumps({"inputs": inputs, "check": asdict(check)}, indent=2) + "\n")
    return Triangulation(model_dir, check, skipped)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]


def _match_file_id(matches: MatchReader) -> str:
    """Tell this file from others: our own number, for hloc's files size and time."""
    if matches.provenance is not None:
        return matches.provenance.file_id
    status = matches.path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def _earlier_run(
    record: Path, model_dir: Path, inputs: Mapping[str, Any]
) -> PosedCheckSummary | None:
    """Give what an earlier run of the same inputs found, where it ended; its record comes last."""
    try:
        found = json.loads(record.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if found["inputs"] != inputs or not (model_dir / "points3D.bin").is_file():
        return None
    return PosedCheckSummary(**found["check"])
