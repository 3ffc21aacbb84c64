"""Geometric verification: matches of two images that fit an epipolar geometry or a homography.

A pair is verified where its inliers exceed what chance explains (:mod:`featplug.metrics.chance`).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from math import log10
from pathlib import Path
from typing import TypeGuard

import numpy as np
import pycolmap

from featplug.colmap.camera_rays import matched_rays
from featplug.colmap.database import image_ids
from featplug.colmap.database_rows import CACHED_IMAGES, check_rows, open_database
from featplug.io.pair_lists import Pair
from featplug.metrics.chance import (
    ESSENTIAL,
    Evidence,
    weigh_fundamental,
    weigh_homography,
    weigh_inliers,
)
from featplug.metrics.epipolar import sampson_errors
from featplug.utils.parallel import available_cores, map_ahead
from featplug.utils.progress import progress_bar

HISTOGRAM = 15, 30, 100, 300
"""Smallest numbers of inliers of the classes of verified pairs. COLMAP's mapper ignores pairs of
fewer than 15, which repeated structures reach; from about 100 on, pairs are rarely wrong."""


@dataclass(frozen=True)
class VerificationSummary:
    """Numbers of pairs and matches in geometric verification."""

    num_pairs: int
    """Pairs that were to be verified."""
    num_matched_pairs: int
    """Pairs with at least one match."""
    num_inliers: tuple[int, ...]
    """Numbers of inlier matches of the verified pairs."""
    num_by_chance: int = 0
    """Pairs with a geometry of enough inliers for COLMAP, but of no more than chance explains."""

    @property
    def num_verified_pairs(self) -> int:
        """Pairs with a two-view geometry."""
        return len(self.num_inliers)

    @property
    def num_inlier_matches(self) -> int:
        """Inlier matches of all verified pairs."""
        return sum(self.num_inliers)

    @property
    def histogram(self) -> dict[str, int]:
        """Number of verified pairs by their inliers: ``15-29``, …, ``300 or more``."""
        counts, _ = np.histogram(self.num_inliers, (*HISTOGRAM, np.inf))
        names = [f"{low}-{high - 1}" for low, high in pairwise(HISTOGRAM)]
        return dict(zip([*names, f"{HISTOGRAM[-1]} or more"], counts.tolist(), strict=True))


@dataclass(frozen=True)
class MatchedPair:
    """One pair to verify."""

    ids: tuple[int, int]
    """Numbers of the images, in order."""
    cameras: tuple[pycolmap.Camera, pycolmap.Camera]
    points: tuple[np.ndarray, np.ndarray]
    """Keypoints of both images, N×2 float64 in COLMAP's pixels."""
    matches: np.ndarray
    """Matches, K×2."""


def verify_matches(
    database_path: Path,
    pairs: Sequence[Pair],
    seed: int,
    max_error: float = 4.0,
    progress: bool = False,
) -> VerificationSummary:
    """Verify matches by epipolar geometry or a homography, with errors of up to some pixels.

    The geometries are those of COLMAP's own function for whole databases, which ends the process
    when the disk is full; those that chance explains are written as degenerate. Each one has a
    ``config``, without which pycolmap 4.2 silently drops it. At least COLMAP's 15 inliers are
    needed even where fewer are more than chance explains, because its mapper ignores such pairs.

    Raises:
        ValueError: no pair was verified, or the disk is full.
    """
    ids = image_ids(database_path)
    known = ((ids[a], ids[b]) for a, b in pairs if a in ids and b in ids)
    id_pairs = list(dict.fromkeys((min(pair), max(pair)) for pair in known))
    estimate = PairVerifier(seed, max_error)
    num_matched, num_by_chance, num_inliers = 0, 0, []
    with open_database(database_path) as database:
        bar = progress_bar(id_pairs, "verify", len(id_pairs), "pair", progress)
        matched = _matched_pairs(database, bar)
        for pair, geometry, is_chance in map_ahead(estimate, matched, available_cores()):
            database.write_two_view_geometry(*pair.ids, geometry)
            num_matched += 1
            num_by_chance += is_chance
            num_inliers.append(len(geometry.inlier_matches))
    check_rows(database_path, "two_view_geometries", num_matched, sum(num_inliers))
    verified = tuple(number for number in num_inliers if number)
    return checked_summary(VerificationSummary(len(id_pairs), num_matched, verified, num_by_chance))


def checked_summary(summary: VerificationSummary) -> VerificationSummary:
    """Return a summary; raise ValueError if no pair is verified."""
    if summary.num_matched_pairs == 0:
        raise ValueError(
            f"None of the {summary.num_pairs} pairs has a match; choose pairs of photographs that "
            "overlap, or another feature or matcher."
        )
    if summary.num_verified_pairs == 0:
        by_chance = summary.num_by_chance
        raise ValueError(
            f"None of the {summary.num_matched_pairs} matched pairs shows two views of one scene: "
            "too few keypoints or matches, or photographs that do not overlap."
            + (f" Chance explains the inliers of {by_chance} pairs." if by_chance else "")
        )
    return summary


