"""Known poses, features and matches to a model with points: what queries are localized in."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pycolmap

from featplug.colmap import known_poses
from featplug.colmap.colours import colour_points
from featplug.colmap.database import import_features, import_matches
from featplug.colmap.known_poses import PosedCheckSummary
from featplug.colmap.mapping import log_to_file
from featplug.colmap.model_files import check_written_model, write_model_files
from featplug.io.artifact import Artifact, Provenance, value_hash
from featplug.io.images import MAX_MEGAPIXELS
from featplug.io.pair_lists import Pair, unique_pairs
from featplug.io.parts.feature_parts import open_features
from featplug.io.parts.match_parts import open_matches
from featplug.metrics.poses import intrinsics, model_cameras, model_poses

REVISION = 1
"""Revision of the models, see :mod:`featplug.io.artifact`."""


@dataclass(frozen=True, kw_only=True)
class TriangulateOptions:
    """How points are triangulated."""

    max_error: float = 4.0
    """Largest error of a match from the known epipolar geometry, in standard deviations of its
    keypoint."""
    two_view_tracks: bool = True
    """Triangulate points that only two images see, too; hloc does not."""
    seed: int = 0
    """Seed of RANSAC."""
    max_megapixels: float = MAX_MEGAPIXELS
    """Limit of decoding images for the points' colours; JPEGs above it are reduced."""
    earlier: Path | None = None
    """Folder of an earlier run, whose model is used if it was made from the same inputs."""


@dataclass(frozen=True)
class Triangulation:
    """A model that was triangulated."""

    model_dir: Path
    """COLMAP model, with the keypoints of the feature file in their order."""
    check: PosedCheckSummary
    skipped: dict[str, str] = field(default_factory=dict)
    """Images of the reference model that could not be used, and why."""
    is_reused: bool = False
    """Whether an earlier run had made it from the same inputs."""


def triangulate_known_poses(
    reference: pycolmap.Reconstruction,
    image_dir: Path,
    pairs: Sequence[Pair],
    features: Path,
    matches: Path,
    output_dir: Path,
    options: TriangulateOptions | None = None,
    **changes: Any,
) -> Triangulation:
    """Triangulate the keypoints of images whose poses are known.

    A model in the folder is reused where it was made from the same inputs.

    Args:
        reference: a COLMAP model; its registered images and cameras are used, not its points.
        image_dir: folder of the images, for the points' colours.
        pairs: which images were matched; pairs with other images are left out.
        features: feature file.
        matches: match file of the pairs.
        output_dir: gets ``model``, ``database.db``, ``colmap.log`` and ``triangulation.json``.
        options: how points are triangulated.
        changes: fields of :class:`TriangulateOptions` that replace those of ``options``.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file does not fit, or no point could be triangulated.
    """
    options = replace(options or TriangulateOptions(), **changes)
    cameras, poses = model_cameras(reference), model_poses(reference)
    with open_features(features) as feature_reader, open_matches(matches) as match_reader:
        match_reader.check_features(feature_reader)
        usable = sorted(name for name in poses if name in feature_reader)
        skipped = {
            name: f"{features} has no features of the reference image {name!r}"
            for name in sorted(set(poses) - set(usable))
        }
        if len(usable) < 2:
            raise ValueError(
                f"Of the {len(poses)} images of the reference model, {len(usable)} have features "
                f"in {features}, which has for example {next(iter(feature_reader.names()), None)!r}"
                "; extract the images of the model."
            )
        known = set(usable)
        matched_pairs = unique_pairs(pair for pair in pairs if known.issuperset(pair))
        if not matched_pairs:
            raise ValueError("No pair of the list is of two images of the reference model.")
        posed = [(name, intrinsics(cameras[name]), poses[name].tolist()) for name in usable]
        conf = {**asdict(options), "earlier": None, "pycolmap": pycolmap.__version__}
        del conf["max_megapixels"]
        provenance = Provenance(
            "triangulated model",
            conf,
            inputs={
                "reference": value_hash(posed),
                "pairs": value_hash(matched_pairs),
                "features": feature_reader.file_id,
                "matches": match_reader.file_id,
            },
            revisions={"triangulate": REVISION},
        )

        made: list[pycolmap.Reconstruction] = []

        def write(model_dir: Path) -> dict[str, Any]:
            database = output_dir / "database.db"
            model = known_poses.model_from_poses(cameras, {name: poses[name] for name in usable})
            known_poses.create_database_from_model(database, model)
            import_features(database, feature_reader)
            import_matches(database, matched_pairs, match_reader)
            check = known_poses.check_matches(
                database, matched_pairs, model, feature_reader, options.max_error
            )
            with log_to_file(output_dir / "colmap.log"):
                triangulated = known_poses.triangulate(
                    database, model, image_dir, model_dir, check,
                    options.seed, options.two_view_tracks,
                )  # fmt: skip
            colour_points(triangulated, image_dir, options.max_megapixels)
            write_model_files(triangulated, model_dir)
            made.append(triangulated)
            return asdict(check)

        for folder in (options.earlier or output_dir, output_dir):
            artifact = Artifact(folder / "model", provenance, folder / "triangulation.json")
            is_reused = artifact.reason_to_make() is None
            if is_reused:
                break
        else:
            artifact.make(write, lambda model_dir: check_written_model(made[0], model_dir))
    return Triangulation(artifact.path, PosedCheckSummary(**artifact.facts), skipped, is_reused)
