"""Features and matches to a COLMAP database with verified pairs: what models are mapped from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from featplug.colmap.cameras import CameraOptions, ImageCameras
from featplug.colmap.database import (
    create_database,
    import_features,
    import_matches,
    write_verified_pairs,
)
from featplug.colmap.geometric_verification import VerificationSummary, verify_matches
from featplug.colmap.mapping import log_to_file
from featplug.colmap.rigs import Rigs
from featplug.io.pair_lists import Pair
from featplug.io.parts.feature_parts import open_features
from featplug.io.parts.match_parts import open_matches
from featplug.io.parts.verified_parts import read_verified_parts


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
        with open_features(features) as feature_reader, open_matches(matches) as match_reader:
            match_reader.check_features(feature_reader)
            cameras = create_database(database, image_dir, names, options.camera, options.rigs)
            import_features(database, feature_reader)
            import_matches(database, pairs, match_reader)
        summary = verify_matches(database, pairs, options.seed, options.max_error, progress)
    return VerifiedPairs(summary, cameras)


def import_verified_pairs(
    database: Path,
    image_dir: Path,
    names: Sequence[str],
    features: Path,
    verified: Path,
    options: VerifyOptions,
) -> VerifiedPairs:
    """Write a database with cameras, keypoints and the verified pairs of a store's parts.

    An existing database is replaced. Matches are the inliers.

    Args:
        database: COLMAP's database.
        image_dir: folder of the photographs.
        names: the images.
        features: feature file, or folder of parts.
        verified: folder of the parts of verified pairs.
        options: how cameras are made.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file does not fit, or no pair of these images was verified.
    """
    with open_features(features) as feature_reader:
        cameras = create_database(database, image_dir, names, options.camera, options.rigs)
        import_features(database, feature_reader)
    num_inliers = write_verified_pairs(database, read_verified_parts(verified))
    if not num_inliers:
        raise ValueError(
            f"{verified} has no verified pair of these images; verify the matches of their pairs."
        )
    num = len(num_inliers)
    return VerifiedPairs(VerificationSummary(num, num, tuple(num_inliers)), cameras)