class PairVerifier:
    """Estimates the geometry of one pair; see :func:`verify_matches`.

    Args:
        seed: seed of RANSAC.
        max_error: largest error of an inlier, in pixels.
    """

    def __init__(self, seed: int, max_error: float = 4.0) -> None:
        self._options = options = pycolmap.TwoViewGeometryOptions()
        options.ransac.max_error = max_error
        options.ransac.max_num_trials = 20_000
        options.ransac.min_inlier_ratio = 0.1
        options.ransac.random_seed = seed
        self._max_error = max_error

    def __call__(self, pair: MatchedPair) -> tuple[MatchedPair, pycolmap.TwoViewGeometry, bool]:
        """Return the pair, its geometry, and whether chance explains the inliers it had.

        The geometry is a degenerate one, without inliers, where that is so, or where no other is
        found.
        """
        least = self._options.min_num_inliers
        is_chance = False
        if len(pair.matches) >= least:
            (camera0, camera1), (points0, points1) = pair.cameras, pair.points
            geometry = pycolmap.estimate_two_view_geometry(
                camera0, points0, camera1, points1, pair.matches, self._options
            )
            if len(geometry.inlier_matches) >= least:
                evidence = weigh_geometry(
                    geometry, pair.cameras, pair.points, pair.matches, self._max_error
                )
                is_chance = evidence.is_chance
                if not is_chance:
                    return pair, geometry, False
        failed = pycolmap.TwoViewGeometry()
        failed.config = pycolmap.TwoViewGeometryConfiguration.DEGENERATE
        return pair, failed, is_chance


def weigh_geometry(
    geometry: pycolmap.TwoViewGeometry,
    cameras: tuple[pycolmap.Camera, pycolmap.Camera],
    keypoints: tuple[np.ndarray, np.ndarray],
    matches: np.ndarray,
    max_error: float,
) -> Evidence:
    """Weigh the inliers of a geometry of COLMAP against chance.

    COLMAP estimates up to three matrices. Its inliers are those of one of them, and its ``config``
    does not always say of which: they are weighed with one matrix after the other, until chance
    does not explain them.

    Args:
        geometry: has at least one of ``E``, ``F`` and ``H``.
        cameras: cameras of both images.
        keypoints: N×2 in each image, in COLMAP's pixels.
        matches: K×2, indices of the matched keypoints.
        max_error: largest error of an inlier, in pixels.
    """
    num_keypoints1 = len(keypoints[1])
    inliers = np.isin(
        matches @ [num_keypoints1, 1],
        np.asarray(geometry.inlier_matches, np.int64) @ [num_keypoints1, 1],
    )
    points = keypoints[0][matches[:, 0]], keypoints[1][matches[:, 1]]
    weighings: list[Callable[[], Evidence]] = []
    if is_estimated(essential := geometry.E):
        weighings.append(partial(_weigh_essential, essential, cameras, points, inliers, max_error))
    if is_estimated(fundamental := geometry.F):
        weighings.append(
            partial(weigh_fundamental, *points, fundamental, max_error, inliers=inliers)
        )
    if is_estimated(homography := geometry.H):
        weighings.append(partial(weigh_homography, *points, homography, max_error, inliers))
    found: list[Evidence] = []
    for weigh in weighings:
        evidence = weigh()
        # Any of the matrices could have had these inliers.
        false_alarms = evidence.log_false_alarms + log10(len(weighings))
        found.append(Evidence(len(matches), len(geometry.inlier_matches), false_alarms))
        if not found[-1].is_chance:
            break
    return min(found, key=lambda evidence: evidence.log_false_alarms)


def _weigh_essential(
    essential: np.ndarray,
    cameras: tuple[pycolmap.Camera, pycolmap.Camera],
    points: tuple[np.ndarray, np.ndarray],
    inliers: np.ndarray,
    max_error: float,
) -> Evidence:
    rays0, rays1 = matched_rays(cameras, points)
    pixel = np.mean([camera.cam_from_img_threshold(1.0) for camera in cameras])

    def errors(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return sampson_errors(rays0[first], rays1[second], essential) / pixel

    return weigh_inliers(*points, errors, max_error, ESSENTIAL, inliers)


def is_estimated(matrix: np.ndarray | None) -> TypeGuard[np.ndarray]:
    """Return whether COLMAP estimated a matrix; older versions of pycolmap have zeros instead."""
    return matrix is not None and bool(np.any(matrix))


def _matched_pairs(
    database: pycolmap.Database, id_pairs: Iterable[tuple[int, int]]
) -> Iterator[MatchedPair]:
    """Read the pairs that have matches."""
    cameras = {image.image_id: image.camera_id for image in database.read_all_images()}
    cameras_by_id = {camera.camera_id: camera for camera in database.read_all_cameras()}

    @lru_cache(CACHED_IMAGES)
    def points(image_id: int) -> np.ndarray:
        return database.read_keypoints(image_id)[:, :2].astype(np.float64)

    for id0, id1 in id_pairs:
        matches = database.read_matches(id0, id1)
        if len(matches):
            camera0, camera1 = (cameras_by_id[cameras[image_id]] for image_id in (id0, id1))
            yield MatchedPair((id0, id1), (camera0, camera1), (points(id0), points(id1)), matches)


def verified_pairs(database_path: Path) -> dict[Pair, int]:
    """Return the verified pairs of a database and their numbers of inlier matches."""
    with open_database(database_path) as database:
        names = {image.image_id: image.name for image in database.read_all_images()}
        verified = nonzero_pairs(*database.read_two_view_geometry_num_inliers())
    return {(names[id0], names[id1]): num for (id0, id1), num in verified.items()}


def nonzero_pairs(pair_ids: Iterable[int], counts: Iterable[int]) -> dict[tuple[int, int], int]:
    """Return COLMAP's counts of pairs by image numbers, but those of 0.

    A pair whose verification failed has a two-view geometry as well, without inliers.
    """
    return {
        pycolmap.pair_id_to_image_pair(pair_id): int(count)
        for pair_id, count in zip(pair_ids, counts, strict=True)
        if count
    }


def inlier_matches(database_path: Path, name0: str, name1: str) -> np.ndarray:
    """Read the inlier matches of a verified pair, K×2 (index in image 0, index in image 1)."""
    ids = image_ids(database_path)
    with open_database(database_path) as database:
        geometry = database.read_two_view_geometry(ids[name0], ids[name1])
    return np.asarray(geometry.inlier_matches, np.int64).reshape(-1, 2)
