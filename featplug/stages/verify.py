"""Features and matches to a COLMAP database with verified pairs: what models are mapped from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from featplug.colmap.cameras import CameraOptions, ImageCameras
from featplug.colmap.database import create_database, import_features, import_matches
from featplug.colmap.geometric_verification import (
    VerificationSummary,
    checked_summary,
    verify_matches,
)
from featplug.colmap.mapping import log_to_file
from featplug.colmap.rigs import Rigs
from featplug.colmap.verified_pairs import write_verified_pairs
from featplug.io.artifact import file_hash, files_hash
from featplug.io.pair_lists import Pair
from featplug.io.parts.feature_parts import open_features
from featplug.io.parts.verified_parts import VerifiedParts, open_matches_or_inliers


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """How pairs are verified."""

    camera: CameraOptions = field(default_factory=CameraOptions)
    """How COLMAP cameras are made."""
    rigs: Rigs | None = None
    """Rigs of the images, whose cameras they have."""
    max_error: float = 4.0
    """Largest error of an inlier, in pixels."""
    seed: int = 0
    """Seed of RANSAC."""


@dataclass(frozen=True)
class VerifiedPairs:
    """What a database with verified pairs was made of."""

    summary: VerificationSummary
    cameras: ImageCameras


def verify_pairs(
    database: Path,
    image_dir: Path,
    names: Sequence[str],
    features: Path,
    matches: Path,
    pairs: Sequence[Pair],
    options: VerifyOptions,
    progress: bool = False,
) -> VerifiedPairs:
    """Write a database with cameras, keypoints, matches and two-view geometries.

    An existing database is replaced; ``colmap.log`` is written next to it. A bar shows the progress
    of verification on request.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file does not fit, or no pair was verified.
    """
    with log_to_file(database.with_name("colmap.log")):
        with open_features(features) as reader, open_matches_or_inliers(matches) as matched:
            matched.check_features(reader)
            cameras = create_database(database, image_dir, names, options.camera, options.rigs)
            import_features(database, reader)
            import_matches(database, pairs, matched)
        summary = verify_matches(database, pairs, options.seed, options.max_error, progress)
    return VerifiedPairs(summary, cameras)


def import_verified_pairs(
    database: Path,
    image_dir: Path,
    names: Sequence[str],
    features: Path,
    verified: Path,
    options: VerifyOptions,
    pairs: Sequence[Pair] | None = None,
) -> VerifiedPairs:
    """Write a database with cameras, keypoints and the two-view geometries of a store.

    An existing database is replaced. It has no matches, which mappers do not read.

    Args:
        database: COLMAP's database.
        image_dir: folder of the photographs.
        names: the images.
        features: feature file, or folder of parts.
        verified: folder of the parts of verified pairs.
        options: how cameras are made, as when the pairs were verified.
        pairs: pairs that are used; all by default.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file does not fit, the pairs were verified with other cameras, or no pair of
            these images was verified.
    """
    with open_features(features) as feature_reader, VerifiedParts(verified) as reader:
        _check_cameras(reader, options)
        reader.check_features(feature_reader)
        cameras = create_database(database, image_dir, names, options.camera)
        import_features(database, feature_reader)
        summary = write_verified_pairs(database, reader.read_all(), pairs)
    return VerifiedPairs(checked_summary(summary), cameras)


def camera_conf(camera: CameraOptions) -> dict[str, str | bool | None]:
    """Return options of cameras as JSON values; a file is known by its contents."""
    known = None
    if camera.file is not None and camera.file.is_dir():
        names = sorted(path.name for path in camera.file.iterdir() if path.is_file())
        known = files_hash(camera.file, names)
    elif camera.file is not None:
        known = file_hash(camera.file)
    return {
        "mode": camera.mode,
        "model": camera.model,
        "params": camera.params,
        "file": known,
        "scale": camera.scale,
    }


def _check_cameras(verified: VerifiedParts, options: VerifyOptions) -> None:
    """Raise ValueError if pairs were verified with other cameras."""
    if options.rigs is not None:
        raise ValueError(
            f"The pairs of {verified.path} were verified without rigs; leave out the rigs, or "
            "verify in the run that maps, without --verified."
        )
    recorded = verified.provenance.conf.get("camera", {}) if verified.provenance else {}
    conf = camera_conf(options.camera)
    for key, value in conf.items():
        if recorded.get(key) != value:
            raise ValueError(
                f"The pairs of {verified.path} were verified with camera {key} = "
                f"{recorded.get(key)}, this run has {value}; give the same --camera options, or "
                "verify them again."
            )
