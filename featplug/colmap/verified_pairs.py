"""Verified pairs of a store as two-view geometries in COLMAP's database, and the reverse."""

from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
import pycolmap

from featplug.colmap.database import image_ids
from featplug.colmap.database_rows import check_rows, open_database
from featplug.colmap.geometric_verification import VerificationSummary, is_estimated
from featplug.io.pair_lists import Pair
from featplug.io.parts.verified_parts import MATRICES, VerifiedPair


def to_verified_pair(
    names: Pair, num_matches: int, geometry: pycolmap.TwoViewGeometry, is_chance: bool = False
) -> VerifiedPair:
    """Return what a store keeps of the geometry of a pair: without the matches that do not fit."""
    estimated = {name: getattr(geometry, name) for name in MATRICES}
    matrices = {name: np.array(m) for name, m in estimated.items() if is_estimated(m)}
    inliers = np.asarray(geometry.inlier_matches, np.uint32).reshape(-1, 2)
    config = pycolmap.TwoViewGeometryConfiguration(geometry.config).name
    return VerifiedPair(names, num_matches, config, inliers, matrices, is_chance)


def to_geometry(pair: VerifiedPair) -> pycolmap.TwoViewGeometry:
    """Return the geometry of a pair of a store.

    Raises:
        ValueError: this pycolmap has no such geometry.
    """
    known = pycolmap.TwoViewGeometryConfiguration.__members__
    if pair.config not in known:
        raise ValueError(
            f"The geometry {pair.config!r} of {pair.names[0]!r} and {pair.names[1]!r} is unknown "
            f"to pycolmap {pycolmap.__version__}; verify the pair with this version."
        )
    geometry = pycolmap.TwoViewGeometry()
    geometry.config = known[pair.config]
    geometry.inlier_matches = np.ascontiguousarray(pair.inliers, np.uint32)
    for name, matrix in pair.matrices.items():
        setattr(geometry, name, matrix)
    return geometry


def write_verified_pairs(
    database_path: Path, verified: Iterable[VerifiedPair], selected: Collection[Pair] | None = None
) -> VerificationSummary:
    """Write the two-view geometries of pairs whose images are in the database.

    Their matches are left out: COLMAP's mappers read only the inliers of geometries.

    Args:
        database_path: a database with images and keypoints.
        verified: the pairs.
        selected: those that are used, in either order; all by default.

    Raises:
        ValueError: a pair is of keypoints that do not exist, or the disk is full.
    """
    chosen = None if selected is None else {frozenset(pair) for pair in selected}
    ids = image_ids(database_path)
    num_pairs = num_by_chance = 0
    num_inliers = []
    with open_database(database_path) as database:
        counts = {name: database.num_keypoints_for_image(number) for name, number in ids.items()}
        for pair in verified:
            names = frozenset(pair.names)
            if not names <= ids.keys() or (chosen is not None and names not in chosen):
                continue
            num_pairs += 1
            if not pair.num_matches:
                continue
            name0, name1 = pair.names
            _check_keypoints(pair, (counts[name0], counts[name1]))
            database.write_two_view_geometry(ids[name0], ids[name1], to_geometry(pair))
            num_inliers.append(len(pair.inliers))
            num_by_chance += pair.is_chance
    check_rows(database_path, "two_view_geometries", len(num_inliers), sum(num_inliers))
    of_verified = tuple(number for number in num_inliers if number)
    return VerificationSummary(num_pairs, len(num_inliers), of_verified, num_by_chance)


def _check_keypoints(pair: VerifiedPair, num_keypoints: tuple[int, int]) -> None:
    """Raise ValueError if the inliers of a pair are of keypoints that do not exist."""
    if (pair.inliers >= num_keypoints).any():
        raise ValueError(
            f"The verified pair of {pair.names[0]!r} and {pair.names[1]!r} is of other features "
            f"than theirs, {num_keypoints[0]} and {num_keypoints[1]} keypoints; give the features "
            "that were matched, or verify the pairs again."
        )
